/* Base64 (RFC 4648 section 4) that comes and goes in pieces. */
#pragma once

#include "base/slice.h"

#include <stdint.h>
#include <sys/types.h>

/* A padded group ends the text, but another may follow: each was flushed by who wrote it. Zeroed
 * memory is at the start. */
struct base64_decoder {
    uint32_t bits;
    uint8_t have;    /* characters of the group under way, padding included */
    uint8_t padding; /* of these */
};

/* @to has room for BASE64_DECODED_MAX(in.len). Returns how many bytes were written there, or -1: no
 * base64; the decoder is of no more use then. */
#define BASE64_DECODED_MAX(n) (((n) + 3) / 4 * 3)
ssize_t base64_decode(struct base64_decoder *decoder, struct slice in, char *to);

/* May the text end here? */
static inline bool base64_is_whole(const struct base64_decoder *decoder) {
    return decoder->have == 0;
}

/* Zeroed memory is at the start. */
struct base64_encoder {
    uint8_t rest[3]; /* of a group that is not full */
    uint8_t have;
};

/* Writes the groups that are full into @to, which has room for BASE64_ENCODED_MAX(in.len), and
 * returns their length. */
#define BASE64_ENCODED_MAX(n) (((n) + 2) / 3 * 4 + 1)
size_t base64_encode(struct base64_encoder *encoder, struct slice in, char *to);

/* Ends the text, or a part of it, with padding: 0 or 4 characters into @to. */
#define BASE64_END_MAX (4 + 1)
size_t base64_encode_end(struct base64_encoder *encoder, char *to);
