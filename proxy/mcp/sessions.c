/* The hub's tables: sessions, calls, asks. */
#include "mcp/hub_parts.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static void make_id(char *to);
static struct slice copy(struct slice text);
static struct list *bucket_of(struct list *buckets, uint64_t id);

struct hub_session *sessions_add(struct hub *hub, int64_t now_ns) {
    struct hub_session *session = xcalloc(1, sizeof *session);

    make_id(session->id);
    session->level = -1;
    session->used_ns = now_ns;
    list_init(&session->calls);
    list_init(&session->asks);
    list_init(&session->queue);
    list_init(&session->subscriptions);
    list_push_back(&hub->sessions, &session->link);
    list_push_back(&hub->by_session_id[hash_of(slice_str(session->id)) % HUB_BUCKETS],
                   &session->bucket);
    hub->counts.sessions++;
    hub->counts.sessions_all++;
    return session;
}

void sessions_remove(struct hub *hub, struct hub_session *session) {
    assert(session->call_count == 0 && session->ask_count == 0 && !session->stream);
    while (session->queue_count > 0)
        queue_free(queue_pop(session));
    subscriptions_clear(session);
    early_clear(session);
    list_remove(&session->link);
    list_remove(&session->bucket);
    hub->counts.sessions--;
    free(session);
}

struct hub_session *hub_find(struct hub *hub, struct slice id) {
    struct list *bucket = &hub->by_session_id[hash_of(id) % HUB_BUCKETS];

    for (struct list *at = bucket->next; at != bucket; at = at->next) {
        struct hub_session *session = CONTAINER_OF(at, struct hub_session, bucket);

        if (slice_equal(slice_str(session->id), id))
            return session;
    }
    return NULL;
}

struct hub_call *calls_add(struct hub *hub, struct hub_session *session,
                           const struct message *message, struct outlet *outlet) {
    struct hub_call *call = xcalloc(1, sizeof *call);

    call->session = session;
    call->outlet = outlet;
    call->id = ++hub->last_id;
    call->client_id = copy(message->id);
    call->token = copy(message->meta_token);
    list_push_back(&session->calls, &call->in_session);
    list_push_back(bucket_of(hub->calls, call->id), &call->in_bucket);
    session->call_count++;
    hub->counts.calls++;
    hub->counts.calls_all++;
    return call;
}

struct hub_call *calls_find(struct hub *hub, uint64_t id) {
    struct list *bucket = bucket_of(hub->calls, id);

    for (struct list *at = bucket->next; at != bucket; at = at->next)
        if (CONTAINER_OF(at, struct hub_call, in_bucket)->id == id)
            return CONTAINER_OF(at, struct hub_call, in_bucket);
    return NULL;
}

struct hub_call *calls_find_of(struct hub_session *session, struct slice client_id) {
    for (struct list *at = session->calls.next; at != &session->calls; at = at->next)
        if (slice_equal(CONTAINER_OF(at, struct hub_call, in_session)->client_id, client_id))
            return CONTAINER_OF(at, struct hub_call, in_session);
    return NULL;
}

void calls_remove(struct hub *hub, struct hub_call *call) {
    list_remove(&call->in_session);
    list_remove(&call->in_bucket);
    call->session->call_count--;
    hub->counts.calls--;
    free((char *)call->client_id.base);
    free((char *)call->token.base);
    free(call);
}

struct hub_ask *asks_add(struct hub *hub, struct hub_session *session,
                         const struct message *message) {
    struct hub_ask *ask = xcalloc(1, sizeof *ask);

    ask->session = session;
    ask->id = ++hub->last_id;
    ask->server_id = copy(message->id);
    ask->token = copy(message->meta_token);
    list_push_back(&session->asks, &ask->in_session);
    list_push_back(bucket_of(hub->asks, ask->id), &ask->in_bucket);
    session->ask_count++;
    hub->counts.asks_all++;
    return ask;
}

struct hub_ask *asks_find(struct hub *hub, const struct hub_session *session, struct slice id) {
    struct list *bucket;
    uint64_t number;

    if (!hub_number(id, &number))
        return NULL;
    bucket = bucket_of(hub->asks, number);
    for (struct list *at = bucket->next; at != bucket; at = at->next) {
        struct hub_ask *ask = CONTAINER_OF(at, struct hub_ask, in_bucket);

        if (ask->id == number && (!session || ask->session == session))
            return ask;
    }
    return NULL;
}

struct hub_ask *asks_find_of_server(struct hub *hub, struct slice server_id) {
    for (size_t i = 0; i < HUB_BUCKETS; i++)
        for (struct list *at = hub->asks[i].next; at != &hub->asks[i]; at = at->next)
            if (slice_equal(CONTAINER_OF(at, struct hub_ask, in_bucket)->server_id, server_id))
                return CONTAINER_OF(at, struct hub_ask, in_bucket);
    return NULL;
}

void asks_remove(struct hub *hub, struct hub_ask *ask) {
    list_remove(&ask->in_session);
    list_remove(&ask->in_bucket);
    ask->session->ask_count--;
    free((char *)ask->server_id.base);
    free((char *)ask->token.base);
    free(ask);
}

void queue_push(struct hub *hub, struct hub_session *session, uint64_t ask, struct slice text) {
    queue_add(session, ask, text);
    while (session->queue_count > hub->limits.queue ||
           (session->queue_bytes > HUB_QUEUE_BYTES_MAX && session->queue_count > 1)) {
        struct hub_waiting *oldest = queue_pop(session);
        char id[UINT_TEXT_MAX];
        struct hub_ask *lost =
            oldest->ask ? asks_find(hub, session, slice_of(id, uint_to_text(id, oldest->ask)))
                        : NULL;

        hub->counts.dropped++;
        queue_free(oldest);
        if (lost)
            hub_decline(hub, lost, MESSAGE_BUSY, "the client does not listen");
    }
}

bool hub_number(struct slice json, uint64_t *number) {
    uint64_t n = 0;

    if (json.len == 0 || json.len >= UINT_TEXT_MAX)
        return false;
    for (size_t i = 0; i < json.len; i++) {
        if (!isdigit((unsigned char)json.base[i]))
            return false;
        n = n * 10 + (uint64_t)(json.base[i] - '0');
    }
    *number = n;
    return true;
}

/* A secret: who knows it is in the session. */
static void make_id(char *to) {
    unsigned char bytes[HUB_SESSION_ID_BYTES / 2];
    size_t got = 0;

    while (got < sizeof bytes) {
        ssize_t n = getrandom(bytes + got, sizeof bytes - got, 0);

        got += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static struct slice copy(struct slice text) {
    return text.base ? slice_of(xstrndup(text.base, text.len), text.len) : SLICE_NONE;
}

static struct list *bucket_of(struct list *buckets, uint64_t id) {
    return &buckets[id % HUB_BUCKETS];
}
