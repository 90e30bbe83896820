/* [[route]] rewrite_urls: its keys, and what follows from the route's pipeline.
 *
 * Base URLs are kept in the form that they are compared in: the host in lower case, no port that
 * the scheme has anyway, no slash at the end. */
#include "config/rewrites.h"

#include "base/alloc.h"
#include "config/address.h"
#include "config/match.h"
#include "config/values.h"

#include <ctype.h>
#include <stdlib.h>

/* Under which names a program knows itself, beside its endpoint's own. */
static const char *const local_names[] = {"localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]"};
#define LOCAL_NAMES (sizeof local_names / sizeof *local_names)

static void read_inner(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to);
static void read_outer(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to);
static void read_bodies(struct reader *reader, const struct schema_key *key,
                        const struct tomlc_node *node, void *to);
static bool is_media_type(struct slice text);
static bool take_url(struct reader *reader, const struct tomlc_node *node, struct config_url *to);
static bool parse_url(struct slice text, struct config_url *to);
static bool is_authority(struct slice text);
static bool is_path(struct slice text);
static void free_urls(struct config_rewrite *rewrite);
static void check_one(const struct config *config, struct config_route *route,
                      const struct tomlc_node *node, struct errors *errors);
static void derive_inner(const struct config_pipeline *pipeline, struct config_rewrite *rewrite);
static void add_inner(struct config_rewrite *rewrite, bool is_secure, const char *host,
                      unsigned port);

#define AT(member) offsetof(struct config_rewrite, member)
static const struct schema_key rewrite_keys[] = {
    {"inner", read_inner, 0},
    {"outer", read_outer, AT(outer)},
    {"bodies", read_bodies, 0},
    {"requests", value_boolean, AT(has_requests), "false"},
};
#undef AT

static const struct schema schema_rewrite = {"route.rewrite_urls", rewrite_keys,
                                             sizeof rewrite_keys / sizeof *rewrite_keys};

void rewrites_read(struct reader *reader, const struct schema_key *key,
                   const struct tomlc_node *node, void *to) {
    struct config_route *route = to;

    if (node->kind != TOMLC_TABLE) {
        reader_refuse(reader, node, NULL, "a table such as { outer = \"https://example.org\" }");
        return;
    }
    route->rewrite = xcalloc(1, sizeof *route->rewrite);
    reader_take_defaults(&schema_rewrite, route->rewrite);
    reader_take(reader, &schema_rewrite, node, route->rewrite);
}

void config_rewrite_free(struct config_rewrite *rewrite) {
    if (!rewrite)
        return;
    free_urls(rewrite);
    free(rewrite->outer.rest);
    for (size_t i = 0; i < rewrite->body_count; i++)
        free(rewrite->bodies[i]);
    free(rewrite->bodies);
    free(rewrite);
}

void rewrites_check(struct config *config, const struct tomlc_node *root, struct errors *errors) {
    const struct tomlc_node *list = tomlc_find(root, "route");

    for (size_t i = 0; config->pipeline_count > 0 && i < config->route_count; i++)
        if (config->routes[i].rewrite)
            check_one(config, &config->routes[i], tomlc_find(&list->children[i], "rewrite_urls"),
                      errors);
}

/* One string or a list. */
static void read_inner(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to) {
    struct config_rewrite *rewrite = to;
    size_t count = node->kind == TOMLC_ARRAY ? node->len : 1;

    if (count == 0 || count > REWRITES_INNER_MAX) {
        errors_add(reader->errors, node->at, "%s: found a list of %zu, expected 1 to %d base URLs",
                   reader->path, count, REWRITES_INNER_MAX);
        return;
    }
    rewrite->inner = xcalloc(count, sizeof rewrite->inner[0]);
    for (size_t i = 0; i < count; i++)
        if (take_url(reader, node->kind == TOMLC_ARRAY ? &node->children[i] : node,
                     &rewrite->inner[rewrite->inner_count]))
            rewrite->inner_count++;
}

