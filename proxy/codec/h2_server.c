/* The HTTP/2 server codec: connections, from their first byte to their end. */
#include "codec/h2_server_state.h"

#include "base/alloc.h"
#include "codec/longest.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

/* nghttp2 counts resets too, but does not see that most streams of a client are answered:
 * h2_guard.h counts instead. */
#define RESETS_UNLIMITED UINT32_MAX

static void on_data(struct conn *conn, struct slice bytes);
static void on_eof(struct conn *conn);
static void on_error(struct conn *conn, int err);
static void on_drained(struct conn *conn);
static void on_closed(struct conn *conn);
static void on_over(struct h2_session *session);
static void detach_all(struct h2_server *server, enum fail fail);

static const struct conn_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

void h2_server_loop_init(struct h2_server_loop *shared) {
    const struct h2_server_settings *settings = shared->settings;
    nghttp2_option *options;

    list_init(&shared->all);
    h2_library_init(&shared->library);
    h2_server_set_callbacks(shared->library.callbacks);
    options = shared->library.options;
    nghttp2_option_set_max_continuations(options, settings->max_continuations);
    nghttp2_option_set_max_deflate_dynamic_table_size(options, settings->header_table_bytes);
    nghttp2_option_set_stream_reset_rate_limit(options, RESETS_UNLIMITED, RESETS_UNLIMITED);
}

void h2_server_loop_deinit(struct h2_server_loop *shared) {
    assert(list_is_empty(&shared->all));
    h2_library_deinit(&shared->library);
    h2_block_deinit(&shared->block);
}

void h2_server_open(struct h2_server_loop *shared, struct conn *conn) {
    const struct h2_server_settings *settings = shared->settings;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings->max_concurrent_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)settings->limits.head_bytes},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, settings->header_table_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    struct h2_server *server = xcalloc(1, sizeof *server);

    server->shared = shared;
    server->conn = conn;
    server->idle_since_ns = shared->loop->now_ns;
    conn_watch_forgive(&server->watch, shared->loop);
    list_init(&server->streams);
    list_init(&server->fresh);
    list_push_back(&shared->all, &server->link);
    shared->count++;
    h2_guard_init(&server->guard, &settings->guard, shared->loop->now_ns);
    server->session.on_over = on_over;
    h2_session_open(&server->session, &shared->library, conn, true, entries,
                    sizeof entries / sizeof *entries);
    h2_server_watch_init(server);
    h2_server_arm(server, settings->header_timeout_ns);
    conn_start(conn, &events, server);
    if (shared->is_draining)
        h2_session_shut_down(&server->session);
}

void h2_server_drain(struct h2_server_loop *shared) {
    struct list *link;

    shared->is_draining = true;
    for (link = shared->all.next; link != &shared->all; link = link->next)
        h2_session_shut_down(&CONTAINER_OF(link, struct h2_server, link)->session);
}

void h2_server_succeed(struct h2_server_loop *shared) {
    shared->is_succeeded = true;
    h2_server_retire(shared, UINT_MAX);
}

unsigned h2_server_evict(struct h2_server_loop *shared, int64_t idle_ns, unsigned max) {
    int64_t before_ns = shared->loop->now_ns - idle_ns;
    struct longest idle;

    longest_init(&idle, max);
    for (struct list *link = shared->all.next; link != &shared->all; link = link->next) {
        struct h2_server *server = CONTAINER_OF(link, struct h2_server, link);

        if (server->idle_since_ns <= before_ns && list_is_empty(&server->streams) &&
            !server->session.is_shutting_down)
            longest_offer(&idle, server->idle_since_ns, server);
    }
    for (unsigned i = 0; i < idle.count; i++)
        h2_session_shut_down(&((struct h2_server *)idle.list[i].who)->session);
    return idle.count;
}

void h2_server_retire(struct h2_server_loop *shared, unsigned max) {
    struct list *link;

    for (link = shared->all.next; link != &shared->all && max > 0; link = link->next) {
        struct h2_server *server = CONTAINER_OF(link, struct h2_server, link);

        if (server->requests == 0 || server->session.is_shutting_down)
            continue;
        h2_session_shut_down(&server->session);
        max--;
    }
}

void h2_server_abort_all(struct h2_server_loop *shared) {
    struct list *link;

    for (link = shared->all.next; link != &shared->all; link = link->next)
        h2_server_client_gone(CONTAINER_OF(link, struct h2_server, link), FAIL_DRAINING);
}

int h2_server_count(struct h2_server *server, enum h2_abuse kind) {
    if (h2_guard_count(&server->guard, kind, server->shared->loop->now_ns))
        return 0;
    return h2_server_refuse(server, FAIL_ABUSE, h2_abuse_text(kind));
}

int h2_server_refuse(struct h2_server *server, enum fail fail, const char *why) {
    if (!server->session.is_deaf) {
        h2_server_note(server, fail, why);
        h2_session_fail(&server->session, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

void h2_server_note(struct h2_server *server, enum fail fail, const char *why) {
    struct h1_refusal refusal = {fail, why, &server->conn->peer};

    server->shared->note_refusal(server->shared, &refusal);
}

static void on_data(struct conn *conn, struct slice bytes) {
    struct h2_server *server = conn->codec;
    struct list *link;

    switch (h2_session_receive(&server->session, bytes)) {
    case 0:
    case NGHTTP2_ERR_CALLBACK_FAILURE: /* noted already */
        break;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
        h2_server_note(server, FAIL_VERSION, "no HTTP/2 connection preface");
        break;
    default:
        h2_server_note(server, FAIL_ABUSE,
                       "too many frames that ask for an answer, or of one section");
    }
    while ((link = list_pop(&server->fresh))) {
        struct h2_stream *stream = CONTAINER_OF(link, struct h2_stream, fresh);

        if (stream->x)
            body_flush(&stream->x->request);
    }
}

/* A client that sends nothing more cannot even acknowledge: it has left. */
static void on_eof(struct conn *conn) {
    h2_server_client_gone(conn->codec, FAIL_CLIENT_GONE);
}

static void on_error(struct conn *conn, int err) {
    h2_server_client_gone(conn->codec, FAIL_CLIENT_GONE);
}

void h2_server_client_gone(struct h2_server *server, enum fail fail) {
    detach_all(server, fail);
    conn_close(server->conn);
}

static void on_drained(struct conn *conn) {
    struct h2_server *server = conn->codec;

    h2_session_drained(&server->session);
}

static void on_over(struct h2_session *session) {
    struct h2_server *server = CONTAINER_OF(session, struct h2_server, session);

    detach_all(server, FAIL_CLIENT_GONE);
    conn_linger(server->conn, CONN_LINGER_NS, CONN_LINGER_BYTES_MAX);
}

static void detach_all(struct h2_server *server, enum fail fail) {
    struct list *link;

    server->session.is_deaf = server->session.is_told = true;
    loop_timer_stop(server->shared->loop, &server->watch.timer);
    for (link = server->streams.next; link != &server->streams; link = link->next)
        h2_stream_detach(CONTAINER_OF(link, struct h2_stream, link), fail);
}

static void on_closed(struct conn *conn) {
    struct h2_server *server = conn->codec;
    struct list *link, *next;

    for (link = server->streams.next; link != &server->streams; link = next) {
        next = link->next;
        h2_memory_give(&server->shared->library.memory, CONTAINER_OF(link, struct h2_stream, link));
    }
    assert(server->exchanges == 0);
    h2_session_close(&server->session);
    list_remove(&server->link);
    server->shared->count--;
    free(server);
}
