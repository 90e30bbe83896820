#include "base64url.h"

static int value_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(struct weir_text text, unsigned char *to, size_t *len) {
    uint32_t bits = 0;
    unsigned have = 0;
    size_t made = 0;

    if (text.len % 4 == 1)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.base[i]);

        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            to[made++] = (unsigned char)(bits >> have);
            bits &= (1U << have) - 1;
        }
    }
    *len = made;
    return bits == 0;
}
