/* weir's own answers: RFC 9457 problem documents, with Proxy-Status (RFC 9209) and Retry-After. */
#include "gateway/crossing.h"

#include "codec/h1_write.h"
#include "gateway/handling.h"

#define S_MS 1000

/* What a problem document says. */
struct problem {
    enum fail fail;
    unsigned status;
    const char *title, *remedy;
    const char *why, *pipeline, *handler; /* NULL: nothing */
    struct slice request_id;
};

static struct problem problem_of(enum fail fail);
static void write_problem(struct buffer *out, const struct problem *problem);
static void add(struct exchange *x, enum field_id id, struct slice value);
static struct slice detail_of(struct arena *arena, enum fail fail);

void reply_make(struct crossing *c) {
    struct exchange *x = &c->x;
    struct problem problem = problem_of(c->fail);
    struct buffer *out = &c->listener->gl->scratch;
    struct response_head *head = &x->response_head;
    const struct handling *refusal = handling_refusal(c);

    if (c->handling && c->handling->last)
        problem.handler = c->handling->last->name;
    if (refusal) {
        problem.status = refusal->status;
        problem.title = refusal->title;
        problem.remedy = refusal->remedy;
    }
    *head = (struct response_head){
        .status = problem.status, .version = HTTP_1_1, .reason = h1_reason(problem.status)};
    if (c->handling)
        head->fields = c->handling->fields;
    if (c->is_grpc) {
        grpc_reply(c);
        add(x, FIELD_X_REQUEST_ID, c->request_id);
        x->response_content = reply_fill(c, SLICE(""));
        return;
    }
    out->len = 0;
    problem.why = c->why;
    problem.pipeline = c->part ? c->part->shared->config->name : NULL;
    problem.request_id = c->request_id;
    write_problem(out, &problem);
    add(x, FIELD_CONTENT_TYPE, SLICE("application/problem+json"));
    add(x, FIELD_CACHE_CONTROL, SLICE("no-store"));
    add(x, FIELD_PROXY_STATUS, detail_of(&x->arena, c->fail));
    reply_add_own(c);
    if (problem.status == 503 && !fields_find(&head->fields, FIELD_RETRY_AFTER))
        add(x, FIELD_RETRY_AFTER,
            arena_printf(&x->arena, "%u", (reply_retry_ms(c) + S_MS / 2) / S_MS));
    /* RFC 9110 section 15.5.6: also where nothing is allowed, which is so for weir itself. */
    if (c->fail == FAIL_METHOD || c->fail == FAIL_MAX_FORWARDS)
        add(x, FIELD_ALLOW, c->allow.len > 0 ? c->allow : SLICE(""));
    x->response_content = reply_fill(c, buffer_slice(out));
}

unsigned reply_retry_ms(const struct crossing *c) {
    return c->part ? queue_retry_ms(&c->part->shared->queue, c->x.loop->now_ns)
                   : QUEUE_RETRY_MIN_MS;
}

void reply_add_own(struct crossing *c) {
    struct exchange *x = &c->x;

    add(x, FIELD_DATE, arena_copy(&x->arena, gateway_date(c->listener->gl)));
    add(x, FIELD_X_REQUEST_ID, c->request_id);
}

struct content reply_fill(struct crossing *c, struct slice text) {
    struct exchange *x = &c->x;
    bool is_head = x->request_head.method == METHOD_HEAD;

    body_deinit(&x->response);
    body_init(&x->response, x->loop);
    if (!is_head)
        body_push_copy(&x->response, text);
    body_end(&x->response);
    if (text.len == 0)
        return (struct content){CONTENT_NONE, 0};
    /* Where the head alone is sent it still tells the length. */
    if (is_head)
        add(x, FIELD_CONTENT_LENGTH, arena_printf(&x->arena, "%zu", text.len));
    return (struct content){CONTENT_LENGTH, text.len};
}

void reply_send(struct crossing *c) {
    struct exchange *x = &c->x;

    c->status = x->response_head.status;
    x->is_response_begun = true;
    x->client->send_response(x, x->response_content);
}

void reply_write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                         struct buffer *out) {
    struct gateway_listener *listener = CONTAINER_OF(shared, struct gateway_listener, h1);
    const struct fail_row *row = fail_row(refusal->fail);
    struct buffer *problem = &listener->gl->scratch;
    struct problem said = problem_of(refusal->fail);
    struct slice date = gateway_date(listener->gl);
    char id[REQUEST_ID_BYTES];
    struct slice request_id = forward_make_request_id(id);

    problem->len = 0;
    said.why = refusal->why;
    said.request_id = request_id;
    write_problem(problem, &said);
    buffer_printf(out,
                  "HTTP/1.1 %u %.*s\r\ncontent-type: application/problem+json\r\n"
                  "cache-control: no-store\r\ndate: %.*s\r\n"
                  "proxy-status: weir; error=%s; details=\"%s\"\r\nx-request-id: %.*s\r\n"
                  "content-length: %zu\r\n%sconnection: close\r\n\r\n",
                  row->http, SLICE_ARG(h1_reason(row->http)), SLICE_ARG(date), row->error,
                  row->reason, SLICE_ARG(request_id), problem->len,
                  row->http == 503 ? "retry-after: 1\r\n" : "");
    buffer_append(out, buffer_slice(problem));
    access_record_refusal(listener, refusal, request_id, COUNTERS_HTTP1);
}

static struct problem problem_of(enum fail fail) {
    const struct fail_row *row = fail_row(fail);

    return (struct problem){
        .fail = fail, .status = row->http, .title = row->title, .remedy = row->remedy};
}

static void write_problem(struct buffer *out, const struct problem *problem) {
    struct buffer detail = {0};

    buffer_printf(out, "{\"type\":\"urn:weir:%s\",\"title\":", fail_row(problem->fail)->reason);
    buffer_append_json(out, slice_str(problem->title));
    buffer_printf(out, ",\"status\":%u,\"detail\":", problem->status);
    if (problem->why)
        buffer_printf(&detail, "%s; ", problem->why);
    buffer_append(&detail, slice_str(problem->remedy));
    buffer_append_json(out, buffer_slice(&detail));
    buffer_deinit(&detail);
    if (problem->pipeline) {
        buffer_append(out, SLICE(",\"pipeline\":"));
        buffer_append_json(out, slice_str(problem->pipeline));
    }
    if (problem->handler) {
        buffer_append(out, SLICE(",\"handler\":"));
        buffer_append_json(out, slice_str(problem->handler));
    }
    buffer_append(out, SLICE(",\"request_id\":"));
    buffer_append_json(out, problem->request_id);
    buffer_append(out, SLICE("}\n"));
}

static struct slice detail_of(struct arena *arena, enum fail fail) {
    const struct fail_row *row = fail_row(fail);

    return arena_printf(arena, "weir; error=%s; details=\"%s\"", row->error, row->reason);
}

static void add(struct exchange *x, enum field_id id, struct slice value) {
    fields_add_known(&x->response_head.fields, &x->arena, id, value);
}
