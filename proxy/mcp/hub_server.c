/* The server's side of the hub: whom its lines are for. */
#include "mcp/hub_parts.h"

#include "base/log.h"

#define SHOWN_BYTES 120 /* of a line that is no message, in the log */

static void hear_loss(struct hub *hub, const struct lines_item *line);
static void hear_garbage(struct hub *hub, struct slice text, const char *why);
static void fail_call(struct hub *hub, uint64_t id, const char *words, struct slice detail);
static void hear_greeting(struct hub *hub, const struct message *message);
static void hear_response(struct hub *hub, const struct message *message, int64_t now_ns);
static void hear_request(struct hub *hub, const struct message *message);
static void hear_notification(struct hub *hub, const struct message *message);
static void hear_progress(struct hub *hub, const struct message *message);
static void hear_cancelled(struct hub *hub, const struct message *message);
static struct hub_session *owner_of(struct hub *hub, unsigned capability);
static bool can(const struct hub_session *session, unsigned capability);
static void tell_all(struct hub *hub, const struct message *message);
static void deliver(struct hub *hub, struct hub_session *session, bool is_of_call, uint64_t ask,
                    struct slice text);
static struct hub_call *streaming_call(const struct hub_session *session);
static struct slice write_line(struct buffer *to, const struct message *message,
                               const struct message_edit *edits, size_t count);

static struct log_limit garbage_limit = LOG_LIMIT(2);
static struct log_limit unowned_limit = LOG_LIMIT(1);

void hub_hear(struct hub *hub, const struct lines_item *line, int64_t now_ns) {
    struct message message;
    const char *why;

    hub->silent_ns = 0;
    if (hub->is_over)
        return;
    if (line->is_lost) {
        hear_loss(hub, line);
        return;
    }
    if (slice_trim(line->text).len == 0 || slice_equal(line->text, SLICE("\r")))
        return;
    if (message_read(&message, line->text, hub->limits.depth, &why)) {
        hear_garbage(hub, line->text, why);
        return;
    }
    switch (message.kind) {
    case MESSAGE_RESPONSE:
        hear_response(hub, &message, now_ns);
        break;
    case MESSAGE_REQUEST:
        hear_request(hub, &message);
        break;
    case MESSAGE_NOTIFICATION:
        hear_notification(hub, &message);
        break;
    }
}

static void hear_loss(struct hub *hub, const struct lines_item *line) {
    struct buffer bytes = {0};

    hub->counts.lost++;
    log_limited(&garbage_limit, LOG_ERROR,
                "'%s' wrote a line of %llu bytes, at most %zu can be had: it is dropped", hub->name,
                (unsigned long long)line->bytes, hub->limits.message_bytes);
    buffer_printf(&bytes, "%llu bytes", (unsigned long long)line->bytes);
    if (line->has_id)
        fail_call(hub, line->id, "the server's answer is longer than mcp.message of the pipeline: ",
                  buffer_slice(&bytes));
    buffer_deinit(&bytes);
}

/* Who awaits an answer that cannot be read is told so. */
static void hear_garbage(struct hub *hub, struct slice text, const char *why) {
    struct id_finder finder = {0};
    struct buffer shown = {0};

    hub->counts.garbage++;
    buffer_append_json(&shown,
                       slice_of(text.base, text.len < SHOWN_BYTES ? text.len : SHOWN_BYTES));
    log_limited(&garbage_limit, LOG_WARN, "'%s' wrote a line that is no message, as %s: %.*s",
                hub->name, why, SLICE_ARG(buffer_slice(&shown)));
    buffer_deinit(&shown);
    id_finder_see(&finder, text);
    if (finder.is_found)
        fail_call(hub, finder.id, "the server's answer cannot be read: ", slice_str(why));
}

static void fail_call(struct hub *hub, uint64_t id, const char *words, struct slice detail) {
    struct hub_call *call = calls_find(hub, id);
    struct buffer answer = {0};
    struct outlet *outlet;

    if (!call)
        return;
    message_write_error(&answer, call->client_id, MESSAGE_INTERNAL, words, detail);
    outlet = call->outlet;
    calls_remove(hub, call);
    outlet->ops->end(outlet, buffer_slice(&answer));
    buffer_deinit(&answer);
}

