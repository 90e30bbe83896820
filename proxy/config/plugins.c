/* Plugins by path or by name, and their tables as JSON text: TOML's tables, lists, strings, numbers
 * and booleans have a counterpart there; its dates, and numbers without end, do not. */
#include "config/plugins.h"

#include "base/alloc.h"
#include "config/suggest.h"
#include "config/values.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SUFFIX ".so"

/* A table or a list that is being written. */
struct level {
    const struct tomlc_node *node;
    size_t next; /* of its children */
};

static bool is_path(struct slice text);
static bool is_name(struct slice text);
static char *path_of(const char *file, struct slice text);
static void offer_built_ins(struct suggest *suggest, const char *folder, struct buffer *guess);
static bool write_json(struct reader *reader, const struct tomlc_node *root, struct buffer *to);
static bool write_value(struct reader *reader, const struct tomlc_node *node, struct buffer *to);

void plugins_find(struct reader *reader, const struct schema_key *key,
                  const struct tomlc_node *node, void *to) {
    struct slice text = reader_text(node);
    struct buffer guess = {0};
    char *path, *folder;

    if (!is_path(text) && !is_name(text)) {
        reader_refuse(reader, node, NULL,
                      "the path of a plugin such as \"./audit.so\", or the name of a built-in one");
        return;
    }
    path = path_of(reader->errors->name, text);
    if (access(path, R_OK) == 0) {
        free(*(char **)to);
        *(char **)to = path;
        return;
    }
    if (is_path(text)) {
        reader_refuse(reader, node, NULL, "a plugin that can be read ('%s': %s)", path,
                      strerror(errno));
    } else {
        struct suggest suggest = {.word = text};

        folder = plugins_built_in_folder();
        offer_built_ins(&suggest, folder, &guess);
        reader_refuse(reader, node, guess.base,
                      "a path that ends in \"" SUFFIX "\", or the name of a plugin in '%s'",
                      folder);
        free(folder);
    }
    buffer_deinit(&guess);
    free(path);
}

void plugins_config(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct buffer text = {0};

    if (node->kind != TOMLC_TABLE)
        reader_refuse(reader, node, NULL, "a table, for the plugin");
    else if (write_json(reader, node, &text))
        value_replace(to, buffer_slice(&text));
    buffer_deinit(&text);
}

void plugins_references(struct reader *reader, const struct schema_key *key,
                        const struct tomlc_node *node, void *to) {
    struct config_route *route = to;

    if (node->kind != TOMLC_ARRAY || node->len > CONFIG_ROUTE_HANDLERS_MAX) {
        reader_refuse(reader, node, NULL, "a list of at most %d names of [[handler]]s",
                      CONFIG_ROUTE_HANDLERS_MAX);
        return;
    }
    for (size_t i = 0; i < node->len; i++)
        if (node->children[i].kind != TOMLC_STRING) {
            reader_refuse(reader, &node->children[i], NULL, "the name of a [[handler]]");
            return;
        }
    route->handlers = xcalloc(node->len ? node->len : 1, sizeof route->handlers[0]);
    route->handler_count = node->len;
}

char *plugins_folder(const char *name) {
    const char *slash = strrchr(name, '/');

    return slash ? xstrndup(name, (size_t)(slash - name) + 1) : xstrdup("./");
}

char *plugins_built_in_folder(void) {
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    char *own, *folder;

    program[len < 0 ? 0 : len] = '\0';
    own = plugins_folder(program);
    folder = xasprintf("%splugins/", own);
    free(own);
    if (access(folder, X_OK) == 0)
        return folder;
    free(folder);
    return xstrdup(WEIR_PLUGIN_DIR "/");
}

void plugins_free(struct config_handler *handler) {
    free(handler->name);
    free(handler->plugin);
    free(handler->config);
}

static bool is_path(struct slice text) {
    size_t suffix = strlen(SUFFIX);

    return text.len > 0 && text.len < PATH_MAX && !memchr(text.base, '\0', text.len) &&
           (memchr(text.base, '/', text.len) ||
            (text.len > suffix && memcmp(text.base + text.len - suffix, SUFFIX, suffix) == 0));
}

static bool is_name(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", text.base[i]) || !text.base[i])
            return false;
    return text.len > 0 && text.len <= SUGGEST_LENGTH_MAX;
}

/* @file is the configuration's. */
static char *path_of(const char *file, struct slice text) {
    bool is_built_in = !is_path(text);
    char *folder = is_built_in ? plugins_built_in_folder() : plugins_folder(file);
    char *path = text.base[0] == '/'
                     ? xstrndup(text.base, text.len)
                     : xasprintf("%s%.*s%s", folder, SLICE_ARG(text), is_built_in ? SUFFIX : "");

    free(folder);
    return path;
}

static void offer_built_ins(struct suggest *suggest, const char *folder, struct buffer *guess) {
    DIR *directory = opendir(folder);
    const struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        struct slice name = slice_str(entry->d_name);

        if (!is_path(name))
            continue;
        name.len -= strlen(SUFFIX);
        suggest_offer(suggest, name);
        if (suggest->best.base == name.base) { /* and the entry goes with the next one */
            guess->len = 0;
            buffer_append(guess, suggest->best);
            suggest->best = buffer_slice(guess);
        }
    }
    if (directory)
        closedir(directory);
    buffer_append_char(guess, '\0');
}

static bool write_json(struct reader *reader, const struct tomlc_node *root, struct buffer *to) {
    struct level levels[PLUGINS_CONFIG_DEPTH_MAX] = {{root, 0}};
    unsigned depth = 1;

    buffer_append_char(to, '{');
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        bool is_table = level->node->kind == TOMLC_TABLE;
        const struct tomlc_node *node;

        if (level->next == level->node->len) {
            buffer_append_char(to, is_table ? '}' : ']');
            depth--;
            continue;
        }
        node = &level->node->children[level->next++];
        if (level->next > 1)
            buffer_append_char(to, ',');
        if (is_table) {
            buffer_append_json(to, slice_of(node->key, node->key_len));
            buffer_append_char(to, ':');
        }
        if (node->kind != TOMLC_TABLE && node->kind != TOMLC_ARRAY) {
            if (!write_value(reader, node, to))
                return false;
            continue;
        }
        if (depth == PLUGINS_CONFIG_DEPTH_MAX) {
            reader_refuse(reader, node, NULL, "at most %d levels", PLUGINS_CONFIG_DEPTH_MAX);
            return false;
        }
        buffer_append_char(to, node->kind == TOMLC_TABLE ? '{' : '[');
        levels[depth++] = (struct level){node, 0};
    }
    return true;
}

static bool write_value(struct reader *reader, const struct tomlc_node *node, struct buffer *to) {
    switch (node->kind) {
    case TOMLC_STRING:
        buffer_append_json(to, slice_of(node->string, node->len));
        return true;
    case TOMLC_INTEGER:
        buffer_printf(to, "%" PRId64, node->integer);
        return true;
    case TOMLC_BOOLEAN:
        buffer_printf(to, "%s", node->boolean ? "true" : "false");
        return true;
    case TOMLC_FLOAT:
        if (!isfinite(node->floating))
            break;
        buffer_printf(to, "%.17g", node->floating); /* reads back as the same number */
        if (node->floating == floor(node->floating) && fabs(node->floating) < 1e17)
            buffer_append(to, SLICE(".0")); /* still no integer */
        return true;
    default:
        break;
    }
    reader_refuse(reader, node, NULL, "a value that JSON has, too: no date, no infinite number");
    return false;
}
