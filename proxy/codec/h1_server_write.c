/* The HTTP/1 server codec, writing half: one response, from its head to its last byte, in as few
 * writes as the bytes allow: head, content and end of a small response are one. */
#include "codec/h1_server_state.h"

#include <assert.h>

static void send_informational(struct exchange *x, const struct response_head *head);
static void send_response(struct exchange *x, struct content content);
static void abort_response(struct exchange *x);
static void finished(struct exchange *x);
static void on_ready(struct body *body);
static struct content frame(const struct exchange *x, struct content content);
static struct slice connection_option(struct h1_server *server, const struct exchange *x);
static void response_sent(struct h1_server *server);

const struct exchange_client h1_server_client = {
    .send_informational = send_informational,
    .send_response = send_response,
    .abort = abort_response,
    .finished = finished,
};

static const struct body_sink_ops response_sink = {.ready = on_ready};

static void send_informational(struct exchange *x, const struct response_head *head) {
    struct h1_server *server = x->client_ctx;
    struct buffer *out = &server->shared->head;
    uv_buf_t buf;

    /* RFC 9110 section 15.2: never to a 1.0 client. */
    if (x->request_head.version < HTTP_1_1)
        return;
    out->len = 0;
    h1_write_response(out, head, (struct content){CONTENT_NONE, 0}, SLICE_NONE, false);
    buf = uv_buf_init(out->base, (unsigned)out->len);
    if (conn_send(server->conn, &buf, 1) < 0)
        h1_server_client_gone(server, FAIL_CLIENT_GONE);
}

static void send_response(struct exchange *x, struct content content) {
    struct h1_server *server = x->client_ctx;
    struct buffer *out = &server->shared->head;
    bool show_length = x->request_head.method == METHOD_HEAD || x->response_head.status == 304;

    h1_send_init(&server->send, frame(x, content));
    server->is_sending = true;
    if (x->is_stream)
        h1_server_arm(server, server->shared->settings->stream_idle_timeout_ns);
    out->len = 0;
    h1_write_response(out, &x->response_head, server->send.framing, connection_option(server, x),
                      show_length);
    server->send.is_connection_last = server->is_closing;
    x->response.sink = &response_sink;
    x->response.sink_ctx = server;
    if (server->send.framing.kind == CONTENT_TUNNEL) {
        struct slice rest = slice_skip(buffer_slice(&server->input), server->input_used);

        /* What the client sent behind its request is the tunnel's. */
        server->reading = H1_TUNNEL;
        x->is_tunnel = true;
        x->request.state = BODY_OPEN;
        body_push_copy(&x->request, rest);
        buffer_deinit(&server->input);
        server->input_used = 0;
        if (server->is_eof)
            body_end(&x->request);
        body_flush(&x->request);
    }
    h1_server_pump(server, true);
}

/* RFC 9112 section 6.3, from the sender's side. */
static struct content frame(const struct exchange *x, struct content content) {
    unsigned status = x->response_head.status;

    if (status == 101)
        return (struct content){CONTENT_TUNNEL, 0};
    if (x->request_head.method == METHOD_HEAD || status == 204 || status == 304)
        return (struct content){CONTENT_NONE, 0};
    if (content.kind == CONTENT_LENGTH)
        return content;
    if (content.kind == CONTENT_NONE)
        return (struct content){CONTENT_LENGTH, 0};
    if (x->request_head.version >= HTTP_1_1)
        return (struct content){CONTENT_CHUNKED, 0};
    return (struct content){CONTENT_CLOSE, 0};
}

static struct slice connection_option(struct h1_server *server, const struct exchange *x) {
    /* An answer that does not wait for the rest of the request is mostly a refusal: reading the
     * rest for nobody would cost more than a new connection. */
    bool is_early = server->reading == H1_CONTENT && x->response_head.status >= 400;

    if (server->send.framing.kind == CONTENT_TUNNEL)
        return SLICE("upgrade");
    if (!server->is_persistent || server->send.framing.kind == CONTENT_CLOSE || is_early ||
        server->shared->is_draining || server->shared->is_pressed || server->reading == H1_CLOSED ||
        (server->is_eof && server->input.len == server->input_used))
        server->is_closing = true;
    if (server->is_closing)
        return SLICE("close");
    return x->request_head.version < HTTP_1_1 ? SLICE("keep-alive") : SLICE_NONE;
}

static void on_ready(struct body *body) {
    struct h1_server *server = body->sink_ctx;

    if (server->is_sending && conn_is_drained(server->conn))
        h1_server_pump(server, false);
    else if (server->is_sending && body->state == BODY_RESET)
        exchange_wake(server->x, 0);
}

void h1_server_pump(struct h1_server *server, bool has_head) {
    struct exchange *x = server->x;
    int outcome = h1_send_body(&server->send, &x->response, has_head);

    if (outcome == H1_SEND_MISMATCH) /* never spliced into the next response */
        body_reset(&x->response, FAIL_UPSTREAM_MALFORMED);
    else if (outcome < 0)
        h1_server_client_gone(server, FAIL_CLIENT_GONE);
    else if (outcome == H1_SEND_END)
        response_sent(server);
    else if (x->response.state == BODY_RESET)
        exchange_wake(x, 0);
}

static void response_sent(struct h1_server *server) {
    server->is_sending = false;
    server->is_sent = true;
    if (server->send.framing.kind == CONTENT_TUNNEL)
        conn_finish(server->conn);
    exchange_wake(server->x, EXCHANGE_RESPONSE_SENT);
}

static void abort_response(struct exchange *x) {
    struct h1_server *server = x->client_ctx;

    server->is_closing = true;
    if (server->send.framing.kind == CONTENT_CLOSE)
        conn_reset(server->conn); /* or its end would look like the end of the content */
}

static void finished(struct exchange *x) {
    struct h1_server *server = x->client_ctx;
    bool is_broken = x->is_response_begun && !server->is_sent;

    assert(server->x == x);
    server->x = NULL;
    h1_server_count(&server->shared->active, -1);
    h1_chunked_deinit(&server->chunked);
    if (is_broken || x->is_tunnel) {
        server->reading = H1_CLOSED;
        server->is_sending = false;
        conn_linger(server->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
        return;
    }
    if (server->reading == H1_CONTENT)
        server->is_closing = true; /* the rest of its content would be read for nobody */
    h1_server_continue(server);
}
