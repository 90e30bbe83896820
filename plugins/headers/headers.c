/* headers: sets, adds and removes fields of requests and responses, and speaks CORS for servers
 * that do not. */
#include "../common/settings.h"
#include "../common/text.h"
#include "cors.h"
#include "template.h"

#include <stdlib.h>

#define EDITS_MAX 64 /* of one kind */

/* Of the requests, or of the responses. Removed first, then set, then added. */
struct edits {
    json_t *remove, *set, *add; /* in the configuration; NULL: none */
};

struct headers {
    const struct weir_host *host;
    json_t *config; /* owned */
    json_t *request_table, *response_table, *cors_table;
    struct edits request, response;
    struct cors cors;
};

enum { EVENT_PREFLIGHT, EVENT_FAILED };
static const char *const events[] = {"preflight", "failed", NULL};

static const struct setting settings[] = {
    {"request", SETTING_TABLE, offsetof(struct headers, request_table)},
    {"response", SETTING_TABLE, offsetof(struct headers, response_table)},
    {"cors", SETTING_TABLE, offsetof(struct headers, cors_table)},
};
static const struct setting edit_settings[] = {
    {"remove", SETTING_LIST, offsetof(struct edits, remove), 1, EDITS_MAX},
    {"set", SETTING_TABLE, offsetof(struct edits, set)},
    {"add", SETTING_TABLE, offsetof(struct edits, add)},
};

static void end(void *state);
static int read_edits(struct edits *edits, const json_t *table, const char *where, char *why,
                      size_t why_size);
static int check_values(const json_t *table, const char *where, const char *name, char *why,
                        size_t why_size);
static void edit(struct headers *plugin, struct weir_call *call, const struct weir_request *request,
                 const struct edits *edits, const struct weir_field *fields, size_t count);
static bool remove_all(const struct headers *plugin, struct weir_call *call,
                       struct weir_text pattern, const struct weir_field *fields, size_t count);
static bool put(const struct headers *plugin, struct weir_call *call,
                const struct weir_request *request, const json_t *table,
                bool (*how)(struct weir_call *, struct weir_text, struct weir_text));

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct headers *plugin = calloc(1, sizeof *plugin);

    if (!plugin)
        return settings_fail(why, why_size, "there is no memory");
    plugin->host = host;
    plugin->config = settings_parse(config, why, why_size);
    if (!plugin->config ||
        settings_read(plugin->config, "", settings, sizeof settings / sizeof *settings, plugin, why,
                      why_size) != 0 ||
        read_edits(&plugin->request, plugin->request_table, "request.", why, why_size) != 0 ||
        read_edits(&plugin->response, plugin->response_table, "response.", why, why_size) != 0 ||
        (plugin->cors_table && cors_read(&plugin->cors, plugin->cors_table, why, why_size) != 0)) {
        end(plugin);
        return -1;
    }
    *state = plugin;
    return 0;
}

static void end(void *state) {
    struct headers *plugin = state;

    json_decref(plugin->config);
    free(plugin);
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    struct headers *plugin = state;

    if (plugin->cors_table && cors_is_preflight(request)) {
        plugin->host->count(call, EVENT_PREFLIGHT, 1);
        return cors_answer(&plugin->cors, plugin->host, call, request);
    }
    if (plugin->cors_table)
        cors_prepare(&plugin->cors, plugin->host, call, request);
    edit(plugin, call, request, &plugin->request, request->fields, request->field_count);
    return WEIR_CONTINUE;
}

static enum weir_verdict on_response(void *state, struct weir_call *call,
                                     const struct weir_request *request,
                                     const struct weir_response *response) {
    struct headers *plugin = state;

    if (plugin->cors_table)
        cors_edit(&plugin->cors, plugin->host, call, request, response);
    edit(plugin, call, request, &plugin->response, response->fields, response->field_count);
    return WEIR_CONTINUE;
}

static int read_edits(struct edits *edits, const json_t *table, const char *where, char *why,
                      size_t why_size) {
    if (settings_read(table, where, edit_settings, sizeof edit_settings / sizeof *edit_settings,
                      edits, why, why_size) != 0)
        return -1;
    for (size_t i = 0; i < json_array_size(edits->remove); i++) {
        struct weir_text name = settings_text(json_array_get(edits->remove, i));

        /* '*' is a character of names, too. */
        if (!text_is_token(name) || text_equal(name, WEIR_TEXT("*")))
            return settings_fail(why, why_size,
                                 "%sremove: found \"%.*s\", expected the name of a field, or how "
                                 "names begin and a *",
                                 where, TEXT_ARG(name));
    }
    if (check_values(edits->set, where, "set", why, why_size) != 0)
        return -1;
    return check_values(edits->add, where, "add", why, why_size);
}

static int check_values(const json_t *table, const char *where, const char *name, char *why,
                        size_t why_size) {
    const char *key, *wrong;
    json_t *value;

    if (json_object_size(table) > EDITS_MAX)
        return settings_fail(why, why_size, "%s%s: found %zu fields, expected at most %d", where,
                             name, json_object_size(table), EDITS_MAX);
    json_object_foreach((json_t *)table, key, value) {
        if (!text_is_token(text_of(key)))
            return settings_fail(why, why_size,
                                 "%s%s: found \"%.60s\", expected the name of a field", where, name,
                                 key);
        wrong = json_is_string(value) ? template_check(settings_text(value)) : "expected a text";
        if (wrong)
            return settings_fail(why, why_size, "%s%s.%.60s: %s", where, name, key, wrong);
    }
    return 0;
}

static void edit(struct headers *plugin, struct weir_call *call, const struct weir_request *request,
                 const struct edits *edits, const struct weir_field *fields, size_t count) {
    bool is_done = true;

    for (size_t i = 0; i < json_array_size(edits->remove); i++)
        is_done = remove_all(plugin, call, settings_text(json_array_get(edits->remove, i)), fields,
                             count) &&
                  is_done;
    is_done = put(plugin, call, request, edits->set, plugin->host->set_field) && is_done;
    is_done = put(plugin, call, request, edits->add, plugin->host->add_field) && is_done;
    if (is_done)
        return;
    plugin->host->count(call, EVENT_FAILED, 1);
    plugin->host->log(call, WEIR_LOG_WARN,
                      WEIR_TEXT("a field was not edited: weir allows no edit of it, or its value "
                                "cannot be one"));
}

static bool remove_all(const struct headers *plugin, struct weir_call *call,
                       struct weir_text pattern, const struct weir_field *fields, size_t count) {
    struct weir_text prefix = text_part(pattern, 0, pattern.len - 1);
    bool is_done = true;

    if (pattern.base[pattern.len - 1] != '*')
        return plugin->host->remove_field(call, pattern);
    for (size_t i = 0; i < count; i++)
        if (fields[i].name.len >= prefix.len &&
            text_equal_case(text_part(fields[i].name, 0, prefix.len), prefix))
            is_done = plugin->host->remove_field(call, fields[i].name) && is_done;
    return is_done;
}

static bool put(const struct headers *plugin, struct weir_call *call,
                const struct weir_request *request, const json_t *table,
                bool (*how)(struct weir_call *, struct weir_text, struct weir_text)) {
    bool is_done = true;
    const char *name;
    json_t *template;

    json_object_foreach((json_t *)table, name, template) {
        struct weir_text value;

        is_done = template_expand(plugin->host, call, request, settings_text(template), &value) &&
                  how(call, text_of(name), value) && is_done;
    }
    return is_done;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .name = "headers",
    .version = WEIR_VERSION,
    .events = events,
    .init = init,
    .request = on_request,
    .response = on_response,
    .end = end,
};
