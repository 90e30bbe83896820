/* The HTTP/1 server codec, reading half: connections, heads, content, timeouts. */
#include "codec/h1_server_state.h"

#include <assert.h>

/* Input that may wait behind the exchange under way before reading is stopped. */
#define H1_PIPELINED_BYTES_MAX (64 * 1024)

/* How long a client that is refused unheard has to read why, and how much of what it says is thrown
 * away meanwhile. */
#define REFUSED_LINGER_NS (250 * NS_PER_MS)
#define REFUSED_BYTES_MAX (64 * 1024)

static struct h1_server *open_server(struct h1_server_loop *shared, struct conn *conn);
static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static void on_timer(struct timer *timer);
static size_t consume(struct h1_server *server, struct slice in, bool is_stable);
static size_t read_head(struct h1_server *server, struct slice in);
static size_t read_content(struct h1_server *server, struct slice in, bool is_stable);
static size_t read_chunked(struct h1_server *server, struct slice in, bool is_stable);
static void push(struct h1_server *server, struct slice bytes, bool is_stable);
static void end_content(struct h1_server *server);
static void start_exchange(struct h1_server *server, struct exchange *x, struct content content);
static void refuse(struct h1_server *server, enum fail fail, const char *why) __attribute__((cold));
static void say_refusal(struct h1_server *server, enum fail fail, const char *why)
    __attribute__((cold));
static void fail_content(struct h1_server *server, enum fail fail) __attribute__((cold));
static void keep_rest(struct h1_server *server, struct slice rest);
static void consume_input(struct h1_server *server);
static void pause_source(struct body *body);
static void source_taken(struct body *body, size_t n);
static int64_t check_idle(struct h1_server *server);
static int64_t check_reading(struct h1_server *server);
static int64_t check_writing(struct h1_server *server);
static int64_t check_stream(struct h1_server *server);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

static const struct body_source_ops request_source = {
    .pause = pause_source,
    .taken = source_taken,
};

void h1_server_open(struct h1_server_loop *shared, struct conn *conn) {
    open_server(shared, conn);
}

void h1_server_refuse(struct h1_server_loop *shared, struct conn *conn, enum fail fail,
                      const char *why) {
    struct h1_server *server = open_server(shared, conn);

    say_refusal(server, fail, why);
    conn_linger(conn, REFUSED_LINGER_NS, REFUSED_BYTES_MAX);
}

static struct h1_server *open_server(struct h1_server_loop *shared, struct conn *conn) {
    struct h1_server *server = spares_take(&shared->spares, sizeof *server);

    memset(server, 0, sizeof *server);
    server->shared = shared;
    server->conn = conn;
    server->send = (struct h1_send){.conn = conn, .scratch = &shared->head};
    server->read_ns = shared->loop->now_ns;
    list_push_back(&shared->all, &server->link);
    shared->count++;
    timer_init(&server->watch.timer, on_timer);
    h1_server_arm(server, shared->settings->header_timeout_ns);
    conn_start(conn, &events, server);
    return server;
}

