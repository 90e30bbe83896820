/* The HTTP/2 server codec, watching part: one timer for a connection and all its streams. It never
 * fires too late, and when it fires too early it looks what is really due; so it is moved once per
 * phase at most, not once per frame. */
#include "codec/h2_server_state.h"

/* The timer looks at a connection at least this often. */
#define CHECK_MAX_NS (60 * NS_PER_S)

static void on_timer(struct timer *timer);
static int64_t check_head(struct h2_server *server);
static int64_t check_idle(struct h2_server *server);
static int64_t check_socket(struct h2_server *server);
static int64_t check_stream(struct h2_stream *stream);
static int64_t check_request(struct h2_stream *stream);
static int64_t left_ns(const struct h2_server *server, int64_t since_ns, int64_t timeout_ns);
static int64_t later(int64_t a, int64_t b);

void h2_server_watch_init(struct h2_server *server) {
    timer_init(&server->timer, on_timer);
}

void h2_server_arm(struct h2_server *server, int64_t timeout_ns) {
    struct loop *loop = server->shared->loop;

    if (timeout_ns == 0 || timeout_ns > CHECK_MAX_NS)
        timeout_ns = CHECK_MAX_NS;
    if (timer_is_running(&server->timer) &&
        server->timer.at_ms <= (loop->now_ns + timeout_ns) / NS_PER_MS)
        return;
    loop_timer_start(loop, &server->timer, timeout_ns);
}

static void on_timer(struct timer *timer) {
    static int64_t (*const checks[])(struct h2_server *) = {check_head, check_idle, check_socket};
    struct h2_server *server = CONTAINER_OF(timer, struct h2_server, timer);
    int64_t next_ns = CHECK_MAX_NS, left;
    struct list *link, *next;

    /* Checks act when their time has come and answer 0; else they answer how long it is until then.
     */
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        left = checks[i](server);
        if (left == 0)
            return;
        next_ns = left < next_ns ? left : next_ns;
    }
    for (link = server->streams.next; link != &server->streams; link = next) {
        next = link->next;
        left = check_stream(CONTAINER_OF(link, struct h2_stream, link));
        if (left > 0)
            next_ns = left < next_ns ? left : next_ns;
    }
    h2_server_arm(server, next_ns);
}

/* A section that does not end: nothing else can be read meanwhile. */
static int64_t check_head(struct h2_server *server) {
    int64_t left = server->head_since_ns ? left_ns(server, server->head_since_ns,
                                                   server->shared->settings->header_timeout_ns)
                                         : INT64_MAX;

    if (left == 0)
        h2_server_refuse(server, FAIL_REQUEST_TIMEOUT, "the head was not complete in time");
    return left;
}

static int64_t check_idle(struct h2_server *server) {
    const struct h2_server_settings *settings = server->shared->settings;
    int64_t left;

    if (!list_is_empty(&server->streams) || server->session.is_shutting_down)
        return INT64_MAX;
    left = left_ns(server, server->idle_since_ns,
                   server->requests ? settings->idle_timeout_ns : settings->header_timeout_ns);
    if (left > 0)
        return left;
    h2_session_shut_down(&server->session);
    return INT64_MAX; /* the socket is still looked at */
}

/* A client that takes nothing of what is queued for it. */
static int64_t check_socket(struct h2_server *server) {
    size_t unsent = uv_stream_get_write_queue_size(&server->conn->uv.stream);
    int64_t left;

    if (unsent == 0 || unsent != server->stuck_bytes) {
        server->stuck_bytes = unsent;
        server->stuck_since_ns = server->shared->loop->now_ns;
    }
    left = left_ns(server, server->stuck_since_ns, server->shared->settings->body_timeout_ns);
    if (left == 0)
        h2_server_client_gone(server, FAIL_CLIENT_SLOW);
    return left;
}

static int64_t check_stream(struct h2_stream *stream) {
    struct h2_server *server = stream->server;
    const struct h2_server_settings *settings = server->shared->settings;
    struct exchange *x = stream->x;
    int64_t left;

    if (!x || !stream->is_started)
        return INT64_MAX;
    if (x->is_stream) {
        left = left_ns(server, later(x->request.moved_ns, x->response.moved_ns),
                       settings->stream_idle_timeout_ns);
        if (left == 0)
            h2_stream_drop(stream, FAIL_STREAM_IDLE);
        return left;
    }
    /* It gives no window for what waits. */
    left = body_waiting(&x->response) > 0 && stream->is_answered
               ? left_ns(server, x->response.moved_ns, settings->body_timeout_ns)
               : left_ns(server, server->shared->loop->now_ns, settings->body_timeout_ns);
    if (left == 0) {
        h2_stream_drop(stream, FAIL_CLIENT_SLOW);
        return 0;
    }
    int64_t request = check_request(stream);
    return request < left ? request : left;
}

static int64_t check_request(struct h2_stream *stream) {
    struct h2_server *server = stream->server;
    const struct body *request = &stream->x->request;
    int64_t now_ns = server->shared->loop->now_ns, since_ns = now_ns, left;
    bool is_held = body_waiting(request) > 0;

    /* While content goes either way the two sides are talking. */
    if (request->state == BODY_OPEN && !stream->is_connect && (!is_held || request->sink))
        since_ns = stream->is_answered ? later(request->moved_ns, stream->x->response.moved_ns)
                                       : request->moved_ns;
    left = left_ns(server, since_ns, server->shared->settings->body_timeout_ns);
    if (left == 0)
        h2_stream_fail_content(stream, is_held ? FAIL_UPSTREAM_STALLED : FAIL_REQUEST_TIMEOUT,
                               NULL);
    return left;
}

/* How long until @since + @timeout; 0 when that has passed, INT64_MAX when there is no timeout. */
static int64_t left_ns(const struct h2_server *server, int64_t since_ns, int64_t timeout_ns) {
    int64_t left = since_ns + timeout_ns - server->shared->loop->now_ns;

    if (timeout_ns == 0)
        return INT64_MAX;
    return left > 0 ? left : 0;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}
