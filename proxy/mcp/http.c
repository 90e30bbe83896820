/* MCP Streamable HTTP (revision 2025-11-25 and before, "Transports") over the hub:
 *
 *     POST, a request          200: the response as application/json; or as text/event-stream, if
 *                              anything that belongs to it comes before it, and the client takes
 * that POST, anything else      202 GET                      200, text/event-stream: what belongs
 * to no request DELETE                   200: ends the session
 *
 * The stream of a response that the client leaves is not kept for it (no event has an id, nothing
 * is said again): the request is cancelled. */
#include "mcp/bridge.h"

#include "origin/visit.h"

#include <stdlib.h>

/* A visit that the hub knows. */
struct caller {
    struct outlet outlet;
    struct visit *v;             /* borrowed */
    struct bridge *bridge;       /* borrowed */
    struct buffer content;       /* of the request */
    struct hub_call *call;       /* borrowed: hub; NULL: none (any more) */
    struct hub_session *session; /* borrowed: hub; of a GET; NULL: none (any more) */
    bool takes_json;             /* rather than a stream of one event, where it takes that too */
    bool takes_events;
    bool is_stream; /* the head of a stream was sent */
    bool is_ended;
};

static struct bridge *bridge_of(struct visit *v);
static struct caller *new_caller(struct visit *v);
static void leave(struct visit *v);
static void read_post(struct visit *v);
static void post(struct caller *caller);
static void post_initialize(struct caller *caller, const struct message *message);
static void post_request(struct caller *caller, struct hub_session *session,
                         const struct message *message);
static void get(struct visit *v);
static void end_session(struct visit *v);
static struct hub_session *find_session(struct visit *v, struct slice id);
static bool check_version(struct visit *v, struct slice id);
static unsigned takes(const struct visit *v, const char *type, const char *range);
static void refuse(struct visit *v, unsigned status, struct slice id, enum message_fault fault,
                   const char *words);
static void move_stream(struct visit *v);
static bool begin_stream(struct caller *caller);
static void write_event(struct caller *caller, struct slice message);
static void end_stream(struct caller *caller);
static bool outlet_has_room(const struct outlet *outlet);
static bool outlet_may_be_silent(const struct outlet *outlet);
static void outlet_event(struct outlet *outlet, struct slice message);
static void outlet_end(struct outlet *outlet, struct slice message);

static const struct outlet_ops outlet_ops = {.has_room = outlet_has_room,
                                             .may_be_silent = outlet_may_be_silent,
                                             .event = outlet_event,
                                             .end = outlet_end};

void http_visited(struct visit *v) {
    enum method method = v->x.request_head.method;

    if (method == METHOD_POST) {
        const struct field *type = fields_find(&v->x.request_head.fields, FIELD_CONTENT_TYPE);

        if (!type || !media_type_is(type->value, SLICE("application/json"))) {
            visit_discard(v);
            refuse(v, 415, SLICE_NONE, MESSAGE_SERVER_GONE,
                   "the content is to be application/json");
            return;
        }
        new_caller(v);
        v->move = read_post;
        visit_read(v);
        exchange_wake(&v->x, 0);
        return;
    }
    visit_discard(v);
    if (method == METHOD_GET) {
        get(v);
    } else if (method == METHOD_DELETE) {
        end_session(v);
    } else {
        visit_add(v, "allow", SLICE("GET, POST, DELETE"));
        refuse(v, 405, SLICE_NONE, MESSAGE_SERVER_GONE, "the methods are GET, POST and DELETE");
    }
}

static struct bridge *bridge_of(struct visit *v) {
    return CONTAINER_OF(v->origin, struct bridge, origin);
}

static struct caller *new_caller(struct visit *v) {
    struct caller *caller = visit_state(v, sizeof *caller);

    caller->outlet.ops = &outlet_ops;
    caller->v = v;
    caller->bridge = bridge_of(v);
    v->leave = leave;
    return caller;
}

static void leave(struct visit *v) {
    struct caller *caller = v->state;

    if (caller->call)
        hub_leave(&caller->bridge->hub, caller->call, v->x.loop->now_ns);
    if (caller->session)
        hub_detach(&caller->bridge->hub, caller->session, v->x.loop->now_ns);
    buffer_deinit(&caller->content);
}