static void read_outer(struct reader *reader, const struct schema_key *key,
                       const struct tomlc_node *node, void *to) {
    take_url(reader, node, to);
}

static void read_bodies(struct reader *reader, const struct schema_key *key,
                        const struct tomlc_node *node, void *to) {
    struct config_rewrite *rewrite = to;

    if (node->kind != TOMLC_ARRAY || node->len > REWRITES_BODIES_MAX) {
        reader_refuse(reader, node, NULL,
                      "a list of at most %d media types such as [ \"application/json\" ]",
                      REWRITES_BODIES_MAX);
        return;
    }
    rewrite->bodies = xcalloc(node->len + 1, sizeof rewrite->bodies[0]);
    for (size_t i = 0; i < node->len; i++) {
        const struct tomlc_node *child = &node->children[i];

        if (is_media_type(reader_text(child)))
            rewrite->bodies[rewrite->body_count++] = match_lower(reader_text(child));
        else
            reader_refuse(reader, child, NULL,
                          "a media type such as \"application/json\", none of gRPC");
    }
}

/* RFC 9110 section 8.3.1, without parameters. */
static bool is_media_type(struct slice text) {
    const struct slice grpc = SLICE("application/grpc");
    const char *slash = text.len > 0 ? memchr(text.base, '/', text.len) : NULL;
    size_t at = slash ? (size_t)(slash - text.base) : 0;

    return slash && match_is_token(slice_of(text.base, at)) &&
           match_is_token(slice_skip(text, at + 1)) && !memchr(text.base, '*', text.len) &&
           !(text.len >= grpc.len && slice_equal_case(slice_of(text.base, grpc.len), grpc));
}

static bool take_url(struct reader *reader, const struct tomlc_node *node, struct config_url *to) {
    if (node->kind == TOMLC_STRING && node->len <= REWRITES_URL_MAX &&
        parse_url(reader_text(node), to))
        return true;
    reader_refuse(reader, node, NULL,
                  "a URL of at most %d bytes such as \"http://localhost:8080\" or "
                  "\"https://example.org/engine\", without user, query and fragment",
                  REWRITES_URL_MAX);
    return false;
}

static bool parse_url(struct slice text, struct config_url *to) {
    const struct slice schemes[] = {SLICE("http://"), SLICE("https://")};
    struct config_url url = {0};
    struct slice authority, port;
    const char *slash, *colon;
    char *lower;

    url.is_secure = text.len > 4 && tolower((unsigned char)text.base[4]) == 's';
    if (text.len < schemes[url.is_secure].len ||
        !slice_equal_case(slice_of(text.base, schemes[url.is_secure].len), schemes[url.is_secure]))
        return false;
    text = slice_skip(text, schemes[url.is_secure].len);
    while (text.len > 0 && text.base[text.len - 1] == '/')
        text.len--;
    slash = text.len > 0 ? memchr(text.base, '/', text.len) : NULL;
    authority = slice_of(text.base, slash ? (size_t)(slash - text.base) : text.len);
    text = slice_skip(text, authority.len);
    if (!is_authority(authority) || !is_path(text))
        return false;
    colon = authority.base[authority.len - 1] != ']' ? memrchr(authority.base, ':', authority.len)
                                                     : NULL;
    if (colon) {
        port = slice_skip(authority, (size_t)(colon - authority.base));
        url.has_port = !slice_equal(port, config_url_port(url.is_secure));
        authority.len -= url.has_port ? 0 : port.len;
    }
    lower = match_lower(authority);
    url.authority = authority.len;
    url.rest = xasprintf("%s%.*s", lower, SLICE_ARG(text));
    free(lower);
    *to = url;
    return true;
}

struct slice config_url_port(bool is_secure) {
    return is_secure ? SLICE(":443") : SLICE(":80");
}

