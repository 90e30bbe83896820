/* What each byte may be part of, one table for all checks of HTTP/1 syntax. */
#pragma once

#include "base/slice.h"

#include <stdint.h>

enum h1_char {
    H1_CHAR_TOKEN = 1 << 0,  /* tchar (RFC 9110 section 5.6.2) */
    H1_CHAR_TEXT = 1 << 1,   /* VCHAR, obs-text, SP, HTAB (RFC 9110 section 5.5) */
    H1_CHAR_TARGET = 1 << 2, /* VCHAR but '#': servers send and accept more than RFC 3986 allows */
    H1_CHAR_HOST = 1 << 3,   /* unreserved and sub-delims (RFC 3986 section 3.2.2) */
    H1_CHAR_HEX = 1 << 4,
    H1_CHAR_DIGIT = 1 << 5,
};

extern const uint8_t h1_chars[256];

static inline bool h1_char_is(char c, unsigned classes) {
    return (h1_chars[(uint8_t)c] & classes) != 0;
}

/* Are all bytes of @s in one of @classes? True for none. */
static inline bool h1_chars_are(struct slice s, unsigned classes) {
    for (size_t i = 0; i < s.len; i++)
        if (!h1_char_is(s.base[i], classes))
            return false;
    return true;
}