/* Of a server that has answered without a version nothing can be made. */
static void hear_greeting(struct hub *hub, const struct message *message) {
    json_t *result = message->result.base ? json_loadb(message->result.base, message->result.len,
                                                       JSON_DECODE_ANY, NULL)
                                          : NULL;

    if (!json_is_string(json_object_get(result, "protocolVersion"))) {
        json_decref(result);
        hub->ops->refused(hub->ctx, message->text);
        return;
    }
    hub->greeting = result;
    hub->is_ready = true;
    hub->ops->say(hub->ctx,
                  SLICE("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n"));
    hub->ops->ready(hub->ctx);
}

static void hear_response(struct hub *hub, const struct message *message, int64_t now_ns) {
    struct hub_call *call = NULL;
    struct buffer answer = {0};
    struct outlet *outlet;
    struct slice text;
    uint64_t id;

    if (hub_number(message->id, &id)) {
        if (id == 0 && !hub->is_ready) {
            hear_greeting(hub, message);
            return;
        }
        if (id > 0 && id == hub->ping_id) /* that it has come is all there is to it */
            return;
        call = calls_find(hub, id);
    }
    if (!call) {
        hub->counts.late++;
        return;
    }
    text = write_line(&answer, message, &(struct message_edit){message->id, call->client_id}, 1);
    outlet = call->outlet;
    call->session->used_ns = now_ns;
    calls_remove(hub, call);
    outlet->ops->end(outlet, text);
    buffer_deinit(&answer);
}

static void hear_request(struct hub *hub, const struct message *message) {
    static const struct {
        const char *method;
        enum hub_capability capability;
    } known[] = {{"sampling/createMessage", HUB_SAMPLING},
                 {"elicitation/create", HUB_ELICITATION},
                 {"roots/list", HUB_ROOTS}};
    struct buffer out = {0};
    struct hub_session *session;
    unsigned capability = 0;
    char id[UINT_TEXT_MAX];
    struct hub_ask *ask;
    struct slice text;

    if (message_is(message, "ping")) { /* it asks for us */
        buffer_printf(&out, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{}}\n",
                      SLICE_ARG(message->id));
        hub->ops->say(hub->ctx, buffer_slice(&out));
        buffer_deinit(&out);
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (message_is(message, known[i].method))
            capability = known[i].capability;
    session = owner_of(hub, capability);
    if (!session || session->ask_count == HUB_ASKS_MAX) {
        const char *words = session ? "its client has too many requests to answer already"
                                    : "it cannot be told which client this is for: none that can "
                                      "do it has a request under way, or several have";

        hub->counts.unowned += !session;
        log_limited(&unowned_limit, LOG_WARN, "'%s' asked for %.*s in vain: %s", hub->name,
                    SLICE_ARG(message->method), words);
        message_write_error(&out, message->id, session ? MESSAGE_BUSY : MESSAGE_NO_METHOD, words,
                            SLICE(""));
        buffer_append_char(&out, '\n');
        hub->ops->say(hub->ctx, buffer_slice(&out));
        buffer_deinit(&out);
        return;
    }
    ask = asks_add(hub, session, message);
    text = slice_of(id, uint_to_text(id, ask->id));
    text = write_line(
        &out, message,
        (const struct message_edit[]){{message->id, text}, {message->meta_token, text}}, 2);
    deliver(hub, session, true, ask->id, text);
    buffer_deinit(&out);
}

static void hear_notification(struct hub *hub, const struct message *message) {
    if (message_is(message, "notifications/progress"))
        hear_progress(hub, message);
    else if (message_is(message, "notifications/cancelled"))
        hear_cancelled(hub, message);
    else
        tell_all(hub, message);
}

