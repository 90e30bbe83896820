/* What is left of an exchange when it is over: its numbers in the counters, and a line of JSON in
 * the access log. Without printf(), which took more than all else that a request needs. */
#include "gateway/crossing.h"

#include "base/clock.h"
#include "gateway/handling.h"

#include <time.h>

/* Longest pieces of a request that go into a line; log lines are bounded too (LOG_LINE_MAX). */
#define TARGET_MAX 2048
#define FIELD_MAX 512

/* Of a member of the object, behind another. */
#define KEY(name) SLICE(",\"" name "\":")

static void write_line(struct crossing *c, unsigned status, int64_t duration_ns);
static void write_handling(struct buffer *out, const struct handling *h);
static void write_time(struct buffer *out);
static void write_text(struct buffer *out, struct slice key, struct slice value, size_t max);
static void write_plain(struct buffer *out, struct slice key, struct slice value);
static void write_uint(struct buffer *out, struct slice key, uint64_t n);
static void write_ms(struct buffer *out, struct slice key, int64_t ns);
static void write_thousandths(struct buffer *out, int64_t n);

void access_record(struct crossing *c) {
    struct exchange *x = &c->x;
    struct gateway_loop *gl = c->listener->gl;
    /* What the client would have got when it had stayed. */
    unsigned status = c->status ? c->status : c->fail ? fail_row(c->fail)->http : 0;
    struct counters_exchange done = {
        .listener = c->listener->index,
        .route = c->route ? c->route_index : COUNTERS_NO_ROUTE,
        .pipeline = c->part ? c->pipeline_index : COUNTERS_NO_PIPELINE,
        .protocol = x->request_head.version == HTTP_2 ? COUNTERS_HTTP2 : COUNTERS_HTTP1,
        .status = status,
        .duration_ns = x->loop->now_ns - x->started_ns,
        .first_byte_ns = c->first_byte_ns ? c->first_byte_ns - x->started_ns : -1,
        .queue_wait_ns = c->queued_ns && c->sent_ns ? c->sent_ns - c->queued_ns : -1,
        .fail = c->fail,
        .received_bytes = x->request.pushed,
        .sent_bytes = x->response.taken,
        .retries = c->retries,
        .priority = c->priority,
        .has_no_budget = c->has_no_budget,
        .was_held = c->held.since_ns > 0,
        .grpc_status = c->is_grpc ? (int)grpc_outcome(c) : -1,
    };

    counters_count(gl->gateway->counters, gl->metrics, &done);
    if (log_access_is_on())
        write_line(c, status, done.duration_ns);
}

void access_log_failure(const struct crossing *c) {
    const struct fail_row *row = fail_row(c->fail);

    if (c->fail == FAIL_HOLD_TIMEOUT) { /* of whichever endpoint it may have tried before */
        log_limited(&c->listener->gl->failures_logged, LOG_WARN, "%s: pipeline '%s'%s%s xid=%.*s",
                    row->title, c->part->shared->config->name, c->why ? ": " : "",
                    c->why ? c->why : "", SLICE_ARG(c->request_id));
        return;
    }
    if ((!c->endpoint && !programs_is_exec(c)) || c->fail == FAIL_CLIENT_GONE ||
        c->fail == FAIL_CLIENT_SLOW || c->fail == FAIL_REQUEST_TIMEOUT ||
        c->fail == FAIL_GRPC_WEB ||
        (c->handling && c->handling->last)) /* the handlers' room tells of its own */
        return;
    if (c->endpoint)
        atomic_fetch_add_explicit(&c->endpoint->failures, 1, memory_order_relaxed);
    log_limited(&c->listener->gl->failures_logged, LOG_WARN,
                "%s: '%s' of pipeline '%s'%s%s xid=%.*s", row->title,
                c->endpoint ? c->endpoint->text : c->part->shared->config->process->command[0],
                c->part->shared->config->name, c->why ? ": " : "", c->why ? c->why : "",
                SLICE_ARG(c->request_id));
}

void access_record_refusal(struct gateway_listener *listener, const struct h1_refusal *refusal,
                           struct slice request_id, enum counters_protocol protocol) {
    struct gateway_loop *gl = listener->gl;
    const struct fail_row *row = fail_row(refusal->fail);
    struct counters_exchange done = {
        .listener = listener->index,
        .route = COUNTERS_NO_ROUTE,
        .protocol = protocol,
        .pipeline = COUNTERS_NO_PIPELINE,
        .status = row->http,
        .first_byte_ns = -1,
        .queue_wait_ns = -1,
        .fail = refusal->fail,
        .grpc_status = -1,
    };
    struct buffer *out = &gl->scratch;
    char address[INET6_ADDRSTRLEN];

    counters_count(gl->gateway->counters, gl->metrics, &done);
    if (!log_access_is_on())
        return;
    out->len = 0;
    write_time(out);
    write_plain(out, KEY("listener"), slice_str(listener->config->name));
    write_plain(out, KEY("client"), conn_address_text(refusal->client, address));
    write_uint(out, KEY("status"), row->http);
    write_text(out, KEY("reason"), slice_str(row->reason), FIELD_MAX);
    write_text(out, KEY("detail"), slice_str(refusal->why), FIELD_MAX);
    write_text(out, KEY("request_id"), request_id, FIELD_MAX);
    buffer_append_char(out, '}');
    log_access(buffer_slice(out));
}

