/* The clients' side of the hub: sessions, what they say, how they end. */
#include "mcp/hub_parts.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>

/* What may be spoken, newest first (MCP: "Version Negotiation"). */
static const char *const versions[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
#define VERSIONS (sizeof versions / sizeof *versions)

/* RFC 5424 section 6.2.1, the other way round. */
static const char *const levels[] = {"debug", "info",     "notice", "warning",
                                     "error", "critical", "alert",  "emergency"};
#define LEVELS (sizeof levels / sizeof *levels)

static enum hub_outcome refuse(struct hub *hub, struct buffer *answer,
                               const struct message *message, enum message_fault fault,
                               const char *words);
static bool make_room(struct hub *hub, int64_t now_ns);
static bool is_idle(const struct hub_session *session, int64_t now_ns, int64_t idle_ns);
static const char *choose_version(const struct hub *hub, const json_t *params);
static unsigned capabilities_of(const json_t *params);
static const char *prepare(struct hub *hub, struct hub_session *session,
                           const struct message *message, struct message_edit *edit,
                           bool *is_answered);
static bool others_have(const struct hub *hub, const struct hub_session *session, struct slice uri);
static bool say(struct hub *hub, const struct message *message, const struct message_edit *edits,
                size_t count);
static void note_cancelled(struct hub *hub, struct hub_session *session,
                           const struct message *message, int64_t now_ns);
static void cancel(struct hub *hub, uint64_t id, const char *reason);
static void end_call(struct hub *hub, struct hub_call *call, enum message_fault fault,
                     const char *words, struct slice detail);
static void close_with(struct hub *hub, struct hub_session *session, enum message_fault fault,
                       const char *words, struct slice detail);

void hub_init(struct hub *hub, const struct hub_options *options) {
    *hub = (struct hub){
        .limits = options->limits, .ops = options->ops, .ctx = options->ctx, .name = options->name};
    list_init(&hub->sessions);
    for (size_t i = 0; i < HUB_BUCKETS; i++) {
        list_init(&hub->by_session_id[i]);
        list_init(&hub->calls[i]);
        list_init(&hub->asks[i]);
    }
}

void hub_deinit(struct hub *hub) {
    json_decref(hub->greeting);
    buffer_deinit(&hub->scratch);
    *hub = (struct hub){0};
}

void hub_start(struct hub *hub) {
    hub->scratch.len = 0;
    buffer_printf(&hub->scratch,
                  "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
                  "\"protocolVersion\":\"%s\",\"capabilities\":{\"roots\":{\"listChanged\":true},"
                  "\"sampling\":{},\"elicitation\":{}},\"clientInfo\":{\"name\":\"weir\","
                  "\"version\":\"" WEIR_VERSION "\"}}}\n",
                  versions[0]);
    hub->ops->say(hub->ctx, buffer_slice(&hub->scratch));
}

bool hub_is_alive(struct hub *hub, int64_t ns) {
    int64_t before_ns = hub->silent_ns, ping_ns = hub->limits.ping_ns;

    if (ping_ns == 0 || !hub->is_ready || hub->is_over)
        return true;
    if (before_ns < ping_ns && hub->counts.calls > 0) {
        hub->silent_ns = 0;
        return true;
    }
    hub->silent_ns += ns;
    if (before_ns < ping_ns && hub->silent_ns >= ping_ns) {
        hub->ping_id = ++hub->last_id;
        hub->scratch.len = 0;
        buffer_printf(&hub->scratch, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"ping\"}\n",
                      (unsigned long long)hub->ping_id);
        hub->ops->say(hub->ctx, buffer_slice(&hub->scratch)); /* not taken: not answered either */
    }
    return hub->silent_ns < 2 * ping_ns;
}

bool hub_speaks(const struct hub *hub, struct slice version) {
    const char *servers = json_string_value(json_object_get(hub->greeting, "protocolVersion"));

    for (size_t i = 0; i < VERSIONS; i++)
        if (slice_equal(version, slice_str(versions[i])))
            return true;
    return servers && slice_equal(version, slice_str(servers));
}

enum hub_outcome hub_greet(struct hub *hub, const struct message *message, int64_t now_ns,
                           struct hub_session **session, struct buffer *answer) {
    json_t *request, *result, *params;
    struct hub_session *made;
    char *text;

    if (!hub->is_ready || hub->is_over)
        return refuse(hub, answer, message, MESSAGE_SERVER_GONE, "the server is not there");
    if (hub->counts.sessions >= hub->limits.sessions && !make_room(hub, now_ns))
        return refuse(hub, answer, message, MESSAGE_BUSY,
                      "too many sessions are open: try again later, end some, or raise "
                      "mcp.sessions of the pipeline");
    request = json_loadb(message->text.base, message->text.len, 0, NULL);
    params = json_object_get(request, "params");
    if (!json_is_object(params)) {
        json_decref(request);
        return refuse(hub, answer, message, MESSAGE_INVALID_REQUEST,
                      "initialize has no params that can be read");
    }
    made = sessions_add(hub, now_ns);
    made->capabilities = capabilities_of(params);
    result = json_copy(hub->greeting);
    json_object_set_new(result, "protocolVersion", json_string(choose_version(hub, params)));
    text = json_dumps(result, JSON_COMPACT);
    buffer_printf(answer, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":", SLICE_ARG(message->id));
    buffer_append(answer, slice_str(text));
    buffer_append_char(answer, '}');
    free(text);
    json_decref(result);
    json_decref(request);
    *session = made;
    return HUB_DONE;
}

enum hub_outcome hub_call(struct hub *hub, struct hub_session *session,
                          const struct message *message, struct outlet *outlet, int64_t now_ns,
                          struct hub_call **call, struct buffer *answer) {
    struct message_edit edits[3] = {{SLICE_NONE, SLICE_NONE}};
    char id[UINT_TEXT_MAX];
    bool is_answered = false;
    struct hub_call *made;
    const char *why;

    session->used_ns = now_ns;
    if (hub->is_over)
        return refuse(hub, answer, message, MESSAGE_SERVER_GONE, "the server is not there");
    if (session->call_count >= hub->limits.calls_per_session)
        return refuse(hub, answer, message, MESSAGE_BUSY,
                      "too many requests of this session are under way: await some answers, or "
                      "raise mcp.calls_per_session of the pipeline");
    if (hub->counts.calls >= hub->limits.calls)
        return refuse(hub, answer, message, MESSAGE_BUSY,
                      "too many requests are under way: try again later, or raise mcp.calls of the "
                      "pipeline");
    if (message_is(message, "initialize"))
        return refuse(hub, answer, message, MESSAGE_INVALID_REQUEST,
                      "this session is initialized already");
    if (calls_find_of(session, message->id))
        return refuse(hub, answer, message, MESSAGE_INVALID_REQUEST,
                      "a request with this id is under way already");
    if (early_take(session, message->id, now_ns)) {
        hub->counts.cancelled++;
        if (!outlet->ops->may_be_silent(outlet))
            message_write_error(answer, message->id, MESSAGE_CANCELLED, "cancelled by the client",
                                SLICE(""));
        return HUB_DONE;
    }
    why = prepare(hub, session, message, &edits[2], &is_answered);
    if (why)
        return refuse(hub, answer, message, MESSAGE_BUSY, why);
    if (is_answered) {
        buffer_printf(answer, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{}}",
                      SLICE_ARG(message->id));
        return HUB_DONE;
    }
    made = calls_add(hub, session, message, outlet);
    edits[0] = (struct message_edit){message->id, slice_of(id, uint_to_text(id, made->id))};
    edits[1] = (struct message_edit){message->meta_token, edits[0].instead};
    if (!say(hub, message, edits, 3)) {
        calls_remove(hub, made);
        return refuse(hub, answer, message, MESSAGE_BUSY,
                      "the server does not read what is sent to it: try again later, and look into "
                      "why it stands still");
    }
    *call = made;
    return HUB_UNDERWAY;
}

