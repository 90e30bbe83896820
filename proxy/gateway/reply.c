/* weir's own answers: RFC 9457 problem documents, with Proxy-Status (RFC 9209) and Retry-After. */
#include "gateway/crossing.h"

#include "codec/h1_write.h"

#define S_MS 1000

static void write_problem(struct buffer *out, enum fail fail, const char *why, const char *pipeline,
                          struct slice request_id);
static void finish(struct exchange *x, struct slice text, struct content *content);
static void add(struct exchange *x, enum field_id id, struct slice value);
static struct slice detail_of(struct arena *arena, enum fail fail);

void reply_make(struct crossing *c, struct content *content) {
    struct exchange *x = &c->x;
    const struct fail_row *row = fail_row(c->fail);
    struct buffer *out = &c->listener->gl->scratch;
    struct response_head *head = &x->response_head;

    if (c->is_grpc) {
        grpc_reply(c);
        add(x, FIELD_X_REQUEST_ID, c->request_id);
        finish(x, SLICE(""), content);
        return;
    }
    out->len = 0;
    write_problem(out, c->fail, c->why, c->part ? c->part->shared->config->name : NULL,
                  c->request_id);
    *head = (struct response_head){
        .status = row->http, .version = HTTP_1_1, .reason = h1_reason(row->http)};
    add(x, FIELD_CONTENT_TYPE, SLICE("application/problem+json"));
    add(x, FIELD_CACHE_CONTROL, SLICE("no-store"));
    add(x, FIELD_DATE, arena_copy(&x->arena, gateway_date(c->listener->gl)));
    add(x, FIELD_PROXY_STATUS, detail_of(&x->arena, c->fail));
    add(x, FIELD_X_REQUEST_ID, c->request_id);
    if (row->http == 503)
        add(x, FIELD_RETRY_AFTER,
            arena_printf(&x->arena, "%u", (reply_retry_ms(c) + S_MS / 2) / S_MS));
    if (c->fail == FAIL_METHOD)
        add(x, FIELD_ALLOW, c->allow);
    /* Where the head alone is sent it still tells the length. */
    if (x->request_head.method == METHOD_HEAD)
        add(x, FIELD_CONTENT_LENGTH, arena_printf(&x->arena, "%zu", out->len));
    finish(x, buffer_slice(out), content);
}

unsigned reply_retry_ms(const struct crossing *c) {
    return c->part ? queue_retry_ms(&c->part->shared->queue, c->x.loop->now_ns)
                   : QUEUE_RETRY_MIN_MS;
}

static void finish(struct exchange *x, struct slice text, struct content *content) {
    *content = text.len > 0 ? (struct content){CONTENT_LENGTH, text.len}
                            : (struct content){CONTENT_NONE, 0};
    body_deinit(&x->response);
    body_init(&x->response, x->loop);
    if (x->request_head.method != METHOD_HEAD)
        body_push_copy(&x->response, text);
    body_end(&x->response);
}

void reply_write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                         struct buffer *out) {
    struct gateway_listener *listener = CONTAINER_OF(shared, struct gateway_listener, h1);
    const struct fail_row *row = fail_row(refusal->fail);
    struct buffer *problem = &listener->gl->scratch;
    struct slice date = gateway_date(listener->gl);
    char id[REQUEST_ID_BYTES];
    struct slice request_id = forward_make_request_id(id);

    problem->len = 0;
    write_problem(problem, refusal->fail, refusal->why, NULL, request_id);
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

static void write_problem(struct buffer *out, enum fail fail, const char *why, const char *pipeline,
                          struct slice request_id) {
    const struct fail_row *row = fail_row(fail);

    buffer_printf(out, "{\"type\":\"urn:weir:%s\",\"title\":", row->reason);
    buffer_append_json(out, slice_str(row->title));
    buffer_printf(out, ",\"status\":%u,\"detail\":\"%s%s%s\"", row->http, why ? why : "",
                  why ? "; " : "", row->remedy);
    if (pipeline) {
        buffer_append(out, SLICE(",\"pipeline\":"));
        buffer_append_json(out, slice_str(pipeline));
    }
    buffer_append(out, SLICE(",\"request_id\":"));
    buffer_append_json(out, request_id);
    buffer_append(out, SLICE("}\n"));
}

static struct slice detail_of(struct arena *arena, enum fail fail) {
    const struct fail_row *row = fail_row(fail);

    return arena_printf(arena, "weir; error=%s; details=\"%s\"", row->error, row->reason);
}

static void add(struct exchange *x, enum field_id id, struct slice value) {
    fields_add_known(&x->response_head.fields, &x->arena, id, value);
}
