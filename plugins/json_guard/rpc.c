#include "rpc.h"

#include "../common/settings.h"
#include "../common/text.h"

static void check_message(const struct rpc_rules *rules, const json_t *message,
                          struct rpc_finding *finding);
static void check_request(const struct rpc_rules *rules, const json_t *message,
                          struct rpc_finding *finding);
static bool has_look_alike(const json_t *object, const char *const *names);
static void invalid(struct rpc_finding *finding, const char *why);

void rpc_check(const struct rpc_rules *rules, const json_t *root, struct rpc_finding *finding) {
    size_t count = json_array_size(root);

    *finding = (struct rpc_finding){.code = RPC_FINE};
    if (!json_is_array(root)) {
        check_message(rules, root, finding);
        return;
    }
    if (rules->batch_max == 0)
        invalid(finding, "batches are not accepted");
    else if (count == 0 || count > (uint64_t)rules->batch_max)
        invalid(finding, count == 0 ? "an empty batch" : "too many messages in one batch");
    for (size_t i = 0; i < count && finding->code == RPC_FINE; i++)
        check_message(rules, json_array_get(root, i), finding);
    finding->method = finding->tool = NULL;
}

static void check_message(const struct rpc_rules *rules, const json_t *message,
                          struct rpc_finding *finding) {
    static const char *const names[] = {"jsonrpc", "method", "params", "id",
                                        "result",  "error",  NULL};
    const json_t *version = json_object_get(message, "jsonrpc"), *id;
    bool has_answer = json_object_get(message, "result") || json_object_get(message, "error");

    if (!json_is_object(message)) {
        invalid(finding, "a message is an object");
        return;
    }
    id = json_object_get(message, "id");
    if (!id || json_is_string(id) || json_is_number(id) || json_is_null(id))
        finding->id = id;
    else
        invalid(finding, "id is neither a text nor a number");
    if (!json_is_string(version) || !text_equal(settings_text(version), WEIR_TEXT("2.0")))
        invalid(finding, "jsonrpc is not \"2.0\"");
    /* Some parsers take "Method" for "method", and would hear something else than was checked. */
    if (has_look_alike(message, names))
        invalid(finding, "a member's name differs from a known one in case only");
    if (finding->code != RPC_FINE)
        return;
    if (json_object_get(message, "method")) {
        if (has_answer)
            invalid(finding, "it is both a request and a response");
        else
            check_request(rules, message, finding);
    } else if (!has_answer) {
        invalid(finding, "there is no method");
    } else if (!rules->has_responses) {
        invalid(finding, "responses are not accepted");
    }
}

static void check_request(const struct rpc_rules *rules, const json_t *message,
                          struct rpc_finding *finding) {
    static const char *const names[] = {"name", NULL};
    const json_t *method = json_object_get(message, "method"),
                 *params = json_object_get(message, "params"), *tool;

    if (!json_is_string(method)) {
        invalid(finding, "method is no text");
        return;
    }
    if (params && !json_is_object(params) && !json_is_array(params)) {
        invalid(finding, "params is neither an object nor an array");
        return;
    }
    finding->method = json_string_value(method);
    if (rules->methods && !settings_list_has(rules->methods, settings_text(method), true)) {
        finding->code = RPC_NOT_FOUND;
        finding->why = "this method may not be called";
        finding->subject = finding->method;
        return;
    }
    if (!text_equal(settings_text(method), WEIR_TEXT("tools/call")))
        return;
    tool = json_object_get(params, "name");
    if (json_is_string(tool))
        finding->tool = json_string_value(tool);
    if (!rules->tools)
        return;
    if (!finding->tool || has_look_alike(params, names)) {
        invalid(finding, "params.name is missing, is no text, or has a double in other case");
    } else if (!settings_list_has(rules->tools, settings_text(tool), true)) {
        finding->code = RPC_NOT_FOUND;
        finding->why = "this tool may not be called";
        finding->subject = finding->tool;
    }
}

static bool has_look_alike(const json_t *object, const char *const *names) {
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) {
        for (size_t i = 0; names[i]; i++)
            if (strcmp(key, names[i]) != 0 && strcasecmp(key, names[i]) == 0)
                return true;
    }
    return false;
}

static void invalid(struct rpc_finding *finding, const char *why) {
    if (finding->code != RPC_FINE)
        return;
    finding->code = RPC_INVALID;
    finding->why = why;
}