void hub_leave(struct hub *hub, struct hub_call *call, int64_t now_ns) {
    call->session->used_ns = now_ns;
    hub->counts.cancelled++;
    cancel(hub, call->id, "its client has left, or its deadline has passed");
    calls_remove(hub, call);
}

void hub_note(struct hub *hub, struct hub_session *session, const struct message *message,
              int64_t now_ns) {
    session->used_ns = now_ns;
    if (hub->is_over)
        return;
    if (message->kind == MESSAGE_RESPONSE) {
        struct hub_ask *ask = asks_find(hub, session, message->id);

        if (!ask) {
            hub->counts.late++;
            return;
        }
        hub->counts.dropped +=
            !say(hub, message, &(struct message_edit){message->id, ask->server_id}, 1);
        asks_remove(hub, ask);
    } else if (message_is(message, "notifications/cancelled")) {
        note_cancelled(hub, session, message, now_ns);
    } else if (message_is(message, "notifications/progress")) {
        struct hub_ask *ask = asks_find(hub, session, message->token);

        if (ask && ask->token.base)
            hub->counts.dropped +=
                !say(hub, message, &(struct message_edit){message->token, ask->token}, 1);
        else
            hub->counts.late++;
    } else if (!message_is(message, "notifications/initialized")) { /* it is, once for all */
        hub->counts.dropped += !say(hub, message, NULL, 0);
    }
}

