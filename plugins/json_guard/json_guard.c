/* json_guard: lets JSON pass that is what it seems: whole, of bounded size and depth, without
 * duplicate keys, NaN or broken UTF-8; with the keys that it must have; and, of JSON-RPC (and MCP),
 * only methods and tools that may be called.
 *
 * Content is counted in one pass before it is parsed, so that what it would take is known before
 * it is taken. What passes goes on as it came. */
#include "../common/json_scan.h"
#include "../common/settings.h"
#include "../common/text.h"
#include "rpc.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB INT64_C(1048576)
#define VARIABLE_VALUE_MAX 256 /* of weir */

struct json_guard {
    const struct weir_host *host;
    json_t *config; /* owned */
    int64_t bytes_max;
    struct json_scan_limits limits;
    json_t *types, *required, *json_rpc; /* in config; NULL: not asked for */
    bool passes_other;
    struct rpc_rules rules;
};

enum { EVENT_PASSED, EVENT_MALFORMED, EVENT_TOO_LARGE, EVENT_DENIED };
static const char *const events[] = {"passed", "malformed", "too_large", "denied", NULL};

#define AT(member) offsetof(struct json_guard, member)
static const struct setting settings[] = {
    {"max_bytes", SETTING_INTEGER, AT(bytes_max), 1, 64 * MIB},
    {"max_depth", SETTING_INTEGER, AT(limits.depth), 1, JSON_SCAN_DEPTH_MAX},
    {"max_keys", SETTING_INTEGER, AT(limits.keys), 1, 1000000},
    {"max_values", SETTING_INTEGER, AT(limits.values), 1, 1000000},
    {"max_string", SETTING_INTEGER, AT(limits.string), 1, 64 * MIB},
    {"types", SETTING_LIST, AT(types), 1, 32},
    {"pass_other_types", SETTING_BOOL, AT(passes_other)},
    {"required", SETTING_LIST, AT(required), 1, 256},
    {"json_rpc", SETTING_TABLE, AT(json_rpc)},
};
static const struct setting rpc_settings[] = {
    {"methods", SETTING_LIST, AT(rules.methods), 1, 1000},
    {"tools", SETTING_LIST, AT(rules.tools), 1, 1000},
    {"batch_max", SETTING_INTEGER, AT(rules.batch_max), 0, 1000},
    {"responses", SETTING_BOOL, AT(rules.has_responses)},
};

static void end(void *state);
static bool is_json(const struct json_guard *plugin, const struct weir_request *request);
static bool is_encoded(const struct weir_request *request);
static bool needs_content(const struct json_guard *plugin, const struct weir_request *request);
static const char *too_large(const struct json_guard *plugin, struct weir_text body);
static json_t *parse(struct weir_text body, json_error_t *error);
static enum weir_verdict judge(struct json_guard *plugin, struct weir_call *call,
                               const json_t *root);
static enum weir_verdict pass(struct json_guard *plugin, struct weir_call *call,
                              const struct rpc_finding *finding);
static enum weir_verdict refuse(struct json_guard *plugin, struct weir_call *call, unsigned event,
                                unsigned status, const char *why);
static enum weir_verdict refuse_rpc(struct json_guard *plugin, struct weir_call *call,
                                    unsigned status, int code, const char *why, const json_t *id,
                                    const char *subject);

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct json_guard *plugin = calloc(1, sizeof *plugin);

    if (!plugin)
        return settings_fail(why, why_size, "there is no memory");
    *plugin = (struct json_guard){
        .host = host,
        .bytes_max = MIB,
        .limits = {.depth = 32, .keys = 1000, .values = 10000, .string = 262144},
        .rules = {.has_responses = true}};
    plugin->config = settings_parse(config, why, why_size);
    if (!plugin->config ||
        settings_read(plugin->config, "", settings, sizeof settings / sizeof *settings, plugin, why,
                      why_size) != 0)
        goto fail;
    if (plugin->json_rpc &&
        settings_read(plugin->json_rpc, "json_rpc.", rpc_settings,
                      sizeof rpc_settings / sizeof *rpc_settings, plugin, why, why_size) != 0)
        goto fail;
    *state = plugin;
    return 0;
