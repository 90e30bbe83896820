/* A handler's `config`, read by a table: every key has a kind and a range, and a key that is not in
 * the table is an error. Texts and lists belong to the JSON, which the instance keeps. */
#pragma once

#include <weir/handler.h>

#include <jansson.h>

enum setting_kind {
    SETTING_TEXT,     /* struct weir_text; min and max are of its length */
    SETTING_TOKEN,    /* the same, a field name or "" */
    SETTING_VARIABLE, /* the same, a variable's name or "" */
    SETTING_BOOL,     /* bool */
    SETTING_INTEGER,  /* int64_t */
    SETTING_DURATION, /* int64_t, nanoseconds: "250ms", "10s", "1m", "2h", "1d" */
    SETTING_LIST,     /* json_t *, an array of texts that are not empty; max is of its length */
    SETTING_TABLE,    /* json_t *, an object */
};

struct setting {
    const char *name;
    enum setting_kind kind;
    size_t offset;    /* of the variable */
    int64_t min, max; /* both 0: no range */
    bool is_required;
};

/* NULL: it is no JSON object; @why says so. json_decref() it. */
json_t *settings_parse(struct weir_text config, char *why, size_t why_size);

/* Reads @object into @to, where what is not set stays as it is. @where is what @object is called in
 * front of a key, such as "cors."; "" for the whole. 0; -1: @why says what is wrong. */
int settings_read(const json_t *object, const char *where, const struct setting *settings,
                  size_t count, void *to, char *why, size_t why_size);

/* Of a SETTING_LIST: is @text in it? With @has_prefixes an element that ends with '*' is all that
 * begin so. */
bool settings_list_has(const json_t *list, struct weir_text text, bool has_prefixes);

static inline struct weir_text settings_text(const json_t *string) {
    return (struct weir_text){json_string_value(string), json_string_length(string)};
}

/* Says @format in @why and returns -1. */
int settings_fail(char *why, size_t why_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
