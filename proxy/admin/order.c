#include "admin/order.h"

#include <netinet/in.h>

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

static struct slice subject_of(h2o_req_t *req);
static bool is_local(h2o_req_t *req);
static bool has_token(h2o_req_t *req, const char *token);
static void answer(h2o_req_t *req, int status, const char *reason, const char *text);

bool order_take(h2o_req_t *req, const struct admin_options *options, struct slice path) {
    const struct order *order = orders;

    while (order->path && !slice_equal(path, slice_str(order->path)))
        order++;
    if (!options->order || !order->path)
        return false;
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
    } else if (!options->order(options->ctx, order->order, subject_of(req))) {
        answer(req, 503, "Service Unavailable", order->refusal);
    } else {
        answer(req, 202, "Accepted", order->answer);
    }
    return true;
}

/* Of "?pipeline=NAME"; names need no escapes. */
static struct slice subject_of(h2o_req_t *req) {
    static const struct slice key = {"pipeline=", 9};
    struct slice query = SLICE("");

    if (req->query_at != SIZE_MAX)
        query = slice_of(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1);
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