static void hear_progress(struct hub *hub, const struct message *message) {
    struct hub_call *call = NULL;
    struct buffer out = {0};
    struct slice text;
    uint64_t id;

    if (hub_number(message->token, &id))
        call = calls_find(hub, id);
    if (!call || !call->token.base) {
        hub->counts.late++;
        return;
    }
    if (!call->outlet->ops->has_room(call->outlet)) {
        hub->counts.dropped++;
        return;
    }
    text = write_line(&out, message, &(struct message_edit){message->token, call->token}, 1);
    call->outlet->ops->event(call->outlet, text);
    buffer_deinit(&out);
}

static void hear_cancelled(struct hub *hub, const struct message *message) {
    struct hub_ask *ask = asks_find_of_server(hub, message->request_id);
    struct buffer out = {0};
    char id[UINT_TEXT_MAX];
    struct slice text;

    if (!ask) {
        hub->counts.late++;
        return;
    }
    text = slice_of(id, uint_to_text(id, ask->id));
    text = write_line(&out, message, &(struct message_edit){message->request_id, text}, 1);
    deliver(hub, ask->session, true, 0, text);
    asks_remove(hub, ask);
    buffer_deinit(&out);
}

/* NULL: nobody, or it could be several: what others cannot do may all the same be asked of them,
 * as the server has been told that weir can do everything. With MCP_ASK_ABLE they do not count. */
static struct hub_session *owner_of(struct hub *hub, unsigned capability) {
    struct hub_session *busy = NULL, *any = NULL, *owner;
    unsigned busy_count = 0, count = 0;

    for (struct list *at = hub->sessions.next; at != &hub->sessions; at = at->next) {
        struct hub_session *session = CONTAINER_OF(at, struct hub_session, link);

        if (hub->limits.ask == MCP_ASK_ABLE && !can(session, capability))
            continue;
        any = session;
        count++;
        if (session->call_count == 0)
            continue;
        busy = session;
        busy_count++;
    }
    owner = busy_count > 0 ? busy : any;
    return (busy_count > 0 ? busy_count : count) == 1 && can(owner, capability) ? owner : NULL;
}

static bool can(const struct hub_session *session, unsigned capability) {
    return (session->capabilities & capability) == capability;
}

static void tell_all(struct hub *hub, const struct message *message) {
    bool is_log = message_is(message, "notifications/message");
    bool is_update = message_is(message, "notifications/resources/updated");
    int level = is_log ? hub_level_of(message->level) : -1;
    struct hub_session *only = is_log ? owner_of(hub, 0) : NULL;
    struct buffer out = {0};
    struct slice text = write_line(&out, message, NULL, 0);

    for (struct list *at = hub->sessions.next; at != &hub->sessions; at = at->next) {
        struct hub_session *session = CONTAINER_OF(at, struct hub_session, link);

        if ((only && session != only) || (level >= 0 && level < session->level) ||
            (is_update && !subscriptions_have(session, message->uri)))
            continue;
        deliver(hub, session, only != NULL, 0, text);
    }
    buffer_deinit(&out);
}

/* With the answers of a call that it may belong to, or in the session's own stream. */
static void deliver(struct hub *hub, struct hub_session *session, bool is_of_call, uint64_t ask,
                    struct slice text) {
    struct hub_call *call = is_of_call ? streaming_call(session) : NULL;

    if (call)
        call->outlet->ops->event(call->outlet, text);
    else if (session->stream && session->queue_count == 0 &&
             session->stream->ops->has_room(session->stream))
        session->stream->ops->event(session->stream, text);
    else
        queue_push(hub, session, ask, text);
}

/* The newest one that is, or can become, a stream. */
static struct hub_call *streaming_call(const struct hub_session *session) {
    for (struct list *at = session->calls.prev; at != &session->calls; at = at->prev) {
        struct hub_call *call = CONTAINER_OF(at, struct hub_call, in_session);

        if (call->outlet->ops->has_room(call->outlet))
            return call;
    }
    return NULL;
}

/* Without the newline. */
static struct slice write_line(struct buffer *to, const struct message *message,
                               const struct message_edit *edits, size_t count) {
    message_write(to, message, edits, count);
    return slice_of(to->base, to->len - 1);
}
