/* Visits: the origin's step function and what its owner answers with. */
#include "origin/visit.h"

#include "base/alloc.h"
#include "codec/h1_write.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void run(struct task *task);
static void start(struct visit *v);
static void fail_request(struct visit *v);
static bool is_over(const struct visit *v);
static void finish(struct visit *v);
static void free_visit(struct visit *v);
static void on_timer(struct timer *timer);
static void on_content(struct body *body);
static void drop_content(struct body *body);
static void source_pause(struct body *body);
static void source_taken(struct body *body, size_t n);

static const struct body_sink_ops content_sink = {.ready = on_content};
static const struct body_sink_ops discarding_sink = {.ready = drop_content};
static const struct body_source_ops response_source = {
    .pause = source_pause,
    .taken = source_taken,
};

struct exchange *visit_make_exchange(struct h1_server_loop *shared) {
    struct origin *origin = CONTAINER_OF(shared, struct origin, h1);
    struct visit *v = xmalloc(sizeof *v);

    memset(v, 0, offsetof(struct visit, memory));
    v->origin = origin;
    list_push_back(&origin->visits, &v->link);
    timer_init(&v->timer, on_timer);
    exchange_init(&v->x, &origin->loop, run, v->memory, sizeof v->memory);
    return &v->x;
}

void visit_drop_exchange(struct h1_server_loop *shared, struct exchange *x) {
    free_visit(CONTAINER_OF(x, struct visit, x));
}

void *visit_state(struct visit *v, size_t size) {
    v->state = arena_alloc(&v->x.arena, size);
    memset(v->state, 0, size);
    return v->state;
}

void visit_add(struct visit *v, const char *name, struct slice value) {
    struct slice s = slice_str(name);

    fields_add(&v->x.response_head.fields, &v->x.arena, field_id_of(s), s, value);
}

void visit_reply(struct visit *v, unsigned status, const char *type, struct slice content) {
    if (!visit_begin(v, status, type, (struct content){CONTENT_LENGTH, content.len}))
        return;
    body_push_copy(&v->x.response, content);
    body_end(&v->x.response);
    body_flush(&v->x.response);
}

