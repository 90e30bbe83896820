/* Base64: the state between two pieces is a group that is not full. */
#include "codec/base64.h"

#include <openssl/evp.h>

#define GROUP_BYTES 3
#define GROUP_CHARS 4

static int value_of(char c);

ssize_t base64_decode(struct base64_decoder *decoder, struct slice in, char *to) {
    char *start = to;

    for (size_t i = 0; i < in.len; i++) {
        int value = value_of(in.base[i]);

        if (in.base[i] == '=' && decoder->have >= 2)
            decoder->padding++;
        else if (value < 0 || decoder->padding > 0)
            return -1;
        decoder->bits = decoder->bits << 6 | (uint32_t)(value < 0 ? 0 : value);
        if (++decoder->have < GROUP_CHARS)
            continue;
        for (int shift = 16; shift >= 8 * decoder->padding; shift -= 8)
            *to++ = (char)(decoder->bits >> shift);
        *decoder = (struct base64_decoder){0};
    }
    return to - start;
}

/* EVP_DecodeBlock() would take more for base64 than that is. */
static int value_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t base64_encode(struct base64_encoder *encoder, struct slice in, char *to) {
    size_t len = 0, whole;

    while (encoder->have > 0 && encoder->have < GROUP_BYTES && in.len > 0) {
        encoder->rest[encoder->have++] = (uint8_t)in.base[0];
        in = slice_skip(in, 1);
    }
    if (encoder->have == GROUP_BYTES)
        len = base64_encode_end(encoder, to);
    whole = encoder->have > 0 ? 0 : in.len / GROUP_BYTES * GROUP_BYTES;
    if (whole > 0)
        len += (size_t)EVP_EncodeBlock((unsigned char *)to + len, (const unsigned char *)in.base,
                                       (int)whole);
    for (in = slice_skip(in, whole); in.len > 0; in = slice_skip(in, 1))
        encoder->rest[encoder->have++] = (uint8_t)in.base[0];
    return len;
}

size_t base64_encode_end(struct base64_encoder *encoder, char *to) {
    int have = encoder->have;

    encoder->have = 0;
    return have > 0 ? (size_t)EVP_EncodeBlock((unsigned char *)to, encoder->rest, have) : 0;
}
