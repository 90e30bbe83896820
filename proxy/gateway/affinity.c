/* Where an exchange belongs: the key that its pipeline balances by, and the sessions of its route.
 *
 * A session is known by a field that the client shows (Mcp-Session-Id), whose value the upstream
 * has given out in a response, or by a cookie that weir sets. Which endpoint it belongs to stands
 * in a table (loop/memo.h) in the supervisor's memory: it is shared by all loops, and there after a
 * reload, after the death of a gateway, and for those that are still draining. It costs no write to
 * a file per session, and what clients and upstreams see of a session id is what the other one has
 * said. What is not in the table goes where the balancer's hash leads. A cookie is chosen so that
 * this is the endpoint that it was set by: it survives a restart of everything, and tells nothing
 * of what is behind weir, because it is random. */
#include "gateway/crossing.h"

#include "base/hash.h"

#define COOKIE_TRIES_MAX \
    256 /* to find one that leads to an endpoint; of n, n are needed on average */

static bool key_of_request(struct crossing *c, const struct config_hash *hash, uint64_t *key);
static struct slice client_of(const struct sockaddr *address);
static struct slice find_cookie(const struct fields *fields, struct slice name);
static uint64_t key_of_session(const struct crossing *c, struct slice session);
static void learn(struct crossing *c);
static void set_cookie(struct crossing *c);

enum fail affinity_find(struct crossing *c) {
    const struct config_pipeline *pipeline = c->part->shared->config;
    const struct config_route *route = c->route;
    struct exchange *x = &c->x;
    struct slice session = SLICE("");
    struct memo *memo = c->listener->gl->gateway->memo;

    if (route->affinity.header) {
        const struct field *field =
            fields_find_name(&x->request_head.fields, slice_str(route->affinity.header));

        session = field ? field->value : session;
    } else if (route->affinity.cookie) {
        session = find_cookie(&x->request_head.fields, slice_str(route->affinity.cookie));
        if (session.len != REQUEST_ID_BYTES)
            session = SLICE(""); /* none of ours */
    }
    if (session.len == 0) {
        c->wish.is_keyed = pipeline->balance.by == BALANCE_HASH &&
                           key_of_request(c, &pipeline->balance.hash, &c->wish.key);
        return FAIL_NONE;
    }
    c->wish.is_keyed = c->has_session = true;
    c->wish.key = key_of_session(c, session);
    c->wish.home = memo_get(memo, c->wish.key, x->loop->now_ns);
    if (c->wish.home == 0 && route->affinity.is_strict && route->affinity.learn)
        return FAIL_AFFINITY_LOST;
    if (c->wish.home == 0)
        c->wish.home = balancer_home(c->part, c->wish.key);
    return FAIL_NONE;
}

enum fail affinity_check(const struct crossing *c) {
    bool is_known = false;

    if (!c->has_session || !c->route->affinity.is_strict ||
        balancer_find(c->part, c->wish.home, &is_known))
        return FAIL_NONE;
    return is_known ? FAIL_ENDPOINT_NONE : FAIL_AFFINITY_LOST;
}

void affinity_respond(struct crossing *c) {
    const struct config_route *route = c->route;
    struct memo *memo = c->listener->gl->gateway->memo;

    if (!c->endpoint)
        return; /* a program of its own */
    if (route->affinity.learn)
        learn(c);
    if (route->affinity.cookie && !c->has_session)
        set_cookie(c);
    /* Its own endpoint was not to be had: it stays with the one that has taken it on. */
    else if (c->has_session && c->endpoint->id != c->wish.home && c->x.response_head.status < 400)
        memo_put(memo, c->wish.key, c->endpoint->id, c->x.loop->now_ns);
}

static bool key_of_request(struct crossing *c, const struct config_hash *hash, uint64_t *key) {
    const struct request_head *head = &c->x.request_head;
    const struct field *field = NULL;
    struct slice text = SLICE_NONE;

    switch (hash->of) {
    case HASH_CLIENT:
        text = client_of(c->x.client_address);
        break;
    case HASH_PATH: {
        const char *query =
            head->path.len > 0 ? memchr(head->path.base, '?', head->path.len) : NULL;

        text = head->path;
        text.len = query ? (size_t)(query - text.base) : text.len;
        break;
    }
    case HASH_HEADER:
        field = fields_find_name(&head->fields, slice_str(hash->name));
        text = field ? field->value : text;
        break;
    case HASH_COOKIE:
        text = find_cookie(&head->fields, slice_str(hash->name));
        break;
    }
    *key = hash_of(text);
    return text.len > 0;
}

/* Its bytes; a unix socket's clients are all alike. */
static struct slice client_of(const struct sockaddr *address) {
    const union conn_address *any = (const union conn_address *)address;

    if (address->sa_family == AF_INET)
        return slice_of((const char *)&any->in.sin_addr, sizeof any->in.sin_addr);
    if (address->sa_family == AF_INET6)
        return slice_of((const char *)&any->in6.sin6_addr, sizeof any->in6.sin6_addr);
    return SLICE_NONE;
}

/* RFC 6265 section 4.2.1: "a=1; b=2", over HTTP/2 also in several fields. */
static struct slice find_cookie(const struct fields *fields, struct slice name) {
    const struct field *field = fields_find(fields, FIELD_COOKIE);

    for (; field; field = fields_find_next(fields, field)) {
        struct slice rest = field->value;

        while (rest.len > 0) {
            const char *end = memchr(rest.base, ';', rest.len);
            struct slice pair = slice_of(rest.base, end ? (size_t)(end - rest.base) : rest.len);

            rest = slice_skip(rest, end ? pair.len + 1 : pair.len);
            pair = slice_trim(pair);
            if (pair.len > name.len && pair.base[name.len] == '=' && slice_starts(pair, name))
                return slice_skip(pair, name.len + 1);
        }
    }
    return SLICE_NONE;
}

/* Pipelines do not know of each other's sessions. */
static uint64_t key_of_session(const struct crossing *c, struct slice session) {
    uint64_t h = hash_more(HASH_START, slice_str(c->part->shared->config->name));

    return hash_mix(hash_more(hash_mix(h), session));
}

static void learn(struct crossing *c) {
    const struct response_head *head = &c->x.response_head;
    const struct field *field =
        fields_find_name(&head->fields, slice_str(c->route->affinity.header));

    if (field && field->value.len > 0 && head->status < 400)
        memo_put(c->listener->gl->gateway->memo, key_of_session(c, field->value), c->endpoint->id,
                 c->x.loop->now_ns);
}

static void set_cookie(struct crossing *c) {
    struct exchange *x = &c->x;
    char *id = arena_alloc(&x->arena, REQUEST_ID_BYTES);
    struct slice session = forward_make_request_id(id);
    unsigned tries = 1;

    while (balancer_home(c->part, key_of_session(c, session)) != c->endpoint->id &&
           tries++ < COOKIE_TRIES_MAX)
        session = forward_make_request_id(id);
    memo_put(c->listener->gl->gateway->memo, key_of_session(c, session), c->endpoint->id,
             x->loop->now_ns);
    fields_add_known(&x->response_head.fields, &x->arena, FIELD_SET_COOKIE,
                     ARENA_JOIN(&x->arena, slice_str(c->route->affinity.cookie), SLICE("="),
                                session, SLICE("; Path=/; HttpOnly; SameSite=Lax"),
                                x->is_secure ? SLICE("; Secure") : SLICE("")));
}