void visit_say(struct visit *v, unsigned status, const char *format, ...) {
    char text[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    if (len < 0 || (size_t)len > sizeof text - 2)
        len = (int)sizeof text - 2;
    text[len] = '\n';
    visit_reply(v, status, "text/plain; charset=utf-8", slice_of(text, (size_t)len + 1));
}

bool visit_begin(struct visit *v, unsigned status, const char *type, struct content content) {
    struct exchange *x = &v->x;
    bool is_head = x->request_head.method == METHOD_HEAD;
    bool has_content = !is_head && status != 204 && status != 205 && status != 304;

    x->response_head.status = status;
    x->response_head.version = HTTP_1_1;
    x->response_head.reason = h1_reason(status);
    if (type && (has_content || is_head))
        visit_add(v, "content-type", slice_str(type));
    if (is_head && content.kind == CONTENT_LENGTH)
        visit_add(v, "content-length", arena_printf(&x->arena, "%" PRIu64, content.length));
    if (!has_content && content.kind != CONTENT_TUNNEL) {
        content = (struct content){CONTENT_NONE, 0};
        body_end(&x->response);
    }
    if (!x->client)
        return false;
    x->is_response_begun = true;
    x->response.source = &response_source;
    x->response.source_ctx = v;
    x->client->send_response(x, content);
    return x->client && has_content;
}

void visit_read(struct visit *v) {
    static const struct response_head go_on = {
        .status = 100, .version = HTTP_1_1, .reason = {"Continue", 8}};

    if (v->awaits_continue && v->x.client) {
        v->awaits_continue = false;
        v->x.client->send_informational(&v->x, &go_on);
    }
    body_attach_sink(&v->x.request, &content_sink, v);
}

void visit_discard(struct visit *v) {
    body_attach_sink(&v->x.request, &discarding_sink, v);
}

void visit_later(struct visit *v, int64_t delay_ns) {
    loop_timer_start(v->x.loop, &v->timer, delay_ns);
}

void visit_break(struct visit *v) {
    v->is_broken = true;
    v->move = NULL;
    exchange_wake(&v->x, 0);
}

struct conn *visit_conn(struct visit *v) {
    /* exchange.h: the client's address is the conn's, and lives in it. */
    return CONTAINER_OF(v->x.client_address, struct conn, peer);
}

bool visit_number(struct visit *v, const struct visit_number *number, uint64_t *value) {
    struct slice text = visit_parameter(v, slice_str(number->name));
    uint64_t n = 0;
    bool is_number = text.len > 0 && text.len < 19;

    if (!text.base) {
        *value = number->fallback;
        return true;
    }
    for (size_t i = 0; is_number && i < text.len; i++) {
        is_number = text.base[i] >= '0' && text.base[i] <= '9';
        n = n * 10 + (uint64_t)(text.base[i] - '0');
    }
    if (!is_number || n < number->min || n > number->max) {
        visit_say(v, 400, "%s: a number from %" PRIu64 " to %" PRIu64, number->name, number->min,
                  number->max);
        return false;
    }
    *value = n;
    return true;
}

struct slice visit_parameter(const struct visit *v, struct slice name) {
    struct slice left = v->query;

    while (left.len > 0) {
        const char *end = memchr(left.base, '&', left.len);
        struct slice part = slice_of(left.base, end ? (size_t)(end - left.base) : left.len);

        if (part.len > name.len && part.base[name.len] == '=' && slice_starts(part, name))
            return slice_skip(part, name.len + 1);
        left = slice_skip(left, end ? part.len + 1 : part.len);
    }
    return SLICE_NONE;
}

struct slice visit_field(const struct visit *v, struct slice name) {
    const struct field *field = fields_find_name(&v->x.request_head.fields, name);

    return field ? field->value : SLICE("");
}

/* The step function: from the top of the stack, after every event. */
static void run(struct task *task) {
    struct visit *v = CONTAINER_OF(task, struct visit, x.task);
    struct exchange *x = &v->x;

    if (x->client && !v->is_broken) {
        if (!v->has_started)
            start(v);
        else if (x->events & EXCHANGE_CLIENT_FAIL)
            fail_request(v);
        else if (v->move)
            v->move(v);
    }
    if (is_over(v))
        finish(v);
}

static void start(struct visit *v) {
    const struct request_head *head = &v->x.request_head;
    const char *mark = head->path.len ? memchr(head->path.base, '?', head->path.len) : NULL;

    v->has_started = true;
    v->awaits_continue = fields_list_has(&head->fields, FIELD_EXPECT, SLICE("100-continue")) &&
                         v->x.request.state == BODY_OPEN;
    v->path = head->path;
    if (mark) {
        v->path.len = (size_t)(mark - head->path.base);
        v->query = slice_skip(head->path, v->path.len + 1);
    }
    v->origin->o.visited(v);
}

/* Its content is malformed or came too slowly. */
static void fail_request(struct visit *v) {
    v->x.events &= ~EXCHANGE_CLIENT_FAIL;
    v->move = NULL;
    if (v->x.is_response_begun)
        v->is_broken = true;
    else
        visit_say(v, fail_row(v->x.client_fail)->http, "%s",
                  v->x.client_why ? v->x.client_why : "");
}

static bool is_over(const struct visit *v) {
    const struct exchange *x = &v->x;

    if (!x->client || v->is_broken || x->response.state == BODY_RESET)
        return true;
    if (!(x->events & EXCHANGE_RESPONSE_SENT))
        return false;
    /* Content that still comes is read to its end, so that the connection can go on; after an error
     * it is not, nor when it was never called for. */
    return x->request.state != BODY_OPEN || x->is_tunnel || x->response_head.status >= 400 ||
           v->awaits_continue;
}

static void finish(struct visit *v) {
    struct exchange *x = &v->x;

    if (v->leave)
        v->leave(v);
    if (x->client) {
        x->is_response_begun = true; /* broken, if it is not sent: the connection is not reused */
        if (!(x->events & EXCHANGE_RESPONSE_SENT))
            x->client->abort(x);
        x->client->finished(x);
    }
    free_visit(v);
}

static void free_visit(struct visit *v) {
    loop_timer_stop(v->x.loop, &v->timer);
    list_remove(&v->link);
    exchange_deinit(&v->x);
    free(v);
}

static void on_timer(struct timer *timer) {
    exchange_wake(&CONTAINER_OF(timer, struct visit, timer)->x, VISIT_TICK);
}

static void on_content(struct body *body) {
    struct visit *v = body->sink_ctx;

    exchange_wake(&v->x, 0);
}

static void drop_content(struct body *body) {
    struct visit *v = body->sink_ctx;

    body_drop(body, body_waiting(body));
    if (body->state != BODY_OPEN)
        exchange_wake(&v->x, 0);
}

static void source_pause(struct body *body) {
    /* Owners look at body_has_room() before they push. */
}

static void source_taken(struct body *body, size_t n) {
    struct visit *v = body->source_ctx;

    if (body_has_room(body))
        exchange_wake(&v->x, 0);
}
