/* The growing buffer, and the JSON quoting that logs and problem replies share. */
#include "base/buffer.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static size_t utf8_len(const unsigned char *at, size_t left);

void buffer_free(struct buffer *b) {
    free(b->base);
    *b = (struct buffer){0};
}

char *buffer_reserve(struct buffer *b, size_t n) {
    if (!b->base || b->cap - b->len < n) {
        size_t cap = b->cap ? b->cap * 2 : 256;

        while (cap < b->len + n)
            cap *= 2;
        b->base = xrealloc(b->base, cap);
        b->cap = cap;
    }
    return b->base + b->len;
}

void buffer_append(struct buffer *b, struct slice s) {
    if (s.len == 0)
        return;
    memcpy(buffer_reserve(b, s.len), s.base, s.len);
    b->len += s.len;
}

void buffer_append_char(struct buffer *b, char c) {
    *buffer_reserve(b, 1) = c;
    b->len++;
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
    size_t i = 0;

    buffer_append_char(b, '"');
    while (i < s.len) {
        unsigned char c = (unsigned char)s.base[i];
        size_t len;

        if (c == '"' || c == '\\') {
            buffer_append_char(b, '\\');
            buffer_append_char(b, (char)c);
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            buffer_printf(b, "\\u%04x", c);
            i++;
        } else if (c < 0x80) {
            buffer_append_char(b, (char)c);
            i++;
        } else if ((len = utf8_len((const unsigned char *)s.base + i, s.len - i)) > 0) {
            buffer_append(b, slice_of(s.base + i, len));
            i += len;
        } else {
            buffer_append(b, SLICE("\\ufffd"));
            i++;
        }
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
