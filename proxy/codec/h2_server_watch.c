/* The HTTP/2 server codec, watching part: what is due of a connection and all its streams. */
#include "codec/h2_server_state.h"

static void on_timer(struct timer *timer);
static int64_t check_head(struct h2_server *server);
static int64_t check_idle(struct h2_server *server);
static int64_t check_socket(struct h2_server *server);
static int64_t check_stream(struct h2_stream *stream);
static int64_t check_request(struct h2_stream *stream);
static int64_t later(int64_t a, int64_t b);

void h2_server_watch_init(struct h2_server *server) {
    timer_init(&server->watch.timer, on_timer);
}

static void on_timer(struct timer *timer) {
    static int64_t (*const checks[])(struct h2_server *) = {check_head, check_idle, check_socket};
    struct h2_server *server = CONTAINER_OF(timer, struct h2_server, watch.timer);
    int64_t next_ns = CONN_WATCH_MAX_NS, left;
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
    int64_t left = server->head_since_ns
                       ? conn_watch_left_ns(server->shared->loop, server->head_since_ns,
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
    left = conn_watch_left_ns(server->shared->loop, server->idle_since_ns,
                              server->requests ? settings->idle_timeout_ns
                                               : settings->header_timeout_ns);
    if (left > 0)
        return left;
    h2_session_shut_down(&server->session);
    return INT64_MAX; /* the socket is still looked at */
}

/* A client that takes nothing of what is queued for it. */
static int64_t check_socket(struct h2_server *server) {
    int64_t left = conn_watch_stuck_ns(&server->watch, server->conn,
                                       server->shared->settings->body_timeout_ns);

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
        left = conn_watch_left_ns(server->shared->loop,
                                  later(x->request.moved_ns, x->response.moved_ns),
                                  settings->stream_idle_timeout_ns);
        if (left == 0)
            h2_stream_drop(stream, FAIL_STREAM_IDLE);
        return left;
    }
    /* It gives no window for what waits. */
    left = body_waiting(&x->response) > 0 && stream->is_answered
               ? conn_watch_left_ns(server->shared->loop, x->response.moved_ns,
                                    settings->body_timeout_ns)
               : conn_watch_left_ns(server->shared->loop, server->shared->loop->now_ns,
                                    settings->body_timeout_ns);
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
    left = conn_watch_left_ns(server->shared->loop, since_ns,
                              server->shared->settings->body_timeout_ns);
    if (left == 0)
        h2_stream_fail_content(stream, is_held ? FAIL_UPSTREAM_STALLED : FAIL_REQUEST_TIMEOUT,
                               NULL);
    return left;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}
