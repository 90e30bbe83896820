/* The walk over a section: its keys, and those in its inline tables. */
#include "config/reader.h"

#include "base/alloc.h"
#include "config/suggest.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SIBLINGS_MAX 32 /* names that one table may have */

static void take_one(struct reader *reader, const struct schema *schema,
                     const struct tomlc_node *node, void *to);
static const struct schema_key *find_key(const struct schema *schema, struct slice group,
                                         const struct tomlc_node *node);
static struct slice find_in_groups(const struct schema *schema, const struct tomlc_node *node);
static void refuse_unknown(struct reader *reader, const struct tomlc_node *node, const char *what,
                           const struct slice *known, size_t count, struct slice meant);
static void set_path(struct reader *reader, struct slice section, struct slice group,
                     const struct tomlc_node *node);
static size_t list_names(const struct schema *schema, struct slice group,
                         struct slice names[SIBLINGS_MAX]);
static void check_required(struct reader *reader, const struct schema *schema,
                           const struct tomlc_node *table);
static void describe(struct buffer *to, const struct tomlc_node *node);

void reader_take_defaults(const struct schema *schema, void *to) {
    struct errors errors = {0};
    struct reader reader = {.errors = &errors};
    struct tomlc_error error;
    struct buffer text = {0};
    const struct tomlc_node *root;

    for (size_t i = 0; i < schema->count; i++)
        if (schema->keys[i].fallback)
            buffer_printf(&text, "%s = %s\n", schema->keys[i].name, schema->keys[i].fallback);
    if (text.len > 0) {
        int err = tomlc_parse(&root, text.base, text.len, &error);

        assert(!err);
        for (size_t i = 0; i < root->len; i++)
            take_one(&reader, schema, &root->children[i], to);
        assert(errors.count == 0);
        tomlc_free(root);
    }
    buffer_deinit(&text);
}

void reader_take(struct reader *reader, const struct schema *schema, const struct tomlc_node *table,
                 void *to) {
    for (size_t i = 0; i < table->len; i++)
        take_one(reader, schema, &table->children[i], to);
    check_required(reader, schema, table);
}

void reader_refuse(struct reader *reader, const struct tomlc_node *node, const char *guess,
                   const char *expected, ...) {
    struct buffer text = {0};
    va_list args;
    char *wish;

    describe(&text, node);
    va_start(args, expected);
    if (vasprintf(&wish, expected, args) < 0)
        abort(); /* out of memory */
    va_end(args);
    buffer_printf(&text, ", expected %s", wish);
    free(wish);
    if (guess && *guess) {
        buffer_append(&text, SLICE("; did you mean "));
        errors_quote(&text, slice_str(guess));
        buffer_append_char(&text, '?');
    }
    errors_add(reader->errors, node->at, "%s: found %.*s", reader->path, SLICE_ARG(text));
    buffer_deinit(&text);
}

bool reader_take_string(struct reader *reader, const struct tomlc_node *node, const char *expected,
                        struct slice *text) {
    if (node->kind != TOMLC_STRING || node->len == 0) {
        reader_refuse(reader, node, NULL, "%s", expected);
        return false;
    }
    for (size_t i = 0; i < node->len; i++) {
        if ((unsigned char)node->string[i] < 0x20 || node->string[i] == 0x7F) {
            reader_refuse(reader, node, NULL, "%s, without control characters", expected);
            return false;
        }
    }
    *text = slice_of(node->string, node->len);
    return true;
}

void reader_refuse_section(struct reader *reader, const struct schema *schema,
                           const struct tomlc_node *node) {
    snprintf(reader->path, sizeof reader->path, "%s", schema->name);
    if (schema->array_max == 0)
        reader_refuse(reader, node, NULL, "[%s]", schema->name);
    else if (node->kind == TOMLC_ARRAY && node->len > 0)
        errors_add(reader->errors, node->at, "%s: found %zu of them, expected at most %zu",
                   schema->name, node->len, schema->array_max);
    else
        reader_refuse(reader, node, NULL, "[[%s]]", schema->name);
}

void reader_refuse_unknown_sections(struct reader *reader, const struct schema *const *schemas,
                                    const struct tomlc_node *root) {
    struct slice names[SIBLINGS_MAX];
    size_t count = 0;

    for (; schemas[count]; count++)
        names[count] = slice_str(schemas[count]->name);
    for (size_t i = 0; i < root->len; i++) {
        const struct tomlc_node *node = &root->children[i];
        size_t same = 0;

        while (same < count && !slice_equal(names[same], slice_of(node->key, node->key_len)))
            same++;
        if (same < count)
            continue;
        set_path(reader, SLICE_NONE, SLICE_NONE, node);
        refuse_unknown(reader, node, "section", names, count, SLICE_NONE);
    }
}

/* One key of the section; or, when its name is that of a group, all keys in its table. */
static void take_one(struct reader *reader, const struct schema *schema,
                     const struct tomlc_node *node, void *to) {
    const struct schema_key *key = find_key(schema, SLICE_NONE, node);
    struct slice section = slice_str(schema->name);
    struct slice group = slice_of(node->key, node->key_len);
    struct slice names[SIBLINGS_MAX];
    size_t count = list_names(schema, group, names);

    set_path(reader, section, SLICE_NONE, node);
    if (key) {
        key->read(reader, key, node, (char *)to + key->offset);
    } else if (count == 0) {
        count = list_names(schema, SLICE_NONE, names);
        refuse_unknown(reader, node, "key", names, count, find_in_groups(schema, node));
    } else if (node->kind != TOMLC_TABLE) {
        reader_refuse(reader, node, NULL, "a table such as { ... }");
    } else {
        for (size_t i = 0; i < node->len; i++) {
            const struct tomlc_node *inner = &node->children[i];

            key = find_key(schema, group, inner);
            set_path(reader, section, group, inner);
            if (key)
                key->read(reader, key, inner, (char *)to + key->offset);
            else
                refuse_unknown(reader, inner, "key", names, count, SLICE_NONE);
        }
    }
}

