/* Reads one table of the file into one struct, by a list of its keys. All that a key can be, its
 * name, its default, its range, is one row of that list (schema.c): what is unknown, what is
 * suggested and what is documented follow from it.
 *
 * A name with a dot, "queue.size", is a key in an inline table. */
#pragma once

#include "config/errors.h"
#include "tomlc.h"

struct reader {
    struct errors *errors; /* borrowed */
    char path[320];        /* of the key at hand, "pipeline.queue.size" */
};

struct schema_key;

/* Checks @node and stores it at @to, over the default that is there already; on a fault @to stays
 * as it is and the fault is added. */
typedef void read_fn(struct reader *reader, const struct schema_key *key,
                     const struct tomlc_node *node, void *to);

/* A word of the file and what it stands for. */
struct choice {
    const char *word; /* NULL ends the list */
    int value;
};

struct schema_key {
    const char *name;
    read_fn *read;
    size_t offset;        /* of the member in the section's struct */
    const char *fallback; /* as it would be written in the file; NULL: none */
    int64_t min, max;     /* of numbers, nanoseconds, bytes; 0 is off for a duration */
    const struct choice *choices;
    bool may_be_auto;  /* "auto" is stored as 0 */
    bool is_never_off; /* a duration that may not be 0 */
    bool is_required;
};

struct schema {
    const char *name; /* of the section */
    const struct schema_key *keys;
    size_t count;
    size_t array_max;  /* for [[name]]: so many at most; 0 for [name] */
    const void *start; /* the struct before the defaults are stored; NULL: zeros */
    bool is_optional;  /* [[name]] may be missing */
};

/* Stores the defaults of all keys at @to, which is zeroed or holds what was read before. */
void reader_take_defaults(const struct schema *schema, void *to);

/* Stores what @table says at @to. */
void reader_take(struct reader *reader, const struct schema *schema, const struct tomlc_node *table,
                 void *to);

/* Adds "path: found @node, expected @expected; did you mean "@guess"?". No @guess: NULL or "". */
void reader_refuse(struct reader *reader, const struct tomlc_node *node, const char *guess,
                   const char *expected, ...) __attribute__((format(printf, 4, 5)));

/* The text of a string; "" for other kinds. */
static inline struct slice reader_text(const struct tomlc_node *node) {
    return node->kind == TOMLC_STRING ? slice_of(node->string, node->len) : SLICE("");
}

/* A string that is not empty and has no control characters; or it is refused as not @expected. */
bool reader_take_string(struct reader *reader, const struct tomlc_node *node, const char *expected,
                        struct slice *text);

/* Says that @node cannot be this section, or all of its [[tables]]. */
void reader_refuse_section(struct reader *reader, const struct schema *schema,
                           const struct tomlc_node *node);

/* Refuses what is in the root and none of the @schemas (NULL ends them). */
void reader_refuse_unknown_sections(struct reader *reader, const struct schema *const *schemas,
                                    const struct tomlc_node *root);