/* A name or address, with or without a port; the addresses that stand for all others, too. */
static bool is_authority(struct slice text) {
    static const enum address_use uses[] = {ADDRESS_TO_DIAL, ADDRESS_TO_LISTEN};
    struct config_address address = {0};
    struct buffer guess = {0}, with_port = {0};
    bool is_good = false;

    if (text.len == 0 || text.base[0] == ':')
        return false;
    buffer_append(&with_port, text);
    if (!memchr(text.base, ':', text.len) || text.base[text.len - 1] == ']')
        buffer_append(&with_port, SLICE(":80"));
    for (size_t i = 0; i < 2 && !is_good; i++)
        if (!address_parse(&address, buffer_slice(&with_port), uses[i], &guess)) {
            is_good = address.kind != ADDRESS_UNIX;
            address_deinit(&address);
        }
    buffer_deinit(&guess);
    buffer_deinit(&with_port);
    return is_good;
}

/* It goes into JSON and into fields as it is, and is found as it is. */
static bool is_path(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum((unsigned char)text.base[i]) &&
            (!text.base[i] || !strchr("/-._~%!$&()*+,;=:@", text.base[i])))
            return false;
    return true;
}

static void free_urls(struct config_rewrite *rewrite) {
    for (size_t i = 0; i < rewrite->inner_count; i++)
        free(rewrite->inner[i].rest);
    free(rewrite->inner);
    rewrite->inner = NULL;
    rewrite->inner_count = 0;
}

static void check_one(const struct config *config, struct config_route *route,
                      const struct tomlc_node *node, struct errors *errors) {
    struct config_rewrite *rewrite = route->rewrite;
    const struct config_pipeline *pipeline = &config->pipelines[route->pipeline];
    bool has_inner = tomlc_find(node, "inner");

    if (route->is_grpc || route->is_grpc_web)
        errors_add(errors, node->at,
                   "route.rewrite_urls: found in a route of gRPC calls, expected none: they are "
                   "never rewritten");
    /* By default outer is what a client says, which proves nothing about where it comes from. */
    if (rewrite->has_requests && (!has_inner || !tomlc_find(node, "outer")))
        errors_add(errors, tomlc_find(node, "requests")->at,
                   "route.rewrite_urls.requests: found without inner or outer, expected both "
                   "beside it");
    if (has_inner)
        return;
    derive_inner(pipeline, rewrite);
    if (rewrite->inner_count == 0)
        errors_add(errors, node->at,
                   "route.rewrite_urls.inner: found nothing, expected the engine's own base URLs, "
                   "since pipeline \"%s\" has no endpoint with a port",
                   pipeline->name);
}

static void derive_inner(const struct config_pipeline *pipeline, struct config_rewrite *rewrite) {
    bool is_secure = pipeline->tls.is_on;

    rewrite->inner =
        xcalloc(pipeline->endpoint_count * (LOCAL_NAMES + 1) + 1, sizeof rewrite->inner[0]);
    for (size_t i = 0; i < pipeline->endpoint_count; i++) {
        const struct config_address *endpoint = &pipeline->endpoints[i];
        char *host;

        if (endpoint->kind == ADDRESS_UNIX)
            continue;
        for (size_t j = 0; j < LOCAL_NAMES; j++)
            add_inner(rewrite, is_secure, local_names[j], endpoint->port);
        host = xstrndup(endpoint->text, (size_t)(strrchr(endpoint->text, ':') - endpoint->text));
        add_inner(rewrite, is_secure, host, endpoint->port);
        free(host);
    }
}

/* Unless it is there. */
static void add_inner(struct config_rewrite *rewrite, bool is_secure, const char *host,
                      unsigned port) {
    char *text = xasprintf("http%s://%s:%u", is_secure ? "s" : "", host, port);
    struct config_url url;

    if (parse_url(slice_str(text), &url)) {
        size_t i = 0;

        while (i < rewrite->inner_count && strcmp(rewrite->inner[i].rest, url.rest) != 0)
            i++;
        if (i < rewrite->inner_count)
            free(url.rest);
        else
            rewrite->inner[rewrite->inner_count++] = url;
    }
    free(text);
}
