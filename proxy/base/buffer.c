/* The growing buffer, and the JSON quoting that logs and problem replies share. */
#include "base/buffer.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static size_t plain_len(struct slice s);
static size_t utf8_len(const unsigned char *at, size_t left);

void buffer_free(struct buffer *b) {
    free(b->base);
    *b = (struct buffer){0};
}

char *buffer_grow(struct buffer *b, size_t n) {
    size_t cap = b->cap ? b->cap * 2 : 256;

    while (cap < b->len + n)
        cap *= 2;
    b->base = xrealloc(b->base, cap);
    b->cap = cap;
    return b->base + b->len;
}

void buffer_append_uint(struct buffer *b, uint64_t n) {
    b->len += uint_to_text(buffer_reserve(b, 20), n);
}

void buffer_printf(struct buffer *b, const char *format, ...) {
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    buffer_reserve(b, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(b->base + b->len, (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

void buffer_append_json(struct buffer *b, struct slice s) {
    size_t i = plain_len(s);
    char *to = buffer_reserve(b, i + 2);

    *to++ = '"';
    if (i > 0)
        to = slice_write(to, slice_of(s.base, i));
    b->len = (size_t)(to - b->base);
    while (i < s.len) {
        unsigned char c = (unsigned char)s.base[i];
        size_t len = plain_len(slice_skip(s, i));

        if (len == 0)
            len = utf8_len((const unsigned char *)s.base + i, s.len - i);
        if (len > 0) {
            buffer_append(b, slice_of(s.base + i, len));
            i += len;
            continue;
        }
        if (c == '"' || c == '\\') {
            buffer_append_char(b, '\\');
            buffer_append_char(b, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            buffer_printf(b, "\\u%04x", c);
        } else {
            buffer_append(b, SLICE("\\ufffd"));
        }
        i++;
    }
    buffer_append_char(b, '"');
}

size_t uint_to_text(char *to, uint64_t n) {
    size_t len = 1;

    for (uint64_t bound = 10; n >= bound; bound *= 10)
        if (++len == UINT_TEXT_MAX)
            break;
    for (size_t at = len; at-- > 0; n /= 10)
        to[at] = (char)('0' + n % 10);
    return len;
}

/* Is no byte of the word below SP, quote, backslash, DEL or above? */
static inline bool is_plain_word(uint64_t word) {
#define EACH_BYTE UINT64_C(0x0101010101010101)
#define ZERO_BYTES(word) (((word)-EACH_BYTE) & ~(word))
    return (((word - EACH_BYTE * ' ') | (word + EACH_BYTE) | word |
             ZERO_BYTES(word ^ EACH_BYTE * '"') | ZERO_BYTES(word ^ EACH_BYTE * '\\')) &
            EACH_BYTE << 7) == 0;
}

static inline uint64_t load8(const char *at) {
    uint64_t word;

    memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load4(const char *at) {
    uint32_t word;

    memcpy(&word, at, 4);
    return word;
}

/* How many of the first bytes stand for themselves in JSON, and are ASCII. By words, of which the
 * last one overlaps; where there is another byte in a word each is looked at. */
static size_t plain_len(struct slice s) {
    size_t len = 0;

    while (s.len - len >= 8 && is_plain_word(load8(s.base + len)))
        len += 8;
    if (s.len >= 8 && s.len - len < 8 && is_plain_word(load8(s.base + s.len - 8)))
        return s.len;
    if (s.len >= 4 && s.len < 8 &&
        is_plain_word(load4(s.base) | (uint64_t)load4(s.base + s.len - 4) << 32))
        return s.len;
    while (len < s.len && s.base[len] >= ' ' && s.base[len] < 0x7f && s.base[len] != '"' &&
           s.base[len] != '\\')
        len++;
    return len;
}

/* The length of the well-formed sequence at @at (Unicode table 3-7), 0 when there is none. */
static size_t utf8_len(const unsigned char *at, size_t left) {
    unsigned char low = 0x80, high = 0xbf;
    size_t len;

    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        len = 2;
    else if (at[0] >= 0xe0 && at[0] <= 0xef)
        len = 3;
    else if (at[0] >= 0xf0 && at[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (left < len)
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return len;
}
