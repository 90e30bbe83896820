/* A listener on one loop: its settings, and which codec serves a connection. */
#include "base/alloc.h"
#include "gateway/crossing.h"
#include "transport/listen.h"

#include <errno.h>
#include <stdlib.h>

#define REFUSALS_LOGGED_PER_S 1

static void set_up_http1(struct gateway_listener *listener);
static void set_up_http2(struct gateway_listener *listener);
static void on_accept(void *ctx, struct conn *conn, bool is_over);
static void on_secured(void *ctx, struct conn *conn, bool is_over);
static void on_plain(void *ctx, struct conn *conn);
static void on_handshake(void *ctx, enum handshake_result result, const struct conn *conn,
                         const char *why);
static void on_accept_error(void *ctx, int err);
static void on_known(struct h2_sniff_loop *shared, struct conn *conn, bool is_http2);
static void serve(struct gateway_listener *listener, struct conn *conn,
                  enum config_protocol protocol, bool is_over);
static struct exchange *make_h1_exchange(struct h1_server_loop *shared);
static void drop_h1_exchange(struct h1_server_loop *shared, struct exchange *x);
static struct exchange *make_h2_exchange(struct h2_server_loop *shared);
static void drop_h2_exchange(struct h2_server_loop *shared, struct exchange *x);
static void note_refusal(struct h2_server_loop *shared, const struct h1_refusal *refusal);

void listener_init(struct gateway_listener *listener, struct gateway_loop *gl, size_t index) {
    listener->gl = gl;
    listener->index = index;
    listener->config = &gl->gateway->config->listeners[index];
    listener->errors_logged = (struct log_limit)LOG_LIMIT(1);
    listener->abuse_logged = (struct log_limit)LOG_LIMIT(REFUSALS_LOGGED_PER_S);
    set_up_http1(listener);
    set_up_http2(listener);
    listener->sniff = (struct h2_sniff_loop){
        .loop = &gl->loop,
        .timeout_ns = listener->config->header_timeout_ns,
        .on_known = on_known,
    };
    h2_sniff_loop_init(&listener->sniff);
    listener->handshakes_logged = (struct log_limit)LOG_LIMIT(REFUSALS_LOGGED_PER_S);
    if (listener->config->tls.is_on)
        handshakes_init(&listener->handshakes,
                        &(struct handshakes_options){
                            .loop = &gl->loop,
                            .server = gl->gateway->security.servers[index],
                            .gate = &gl->gateway->handshakes,
                            .timeout_ns = listener->config->handshake_timeout_ns,
                            .on_secured = on_secured,
                            .on_plain = on_plain,
                            .on_result = on_handshake,
                            .ctx = listener,
                        });
}

void listener_deinit(struct gateway_listener *listener) {
    h1_server_loop_deinit(&listener->h1);
    h2_server_loop_deinit(&listener->h2);
    free(listener->acceptors);
}

int listener_open(struct gateway_listener *listener, const struct gateway_options *options) {
    struct gateway_loop *gl = listener->gl;
    struct acceptor_options acceptor = {
        .loop = &gl->loop,
        .is_unix = listener->config->listen.kind == ADDRESS_UNIX,
        .fds = &gl->gateway->fds,
        .connections = &gl->gateway->connections,
        .addresses = &gl->gateway->addresses,
        .on_accept = on_accept,
        .on_error = on_accept_error,
        .ctx = listener,
    };
    int err = 0;

    listener->acceptors = xcalloc(options->socket_count, sizeof(struct acceptor *));
    for (size_t i = 0; !err && i < options->socket_count; i++) {
        if (options->sockets[i].listener != listener->index ||
            options->sockets[i].loop != gl->loop.index)
            continue;
        acceptor.fd = options->sockets[i].fd;
        acceptor.pulse = options->sockets[i].pulse;
        err = listen(acceptor.fd, LISTEN_BACKLOG) < 0
                  ? -errno
                  : acceptor_open(&listener->acceptors[listener->acceptor_count], &acceptor);
        listener->acceptor_count += !err;
    }
    return err;
}

void listener_close(struct gateway_listener *listener) {
    while (listener->acceptor_count > 0)
        acceptor_close(listener->acceptors[--listener->acceptor_count]);
}

void listener_retire(struct gateway_listener *listener) {
    listener->h1.is_draining = true; /* every answer is the last from now on */
    h2_server_succeed(&listener->h2);
}