static void read_post(struct visit *v) {
    struct caller *caller = v->state;
    struct body *body = &v->x.request;
    size_t waiting = body_waiting(body), max = caller->bridge->settings.message_bytes;

    if (caller->content.len + waiting > max) {
        v->move = NULL;
        visit_discard(v);
        refuse(v, 413, SLICE_NONE, MESSAGE_BUSY,
               "the message is longer than mcp.message of the pipeline");
        return;
    }
    body_copy(body, waiting, &caller->content);
    body_drop(body, waiting);
    if (body->state != BODY_ENDED)
        return;
    v->move = NULL;
    post(caller);
}

static void post(struct caller *caller) {
    struct bridge *bridge = caller->bridge;
    struct visit *v = caller->v;
    struct hub_session *session;
    struct message message;
    unsigned json, events;
    const char *why;
    enum message_fault fault =
        message_read(&message, buffer_slice(&caller->content), bridge->settings.depth, &why);

    json = takes(v, "application/json", "application/*");
    events = takes(v, "text/event-stream", "text/*");
    caller->takes_events = events > 0;
    caller->takes_json = json > 0 && (events == 0 || json <= events);
    if (fault) {
        refuse(v, 400, message.id, fault, why);
        return;
    }
    if (json == 0 && events == 0) {
        refuse(v, 406, message.id, MESSAGE_SERVER_GONE,
               "the answer is application/json or text/event-stream, the client takes neither");
        return;
    }
    if (message.kind == MESSAGE_REQUEST && message_is(&message, "initialize") &&
        visit_field(v, SLICE("mcp-session-id")).len == 0) {
        post_initialize(caller, &message);
        return;
    }
    session = find_session(v, message.id);
    if (!session || !check_version(v, message.id))
        return;
    if (message.kind == MESSAGE_REQUEST) {
        post_request(caller, session, &message);
        return;
    }
    hub_note(&bridge->hub, session, &message, v->x.loop->now_ns);
    visit_reply(v, 202, NULL, SLICE(""));
}

static void post_initialize(struct caller *caller, const struct message *message) {
    struct visit *v = caller->v;
    struct hub_session *session = NULL;
    struct buffer answer = {0};
    enum hub_outcome outcome =
        hub_greet(&caller->bridge->hub, message, v->x.loop->now_ns, &session, &answer);

    if (session)
        visit_add(v, "mcp-session-id", arena_copy(&v->x.arena, slice_str(session->id)));
    if (outcome == HUB_REFUSED) {
        visit_add(v, "retry-after", SLICE("1"));
        visit_reply(v, 429, "application/json", buffer_slice(&answer));
    } else if (outcome == HUB_BAD) {
        visit_reply(v, 400, "application/json", buffer_slice(&answer));
    } else {
        outlet_end(&caller->outlet, buffer_slice(&answer));
    }
    buffer_deinit(&answer);
}

/* Whatever becomes of a request that has an id is said in a JSON-RPC response, with 200: to its
 * pipeline this is an answer, not a failure of the endpoint. */
static void post_request(struct caller *caller, struct hub_session *session,
                         const struct message *message) {
    struct visit *v = caller->v;
    struct buffer answer = {0};

    v->move = move_stream;
    if (hub_call(&caller->bridge->hub, session, message, &caller->outlet, v->x.loop->now_ns,
                 &caller->call, &answer) != HUB_UNDERWAY)
        outlet_end(&caller->outlet, buffer_slice(&answer));
    buffer_deinit(&answer);
    buffer_deinit(&caller->content);
    caller->content = (struct buffer){0};
}

static void get(struct visit *v) {
    struct hub_session *session = find_session(v, SLICE_NONE);
    struct caller *caller;

    if (!session || !check_version(v, SLICE_NONE))
        return;
    if (!takes(v, "text/event-stream", "text/*")) {
        refuse(v, 406, SLICE_NONE, MESSAGE_SERVER_GONE,
               "what comes is text/event-stream, the client does not take that");
        return;
    }
    caller = new_caller(v);
    caller->takes_events = true;
    v->move = move_stream;
    if (!begin_stream(caller))
        return;
    caller->session = session;
    hub_attach(&caller->bridge->hub, session, &caller->outlet);
}

static void end_session(struct visit *v) {
    struct hub_session *session = find_session(v, SLICE_NONE);

    if (!session || !check_version(v, SLICE_NONE))
        return;
    hub_close(&bridge_of(v)->hub, session, MESSAGE_NO_SESSION, "the session was ended");
    visit_reply(v, 200, NULL, SLICE(""));
}

/* NULL: it was answered. */
static struct hub_session *find_session(struct visit *v, struct slice id) {
    struct slice name = visit_field(v, SLICE("mcp-session-id"));
    struct hub_session *session;

