#include "admin/order.h"

#include <netinet/in.h>

#define NAME_MAX_BYTES 64 /* of a handler */

struct order {
    const char *path; /* NULL ends the list */
    enum admin_order order;
    const char *answer, *refusal;
};

static const struct order orders[] = {
    {"/reload", ADMIN_RELOAD,
     "reading the configuration again; the log and weir_config_reloads_total say how it went\n",
     "the supervisor does not listen; try again\n"},
    {"/drain", ADMIN_DRAIN, "finishing what is under way, then ending\n",
     "the supervisor does not listen; try again\n"},
    {"/reset", ADMIN_RESET, "starting again what keeps dying; the log says how it goes\n",
     "there is no nursery: the configuration has no programs, or it has just died\n"},
    {0},
};

static void reset(h2o_req_t *req, const struct admin_options *options);
static bool is_allowed(h2o_req_t *req, const struct admin_options *options);
static void change_endpoint(h2o_req_t *req, const struct admin_options *options);
static bool take_change(struct admin_change *change, struct slice query, char *memory);
static struct slice decode(struct slice text, char **memory);
static int hex_value(char c);
static struct slice query_of(h2o_req_t *req);
static struct slice name_behind(h2o_req_t *req, struct slice key);
static bool is_local(h2o_req_t *req);
static bool has_token(h2o_req_t *req, const char *token);
static void answer(h2o_req_t *req, int status, const char *reason, const char *text);

bool order_take(h2o_req_t *req, const struct admin_options *options, struct slice path) {
    const struct order *order = orders;
    bool is_endpoint = options->change && slice_equal(path, SLICE("/endpoint"));
    bool is_reset = options->reset && slice_equal(path, SLICE("/handler/reset"));

    while (order->path && !slice_equal(path, slice_str(order->path)))
        order++;
    if (!is_endpoint && !is_reset && (!options->order || !order->path))
        return false;
    if (!is_allowed(req, options)) {
        /* It was told. */
    } else if (is_endpoint) {
        change_endpoint(req, options);
    } else if (is_reset) {
        reset(req, options);
    } else if (!options->order(options->ctx, order->order, name_behind(req, SLICE("pipeline=")))) {
        answer(req, 503, "Service Unavailable", order->refusal);
    } else {
        answer(req, 202, "Accepted", order->answer);
    }
    return true;
}

/* Answers who is not. */
static bool is_allowed(h2o_req_t *req, const struct admin_options *options) {
    if (!slice_equal(slice_of(req->method.base, req->method.len), SLICE("POST"))) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, NULL, H2O_STRLIT("POST"));
        answer(req, 405, "Method Not Allowed", "only POST\n");
    } else if (!is_local(req)) {
        answer(req, 403, "Forbidden", "only from this host\n");
    } else if (h2o_find_header_by_str(&req->headers, H2O_STRLIT("origin"), -1) != -1) {
        answer(req, 403, "Forbidden", "not from a web page\n");
    } else if (options->token && !has_token(req, options->token)) {
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("www-authenticate"), 0,
                              NULL, H2O_STRLIT("Bearer"));
        answer(req, 401, "Unauthorized", "needs Authorization: Bearer and the admin.token\n");
    } else {
        return true;
    }
    return false;
}

static void change_endpoint(h2o_req_t *req, const struct admin_options *options) {
    struct slice query = query_of(req);
    char *memory = h2o_mem_alloc_pool(&req->pool, query.len + 1);
    struct admin_change change;

    if (!take_change(&change, query, memory)) {
        answer(req, 400, "Bad Request",
               "expected ?pipeline=NAME&endpoint=ADDRESS&do=drain|disable|enable\n");
        return;
    }
    switch (options->change(options->ctx, &change)) {
    case ADMIN_CHANGED:
        answer(req, 200, "OK", "done\n");
        break;
    case ADMIN_CHANGED_UNKEPT:
        answer(req, 200, "OK",
               "done; there is no server.state_file: a reload or restart forgets it\n");
        break;
    case ADMIN_NO_PIPELINE:
        answer(req, 404, "Not Found", "no such pipeline; see /status\n");
        break;
    case ADMIN_NO_ENDPOINT:
        answer(req, 404, "Not Found",
               "the pipeline has no such endpoint; see the addresses in /status\n");
        break;
    }
}