void listener_drain(struct gateway_listener *listener) {
    h2_sniff_close_all(&listener->sniff);
    h1_server_drain(&listener->h1);
    h2_server_drain(&listener->h2);
}

void listener_abort(struct gateway_listener *listener) {
    h1_server_abort_all(&listener->h1);
    h2_server_abort_all(&listener->h2);
    if (listener->config->tls.is_on)
        handshakes_abort_all(&listener->handshakes);
}

void listener_heed(struct gateway_listener *listener, unsigned actions) {
    listener->h1.is_pressed = actions & PRESSURE_CLOSE;
    for (unsigned i = 0; i < listener->acceptor_count; i++)
        acceptor_hold(listener->acceptors[i], actions & PRESSURE_STOP);
}

unsigned listener_evict(struct gateway_listener *listener, int64_t idle_ns, unsigned max) {
    unsigned gone = h1_server_evict(&listener->h1, idle_ns, max);

    return gone + h2_server_evict(&listener->h2, idle_ns, max - gone);
}

unsigned listener_connections(const struct gateway_listener *listener) {
    return atomic_load_explicit(&listener->h1.count, memory_order_relaxed) +
           atomic_load_explicit(&listener->h2.count, memory_order_relaxed) +
           atomic_load_explicit(&listener->sniff.count, memory_order_relaxed) +
           atomic_load_explicit(&listener->handshakes.count, memory_order_relaxed);
}

unsigned listener_active(const struct gateway_listener *listener) {
    return atomic_load_explicit(&listener->h1.active, memory_order_relaxed) +
           atomic_load_explicit(&listener->h2.active, memory_order_relaxed);
}

static void set_up_http1(struct gateway_listener *listener) {
    const struct config_listener *config = listener->config;

    listener->h1_settings = (struct h1_server_settings){
        .limits = {.head_bytes = config->max_head_bytes,
                   .target_bytes = config->max_target_bytes,
                   .fields = config->max_fields},
        .header_timeout_ns = config->header_timeout_ns,
        .body_timeout_ns = config->body_timeout_ns,
        .idle_timeout_ns = config->idle_timeout_ns,
        .stream_idle_timeout_ns = config->stream_idle_timeout_ns,
        .max_requests = config->max_requests,
        .half_close = config->half_close,
    };
    listener->h1 = (struct h1_server_loop){
        .loop = &listener->gl->loop,
        .settings = &listener->h1_settings,
        .make_exchange = make_h1_exchange,
        .drop_exchange = drop_h1_exchange,
        .write_refusal = reply_write_refusal,
    };
    h1_server_loop_init(&listener->h1);
}

static void set_up_http2(struct gateway_listener *listener) {
    const struct config_listener *config = listener->config;
    const struct h1_server_settings *h1 = &listener->h1_settings;

    listener->h2_settings = (struct h2_server_settings){
        .limits = h1->limits,
        .header_timeout_ns = h1->header_timeout_ns,
        .body_timeout_ns = h1->body_timeout_ns,
        .idle_timeout_ns = h1->idle_timeout_ns,
        .stream_idle_timeout_ns = h1->stream_idle_timeout_ns,
        .max_requests = h1->max_requests,
        .max_concurrent_streams = config->http2.max_concurrent_streams,
        .header_table_bytes = (unsigned)config->http2.header_table_bytes,
        .max_continuations = config->http2.continuations,
        .guard = {.per_second = {[H2_ABUSE_PING] = config->http2.pings,
                                 [H2_ABUSE_SETTINGS] = config->http2.settings,
                                 [H2_ABUSE_PRIORITY] = config->http2.priorities,
                                 [H2_ABUSE_WINDOW_UPDATE] = config->http2.window_updates,
                                 [H2_ABUSE_EMPTY_DATA] = config->http2.empty_data,
                                 [H2_ABUSE_RESET] = config->http2.resets,
                                 [H2_ABUSE_PROVOKED] = config->http2.stream_errors},
                  .early_percent = config->http2.early_percent},
    };
    listener->h2 = (struct h2_server_loop){
        .loop = &listener->gl->loop,
        .settings = &listener->h2_settings,
        .make_exchange = make_h2_exchange,
        .drop_exchange = drop_h2_exchange,
        .note_refusal = note_refusal,
    };
    h2_server_loop_init(&listener->h2);
}