    if (name.len == 0) {
        refuse(v, 400, id, MESSAGE_SERVER_GONE,
               "no Mcp-Session-Id: send initialize first, and then the one that it was answered "
               "with");
        return NULL;
    }
    session = hub_find(&bridge_of(v)->hub, name);
    if (!session)
        refuse(v, 404, id, MESSAGE_NO_SESSION,
               "nobody knows this session (any more): begin a new one with initialize");
    return session;
}

static bool check_version(struct visit *v, struct slice id) {
    struct slice version = visit_field(v, SLICE("mcp-protocol-version"));

    if (version.len == 0 || hub_speaks(&bridge_of(v)->hub, version))
        return true;
    refuse(v, 400, id, MESSAGE_SERVER_GONE, "this MCP-Protocol-Version is not spoken here");
    return false;
}

/* As which one of what it takes (RFC 9110 section 12.5.1) the client has named it; 0: not. What it
 * names first it is given. */
static unsigned takes(const struct visit *v, const char *type, const char *range) {
    const struct fields *fields = &v->x.request_head.fields;
    unsigned place = 0;

    for (uint32_t i = 0; i < fields->count; i++) {
        struct slice list = fields->list[i].value, element;

        if (!slice_equal_case(fields->list[i].name, SLICE("accept")))
            continue;
        while (slice_next_element(&list, &element)) {
            place++;
            if (media_type_is(element, slice_str(type)) ||
                media_type_is(element, slice_str(range)) || media_type_is(element, SLICE("*/*")))
                return place;
        }
    }
    return fields_find_name(fields, SLICE("accept")) ? 0 : 1;
}

static void refuse(struct visit *v, unsigned status, struct slice id, enum message_fault fault,
                   const char *words) {
    struct buffer text = {0};

    message_write_error(&text, id, fault, words, SLICE(""));
    visit_reply(v, status, "application/json", buffer_slice(&text));
    buffer_deinit(&text);
}

/* Room has returned, or the stream was silent for long. */
static void move_stream(struct visit *v) {
    struct caller *caller = v->state;

    if (!caller->is_stream || caller->is_ended)
        return;
    if (v->x.events & VISIT_TICK) {
        v->x.events &= ~VISIT_TICK;
        if (body_has_room(&v->x.response)) {
            body_push_copy(&v->x.response, SLICE(": still here\n\n"));
            body_flush(&v->x.response);
        }
        visit_later(v, BRIDGE_KEEPALIVE_NS);
    }
    if (caller->session)
        hub_flush(&caller->bridge->hub, caller->session);
}

/* False: nobody is there any more. */
static bool begin_stream(struct caller *caller) {
    struct visit *v = caller->v;

    caller->is_stream = true;
    v->x.is_stream = true;
    visit_add(v, "cache-control", SLICE("no-store"));
    if (!visit_begin(v, 200, "text/event-stream", (struct content){CONTENT_CHUNKED, 0}))
        return false;
    visit_later(v, BRIDGE_KEEPALIVE_NS);
    return true;
}

static void write_event(struct caller *caller, struct slice message) {
    struct body *body = &caller->v->x.response;

    body_push_copy(body, SLICE("event: message\ndata: "));
    body_push_copy(body, message);
    body_push_copy(body, SLICE("\n\n"));
    body_flush(body);
}

static void end_stream(struct caller *caller) {
    body_end(&caller->v->x.response);
    body_flush(&caller->v->x.response);
}

static bool outlet_has_room(const struct outlet *outlet) {
    const struct caller *caller = CONTAINER_OF(outlet, struct caller, outlet);

    return caller->v->x.client && caller->takes_events && body_has_room(&caller->v->x.response);
}

static bool outlet_may_be_silent(const struct outlet *outlet) {
    return CONTAINER_OF(outlet, struct caller, outlet)->takes_events;
}

static void outlet_event(struct outlet *outlet, struct slice message) {
    struct caller *caller = CONTAINER_OF(outlet, struct caller, outlet);

    if (caller->is_stream || begin_stream(caller))
        write_event(caller, message);
}

static void outlet_end(struct outlet *outlet, struct slice message) {
    struct caller *caller = CONTAINER_OF(outlet, struct caller, outlet);
    struct visit *v = caller->v;

    caller->call = NULL;
    caller->session = NULL;
    caller->is_ended = true;
    if (!v->x.client)
        return;
    if (!caller->is_stream && message.base && caller->takes_json) {
        visit_reply(v, 200, "application/json", message);
        return;
    }
    if (!caller->is_stream && !begin_stream(caller))
        return;
    if (message.base)
        write_event(caller, message);
    end_stream(caller);
}
