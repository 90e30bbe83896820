/* The readers of health = { ... } whose values nothing else has. */
#include "config/checks.h"

#include "base/alloc.h"
#include "config/match.h"
#include "config/values.h"

#include <ctype.h>

#define PATH_BYTES_MAX 1024
#define SERVICE_BYTES_MAX 256
#define STATUS_MIN 100
#define STATUS_MAX 599

static bool take_range(struct reader *reader, const struct tomlc_node *node,
                       struct config_status_range *range);
static bool parse_range(struct slice text, struct config_status_range *range);
static bool parse_status(struct slice text, unsigned *status);

void checks_path(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    struct slice text = reader_text(node);
    bool is_good = text.len > 0 && text.len <= PATH_BYTES_MAX && text.base[0] == '/';

    for (size_t i = 0; i < text.len; i++)
        is_good &= isgraph((unsigned char)text.base[i]) && text.base[i] != '#';
    if (is_good)
        value_replace(to, text);
    else
        reader_refuse(reader, node, NULL, "a path, with its query if any, such as \"/healthz\"");
}

void checks_service(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct slice text = reader_text(node);
    bool is_good = node->kind == TOMLC_STRING && text.len <= SERVICE_BYTES_MAX;

    for (size_t i = 0; i < text.len; i++)
        is_good &= isgraph((unsigned char)text.base[i]) != 0;
    if (is_good)
        value_replace(to, text);
    else
        reader_refuse(reader, node, NULL, "\"\", or a gRPC service such as \"package.Service\"");
}

void checks_status(struct reader *reader, const struct schema_key *key,
                   const struct tomlc_node *node, void *to) {
    struct config_health *health = &((struct config_pipeline *)to)->health;
    bool is_list = node->kind == TOMLC_ARRAY;
    size_t count = is_list ? node->len : 1;

    if (count == 0 || count > CONFIG_STATUS_RANGES_MAX) {
        reader_refuse(reader, node, NULL, "1 to %d statuses or ranges", CONFIG_STATUS_RANGES_MAX);
        return;
    }
    health->status_count = 0;
    for (size_t i = 0; i < count; i++)
        if (take_range(reader, is_list ? &node->children[i] : node,
                       &health->statuses[health->status_count]))
            health->status_count++;
}

void checks_complete(struct config_pipeline *pipeline, const struct tomlc_node *node,
                     struct errors *errors) {
    static const char *const http_only[] = {"host", "status"};
    struct config_health *health = &pipeline->health;
    const struct tomlc_node *table = tomlc_find(node, "health");
    int asked;

    if (!table)
        return;
    /* One that was refused is there all the same. */
    asked = !!tomlc_find(table, "path") + !!tomlc_find(table, "grpc_service") + health->is_connect;
    if (asked != 1) {
        errors_add(errors, table->at,
                   "pipeline.health: found %s of path, grpc_service and connect, expected exactly "
                   "one",
                   asked == 0 ? "none" : "several");
        return;
    }
    health->kind = health->path ? HEALTH_HTTP : health->grpc_service ? HEALTH_GRPC : HEALTH_CONNECT;
    if (health->kind == HEALTH_GRPC && pipeline->protocol != PROTOCOL_HTTP2)
        errors_add(errors, tomlc_find(table, "grpc_service")->at,
                   "pipeline.health.grpc_service: found with protocol = \"http1\", expected only "
                   "with \"http2\"");
    for (size_t i = 0; i < sizeof http_only / sizeof *http_only; i++) {
        const struct tomlc_node *key = tomlc_find(table, http_only[i]);

        if (key && health->kind != HEALTH_HTTP)
            errors_add(errors, key->at, "pipeline.health.%s: found without path, expected with it",
                       http_only[i]);
    }
}

static bool take_range(struct reader *reader, const struct tomlc_node *node,
                       struct config_status_range *range) {
    if (node->kind == TOMLC_INTEGER && node->integer >= STATUS_MIN && node->integer <= STATUS_MAX) {
        range->first = range->last = (unsigned)node->integer;
        return true;
    }
    if (node->kind == TOMLC_STRING && parse_range(reader_text(node), range))
        return true;
    reader_refuse(reader, node, NULL,
                  "a status from %d to %d such as 204, or a range such as "
                  "\"200-399\"",
                  STATUS_MIN, STATUS_MAX);
    return false;
}

static bool parse_range(struct slice text, struct config_status_range *range) {
    const char *dash = text.len > 0 ? memchr(text.base, '-', text.len) : NULL;
    size_t first = dash ? (size_t)(dash - text.base) : text.len;
    struct config_status_range parsed;

    if (!parse_status(slice_of(text.base, first), &parsed.first))
        return false;
    parsed.last = parsed.first;
    if (dash && !parse_status(slice_skip(text, first + 1), &parsed.last))
        return false;
    if (parsed.last < parsed.first)
        return false;
    *range = parsed;
    return true;
}

/* Three digits. */
static bool parse_status(struct slice text, unsigned *status) {
    unsigned n = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.base[i]) || text.len != 3)
            return false;
        n = n * 10 + (unsigned)(text.base[i] - '0');
    }
    if (n < STATUS_MIN || n > STATUS_MAX)
        return false;
    *status = n;
    return true;
}
