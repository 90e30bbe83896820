/* TOML 1.0 for C, with the line and column of every key and value: toml++ behind a small tree of
 * plain structs. The whole tree is one block of memory that never changes; reading it from any
 * thread is safe.
 *
 * Input is not trusted: size and depth are limited, and what is not valid UTF-8 is refused. The
 * values of dates and times are not offered, only their kind: nobody has needed one yet. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOMLC_SIZE_MAX ((size_t)1 << 20) /* bytes of text */
#define TOMLC_NESTING_MAX 32             /* arrays and inline tables inside each other */
#define TOMLC_KEY_PARTS_MAX 32           /* a.b.c has three */

enum tomlc_kind {
    TOMLC_TABLE,
    TOMLC_ARRAY,
    TOMLC_STRING,
    TOMLC_INTEGER,
    TOMLC_FLOAT,
    TOMLC_BOOLEAN,
    TOMLC_DATE,
    TOMLC_TIME,
    TOMLC_DATE_TIME,
};

/* Counted from 1; a column is a code point. (0, 0): none. */
struct tomlc_position {
    uint32_t line;
    uint32_t column;
};

struct tomlc_node {
    enum tomlc_kind kind;
    struct tomlc_position at;     /* of the value; a table's is its header or its brace */
    struct tomlc_position key_at; /* of the key; none for array elements and the root */
    const char *key;              /* NUL-terminated, but may hold a NUL; NULL where there is none */
    size_t key_len;
    size_t len; /* children of a table or an array; bytes of a string */
    union {
        const struct tomlc_node *children; /* in the order of the file */
        const char *string;                /* UTF-8; NUL-terminated, but may hold a NUL */
        int64_t integer;
        double floating;
        bool boolean;
    };
};

struct tomlc_error {
    struct tomlc_position at; /* never beyond the character behind the last one */
    char text[240];           /* UTF-8, one line */
};

/* Parses @len bytes at @text. 0 and the root table in *@root, which the caller gives back with
 * tomlc_free(); or -EINVAL with *@error filled in. Aborts when out of memory. */
int tomlc_parse(const struct tomlc_node **root, const char *text, size_t len,
                struct tomlc_error *error);

/* Frees the whole tree. Takes a root only, or NULL. */
void tomlc_free(const struct tomlc_node *root);

/* The child of that key, or NULL; also when @table is no table. */
const struct tomlc_node *tomlc_find(const struct tomlc_node *table, const char *key);

/* "table", "date-time", ... */
const char *tomlc_kind_name(enum tomlc_kind kind);

#ifdef __cplusplus
}
#endif