/* Each key once, in any order. @memory: as many bytes as @query has. */
static bool take_change(struct admin_change *change, struct slice query, char *memory) {
    static const char *const services[] = {"drain", "disable", "enable"};
    struct slice service = SLICE_NONE;

    *change = (struct admin_change){0};
    while (query.len > 0) {
        const char *end = memchr(query.base, '&', query.len);
        struct slice pair = slice_of(query.base, end ? (size_t)(end - query.base) : query.len);
        const char *equals = pair.len > 0 ? memchr(pair.base, '=', pair.len) : NULL;
        struct slice key, *to;

        query = slice_skip(query, end ? pair.len + 1 : pair.len);
        if (!equals)
            return false;
        key = slice_of(pair.base, (size_t)(equals - pair.base));
        to = slice_equal(key, SLICE("pipeline"))   ? &change->pipeline
             : slice_equal(key, SLICE("endpoint")) ? &change->endpoint
             : slice_equal(key, SLICE("do"))       ? &service
                                                   : NULL;
        if (!to || to->base)
            return false;
        *to = decode(slice_skip(pair, key.len + 1), &memory);
        if (!to->base)
            return false;
    }
    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        if (service.base && slice_equal(service, slice_str(services[i]))) {
            change->service = (enum admin_service)i;
            return change->pipeline.base && change->endpoint.base;
        }
    return false;
}

/* RFC 3986 section 2.1. No base: it is none of that. */
static struct slice decode(struct slice text, char **memory) {
    char *start = *memory;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];

        if (c == '%') {
            if (text.len - i < 3 || hex_value(text.base[i + 1]) < 0 ||
                hex_value(text.base[i + 2]) < 0)
                return SLICE_NONE;
            c = (char)(hex_value(text.base[i + 1]) << 4 | hex_value(text.base[i + 2]));
            i += 2;
        }
        *(*memory)++ = c;
    }
    return slice_of(start, (size_t)(*memory - start));
}

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void reset(h2o_req_t *req, const struct admin_options *options) {
    struct slice name = name_behind(req, SLICE("name="));
    char text[NAME_MAX_BYTES + 1] = "";

    if (name.len == 0 || name.len > NAME_MAX_BYTES || memchr(name.base, '\0', name.len)) {
        answer(req, 400, "Bad Request", "needs ?name= and the name of a handler\n");
        return;
    }
    memcpy(text, name.base, name.len);
    if (!options->reset(options->ctx, text))
        answer(req, 404, "Not Found", "no handler of that name; see /status\n");
    else
        answer(req, 200, "OK", "what is known of its faults is forgotten\n");
}

/* What stands behind the '?'. */
static struct slice query_of(h2o_req_t *req) {
    struct slice path = slice_of(req->path.base, req->path.len);

    return req->query_at == SIZE_MAX ? SLICE("") : slice_skip(path, req->query_at + 1);
}

/* All of a query behind @key, which ends with '=': names need no percent-encoding
 * (config/values.c). */
static struct slice name_behind(h2o_req_t *req, struct slice key) {
    struct slice query = query_of(req);

    return slice_starts(query, key) ? slice_skip(query, key.len) : SLICE("");
}

static bool is_local(h2o_req_t *req) {
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    const struct sockaddr_in *in = (const void *)&peer;
    const struct sockaddr_in6 *in6 = (const void *)&peer;

    if (req->conn->callbacks->get_peername(req->conn, (struct sockaddr *)&peer) == 0)
        return true; /* a unix socket that has no name */
    switch (peer.ss_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
                in6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
    default:
        return false;
    }
}

/* Takes the same time whatever is wrong with it. */
static bool has_token(h2o_req_t *req, const char *token) {
    static const char scheme[] = "Bearer ";
    ssize_t at = h2o_find_header(&req->headers, H2O_TOKEN_AUTHORIZATION, -1);
    struct slice value = SLICE_NONE;
    unsigned differences = 0;

    if (at != -1)
        value = slice_of(req->headers.entries[at].value.base, req->headers.entries[at].value.len);
    if (value.len != strlen(scheme) + strlen(token) || memcmp(value.base, scheme, 7) != 0)
        return false;
    for (size_t i = 0; token[i]; i++)
        differences |= (unsigned char)token[i] ^ (unsigned char)value.base[strlen(scheme) + i];
    return differences == 0;
}

static void answer(h2o_req_t *req, int status, const char *reason, const char *text) {
    req->res.status = status;
    req->res.reason = reason;
    req->res.content_length = strlen(text);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; charset=utf-8"));
    h2o_send_inline(req, text, strlen(text));
}
