/* The HTTP/2 server codec, reading part: what nghttp2 tells while it reads a client's frames, and
 * while it sends ours. Exchanges are only woken from here; they run later in the turn. */
#include "codec/h2_server_state.h"

#include <stdio.h>

/* Frames of ours that may wait for a client that does not read, beyond H2_QUEUE_PER_STREAM for each
 * stream that it may have. */
#define H2_QUEUE_MAX 1000
#define H2_QUEUE_PER_STREAM 4

/* What a DATA frame of ours brings in proper WINDOW_UPDATEs, and a head in PRIORITY frames. */
#define UPDATES_PER_DATA 4
#define PRIORITIES_PER_HEAD 2

/* Frames that are smaller, and leave no window, are what a client gets that opens it byte by byte:
 * they bring nothing (CVE-2019-9511). */
#define DATA_WORTH_BYTES 1024

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *ctx);
static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx);
static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *ctx);
static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx);
static void open_stream(struct h2_server *server, int32_t id);
static void head_read(struct h2_stream *stream, bool is_end);
static void trailers_read(struct h2_stream *stream);
static void request_ended(struct h2_stream *stream);
static void data_sent(struct h2_server *server, const nghttp2_frame_hd *head);
static void note_goaway(struct h2_server *server, const nghttp2_goaway *goaway);
static bool is_early(const struct h2_stream *stream);

void h2_server_set_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

static struct h2_server *server_of(void *ctx) {
    return CONTAINER_OF((struct h2_session *)ctx, struct h2_server, session);
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *ctx) {
    struct h2_server *server = server_of(ctx);
    unsigned streams = server->shared->settings->max_concurrent_streams;

    if (nghttp2_session_get_outbound_queue_size(ng) >
        H2_QUEUE_MAX + H2_QUEUE_PER_STREAM * (size_t)streams)
        return h2_server_refuse(server, FAIL_ABUSE, "too many frames wait to be read");
    switch (head->type) {
    case NGHTTP2_DATA:
        if (head->length > 0)
            h2_guard_credit(&server->guard, H2_ABUSE_PING, 1);
        else if (!(head->flags & NGHTTP2_FLAG_END_STREAM))
            return h2_server_count(server, H2_ABUSE_EMPTY_DATA);
        return 0;
    case NGHTTP2_HEADERS:
        h2_guard_credit(&server->guard, H2_ABUSE_PRIORITY, PRIORITIES_PER_HEAD);
        return 0;
    case NGHTTP2_PING:
        return h2_server_count(server, H2_ABUSE_PING);
    case NGHTTP2_SETTINGS:
    case NGHTTP2_GOAWAY:
        return h2_server_count(server, H2_ABUSE_SETTINGS);
    case NGHTTP2_WINDOW_UPDATE:
        return h2_server_count(server, H2_ABUSE_WINDOW_UPDATE);
    case NGHTTP2_RST_STREAM:
        return h2_server_count(server, H2_ABUSE_RESET);
    case NGHTTP2_PRIORITY:
        return h2_server_count(server, H2_ABUSE_PRIORITY);
    default:
        return 0; /* CONTINUATION is counted by nghttp2 */
    }
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_server *server = server_of(ctx);
    struct h2_stream *stream;

    server->head_since_ns = server->shared->loop->now_ns;
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_HEADERS))
        h2_server_arm(server, server->shared->settings->header_timeout_ns);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        open_stream(server, frame->hd.stream_id);
        return 0;
    }
    stream = h2_session_stream(ctx, frame->hd.stream_id);
    h2_read_begin(&server->reading, &server->shared->settings->limits,
                  stream && stream->x ? &stream->x->arena : NULL);
    return 0;
}