/* The whole name of a key that stands outside of its group: "concurrency". */
static struct slice find_in_groups(const struct schema *schema, const struct tomlc_node *node) {
    for (size_t i = 0; i < schema->count; i++) {
        const char *dot = strchr(schema->keys[i].name, '.');

        if (dot && slice_equal(slice_str(dot + 1), slice_of(node->key, node->key_len)))
            return slice_str(schema->keys[i].name);
    }
    return SLICE_NONE;
}

/* At the key, with the names that are known and @meant or else the one that is nearest. */
static void refuse_unknown(struct reader *reader, const struct tomlc_node *node, const char *what,
                           const struct slice *known, size_t count, struct slice meant) {
    struct suggest suggest = {.word = {node->key, node->key_len}};
    struct buffer text = {0};

    for (size_t i = 0; i < count; i++) {
        buffer_printf(&text, "%s%.*s", i ? ", " : "", SLICE_ARG(known[i]));
        suggest_offer(&suggest, known[i]);
    }
    if (meant.len == 0)
        meant = suggest.best;
    if (meant.len > 0)
        buffer_printf(&text, "; did you mean \"%.*s\"?", SLICE_ARG(meant));
    errors_add(reader->errors, node->key_at, "%s: found an unknown %s, expected one of %.*s",
               reader->path, what, SLICE_ARG(text));
    buffer_deinit(&text);
}

static const struct schema_key *find_key(const struct schema *schema, struct slice group,
                                         const struct tomlc_node *node) {
    for (size_t i = 0; i < schema->count; i++) {
        struct slice name = slice_str(schema->keys[i].name);

        if (group.len > 0) {
            if (!slice_starts(name, group) || name.base[group.len] != '.')
                continue;
            name = slice_skip(name, group.len + 1);
        }
        if (slice_equal(name, slice_of(node->key, node->key_len)))
            return &schema->keys[i];
    }
    return NULL;
}

/* A name that is no bare key is quoted, as it must be in the file. */
static void set_path(struct reader *reader, struct slice section, struct slice group,
                     const struct tomlc_node *node) {
    struct buffer path = {0};
    size_t bare = strspn(node->key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-_");

    buffer_printf(&path, "%.*s%s%.*s%s", SLICE_ARG(section), section.len ? "." : "",
                  SLICE_ARG(group), group.len ? "." : "");
    if (bare == node->key_len && bare > 0 && bare <= ERRORS_QUOTED_MAX)
        buffer_append(&path, slice_of(node->key, node->key_len));
    else
        errors_quote(&path, slice_of(node->key, node->key_len));
    snprintf(reader->path, sizeof reader->path, "%.*s", SLICE_ARG(path));
    buffer_deinit(&path);
}

/* The names inside @group; without one those of the section, a group counting as one name. The keys
 * of a group stand together. */
static size_t list_names(const struct schema *schema, struct slice group,
                         struct slice names[SIBLINGS_MAX]) {
    size_t count = 0;

    for (size_t i = 0; i < schema->count; i++) {
        struct slice name = slice_str(schema->keys[i].name);
        const char *dot = strchr(schema->keys[i].name, '.');

        if (group.len > 0) {
            if (!dot || !slice_equal(slice_of(name.base, (size_t)(dot - name.base)), group))
                continue;
            name = slice_str(dot + 1);
        } else if (dot) {
            name.len = (size_t)(dot - name.base);
            if (count > 0 && slice_equal(names[count - 1], name))
                continue;
        }
        assert(count < SIBLINGS_MAX);
        names[count++] = name;
    }
    return count;
}

static void check_required(struct reader *reader, const struct schema *schema,
                           const struct tomlc_node *table) {
    for (size_t i = 0; i < schema->count; i++)
        if (schema->keys[i].is_required && !tomlc_find(table, schema->keys[i].name))
            errors_add(reader->errors, table->at,
                       "%s.%s: found nothing, expected this key in every [[%s]]", schema->name,
                       schema->keys[i].name, schema->name);
}

static void describe(struct buffer *to, const struct tomlc_node *node) {
    switch (node->kind) {
    case TOMLC_STRING:
        errors_quote(to, slice_of(node->string, node->len));
        buffer_append(to, SLICE(" (string)"));
        break;
    case TOMLC_INTEGER:
        buffer_printf(to, "%lld (integer)", (long long)node->integer);
        break;
    case TOMLC_FLOAT:
        /* The alternative form keeps the point of 2.0. */
        buffer_printf(to, isfinite(node->floating) ? "%#.3g (float)" : "%g (float)",
                      node->floating);
        break;
    case TOMLC_BOOLEAN:
        buffer_printf(to, "%s (boolean)", node->boolean ? "true" : "false");
        break;
    default:
        buffer_printf(to, "%s %s", node->kind == TOMLC_ARRAY ? "an" : "a",
                      tomlc_kind_name(node->kind));
        break;
    }
}
