/* gRPC calls: deadlines of their own, messages that tell a stream from a unary call, and failures
 * in trailers instead of an HTTP status. */
#include "gateway/crossing.h"

#include "base/buffer.h"
#include "gateway/handling.h"

static size_t tap_request(struct body *body, struct slice bytes);
static size_t tap_response(struct body *body, struct slice bytes);
static bool has_been_reset(const struct crossing *c);
static enum grpc_status status_of_fail(const struct crossing *c);
static void add_status(struct crossing *c, struct fields *to);
static bool may_succeed_later(enum fail fail);

void grpc_begin(struct crossing *c) {
    struct exchange *x = &c->x;
    const struct field *timeout = fields_find(&x->request_head.fields, FIELD_GRPC_TIMEOUT);
    int64_t ns;

    if (timeout && grpc_parse_timeout(timeout->value, &ns))
        c->grpc_deadline_ns = x->started_ns + ns;
    if (c->web) {
        grpc_web_begin(c);
        return;
    }
    body_set_tap(&x->request, tap_request);
}

void grpc_send(struct crossing *c, struct request_head *head, struct content *content) {
    c->answered = (struct grpc_messages){0};
    if (c->web)
        grpc_web_send(c, head, content);
    else
        body_set_tap(&c->x.response, tap_response);
}

static size_t tap_request(struct body *body, struct slice bytes) {
    grpc_see_request(crossing_of(CONTAINER_OF(body, struct exchange, request)), bytes);
    return bytes.len;
}

static size_t tap_response(struct body *body, struct slice bytes) {
    grpc_see_response(crossing_of(CONTAINER_OF(body, struct exchange, response)), bytes);
    return bytes.len;
}

void grpc_see_request(struct crossing *c, struct slice bytes) {
    grpc_messages_see(&c->asked, bytes);
    if (c->asked.started > 1 && !c->x.is_stream)
        exchange_wake(&c->x, CROSSING_STREAMS);
}

void grpc_see_response(struct crossing *c, struct slice bytes) {
    grpc_messages_see(&c->answered, bytes);
    if (c->x.is_stream)
        return;
    if (c->answered.started > 1)
        exchange_wake(&c->x, CROSSING_STREAMS);
    else if (c->answered.whole == 1 && !timer_is_running(&c->wait))
        loop_timer_start(c->x.loop, &c->wait, GRPC_TRAILERS_WITHIN_NS);
}

bool grpc_is_streaming(struct crossing *c) {
    bool is = c->x.events & (CROSSING_STREAMS | CROSSING_WAIT_OVER);

    c->x.events &= ~(CROSSING_STREAMS | CROSSING_WAIT_OVER);
    return is && !c->x.is_stream && c->x.response.state == BODY_OPEN;
}

void grpc_reply(struct crossing *c) {
    struct arena *arena = &c->x.arena;
    struct response_head *head = &c->x.response_head;

    grpc_reply_begin(c);
    add_status(c, &head->fields);
    if (may_succeed_later(c->fail))
        fields_add(&head->fields, arena, FIELD_OTHER, SLICE("grpc-retry-pushback-ms"),
                   arena_printf(arena, "%u", reply_retry_ms(c)));
}

void grpc_reply_begin(struct crossing *c) {
    struct response_head *head = &c->x.response_head;

    *head = (struct response_head){.status = 200, .version = HTTP_2, .fields = head->fields};
    fields_add_known(&head->fields, &c->x.arena, FIELD_CONTENT_TYPE,
                     c->web ? grpc_web_reply_type(c) : SLICE("application/grpc"));
}

bool grpc_end(struct crossing *c) {
    struct exchange *x = &c->x;

    /* The code of an upstream's own reset goes on to the client as it is, if it can tell. */
    if (!c->is_grpc || x->response.state == BODY_ENDED || (x->upstream_code && !c->web))
        return false;
    x->response.trailers = (struct fields){0};
    add_status(c, &x->response.trailers);
    if (c->web)
        return grpc_web_end(c);
    body_end_early(&x->response);
    return true;
}

enum grpc_status grpc_outcome(const struct crossing *c) {
    const struct exchange *x = &c->x;
    const struct field *field = NULL;

    if (c->fail)
        return status_of_fail(c);
    if (x->response.state == BODY_ENDED)
        field = fields_find(c->web ? grpc_web_trailers_said(c) : &x->response.trailers,
                            FIELD_GRPC_STATUS);
    if (!field)
        field = fields_find(&x->response_head.fields, FIELD_GRPC_STATUS);
    return field ? grpc_parse_status(field->value) : grpc_status_of_http(x->response_head.status);
}

/* The upstream has: that is its word, and goes on to the client as it would without us. */
static bool has_been_reset(const struct crossing *c) {
    const struct exchange *x = &c->x;

    return x->upstream_code && (x->response.state == BODY_RESET ? c->fail == x->response.fail
                                                                : c->fail == x->upstream_fail);
}

static enum grpc_status status_of_fail(const struct crossing *c) {
    if (handling_refusal(c))
        return handling_grpc_status(c->handling->status);
    return has_been_reset(c) ? grpc_status_of_reset(c->x.upstream_code)
                             : (enum grpc_status)fail_row(c->fail)->grpc;
}

static void add_status(struct crossing *c, struct fields *to) {
    const struct handling *refusal = handling_refusal(c);
    const char *title = refusal ? refusal->title : fail_row(c->fail)->title;
    const char *remedy = refusal ? refusal->remedy : fail_row(c->fail)->remedy;
    struct arena *arena = &c->x.arena;

    grpc_add_status(to, arena, status_of_fail(c),
                    ARENA_JOIN(arena, SLICE("weir: "), slice_str(title),
                               c->why ? SLICE(" (") : SLICE(""), slice_str(c->why),
                               c->why ? SLICE("); ") : SLICE("; "), slice_str(remedy)));
}

/* Refused for the load of the moment, not for what was asked. */
static bool may_succeed_later(enum fail fail) {
    return fail_row(fail)->http == 503;
}