fail:
    end(plugin);
    return -1;
}

static void end(void *state) {
    struct json_guard *plugin = state;

    json_decref(plugin->config);
    free(plugin);
}

static enum weir_verdict on_request(void *state, struct weir_call *call,
                                    const struct weir_request *request) {
    struct json_guard *plugin = state;
    enum weir_verdict verdict;
    json_error_t error;
    const char *why;
    json_t *root;

    if (!request->has_body || request->body.len == 0)
        return needs_content(plugin, request)
                   ? refuse(plugin, call, EVENT_MALFORMED, 400, "there is no content")
                   : WEIR_CONTINUE;
    if (!is_json(plugin, request))
        return plugin->passes_other ? WEIR_CONTINUE
                                    : refuse(plugin, call, EVENT_MALFORMED, 415,
                                             "the content is no JSON by its type");
    if (is_encoded(request))
        return refuse(plugin, call, EVENT_MALFORMED, 415, "the content is compressed");
    why = too_large(plugin, request->body);
    if (why)
        return refuse(plugin, call, EVENT_TOO_LARGE, 413, why);
    root = parse(request->body, &error);
    if (!root) {
        char text[JSON_ERROR_TEXT_LENGTH + 64];

        snprintf(text, sizeof text, "the content is no JSON: line %d, column %d: %s", error.line,
                 error.column, error.text);
        return refuse(plugin, call, EVENT_MALFORMED, 400, text);
    }
    verdict = judge(plugin, call, root);
    json_decref(root);
    return verdict;
}

/* By its media type (RFC 9110 section 8.3), parameters aside; several are none. */
static bool is_json(const struct json_guard *plugin, const struct weir_request *request) {
    const struct weir_field *field =
        text_find_field(request->fields, request->field_count, WEIR_TEXT("content-type"), NULL);
    struct weir_text type;

    if (!field || text_find_field(request->fields, request->field_count, field->name, field))
        return false;
    type = text_trim(text_part(field->value, 0, text_find(field->value, ';')));
    for (size_t i = 0; i < json_array_size(plugin->types); i++)
        if (text_equal_case(type, settings_text(json_array_get(plugin->types, i))))
            return true;
    if (plugin->types)
        return false;
    return text_equal_case(type, WEIR_TEXT("application/json")) ||
           (type.len > 5 && text_equal_case(text_part(type, type.len - 5, type.len),
                                            WEIR_TEXT("+json"))); /* RFC 6839 section 3.1 */
}

static bool is_encoded(const struct weir_request *request) {
    const struct weir_field *field = NULL;

    while ((field = text_find_field(request->fields, request->field_count,
                                    WEIR_TEXT("content-encoding"), field)))
        if (!text_equal_case(field->value, WEIR_TEXT("identity")))
            return true;
    return false;
}

/* A GET or DELETE of MCP has none. */
static bool needs_content(const struct json_guard *plugin, const struct weir_request *request) {
    return (plugin->required || plugin->json_rpc) &&
           (text_equal(request->method, WEIR_TEXT("POST")) ||
            text_equal(request->method, WEIR_TEXT("PUT")) ||
            text_equal(request->method, WEIR_TEXT("PATCH")));
}

static const char *too_large(const struct json_guard *plugin, struct weir_text body) {
    if (body.len > (uint64_t)plugin->bytes_max)
        return "the content is too large";
    switch (json_scan(body, &plugin->limits)) {
    case JSON_SCAN_FITS:
        return NULL;
    case JSON_SCAN_TOO_DEEP:
        return "the JSON is nested too deeply";
    case JSON_SCAN_TOO_MANY_KEYS:
        return "an object in the JSON has too many keys";
    case JSON_SCAN_TOO_MANY_VALUES:
        return "there are too many values in the JSON";
    case JSON_SCAN_TOO_LONG:
        return "a text in the JSON is too long";
    }
    return "the content is too large";
}

