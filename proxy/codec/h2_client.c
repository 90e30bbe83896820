/* The HTTP/2 client codec: the connection. Its streams are in h2_client_stream.c. */
#include "base/alloc.h"
#include "codec/h2_client_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* As large as a request head can be that a listener takes, with what is added on the way. */
#define SEND_SECTION_MAX (32 * 1024 * 1024)
#define WINDOW_MAX INT32_MAX

static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static void on_over(struct h2_session *session);
static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static void take_settings(struct h2_client *client);
static void take_goaway(struct h2_client *client, const nghttp2_goaway *goaway);
static void lose_malformed(struct h2_client *client);
static void lose(struct h2_client *client, enum fail fail, const char *why);
static void flush_bodies(struct h2_client *client);
static void on_changed(struct task *task);
static void on_timer(struct timer *timer);
static int64_t look_for_life(struct h2_client *client);
static void free_list(struct list *list);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

void h2_client_loop_init(struct h2_client_loop *shared) {
    *shared = (struct h2_client_loop){0};
    h2_library_init(&shared->library);
    h2_client_set_stream_callbacks(shared->library.callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(shared->library.callbacks, on_frame_recv);
    nghttp2_option_set_max_send_header_block_length(shared->library.options, SEND_SECTION_MAX);
}

void h2_client_loop_deinit(struct h2_client_loop *shared) {
    h2_library_deinit(&shared->library);
    h2_block_deinit(&shared->block);
}

struct h2_client *h2_client_open(struct conn *conn, const struct h2_client_options *options) {
    struct h2_client *client = xcalloc(1, sizeof *client);
    const struct h2_client_settings *settings = options->settings;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)settings->limits.head_bytes},
    };
    /* Room for all streams at once, so that one whose client is slow holds up no other. */
    uint64_t window = (uint64_t)settings->streams * H2_STREAM_WINDOW;

    client->conn = conn;
    client->o = *options;
    client->remote_max = UINT32_MAX;
    client->last_id = INT32_MAX;
    list_init(&client->streams);
    list_init(&client->free);
    list_init(&client->fresh);
    task_init(&client->changed, on_changed);
    timer_init(&client->timer, on_timer);
    client->session.on_over = on_over;
    h2_session_open(&client->session, &options->shared->library, conn, false, entries,
                    sizeof entries / sizeof *entries);
    if (window > H2_CONNECTION_WINDOW)
        nghttp2_session_set_local_window_size(client->session.ng, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)(window < WINDOW_MAX ? window : WINDOW_MAX));
    conn_start(conn, &events, client);
    return client;
}

enum h2_client_state h2_client_state(const struct h2_client *client) {
    if (client->is_over || client->is_broken)
        return H2_CLIENT_OVER;
    if (client->is_going || client->is_closing)
        return H2_CLIENT_ENDING;
    return client->is_ready ? H2_CLIENT_OPEN : H2_CLIENT_OPENING;
}

enum fail h2_client_fail(const struct h2_client *client) {
    return client->fail;
}

const char *h2_client_why(const struct h2_client *client) {
    return client->why;
}

unsigned h2_client_streams_max(const struct h2_client *client) {
    unsigned max = client->o.settings->streams;

    return client->remote_max < max ? client->remote_max : max;
}

unsigned h2_client_room(const struct h2_client *client) {
    unsigned max = h2_client_streams_max(client);
    unsigned taken = client->on_wire + client->reserved;

    return h2_client_state(client) == H2_CLIENT_OPEN && taken < max ? max - taken : 0;
}

unsigned h2_client_used(const struct h2_client *client) {
    return client->used;
}