static void write_line(struct crossing *c, unsigned status, int64_t duration_ns) {
    struct exchange *x = &c->x;
    const struct request_head *head = &x->request_head;
    struct buffer *out = &c->listener->gl->scratch;
    const struct field *agent = fields_find(&head->fields, FIELD_USER_AGENT);
    char address[INET6_ADDRSTRLEN];

    out->len = 0;
    write_time(out);
    write_plain(out, KEY("listener"), slice_str(c->listener->config->name));
    write_plain(out, KEY("client"),
                conn_address_text((const union conn_address *)x->client_address, address));
    write_text(out, KEY("method"), head->method_text, FIELD_MAX);
    write_text(out, KEY("host"), head->authority, FIELD_MAX);
    write_text(out, KEY("target"),
               c->handling && c->handling->target.len > 0 ? c->handling->target : head->path,
               TARGET_MAX);
    write_plain(out, KEY("protocol"), http_version_text(head->version));
    write_uint(out, KEY("status"), status);
    if (c->is_grpc)
        write_text(out, KEY("grpc_status"), slice_str(grpc_status_name(grpc_outcome(c))),
                   FIELD_MAX);
    if (c->route)
        write_text(out, KEY("route"), slice_str(c->route->name), FIELD_MAX);
    if (c->part)
        write_plain(out, KEY("pipeline"), slice_str(c->part->shared->config->name));
    if (c->endpoint)
        write_text(out, KEY("endpoint"), slice_str(c->endpoint->text), FIELD_MAX);
    write_uint(out, KEY("received"), x->request.pushed);
    write_uint(out, KEY("sent"), x->response.taken);
    write_uint(out, KEY("attempts"), c->attempts);
    write_ms(out, KEY("duration_ms"), duration_ns);
    if (c->first_byte_ns)
        write_ms(out, KEY("first_byte_ms"), c->first_byte_ns - x->started_ns);
    if (c->queued_ns && c->sent_ns)
        write_ms(out, KEY("queue_ms"), c->sent_ns - c->queued_ns);
    if (c->held_ns)
        write_ms(out, KEY("held_ms"), c->held_ns);
    if (c->fail) {
        write_text(out, KEY("reason"), slice_str(fail_row(c->fail)->reason), FIELD_MAX);
        if (c->why)
            write_text(out, KEY("detail"), slice_str(c->why), FIELD_MAX);
    }
    if (c->handling)
        write_handling(out, c->handling);
    if (agent)
        write_text(out, KEY("user_agent"), agent->value, FIELD_MAX);
    if (c->is_trusted) /* it may be the client's */
        write_text(out, KEY("request_id"), c->request_id, FIELD_MAX);
    else
        write_plain(out, KEY("request_id"), c->request_id);
    buffer_append_char(out, '}');
    log_access(buffer_slice(out));
}

/* Who answered or failed, and what the handlers have noted. */
static void write_handling(struct buffer *out, const struct handling *h) {
    if (h->last)
        write_text(out, KEY("handler"), slice_str(h->last->name), FIELD_MAX);
    for (unsigned i = 0; i < h->variable_count; i++) {
        buffer_append(out, i == 0 ? SLICE(",\"variables\":{") : SLICE(","));
        buffer_append_json(out, h->variables[i].name);
        buffer_append_char(out, ':');
        buffer_append_json(out, h->variables[i].value);
    }
    if (h->variable_count > 0)
        buffer_append_char(out, '}');
}

static void write_time(struct buffer *out) {
    static __thread char text[32];
    static __thread int64_t text_s;
    int64_t now_ns = clock_wall_ns(), now_s = now_ns / NS_PER_S;

    if (now_s != text_s) {
        time_t seconds = (time_t)now_s;
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
        text_s = now_s;
    }
    buffer_append(out, SLICE("{\"time\":\""));
    buffer_append(out, slice_str(text));
    write_thousandths(out, now_ns % NS_PER_S / NS_PER_MS);
    buffer_append(out, SLICE("Z\""));
}

static void write_text(struct buffer *out, struct slice key, struct slice value, size_t max) {
    buffer_append(out, key);
    buffer_append_json(out, slice_of(value.base, value.len < max ? value.len : max));
}

/* Text that holds nothing that JSON has to quote: names that the configuration gives, addresses,
 * ids of our own. */
static void write_plain(struct buffer *out, struct slice key, struct slice value) {
    char *to = slice_write(buffer_reserve(out, key.len + value.len + 2), key);

    *to++ = '"';
    to = slice_write(to, value);
    *to++ = '"';
    out->len = (size_t)(to - out->base);
}

static void write_uint(struct buffer *out, struct slice key, uint64_t n) {
    buffer_append(out, key);
    buffer_append_uint(out, n);
}

static void write_ms(struct buffer *out, struct slice key, int64_t ns) {
    write_uint(out, key, (uint64_t)(ns / NS_PER_MS));
    write_thousandths(out, ns % NS_PER_MS / NS_PER_US);
}

/* @n is 0 to 999: ".007" */
static void write_thousandths(struct buffer *out, int64_t n) {
    char digits[] = {'.', (char)('0' + n / 100), (char)('0' + n / 10 % 10), (char)('0' + n % 10)};

    buffer_append(out, slice_of(digits, sizeof digits));
}
