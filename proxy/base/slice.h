/* A borrowed run of bytes: not NUL-terminated, never owned, valid as long as what it points into.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
    const char *base; /* borrowed: whoever made the slice; may be NULL when len is 0 */
    size_t len;       /* bytes */
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})
/* For "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).base

static inline struct slice slice_of(const char *base, size_t len) {
    return (struct slice){base, len};
}

static inline struct slice slice_str(const char *text) {
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

/* ASCII case is ignored, as for field names and hosts. */
static inline bool slice_equal_case(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || strncasecmp(a.base, b.base, a.len) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix) {
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.base, prefix.base, prefix.len) == 0);
}

/* The rest of @s after its first @n bytes (@n <= len). */
static inline struct slice slice_skip(struct slice s, size_t n) {
    /* Adding even 0 to NULL is undefined. */
    return (struct slice){n ? s.base + n : s.base, s.len - n};
}

/* Copies @s to @to and returns what is behind the copy. Short ones, as most names and values are,
 * cost no call. */
static inline char *slice_write(char *to, struct slice s) {
    /* From both ends, which overlap. */
    if (s.len >= 8 && s.len <= 16) {
        uint64_t first, last;

        memcpy(&first, s.base, 8);
        memcpy(&last, s.base + s.len - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + s.len - 8, &last, 8);
    } else if (s.len >= 4 && s.len < 8) {
        uint32_t first, last;

        memcpy(&first, s.base, 4);
        memcpy(&last, s.base + s.len - 4, 4);
        memcpy(to, &first, 4);
        memcpy(to + s.len - 4, &last, 4);
    } else if (s.len > 0) {
        memcpy(to, s.base, s.len);
    }
    return to + s.len;
}

/* @s without leading and trailing OWS (space and tab, RFC 9110 section 5.6.3). */
struct slice slice_trim(struct slice s);

/* Takes the next element off a comma-separated list (RFC 9110 section 5.6.1): trimmed, empty ones
 * skipped, commas inside quoted strings kept. False when the list is used up. */
bool slice_next_element(struct slice *list, struct slice *element);

/* Does the comma-separated @list hold @token, case ignored? */
bool slice_list_has(struct slice list, struct slice token);
