/* json_guard: content of any kind. Invariants: what passes is JSON, within the limits when its tree
 * is counted, and, of JSON-RPC, calls nothing but what may be called. */
#include "plugin_host.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH_MAX 6
#define KEYS_MAX 8
#define VALUES_MAX 40

static void *plain, *rpc;

/* Recursion is bounded by what is asserted first. NOLINTNEXTLINE(misc-no-recursion) */
static size_t count(const json_t *value, unsigned depth) {
    size_t values = 1;
    const char *key;
    json_t *member;

    assert(depth <= DEPTH_MAX || (!json_is_object(value) && !json_is_array(value)));
    assert(json_object_size(value) <= KEYS_MAX);
    json_object_foreach((json_t *)value, key, member) {
        values += count(member, depth + 1);
    }
    for (size_t i = 0; i < json_array_size(value); i++)
        values += count(json_array_get(value, i), depth + 1);
    return values;
}

static void check_message(const json_t *message) {
    const char *method = json_string_value(json_object_get(message, "method")), *tool;

    assert(json_is_object(message));
    if (!method) {
        assert(json_object_get(message, "result") || json_object_get(message, "error"));
        return;
    }
    assert(strcmp(method, "ping") == 0 || strncmp(method, "tools/", 6) == 0);
    if (strcmp(method, "tools/call") != 0)
        return;
    tool = json_string_value(json_object_get(json_object_get(message, "params"), "name"));
    assert(tool && (strcmp(tool, "search") == 0 || strncmp(tool, "read_", 5) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct weir_field field = {WEIR_TEXT("content-type"), WEIR_TEXT("application/json")};
    struct weir_request request = {.size = sizeof request,
                                   .method = WEIR_TEXT("POST"),
                                   .path = WEIR_TEXT("/"),
                                   .fields = &field,
                                   .field_count = 1,
                                   .has_body = true,
                                   .body = {(const char *)data, size}};
    struct weir_call call;
    json_t *root;

    if (size == 0)
        return 0;
    if (!plain) {
        plain = fuzz_instance("{\"max_depth\":6,\"max_keys\":8,\"max_values\":40}");
        rpc = fuzz_instance("{\"max_depth\":6,\"max_keys\":8,\"max_values\":40,\"json_rpc\":"
                            "{\"methods\":[\"ping\",\"tools/*\"],\"tools\":[\"search\",\"read_*\"],"
                            "\"batch_max\":2}}");
    }
    root = json_loadb((const char *)data, size,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    if (fuzz_run(plain, &request, &call) == WEIR_CONTINUE) {
        assert(root);
        assert(count(root, 1) <= VALUES_MAX);
    }
    if (fuzz_run(rpc, &request, &call) == WEIR_CONTINUE) {
        assert(root && json_array_size(root) <= 2);
        if (!json_is_array(root))
            check_message(root);
        for (size_t i = 0; i < json_array_size(root); i++)
            check_message(json_array_get(root, i));
    }
    json_decref(root);
    return 0;
}
