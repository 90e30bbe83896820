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

/* The first byte from @at on that is in none of @classes, or @end. */
static inline const char *h1_chars_skip(const char *at, const char *end, unsigned classes) {
#define STEP(i)                      \
    if (!h1_char_is(at[i], classes)) \
        return at + (i);
    for (; end - at >= 8; at += 8) {
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
        STEP(4)
        STEP(5)
        STEP(6)
        STEP(7)
    }
#undef STEP
    while (at < end && h1_char_is(*at, classes))
        at++;
    return at;
}

/* Are all bytes of @s in one of @classes? True for none. */
static inline bool h1_chars_are(struct slice s, unsigned classes) {
    return s.len == 0 || h1_chars_skip(s.base, s.base + s.len, classes) == s.base + s.len;
}
