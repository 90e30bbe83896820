/* A growing run of bytes that its holder owns: for text that is built before it is sent. */
#pragma once

#include "base/slice.h"

#include <stdint.h>

struct buffer {
    char *base; /* owned; NULL while empty */
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
};

/* A zeroed buffer is ready to use. */
void buffer_free(struct buffer *b); /* of one that is not empty */
static inline void buffer_deinit(struct buffer *b) {
    if (b->base)
        buffer_free(b);
}

/* Room for @n more bytes at base + len; the caller adds what it used to len. */
char *buffer_grow(struct buffer *b, size_t n); /* where there is not */
static inline char *buffer_reserve(struct buffer *b, size_t n) {
    return b->base && b->cap - b->len >= n ? b->base + b->len : buffer_grow(b, n);
}

static inline void buffer_append(struct buffer *b, struct slice s) {
    if (s.len > 0)
        b->len = (size_t)(slice_write(buffer_reserve(b, s.len), s) - b->base);
}
static inline void buffer_append_char(struct buffer *b, char c) {
    *buffer_reserve(b, 1) = c;
    b->len++;
}
void buffer_append_uint(struct buffer *b, uint64_t n);
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As a quoted JSON string (RFC 8259 section 7); bytes that are no UTF-8 become U+FFFD. */
void buffer_append_json(struct buffer *b, struct slice s);

static inline struct slice buffer_slice(const struct buffer *b) {
    return (struct slice){b->base, b->len};
}

/* Writes @n in decimal and returns the length (at most UINT_TEXT_MAX). */
#define UINT_TEXT_MAX 20
size_t uint_to_text(char *to, uint64_t n);