void hub_attach(struct hub *hub, struct hub_session *session, struct outlet *stream) {
    struct outlet *old = session->stream;

    session->stream = stream;
    if (old)
        old->ops->end(old, SLICE_NONE);
    hub_flush(hub, session);
}

void hub_flush(struct hub *hub, struct hub_session *session) {
    while (session->stream && session->queue_count > 0 &&
           session->stream->ops->has_room(session->stream)) {
        struct hub_waiting *waiting = queue_pop(session);

        session->stream->ops->event(session->stream, slice_of(waiting->text, waiting->len));
        queue_free(waiting);
    }
}

void hub_detach(struct hub *hub, struct hub_session *session, int64_t now_ns) {
    session->stream = NULL;
    session->used_ns = now_ns;
}

void hub_close(struct hub *hub, struct hub_session *session, enum message_fault fault,
               const char *words) {
    close_with(hub, session, fault, words, SLICE(""));
}

void hub_expire(struct hub *hub, int64_t now_ns) {
    struct list *at, *next;

    for (at = hub->sessions.next; at != &hub->sessions; at = next) {
        struct hub_session *session = CONTAINER_OF(at, struct hub_session, link);

        next = at->next;
        if (is_idle(session, now_ns, hub->limits.idle_ns))
            hub_close(hub, session, MESSAGE_NO_SESSION, "the session was idle for too long");
    }
}

void hub_end(struct hub *hub, const char *words, struct slice detail) {
    hub->is_over = true;
    while (!list_is_empty(&hub->sessions))
        close_with(hub, CONTAINER_OF(hub->sessions.next, struct hub_session, link),
                   MESSAGE_SERVER_GONE, words, detail);
}

void hub_decline(struct hub *hub, struct hub_ask *ask, enum message_fault fault,
                 const char *words) {
    hub->scratch.len = 0;
    message_write_error(&hub->scratch, ask->server_id, fault, words, SLICE(""));
    buffer_append_char(&hub->scratch, '\n');
    if (!hub->is_over)
        hub->ops->say(hub->ctx, buffer_slice(&hub->scratch));
    asks_remove(hub, ask);
}

int hub_level_of(struct slice level) {
    for (size_t i = 0; i < LEVELS; i++)
        if (message_text_is(level, levels[i]))
            return (int)i;
    return -1;
}

static enum hub_outcome refuse(struct hub *hub, struct buffer *answer,
                               const struct message *message, enum message_fault fault,
                               const char *words) {
    bool is_limit = fault == MESSAGE_BUSY;

    message_write_error(answer, message->id, fault, words, SLICE(""));
    hub->counts.refused += is_limit;
    return is_limit || fault == MESSAGE_SERVER_GONE ? HUB_REFUSED : HUB_BAD;
}

static bool make_room(struct hub *hub, int64_t now_ns) {
    struct hub_session *oldest = NULL;

    for (struct list *at = hub->sessions.next; at != &hub->sessions; at = at->next) {
        struct hub_session *session = CONTAINER_OF(at, struct hub_session, link);

        if (is_idle(session, now_ns, HUB_GIVE_WAY_NS) &&
            (!oldest || session->used_ns < oldest->used_ns))
            oldest = session;
    }
    if (oldest)
        hub_close(hub, oldest, MESSAGE_NO_SESSION, "the session has given way to a new one");
    return oldest != NULL;
}

static bool is_idle(const struct hub_session *session, int64_t now_ns, int64_t idle_ns) {
    return !session->stream && session->call_count == 0 && now_ns - session->used_ns >= idle_ns;
}

/* The client's, unless it is unknown or newer than the server's. */
static const char *choose_version(const struct hub *hub, const json_t *params) {
    const char *wanted = json_string_value(json_object_get(params, "protocolVersion"));
    const char *servers = json_string_value(json_object_get(hub->greeting, "protocolVersion"));

    for (size_t i = 0; wanted && i < VERSIONS; i++)
        if (strcmp(wanted, versions[i]) == 0 && strcmp(wanted, servers) < 0)
            return versions[i];
    return servers;
}

static unsigned capabilities_of(const json_t *params) {
    static const struct {
        const char *name;
        enum hub_capability capability;
    } known[] = {
        {"sampling", HUB_SAMPLING}, {"elicitation", HUB_ELICITATION}, {"roots", HUB_ROOTS}};
    const json_t *all = json_object_get(params, "capabilities");
    unsigned found = 0;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (json_is_object(json_object_get(all, known[i].name)))
            found |= known[i].capability;
    return found;
}