static void on_accept(void *ctx, struct conn *conn, bool is_over) {
    struct gateway_listener *listener = ctx;

    counters_connection(listener->gl->gateway->counters, listener->gl->metrics, listener->index);
    if (listener->config->tls.is_on)
        handshakes_start(&listener->handshakes, conn, is_over);
    else
        serve(listener, conn, listener->config->protocol, is_over);
}

/* What was agreed on by ALPN counts; of a client without it, what the listener speaks. */
static void on_secured(void *ctx, struct conn *conn, bool is_over) {
    struct gateway_listener *listener = ctx;
    struct slice agreed = conn_protocol(conn);

    serve(listener, conn,
          slice_equal(agreed, SLICE("h2"))         ? PROTOCOL_HTTP2
          : slice_equal(agreed, SLICE("http/1.1")) ? PROTOCOL_HTTP1
                                                   : listener->config->protocol,
          is_over);
}

static void on_plain(void *ctx, struct conn *conn) {
    struct gateway_listener *listener = ctx;

    h1_server_refuse(&listener->h1, conn, FAIL_TLS_EXPECTED, "the listener speaks TLS");
}

static void on_handshake(void *ctx, enum handshake_result result, const struct conn *conn,
                         const char *why) {
    struct gateway_listener *listener = ctx;
    char address[INET6_ADDRSTRLEN];

    counters_handshake(listener->gl->gateway->counters, listener->gl->metrics, listener->index,
                       result);
    if (why)
        log_limited(&listener->handshakes_logged, LOG_INFO,
                    "TLS handshake with '%.*s' on listener '%s' failed: %s",
                    SLICE_ARG(conn_address_text(&conn->peer, address)), listener->config->name,
                    why);
}

static void on_accept_error(void *ctx, int err) {
    struct gateway_listener *listener = ctx;

    counters_accept_error(listener->gl->gateway->counters, listener->gl->metrics, listener->index,
                          err);
    log_limited(&listener->errors_logged, LOG_ERROR, "cannot accept on listener '%s': %s",
                listener->config->name, strerror(err));
}

static void on_known(struct h2_sniff_loop *shared, struct conn *conn, bool is_http2) {
    serve(CONTAINER_OF(shared, struct gateway_listener, sniff), conn,
          is_http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1, false);
}

/* The one place where the codec of a connection is chosen. */
static void serve(struct gateway_listener *listener, struct conn *conn,
                  enum config_protocol protocol, bool is_over) {
    if (is_over && protocol == PROTOCOL_HTTP2) {
        conn_close(conn); /* what it would be told is not worth a session */
        return;
    }
    if (is_over) {
        h1_server_refuse(&listener->h1, conn, FAIL_ADDRESS_CONNECTIONS, "it has as many as it may");
        return;
    }
    switch (protocol) {
    case PROTOCOL_HTTP1:
        h1_server_open(&listener->h1, conn);
        break;
    case PROTOCOL_HTTP2:
        h2_server_open(&listener->h2, conn);
        break;
    case PROTOCOL_AUTO:
        h2_sniff_open(&listener->sniff, conn);
        break;
    case PROTOCOL_EXEC: /* of pipelines only */
    case PROTOCOL_MCP_STDIO:
        break;
    }
}

static struct exchange *make_h1_exchange(struct h1_server_loop *shared) {
    return &crossing_new(CONTAINER_OF(shared, struct gateway_listener, h1))->x;
}

static void drop_h1_exchange(struct h1_server_loop *shared, struct exchange *x) {
    crossing_free(crossing_of(x));
}

static struct exchange *make_h2_exchange(struct h2_server_loop *shared) {
    return &crossing_new(CONTAINER_OF(shared, struct gateway_listener, h2))->x;
}

static void drop_h2_exchange(struct h2_server_loop *shared, struct exchange *x) {
    crossing_free(crossing_of(x));
}

static void note_refusal(struct h2_server_loop *shared, const struct h1_refusal *refusal) {
    struct gateway_listener *listener = CONTAINER_OF(shared, struct gateway_listener, h2);
    char id[REQUEST_ID_BYTES], address[INET6_ADDRSTRLEN];

    access_record_refusal(listener, refusal, forward_make_request_id(id), COUNTERS_HTTP2);
    if (refusal->fail == FAIL_ABUSE)
        log_limited(&listener->abuse_logged, LOG_WARN,
                    "HTTP/2 connection of '%.*s' on listener '%s' ended: %s",
                    SLICE_ARG(conn_address_text(refusal->client, address)), listener->config->name,
                    refusal->why);
}
