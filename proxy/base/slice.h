/* A borrowed run of bytes: not NUL-terminated, never owned, valid as long as what it points into.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
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

/* @s without leading and trailing OWS (space and tab, RFC 9110 section 5.6.3). */
struct slice slice_trim(struct slice s);

/* Takes the next element off a comma-separated list (RFC 9110 section 5.6.1): trimmed, empty ones
 * skipped, commas inside quoted strings kept. False when the list is used up. */
bool slice_next_element(struct slice *list, struct slice *element);

/* Does the comma-separated @list hold @token, case ignored? */
bool slice_list_has(struct slice list, struct slice token);