void h2_client_close(struct h2_client *client, bool at_once) {
    struct loop *loop = client->conn->loop;

    assert(client->used == 0);
    if (client->is_closing)
        return;
    client->is_closing = true;
    loop_timer_stop(loop, &client->timer);
    if (at_once || client->is_broken) {
        conn_close(client->conn);
    } else if (client->is_over) {
        conn_linger(client->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
    } else {
        h2_session_shut_down(&client->session);
        loop_timer_start(loop, &client->timer, H2_CLIENT_END_NS);
    }
}

void h2_client_watch(struct h2_client *client) {
    struct loop *loop = client->conn->loop;

    client->heard_ns = loop->now_ns;
    if (client->o.settings->ping_ns > 0 && !timer_is_running(&client->timer))
        loop_timer_start(loop, &client->timer, client->o.settings->ping_ns);
}

static void on_data(struct conn *conn, struct slice bytes) {
    struct h2_client *client = conn->codec;
    int err;

    if (client->heard == 0 && slice_starts(bytes, SLICE("HTTP/1")))
        h2_client_blame(client, "it answers HTTP/1");
    client->heard += bytes.len;
    client->heard_ns = conn->loop->now_ns;
    client->is_pinging = false;
    err = h2_session_receive(&client->session, bytes);
    if (err)
        h2_client_blame(client, nghttp2_strerror(err));
    flush_bodies(client);
    if (client->session.is_deaf)
        lose_malformed(client);
}

static void on_eof(struct conn *conn) {
    struct h2_client *client = conn->codec;

    client->is_broken = true;
    lose(client, FAIL_UPSTREAM_RESET, "the connection ended");
}

static void on_error(struct conn *conn, int err) {
    on_eof(conn);
}

static void on_drained(struct conn *conn) {
    struct h2_client *client = conn->codec;

    h2_session_drained(&client->session);
}

static void on_closed(struct conn *conn) {
    struct h2_client *client = conn->codec;

    assert(client->used == 0);
    loop_timer_stop(conn->loop, &client->timer);
    task_cancel(&client->changed);
    h2_session_close(&client->session);
    free_list(&client->streams);
    free_list(&client->free);
    client->o.on_closed(client->o.ctx);
    free(client);
}

/* Everything is said, or the conn takes no more. When neither side has meant to end it, nghttp2
 * has: for a connection error (RFC 9113 section 5.4.1). */
static void on_over(struct h2_session *session) {
    struct h2_client *client = CONTAINER_OF(session, struct h2_client, session);

    client->is_over = true;
    if (client->is_going || client->is_closing || session->is_deaf)
        lose(client, FAIL_UPSTREAM_RESET, "the connection ended");
    else
        lose_malformed(client);
    if (client->is_closing) {
        loop_timer_stop(client->conn->loop, &client->timer);
        conn_linger(client->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
    }
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_client *client = CONTAINER_OF((struct h2_session *)ctx, struct h2_client, session);

    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            take_settings(client);
        break;
    case NGHTTP2_GOAWAY:
        take_goaway(client, &frame->goaway);
        break;
    case NGHTTP2_PING:
        h2_session_on_ping(&client->session, &frame->ping);
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        client->is_ping_free = true;
        h2_client_on_frame(client, frame);
        break;
    default:
        break;
    }
    return 0;
}

static void take_settings(struct h2_client *client) {
    nghttp2_session *ng = client->session.ng;

    client->remote_max =
        nghttp2_session_get_remote_settings(ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    client->may_tunnel =
        nghttp2_session_get_remote_settings(ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
    client->is_ready = true;
    h2_client_wake(client);
}

/* nghttp2 closes the streams above the last id right after this. */
static void take_goaway(struct h2_client *client, const nghttp2_goaway *goaway) {
    if (goaway->last_stream_id < client->last_id)
        client->last_id = goaway->last_stream_id;
    client->is_going = true;
    h2_client_wake(client);
}

void h2_client_blame(struct h2_client *client, const char *why) {
    if (client->why[0] == '\0')
        snprintf(client->why, sizeof client->why, "%s", why);
}

static void lose_malformed(struct h2_client *client) {
    char why[sizeof client->why + sizeof "the upstream does not keep to HTTP/2: "];

    h2_client_blame(client, "a connection error"); /* its GOAWAY was not sent */
    snprintf(why, sizeof why, "the upstream does not keep to HTTP/2: %s", client->why);
    lose(client, FAIL_UPSTREAM_MALFORMED, why);
}

/* No exchange gets any further on this connection. */
static void lose(struct h2_client *client, enum fail fail, const char *why) {
    struct list *link, *next;

    if (client->fail == FAIL_NONE)
        client->fail = fail;
    client->is_going = true;
    for (link = client->streams.next; link != &client->streams; link = next) {
        next = link->next;
        h2_client_stream_lost(CONTAINER_OF(link, struct h2_client_stream, link), fail, why);
    }
    h2_client_wake(client);
}

/* Sinks are told once per turn of reading. */
static void flush_bodies(struct h2_client *client) {
    struct list *link;

    while ((link = list_pop(&client->fresh))) {
        struct h2_client_stream *stream = CONTAINER_OF(link, struct h2_client_stream, fresh);

        if (stream->x)
            body_flush(&stream->x->response);
    }
}

static void on_changed(struct task *task) {
    struct h2_client *client = CONTAINER_OF(task, struct h2_client, changed);

    if (!client->is_closing)
        client->o.on_change(client->o.ctx);
}

static void on_timer(struct timer *timer) {
    struct h2_client *client = CONTAINER_OF(timer, struct h2_client, timer);
    int64_t next_ns;

    if (client->is_closing) {
        conn_linger(client->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
        return;
    }
    next_ns =
        client->on_wire > 0 && !client->is_over && !client->is_broken ? look_for_life(client) : 0;
    if (next_ns > 0)
        loop_timer_start(client->conn->loop, timer, next_ns);
}

/* How long until the next look; 0: never, it is dead. */
static int64_t look_for_life(struct h2_client *client) {
    const struct h2_client_settings *settings = client->o.settings;
    int64_t now_ns = client->conn->loop->now_ns;
    int64_t silent_ns = now_ns - client->heard_ns;
    int64_t allowed_ns = client->pinged_ns && !client->is_ping_free
                             ? client->pinged_ns + H2_PING_SILENT_NS - now_ns
                             : 0;

    if (client->is_pinging) {
        int64_t left_ns = client->pinged_ns + settings->pong_timeout_ns - now_ns;

        if (left_ns > 0)
            return left_ns;
        client->is_broken = true;
        lose(client, FAIL_UPSTREAM_RESET, "no answer to a PING");
        return 0;
    }
    if (silent_ns < settings->ping_ns)
        return settings->ping_ns - silent_ns;
    if (allowed_ns > 0)
        return allowed_ns;
    client->pinged_ns = now_ns;
    client->is_pinging = true;
    client->is_ping_free = false;
    nghttp2_submit_ping(client->session.ng, NGHTTP2_FLAG_NONE, NULL);
    h2_session_touch(&client->session);
    return settings->pong_timeout_ns;
}

static void free_list(struct list *list) {
    struct list *link, *next;

    for (link = list->next; link != list; link = next) {
        next = link->next;
        free(CONTAINER_OF(link, struct h2_client_stream, link));
    }
}