/* An integer beyond 64 bits is JSON, too. */
static json_t *parse(struct weir_text body, json_error_t *error) {
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *root = json_loadb(body.base, body.len, flags, error);

    if (!root && json_error_code(error) == json_error_numeric_overflow)
        root = json_loadb(body.base, body.len, flags | JSON_DECODE_INT_AS_REAL, error);
    return root;
}

static enum weir_verdict judge(struct json_guard *plugin, struct weir_call *call,
                               const json_t *root) {
    struct rpc_finding finding = {.code = RPC_FINE};

    for (size_t i = 0; i < json_array_size(plugin->required); i++) {
        const char *key = json_string_value(json_array_get(plugin->required, i));
        char text[128];

        if (json_object_get(root, key))
            continue;
        snprintf(text, sizeof text, "the key \"%.64s\" is missing", key);
        return refuse(plugin, call, EVENT_MALFORMED, 400, text);
    }
    if (plugin->json_rpc)
        rpc_check(&plugin->rules, root, &finding);
    if (finding.code == RPC_FINE)
        return pass(plugin, call, &finding);
    plugin->host->count(call, finding.code == RPC_INVALID ? EVENT_MALFORMED : EVENT_DENIED, 1);
    return refuse_rpc(plugin, call, finding.code == RPC_INVALID ? 400 : 403, finding.code,
                      finding.why, finding.id, finding.subject);
}

/* What is called is told to later handlers and the access log. */
static enum weir_verdict pass(struct json_guard *plugin, struct weir_call *call,
                              const struct rpc_finding *finding) {
    struct weir_text method = text_of(finding->method ? finding->method : ""),
                     tool = text_of(finding->tool ? finding->tool : "");

    plugin->host->count(call, EVENT_PASSED, 1);
    if (method.len > 0 && method.len <= VARIABLE_VALUE_MAX && text_is_value(method))
        plugin->host->set_variable(call, WEIR_TEXT("rpc_method"), method);
    if (tool.len > 0 && tool.len <= VARIABLE_VALUE_MAX && text_is_value(tool))
        plugin->host->set_variable(call, WEIR_TEXT("rpc_tool"), tool);
    return WEIR_CONTINUE;
}

static enum weir_verdict refuse(struct json_guard *plugin, struct weir_call *call, unsigned event,
                                unsigned status, const char *why) {
    plugin->host->count(call, event, 1);
    if (plugin->json_rpc)
        return refuse_rpc(plugin, call, status, event == EVENT_MALFORMED ? -32700 : RPC_INVALID,
                          why, NULL, NULL);
    plugin->host->refuse(call, status, text_of(why), WEIR_TEXT("send JSON that is accepted here"));
    return WEIR_RESPOND;
}

/* An error response (JSON-RPC 2.0 section 5), which may stand in an HTTP error (MCP, Streamable
 * HTTP). */
static enum weir_verdict refuse_rpc(struct json_guard *plugin, struct weir_call *call,
                                    unsigned status, int code, const char *why, const json_t *id,
                                    const char *subject) {
    json_t *reply = json_pack("{s:s, s:O?, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error",
                              "code", code, "message", why);
    char *text;

    if (reply && !id)
        json_object_set_new(reply, "id", json_null());
    if (reply && subject)
        json_object_set_new(json_object_get(reply, "error"), "data", json_string(subject));
    text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
    if (!text || !plugin->host->respond(call, status, text_of(text)))
        plugin->host->refuse(call, status, text_of(why), WEIR_TEXT("send what is accepted here"));
    else
        plugin->host->respond_field(call, WEIR_TEXT("content-type"), WEIR_TEXT("application/json"));
    free(text);
    json_decref(reply);
    return WEIR_RESPOND;
}

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
    .flags = WEIR_WANTS_BODY,
    .name = "json_guard",
    .version = WEIR_VERSION,
    .events = events,
    .init = init,
    .request = on_request,
    .end = end,
};