/* What of a request is not the session's alone. Why it cannot be; NULL: it can. */
static const char *prepare(struct hub *hub, struct hub_session *session,
                           const struct message *message, struct message_edit *edit,
                           bool *is_answered) {
    if (message_is(message, "logging/setLevel") && hub_level_of(message->level) >= 0) {
        int most = session->level = hub_level_of(message->level);

        for (struct list *at = hub->sessions.next; at != &hub->sessions; at = at->next) {
            int level = CONTAINER_OF(at, struct hub_session, link)->level;

            most = level >= 0 && level < most ? level : most;
        }
        *edit = (struct message_edit){message->level, slice_str(levels[most])};
    } else if (message_is(message, "resources/subscribe") && message->uri.base) {
        if (!subscriptions_add(session, message->uri))
            return "too many subscriptions, or too long a URI";
    } else if (message_is(message, "resources/unsubscribe") && message->uri.base) {
        subscriptions_remove(session, message->uri);
        *is_answered = others_have(hub, session, message->uri);
    }
    return NULL;
}

static bool others_have(const struct hub *hub, const struct hub_session *session,
                        struct slice uri) {
    for (struct list *at = hub->sessions.next; at != &hub->sessions; at = at->next)
        if (at != &session->link &&
            subscriptions_have(CONTAINER_OF(at, struct hub_session, link), uri))
            return true;
    return false;
}

static bool say(struct hub *hub, const struct message *message, const struct message_edit *edits,
                size_t count) {
    hub->scratch.len = 0;
    message_write(&hub->scratch, message, edits, count);
    return hub->ops->say(hub->ctx, buffer_slice(&hub->scratch));
}

static void note_cancelled(struct hub *hub, struct hub_session *session,
                           const struct message *message, int64_t now_ns) {
    struct hub_call *call = calls_find_of(session, message->request_id);
    char id[UINT_TEXT_MAX];

    if (!call) {
        hub->counts.late++;
        early_note(session, message->request_id, now_ns);
        return;
    }
    hub->counts.cancelled++;
    hub->counts.dropped += !say(
        hub, message,
        &(struct message_edit){message->request_id, slice_of(id, uint_to_text(id, call->id))}, 1);
    /* Whoever cancels does not await an answer (MCP: "Cancellation"). */
    if (!call->outlet->ops->may_be_silent(call->outlet)) {
        end_call(hub, call, MESSAGE_CANCELLED, "cancelled by the client", SLICE(""));
    } else {
        struct outlet *outlet = call->outlet;

        calls_remove(hub, call);
        outlet->ops->end(outlet, SLICE_NONE);
    }
}

/* Unlike a message of the client's, this one is not passed on but made. */
static void cancel(struct hub *hub, uint64_t id, const char *reason) {
    if (hub->is_over)
        return;
    hub->scratch.len = 0;
    buffer_printf(&hub->scratch,
                  "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
                  "\"requestId\":%llu,\"reason\":\"%s\"}}\n",
                  (unsigned long long)id, reason);
    hub->counts.dropped += !hub->ops->say(hub->ctx, buffer_slice(&hub->scratch));
}

static void end_call(struct hub *hub, struct hub_call *call, enum message_fault fault,
                     const char *words, struct slice detail) {
    struct outlet *outlet = call->outlet;
    struct buffer answer = {0};

    message_write_error(&answer, call->client_id, fault, words, detail);
    calls_remove(hub, call);
    outlet->ops->end(outlet, buffer_slice(&answer));
    buffer_deinit(&answer);
}

static void close_with(struct hub *hub, struct hub_session *session, enum message_fault fault,
                       const char *words, struct slice detail) {
    struct outlet *stream = session->stream;

    while (!list_is_empty(&session->calls)) {
        struct hub_call *call = CONTAINER_OF(session->calls.next, struct hub_call, in_session);

        cancel(hub, call->id, "its session has ended");
        end_call(hub, call, fault, words, detail);
    }
    while (!list_is_empty(&session->asks))
        hub_decline(hub, CONTAINER_OF(session->asks.next, struct hub_ask, in_session),
                    MESSAGE_NO_SESSION, "the session that was asked has ended");
    session->stream = NULL;
    if (stream) {
        struct buffer last = {0};

        message_write_error(&last, SLICE_NONE, fault, words, detail);
        stream->ops->end(stream, hub->is_over ? buffer_slice(&last) : SLICE_NONE);
        buffer_deinit(&last);
    }
    sessions_remove(hub, session);
}
