/* Readers and cross checks of balance, affinity and retry. */
#include "config/balance.h"

#include "base/alloc.h"
#include "config/match.h"
#include "config/values.h"

#include <stdlib.h>

static void check_pipeline(const struct config_pipeline *pipeline, const struct tomlc_node *section,
                           struct errors *errors);
static void check_route(const struct config_route *route, const struct tomlc_node *section,
                        struct errors *errors);
static const struct tomlc_node *find(const struct tomlc_node *section, const char *table,
                                     const char *key);

void balance_hash(struct reader *reader, const struct schema_key *key,
                  const struct tomlc_node *node, void *to) {
    static const char header[] = "header:", cookie[] = "cookie:";
    struct config_hash *hash = to;
    struct slice text = reader_text(node), name = SLICE("");
    enum config_hash_of of = HASH_CLIENT;
    char *owned = NULL;

    if (slice_starts(text, slice_str(header))) {
        of = HASH_HEADER;
        name = slice_skip(text, strlen(header));
        owned = match_lower(name);
    } else if (slice_starts(text, slice_str(cookie))) {
        of = HASH_COOKIE;
        name = slice_skip(text, strlen(cookie));
        owned = xstrndup(name.base, name.len);
    } else if (slice_equal(text, SLICE("path"))) {
        of = HASH_PATH;
    }
    if (owned ? !match_is_token(name) : of == HASH_CLIENT && !slice_equal(text, SLICE("client"))) {
        reader_refuse(reader, node, NULL,
                      "\"client\", \"path\", \"header:NAME\" or \"cookie:NAME\"");
        free(owned);
        return;
    }
    free(hash->name);
    *hash = (struct config_hash){.of = of, .name = owned};
}

void balance_header(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    char *lower;

    if (!match_is_token(reader_text(node))) {
        reader_refuse(reader, node, NULL, "a field name such as \"mcp-session-id\"");
        return;
    }
    lower = match_lower(reader_text(node));
    value_replace(to, slice_str(lower));
    free(lower);
}

void balance_cookie(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    if (match_is_token(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL, "the name of a cookie such as \"weir\"");
}

void balance_check(const struct config *config, const struct tomlc_node *root,
                   struct errors *errors) {
    const struct tomlc_node *pipelines = tomlc_find(root, "pipeline");
    const struct tomlc_node *routes = tomlc_find(root, "route");

    for (size_t i = 0; i < config->pipeline_count; i++)
        check_pipeline(&config->pipelines[i], &pipelines->children[i], errors);
    for (size_t i = 0; i < config->route_count; i++)
        check_route(&config->routes[i], &routes->children[i], errors);
}

static void check_pipeline(const struct config_pipeline *pipeline, const struct tomlc_node *section,
                           struct errors *errors) {
    const struct tomlc_node *hash = find(section, "balance", "hash");
    const struct tomlc_node *timeout = find(section, "retry", "timeout");
    const struct tomlc_node *on = find(section, "retry", "on");
    bool is_on = pipeline->retry.on & RETRY_ON_TIMEOUT;

    if (hash && pipeline->balance.by != BALANCE_HASH)
        errors_add(errors, hash->at,
                   "pipeline.balance.hash: found with another by, expected only with \"hash\"");
    if (timeout && pipeline->retry.timeout_ns > 0 && !is_on)
        errors_add(
            errors, timeout->at,
            "pipeline.retry.timeout: found without \"timeout\" in retry.on, expected both or "
            "neither");
    if (on && is_on && pipeline->retry.timeout_ns == 0)
        errors_add(errors, on->at,
                   "pipeline.retry.on: found \"timeout\" without retry.timeout, expected both or "
                   "neither");
}

static void check_route(const struct config_route *route, const struct tomlc_node *section,
                        struct errors *errors) {
    const struct tomlc_node *cookie = find(section, "affinity", "cookie");
    const struct tomlc_node *learn = find(section, "affinity", "learn");
    const struct tomlc_node *strict = find(section, "affinity", "strict");

    if (route->affinity.header && route->affinity.cookie)
        errors_add(errors, cookie->at,
                   "route.affinity: found both header and cookie, expected only one of them");
    if (learn && !find(section, "affinity", "header"))
        errors_add(errors, learn->at, "route.affinity.learn: found without header");
    if (strict && route->affinity.is_strict && !route->affinity.learn && !route->affinity.cookie)
        errors_add(
            errors, strict->at,
            "route.affinity.strict: found without learn and without cookie, expected with one "
            "of them: a header that was not learned has no endpoint of its own");
}

static const struct tomlc_node *find(const struct tomlc_node *section, const char *table,
                                     const char *key) {
    const struct tomlc_node *node = tomlc_find(section, table);

    return node ? tomlc_find(node, key) : NULL;
}