void h1_server_continue(struct h1_server *server) {
    struct slice rest = slice_skip(buffer_slice(&server->input), server->input_used);

    if (server->is_closing || (server->shared->is_draining && rest.len == 0) ||
        (server->is_eof && rest.len == 0)) {
        bool is_unread = server->reading != H1_WAIT || rest.len > 0;

        server->reading = H1_CLOSED;
        loop_timer_stop(server->shared->loop, &server->watch.timer);
        conn_push(server->conn);
        /* Bytes that nobody reads would turn the close into a reset (RFC 9112 section 9.6). */
        if (is_unread || !conn_is_drained(server->conn))
            conn_linger(server->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
        else
            conn_close(server->conn);
        return;
    }
    server->reading = H1_HEAD;
    server->seen = 0;
    server->head_since_ns = rest.len > 0 ? server->shared->loop->now_ns : 0;
    server->read_ns = server->shared->loop->now_ns;
    if (rest.len > 0)
        consume_input(server);
    if (server->conn->is_closed || server->reading == H1_CLOSED)
        return;
    if (server->input.len - server->input_used < H1_PIPELINED_BYTES_MAX)
        conn_resume(server->conn);
    if (server->is_eof && server->reading == H1_HEAD)
        conn_close(server->conn); /* half a request, and its end will never come */
    else if (!server->x && server->head_since_ns)
        h1_server_arm(server, server->shared->settings->header_timeout_ns);
    else
        h1_server_arm(server, server->shared->settings->idle_timeout_ns);
}

static void on_data(struct conn *conn, struct slice bytes) {
    struct h1_server *server = conn->codec;

    server->read_ns = server->shared->loop->now_ns;
    if (server->reading == H1_CLOSED)
        return;
    if (server->input.len > 0 && server->reading != H1_WAIT) {
        keep_rest(server, bytes);
        consume_input(server);
    } else {
        size_t used = consume(server, bytes, true);

        keep_rest(server, slice_skip(bytes, used));
    }
    if (server->input.len - server->input_used > H1_PIPELINED_BYTES_MAX)
        conn_pause(conn);
}

/* Uses up what it can of @in and returns how much. @is_stable: the bytes stay where they are until
 * the end of the turn. */
static size_t consume(struct h1_server *server, struct slice in, bool is_stable) {
    size_t used = 0;

    if (server->reading == H1_HEAD)
        used = read_head(server, in);
    in = slice_skip(in, used);
    if (in.len > 0 && server->reading == H1_CONTENT) {
        size_t n = read_content(server, in, is_stable);

        used += n;
        in = slice_skip(in, n);
    }
    if (in.len > 0 && server->reading == H1_TUNNEL) {
        push(server, in, is_stable);
        used += in.len;
    }
    if (server->reading == H1_CLOSED)
        used += in.len; /* nobody wants the rest */
    if (server->x)
        body_flush(&server->x->request);
    return used;
}

static size_t read_head(struct h1_server *server, struct slice in) {
    struct h1_server_loop *shared = server->shared;
    struct exchange *x = shared->make_exchange(shared);
    struct content content = {CONTENT_NONE, 0};
    const char *why = "";
    size_t used = 0;
    enum h1_outcome outcome;

    outcome = h1_parse_request(in, server->seen, &shared->settings->limits, &x->arena,
                               &x->request_head, &content, &used, &why);
    if (outcome == H1_DONE) {
        start_exchange(server, x, content);
        return used;
    }
    shared->drop_exchange(shared, x);
    if (outcome == H1_PARTIAL) {
        if (server->seen == 0) {
            server->head_since_ns = shared->loop->now_ns;
            h1_server_arm(server, shared->settings->header_timeout_ns);
        }
        server->seen = in.len;
        return 0;
    }
    refuse(server, h1_request_fail(outcome), why);
    return in.len;
}

static void start_exchange(struct h1_server *server, struct exchange *x, struct content content) {
    const struct h1_server_settings *settings = server->shared->settings;

    server->x = x;
    h1_server_count(&server->shared->active, 1);
    server->seen = 0;
    server->head_since_ns = 0;
    server->requests++;
    server->is_persistent = h1_is_persistent(x->request_head.version, &x->request_head.fields);
    if (settings->max_requests && server->requests >= settings->max_requests)
        server->is_persistent = false;
    server->is_sending = server->is_sent = false;
    conn_watch_forgive(&server->watch, server->shared->loop);
    x->client = &h1_server_client;
    x->client_ctx = server;
    x->client_address = &server->conn->peer.any;
    x->is_secure = conn_is_secure(server->conn);
    x->client_certificate = conn_certificate_text(server->conn);
    x->client_subject = conn_subject_text(server->conn);
    x->request_content = content;
    x->request.source = &request_source;
    x->request.source_ctx = server;
    server->reading = H1_CONTENT;
    if (content.kind == CONTENT_CHUNKED)
        h1_chunked_init(&server->chunked);
    else if (content.kind == CONTENT_LENGTH && content.length > 0)
        server->content_left = content.length;
    else
        end_content(server);
    h1_server_arm(server, settings->body_timeout_ns);
    exchange_wake(x, EXCHANGE_STARTED);
}

static size_t read_content(struct h1_server *server, struct slice in, bool is_stable) {
    size_t n;

    if (server->x->request_content.kind == CONTENT_CHUNKED)
        return read_chunked(server, in, is_stable);
    n = in.len < server->content_left ? in.len : (size_t)server->content_left;
    push(server, slice_of(in.base, n), is_stable);
    server->content_left -= n;
    if (server->content_left == 0)
        end_content(server);
    return n;
}

static size_t read_chunked(struct h1_server *server, struct slice in, bool is_stable) {
    struct exchange *x = server->x;
    struct slice left = in, data;
    const char *why = "";

    for (;;) {
        switch (h1_chunked_next(&server->chunked, &left, &data, &server->shared->settings->limits,
                                &x->arena, &x->request.trailers, &why)) {
        case H1_CHUNK_DATA:
            push(server, data, is_stable);
            break;
        case H1_CHUNK_MORE:
            return in.len;
        case H1_CHUNK_END:
            end_content(server);
            return in.len - left.len;
        case H1_CHUNK_BAD:
            x->client_why = why;
            fail_content(server, FAIL_REQUEST_MALFORMED);
            return in.len;
        case H1_CHUNK_LARGE:
            x->client_why = why;
            fail_content(server, FAIL_HEAD_LARGE);
            return in.len;
        }
    }
}

static void push(struct h1_server *server, struct slice bytes, bool is_stable) {
    if (is_stable)
        body_push(&server->x->request, bytes);
    else
        body_push_copy(&server->x->request, bytes);
}

static void end_content(struct h1_server *server) {
    h1_chunked_deinit(&server->chunked);
    body_end(&server->x->request);
    server->reading = H1_WAIT;
    conn_has_all(server->conn);
}

/* The head cannot be read: the reply goes out without an exchange, and the connection ends. */
static void refuse(struct h1_server *server, enum fail fail, const char *why) {
    say_refusal(server, fail, why);
    conn_linger(server->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
}

static void say_refusal(struct h1_server *server, enum fail fail, const char *why) {
    struct h1_refusal refusal = {fail, why, &server->conn->peer};
    struct buffer *out = &server->shared->head;
    uv_buf_t buf;

    out->len = 0;
    server->shared->write_refusal(server->shared, &refusal, out);
    buf = uv_buf_init(out->base, (unsigned)out->len);
    server->reading = H1_CLOSED;
    loop_timer_stop(server->shared->loop, &server->watch.timer);
    conn_end_follows(server->conn);
    if (conn_send(server->conn, &buf, 1) < 0)
        conn_close(server->conn);
}

/* The content is broken: its framing is lost, but an answer can still be given. */
static void fail_content(struct h1_server *server, enum fail fail) {
    struct exchange *x = server->x;

    h1_chunked_deinit(&server->chunked);
    server->reading = H1_CLOSED;
    server->is_closing = true;
    x->client_fail = fail;
    x->request.source = NULL;
    body_reset(&x->request, fail);
    exchange_wake(x, EXCHANGE_CLIENT_FAIL);
}

static void keep_rest(struct h1_server *server, struct slice rest) {
    struct buffer *input = &server->input;

    if (rest.len == 0 || server->reading == H1_CLOSED)
        return;
    if (server->input_used > 0) {
        input->len -= server->input_used;
        memmove(input->base, input->base + server->input_used, input->len);
        server->input_used = 0;
    }
    buffer_append(input, rest);
}

/* Uses up what it can of the kept input. */
static void consume_input(struct h1_server *server) {
    struct slice rest = slice_skip(buffer_slice(&server->input), server->input_used);

    server->input_used += consume(server, rest, false);
    if (server->input_used >= server->input.len) {
        buffer_deinit(&server->input);
        server->input_used = 0;
    }
}

static void on_eof(struct conn *conn) {
    struct h1_server *server = conn->codec;

    server->is_eof = true;
    if (!server->x) {
        conn_close(conn);
    } else if (server->reading == H1_TUNNEL) {
        body_end(&server->x->request);
        body_flush(&server->x->request);
    } else if (server->reading == H1_CONTENT || !server->shared->settings->half_close) {
        /* Its content will never be whole, or nobody is taken to be there for the answer. */
        h1_server_client_gone(server, FAIL_CLIENT_GONE);
    }
}

static void on_error(struct conn *conn, int err) {
    h1_server_client_gone(conn->codec, FAIL_CLIENT_GONE);
}

void h1_server_client_gone(struct h1_server *server, enum fail fail) {
    struct exchange *x = server->x;

    server->reading = H1_CLOSED;
    if (x) {
        server->x = NULL;
        h1_server_count(&server->shared->active, -1);
        if (x->request.state == BODY_OPEN)
            body_reset(&x->request, fail);
        exchange_client_gone(x, fail);
    }
    if (server->is_sending && server->send.framing.kind == CONTENT_CLOSE)
        conn_reset(server->conn);
    else
        conn_close(server->conn);
}

static void on_drained(struct conn *conn) {
    struct h1_server *server = conn->codec;

    conn_watch_forgive(&server->watch, server->shared->loop);
    if (server->is_sending)
        h1_server_pump(server, false);
}

static void on_closed(struct conn *conn) {
    struct h1_server *server = conn->codec;

    assert(!server->x);
    loop_timer_stop(server->shared->loop, &server->watch.timer);
    list_remove(&server->link);
    server->shared->count--;
    h1_chunked_deinit(&server->chunked);
    buffer_deinit(&server->input);
    spares_give(&server->shared->spares, server, H1_SERVER_SPARES_MAX);
}

static void pause_source(struct body *body) {
    struct h1_server *server = body->source_ctx;

    conn_pause(server->conn);
}

static void source_taken(struct body *body, size_t n) {
    struct h1_server *server = body->source_ctx;

    if (body_has_room(body)) {
        if (!server->conn->is_reading)
            server->read_ns = server->shared->loop->now_ns;
        conn_resume(server->conn);
    }
}

static void on_timer(struct timer *timer) {
    struct h1_server *server = CONTAINER_OF(timer, struct h1_server, watch.timer);
    int64_t next_ns = CONN_WATCH_MAX_NS;

    if (!server->x) {
        next_ns = check_idle(server);
    } else {
        int64_t (*const checks[])(struct h1_server *) = {
            server->x->is_stream ? check_stream : check_reading, check_writing};

        for (size_t i = 0; i < 2 && next_ns > 0; i++) {
            int64_t left = checks[i](server);

            if (left < next_ns)
                next_ns = left;
        }
    }
    if (next_ns > 0)
        h1_server_arm(server, next_ns);
}

/* The checks act when their time has come and answer 0; else they answer how long it is until then.
 */
static int64_t check_idle(struct h1_server *server) {
    const struct h1_server_settings *settings = server->shared->settings;
    int64_t left;

    if (server->head_since_ns) {
        left = conn_watch_left_ns(server->shared->loop, server->head_since_ns,
                                  settings->header_timeout_ns);
        if (left == 0)
            refuse(server, FAIL_REQUEST_TIMEOUT, "the head was not complete in time");
        return left;
    }
    left = conn_watch_left_ns(server->shared->loop, server->read_ns,
                              server->requests ? settings->idle_timeout_ns
                                               : settings->header_timeout_ns);
    if (left == 0) {
        server->reading = H1_CLOSED;
        conn_linger(server->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
    }
    return left;
}

static int64_t check_reading(struct h1_server *server) {
    const struct body *request = &server->x->request;
    int64_t timeout_ns = server->shared->settings->body_timeout_ns;
    int64_t now_ns = server->shared->loop->now_ns, left;

    if (server->reading != H1_CONTENT)
        return conn_watch_left_ns(server->shared->loop, now_ns, timeout_ns);
    if (server->conn->is_reading) {
        left = conn_watch_left_ns(server->shared->loop, server->read_ns, timeout_ns);
        if (left == 0)
            fail_content(server, FAIL_REQUEST_TIMEOUT);
        return left;
    }
    /* We are held back: by an upstream that takes nothing, or because there is none yet. */
    left = conn_watch_left_ns(server->shared->loop, request->sink ? request->moved_ns : now_ns,
                              timeout_ns);
    if (left == 0)
        fail_content(server, FAIL_UPSTREAM_STALLED);
    return left;
}

/* A client that takes nothing of what is queued for it. */
static int64_t check_writing(struct h1_server *server) {
    int64_t left = conn_watch_stuck_ns(&server->watch, server->conn,
                                       server->shared->settings->body_timeout_ns);

    if (left == 0)
        h1_server_client_gone(server, FAIL_CLIENT_SLOW);
    return left;
}

static int64_t check_stream(struct h1_server *server) {
    const struct exchange *x = server->x;
    int64_t moved_ns =
        x->request.moved_ns > x->response.moved_ns ? x->request.moved_ns : x->response.moved_ns;
    int64_t left = conn_watch_left_ns(server->shared->loop, moved_ns,
                                      server->shared->settings->stream_idle_timeout_ns);

    if (left == 0)
        h1_server_client_gone(server, FAIL_STREAM_IDLE);
    return left;
}