static void open_stream(struct h2_server *server, int32_t id) {
    struct h2_server_loop *shared = server->shared;
    struct h2_stream *stream = h2_memory_take(&shared->library.memory, sizeof *stream);
    /* All streams of equal weight, in turns: one download must not hold back the others. */
    const nghttp2_extpri in_turns = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};

    *stream = (struct h2_stream){
        .server = server,
        .id = id,
        .x = shared->make_exchange(shared),
        .started_ns = shared->loop->now_ns,
        .in = {.session = &server->session, .stream_id = id},
        .out = {.session = &server->session,
                .scratch = &shared->block,
                .stream_id = id,
                .on_reset = h2_stream_on_reset},
    };
    list_init(&stream->fresh);
    list_push_back(&server->streams, &stream->link);
    h2_session_set_stream(&server->session, id, stream);
    nghttp2_session_change_extpri_stream_priority(server->session.ng, id, &in_turns, 1);
    h2_read_begin(&server->reading, &shared->settings->limits, &stream->x->arena);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx) {
    struct h2_server *server = server_of(ctx);

    if (!server->reading.arena ||
        h2_read_field(&server->reading, slice_of((const char *)name, name_len),
                      slice_of((const char *)value, value_len), flags))
        return 0;
    return h2_server_refuse(server, FAIL_ABUSE, "header section is many times too large");
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_server *server = server_of(ctx);
    struct h2_stream *stream = h2_session_stream(ctx, frame->hd.stream_id);
    bool is_end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        server->head_since_ns = 0;
        if (stream && stream->x && !stream->is_started)
            head_read(stream, is_end);
        else if (stream && stream->x)
            trailers_read(stream);
        return 0;
    case NGHTTP2_DATA:
        if (frame->hd.length > 0 && frame->hd.length == frame->data.padlen && !is_end)
            return h2_server_count(server, H2_ABUSE_EMPTY_DATA);
        if (stream && is_end)
            request_ended(stream);
        return 0;
    case NGHTTP2_RST_STREAM:
        if (stream)
            stream->is_client_reset = true;
        return 0;
    case NGHTTP2_PING:
        h2_session_on_ping(&server->session, &frame->ping);
        return 0;
    default:
        return 0;
    }
}

static void head_read(struct h2_stream *stream, bool is_end) {
    struct h2_server *server = stream->server;
    const struct h2_server_settings *settings = server->shared->settings;
    struct exchange *x = stream->x;
    const char *why = NULL;
    enum h1_outcome outcome =
        h2_read_request(&server->reading, is_end, &x->request_head, &x->request_content, &why);
    struct slice peer = slice_of((const char *)&server->conn->peer, sizeof server->conn->peer);

    stream->is_started = true;
    stream->is_connect = server->reading.protocol.len > 0;
    if (server->exchanges++ == 0)
        server->shared->active++;
    server->requests++;
    x->client = &h2_server_client;
    x->client_ctx = stream;
    /* It may outlive the connection, in a tunnel that its client has closed. */
    x->is_secure = conn_is_secure(server->conn);
    if (x->is_secure) {
        x->client_certificate = arena_copy(&x->arena, conn_certificate_text(server->conn));
        x->client_subject = arena_copy(&x->arena, conn_subject_text(server->conn));
    }
    x->client_address = (const struct sockaddr *)(const void *)arena_copy(&x->arena, peer).base;
    if (is_end)
        request_ended(stream);
    if (outcome == H1_DONE) {
        h2_inflow_open(&stream->in, &x->request);
        exchange_wake(x, EXCHANGE_STARTED);
    } else {
        exchange_wake(x, EXCHANGE_STARTED);
        h2_stream_fail_content(stream, h1_request_fail(outcome), why);
    }
    h2_server_arm(server, settings->body_timeout_ns);
    if (server->shared->is_succeeded ||
        (settings->max_requests && server->requests >= settings->max_requests))
        h2_session_shut_down(&server->session);
}

/* They end the request: nghttp2 has seen to that. */
static void trailers_read(struct h2_stream *stream) {
    const char *why = NULL;
    enum h1_outcome outcome =
        h2_read_trailers(&stream->server->reading, &stream->x->request.trailers, &why);

    if (outcome == H1_DONE)
        request_ended(stream);
    else
        h2_stream_fail_content(stream, h1_request_fail(outcome), why);
}

static void request_ended(struct h2_stream *stream) {
    stream->is_ended = stream->in.is_ended = true;
    if (!stream->x)
        return;
    body_end(&stream->x->request);
    list_remove(&stream->fresh);
    list_push_back(&stream->server->fresh, &stream->fresh);
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *ctx) {
    struct h2_server *server = server_of(ctx);
    struct h2_stream *stream = h2_session_stream(ctx, id);

    if (!stream) {
        nghttp2_session_consume(ng, id, len);
        return 0;
    }
    h2_inflow_push(&stream->in, slice_of((const char *)data, len));
    list_remove(&stream->fresh);
    list_push_back(&server->fresh, &stream->fresh);
    return 0;
}

/* In here and in on_stream_close() nothing may fail: nghttp2 would not go on sending. */
static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_server *server = server_of(ctx);
    struct h2_stream *stream;

    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM:
        stream = h2_session_stream(ctx, frame->hd.stream_id);
        if (!(stream && stream->is_reset))
            h2_server_count(server, H2_ABUSE_PROVOKED);
        return 0;
    case NGHTTP2_DATA:
        data_sent(server, &frame->hd);
        break;
    case NGHTTP2_HEADERS:
        break;
    case NGHTTP2_GOAWAY:
        note_goaway(server, &frame->goaway);
        return 0;
    default:
        return 0;
    }
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    stream = h2_session_stream(ctx, frame->hd.stream_id);
    if (stream)
        h2_stream_response_sent(stream);
    return 0;
}

static void data_sent(struct h2_server *server, const nghttp2_frame_hd *head) {
    nghttp2_session *ng = server->session.ng;

    h2_guard_credit(&server->guard, H2_ABUSE_PING, 1);
    if (head->length >= DATA_WORTH_BYTES ||
        (nghttp2_session_get_remote_window_size(ng) > 0 &&
         nghttp2_session_get_stream_remote_window_size(ng, head->stream_id) > 0))
        h2_guard_credit(&server->guard, H2_ABUSE_WINDOW_UPDATE, UPDATES_PER_DATA);
}

/* A connection error that nghttp2 has found, in its words; what we refuse is noted where that is.
 */
static void note_goaway(struct h2_server *server, const nghttp2_goaway *goaway) {
    char what[H2_WHY_MAX], why[H2_WHY_MAX + sizeof "HTTP/2 connection error "];

    if (goaway->error_code == NGHTTP2_NO_ERROR || server->session.is_deaf)
        return;
    h2_goaway_why(what, goaway);
    snprintf(why, sizeof why, "HTTP/2 connection error %s", what);
    h2_server_note(server, FAIL_REQUEST_MALFORMED, why);
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx) {
    struct h2_server *server = server_of(ctx);
    struct h2_server_loop *shared = server->shared;
    struct h2_stream *stream = h2_session_stream(ctx, id);
    bool was_early;

    h2_session_forget(&server->session);
    if (!stream)
        return 0;
    was_early = is_early(stream);
    if (stream->is_sent)
        h2_guard_credit(&server->guard, H2_ABUSE_RESET, 1);
    if (!stream->is_started && !stream->is_client_reset)
        h2_server_note(server, FAIL_REQUEST_MALFORMED, "malformed HTTP/2 message");
    h2_stream_detach(stream, stream->is_client_reset || code == NGHTTP2_NO_ERROR
                                 ? FAIL_CLIENT_GONE
                                 : FAIL_REQUEST_MALFORMED);
    list_remove(&stream->link);
    list_remove(&stream->fresh);
    h2_memory_give(&shared->library.memory, stream);
    if (list_is_empty(&server->streams)) {
        server->idle_since_ns = shared->loop->now_ns;
        h2_server_arm(server, shared->settings->idle_timeout_ns);
    }
    if (!h2_guard_stream_ended(&server->guard, was_early))
        h2_server_refuse(server, FAIL_ABUSE, "too many streams end early");
    return 0;
}

static bool is_early(const struct h2_stream *stream) {
    return !stream->is_answered && !stream->is_reset &&
           stream->server->shared->loop->now_ns - stream->started_ns < H2_GUARD_EARLY_NS;
}
