/* HTTP/2 sessions: see h2_session.h. */
#include "codec/h2_session.h"

#include "codec/h2_message.h"

#include <assert.h>
#include <stdio.h>

#define FRAME_HEAD_BYTES 9

/* What we send was let in by the limits of the other side, which are below this in any config. */
#define H2_SECTION_SEND_MAX (64 * 1024 * 1024)

static const uint8_t notice_ping[8] = {'w', 'e', 'i', 'r', ' ', 'e', 'n', 'd'};

static void fill(struct task *task);
static void push(struct task *task);
static void make_frames(struct h2_session *session);
static void send_queue(struct h2_session *session);
static void tell_if_over(struct h2_session *session);
static void on_notice_over(struct timer *timer);
static void say_goaway(struct h2_session *session);
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *ctx);
static ssize_t read_body(nghttp2_session *ng, int32_t stream_id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx);
static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t length,
                     nghttp2_data_source *source, void *ctx);
static void hold_source(struct body *body);
static void source_taken(struct body *body, size_t n);
static void credit(struct h2_inflow *flow, size_t n);
static void on_ready(struct body *body);
static void spare_copy(struct h2_outflow *flow);

static const struct body_sink_ops outflow_sink = {.ready = on_ready};

static const struct body_source_ops inflow_source = {.pause = hold_source, .taken = source_taken};

void h2_library_init(struct h2_library *library) {
    int err =
        nghttp2_session_callbacks_new(&library->callbacks) || nghttp2_option_new(&library->options);

    assert(!err);
    (void)err;
    h2_memory_init(&library->memory);
    nghttp2_session_callbacks_set_send_data_callback(library->callbacks, send_data);
    nghttp2_session_callbacks_set_on_invalid_header_callback(library->callbacks, on_invalid_header);
    nghttp2_option_set_no_auto_window_update(library->options, 1);
    nghttp2_option_set_no_closed_streams(library->options, 1);
    nghttp2_option_set_max_send_header_block_length(library->options, H2_SECTION_SEND_MAX);
}

void h2_library_deinit(struct h2_library *library) {
    nghttp2_session_callbacks_del(library->callbacks);
    nghttp2_option_del(library->options);
    h2_memory_deinit(&library->memory);
}

void h2_session_open(struct h2_session *session, struct h2_library *library, struct conn *conn,
                     bool is_server, const nghttp2_settings_entry *settings, size_t count) {
    int err;

    *session = (struct h2_session){.conn = conn, .loop = conn->loop, .on_over = session->on_over};
    task_init(&session->fill, fill);
    task_init(&session->push, push);
    timer_init(&session->notice, on_notice_over);
    err = is_server ? nghttp2_session_server_new3(&session->ng, library->callbacks, session,
                                                  library->options, &library->memory.hooks)
                    : nghttp2_session_client_new3(&session->ng, library->callbacks, session,
                                                  library->options, &library->memory.hooks);
    if (!err)
        err = nghttp2_submit_settings(session->ng, NGHTTP2_FLAG_NONE, settings, count);
    if (!err)
        err = nghttp2_session_set_local_window_size(session->ng, NGHTTP2_FLAG_NONE, 0,
                                                    H2_CONNECTION_WINDOW);
    assert(!err); /* memory does not fail, and what we submit is well-formed */
    h2_session_touch(session);
}

void h2_session_close(struct h2_session *session) {
    session->is_told = true;
    task_cancel(&session->fill);
    task_cancel(&session->push);
    loop_timer_stop(session->loop, &session->notice);
    chunks_clear(&session->out, session->loop);
    nghttp2_session_del(session->ng);
    session->ng = NULL;
}

int h2_session_receive(struct h2_session *session, struct slice bytes) {
    ssize_t n;

    if (session->is_deaf)
        return 0;
    n = nghttp2_session_mem_recv(session->ng, (const uint8_t *)bytes.base, bytes.len);
    h2_session_touch(session);
    if (n >= 0)
        return 0;
    h2_session_fail(session, n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR
                                                               : NGHTTP2_ENHANCE_YOUR_CALM);
    return (int)n;
}

void h2_session_fail(struct h2_session *session, uint32_t code) {
    session->is_deaf = true;
    nghttp2_session_terminate_session(session->ng, code); /* the first one counts */
    h2_session_touch(session);
}

void h2_goaway_why(char why[H2_WHY_MAX], const nghttp2_goaway *sent) {
    snprintf(why, H2_WHY_MAX, "%s%s%.*s", nghttp2_http2_strerror(sent->error_code),
             sent->opaque_data_len > 0 ? ": " : "", (int)sent->opaque_data_len,
             (const char *)sent->opaque_data);
}

void h2_session_shut_down(struct h2_session *session) {
    if (session->is_shutting_down)
        return;
    session->is_shutting_down = true;
    if (nghttp2_session_check_server_session(session->ng)) {
        nghttp2_submit_shutdown_notice(session->ng);
        nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE, notice_ping);
        loop_timer_start(session->loop, &session->notice, H2_NOTICE_NS);
        h2_session_touch(session);
    } else {
        say_goaway(session);
    }
}

void h2_session_on_ping(struct h2_session *session, const nghttp2_ping *ping) {
    if ((ping->hd.flags & NGHTTP2_FLAG_ACK) && timer_is_running(&session->notice) &&
        memcmp(ping->opaque_data, notice_ping, sizeof notice_ping) == 0)
        say_goaway(session);
}

void h2_session_reset(struct h2_session *session, int32_t stream_id, uint32_t code) {
    nghttp2_submit_rst_stream(session->ng, NGHTTP2_FLAG_NONE, stream_id, code);
    h2_session_touch(session);
}

static void on_notice_over(struct timer *timer) {
    say_goaway(CONTAINER_OF(timer, struct h2_session, notice));
}

static void say_goaway(struct h2_session *session) {
    loop_timer_stop(session->loop, &session->notice);
    nghttp2_submit_goaway(session->ng, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session->ng), NGHTTP2_NO_ERROR,
                          NULL, 0);
    h2_session_touch(session);
}

/* Frames of what many exchanges have given by now, or of content that is better not copied. */
static void fill(struct task *task) {
    struct h2_session *session = CONTAINER_OF(task, struct h2_session, fill);

    if (session->touched >= H2_FILL_TOUCHES)
        make_frames(session);
    if (session->out.bytes >= H2_WRITE_BYTES)
        send_queue(session);
    else
        loop_at_batch_end(session->loop, &session->push);
}

/* Frames of all the rest, and off with them. */
static void push(struct task *task) {
    struct h2_session *session = CONTAINER_OF(task, struct h2_session, push);

    make_frames(session);
    send_queue(session);
}

/* Into the queue, as long as the conn takes them. */
static void make_frames(struct h2_session *session) {
    const uint8_t *frames;
    ssize_t n = 1;

    session->touched = 0;
    if (session->is_told || !conn_is_drained(session->conn))
        return; /* h2_session_drained() will follow */
    if (session->owed > 0)
        nghttp2_session_consume_connection(session->ng, session->owed);
    session->owed = 0;
    while (n > 0 && session->out.bytes < H2_WRITE_BYTES) {
        n = nghttp2_session_mem_send(session->ng, &frames);
        if (n > 0)
            chunks_push(&session->out, session->loop, slice_of((const char *)frames, (size_t)n));
    }
    assert(n >= 0); /* memory does not fail, and no callback refuses to send */
}

static void send_queue(struct h2_session *session) {
    uv_buf_t bufs[CONN_SEND_BUFS_MAX];
    bool was_full = session->out.bytes >= H2_WRITE_BYTES;

    while (session->out.bytes > 0) {
        unsigned count = chunks_peek(&session->out, bufs, CONN_SEND_BUFS_MAX);
        size_t bytes = 0;

        for (unsigned i = 0; i < count; i++)
            bytes += bufs[i].len;
        if (conn_send(session->conn, bufs, count) < 0) {
            /* Its on_error may never come: nothing is being written, reading may be off. */
            chunks_clear(&session->out, session->loop);
            session->is_deaf = session->is_told = true;
            session->on_over(session);
            return;
        }
        chunks_drop(&session->out, session->loop, bytes);
    }
    if (was_full)
        h2_session_touch(session);
    else
        tell_if_over(session);
}

static void tell_if_over(struct h2_session *session) {
    if (session->is_told || nghttp2_session_want_read(session->ng) ||
        nghttp2_session_want_write(session->ng))
        return;
    session->is_told = true;
    session->on_over(session);
}

/* --- Bodies ---------------------------------------------------------------------------------- */

nghttp2_data_provider h2_outflow_open(struct h2_outflow *flow, struct body *body) {
    flow->body = body;
    flow->is_deferred = false;
    body->sink = &outflow_sink;
    body->sink_ctx = flow;
    spare_copy(flow);
    return (nghttp2_data_provider){.source.ptr = flow, .read_callback = read_body};
}

void h2_outflow_close(struct h2_outflow *flow) {
    if (flow->body && flow->body->sink_ctx == flow)
        flow->body->sink = NULL;
    flow->body = NULL;
}

static void on_ready(struct body *body) {
    struct h2_outflow *flow = body->sink_ctx;

    if (body->state == BODY_RESET) {
        if (flow->on_reset)
            flow->on_reset(flow);
        return;
    }
    if (flow->is_deferred) {
        flow->is_deferred = false;
        nghttp2_session_resume_data(flow->session->ng, flow->stream_id);
    }
    spare_copy(flow);
    h2_session_touch(flow->session);
}

/* At the end of the turn what lies in the read buffer would be copied: large content goes before.
 */
static void spare_copy(struct h2_outflow *flow) {
    if (body_waiting(flow->body) > H2_COPY_BYTES)
        flow->session->touched = H2_FILL_TOUCHES;
}

/* How much the next DATA frame takes; the bytes themselves follow in send_data(), without passing
 * through nghttp2's buffer. */
static ssize_t read_body(nghttp2_session *ng, int32_t stream_id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx) {
    struct h2_outflow *flow = source->ptr;
    const struct body *body = flow->body;
    size_t waiting = body ? body_waiting(body) : 0;

    if (!body || body->state == BODY_RESET || (waiting == 0 && body->state == BODY_OPEN)) {
        flow->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (body->state == BODY_OPEN || waiting > length)
        return (ssize_t)(waiting < length ? waiting : length);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (body->trailers.count > 0) {
        h2_write_trailers(flow->scratch, &body->trailers);
        if (h2_block_count(flow->scratch) > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(ng, stream_id, h2_block_list(flow->scratch),
                                   h2_block_count(flow->scratch));
        }
    }
    return (ssize_t)waiting;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t length,
                     nghttp2_data_source *source, void *ctx) {
    struct h2_outflow *flow = source->ptr;
    struct h2_session *session = ctx;
    size_t left = length;

    assert(frame->data.padlen == 0); /* we choose none */
    chunks_push(&session->out, session->loop, slice_of((const char *)head, FRAME_HEAD_BYTES));
    while (left > 0) {
        uv_buf_t bufs[BODY_BORROWED_MAX];
        unsigned count = body_peek(flow->body, bufs, BODY_BORROWED_MAX);
        size_t taken = 0;

        for (unsigned i = 0; i < count && left > 0; i++) {
            size_t n = bufs[i].len < left ? bufs[i].len : left;

            chunks_push(&session->out, session->loop, slice_of(bufs[i].base, n));
            taken += n;
            left -= n;
        }
        body_drop(flow->body, taken);
    }
    return 0;
}

void h2_inflow_open(struct h2_inflow *flow, struct body *body) {
    flow->body = body;
    body->source = &inflow_source;
    body->source_ctx = flow;
}

void h2_inflow_close(struct h2_inflow *flow) {
    if (flow->body && flow->body->source_ctx == flow)
        flow->body->source = NULL;
    flow->body = NULL;
    if (flow->owed > 0)
        credit(flow, flow->owed);
}

void h2_inflow_push(struct h2_inflow *flow, struct slice bytes) {
    if (!flow->body || flow->body->state != BODY_OPEN) {
        nghttp2_session_consume(flow->session->ng, flow->stream_id, bytes.len);
        return;
    }
    flow->owed += bytes.len;
    body_push(flow->body, bytes);
}

/* The window that was granted is what a body holds at most: there is nothing to be stopped. */
static void hold_source(struct body *body) {
}

/* A stream that is closed already is credited to its connection. */
static void source_taken(struct body *body, size_t n) {
    struct h2_inflow *flow = body->source_ctx;

    credit(flow, n < flow->owed ? n : flow->owed);
}

/* What the connection alone is credited with goes in one sum per turn. */
static void credit(struct h2_inflow *flow, size_t n) {
    flow->owed -= n;
    if (flow->is_ended)
        flow->session->owed += n;
    else
        nghttp2_session_consume(flow->session->ng, flow->stream_id, n);
    h2_session_touch(flow->session);
}

/* Another reader may not skip what is no field, and then sees another message. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *ctx) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* --- Codes ----------------------------------------------------------------------------------- */

uint32_t h2_code_of(enum fail fail) {
    switch (fail) {
    case FAIL_NONE:
        return NGHTTP2_NO_ERROR;
    case FAIL_REQUEST_MALFORMED:
        return NGHTTP2_PROTOCOL_ERROR;
    case FAIL_CLIENT_GONE:
    case FAIL_CLIENT_SLOW:
    case FAIL_REQUEST_TIMEOUT:
    case FAIL_STREAM_IDLE:
    case FAIL_DEADLINE:
        return NGHTTP2_CANCEL;
    default:
        return NGHTTP2_INTERNAL_ERROR;
    }
}

enum fail h2_fail_of(uint32_t code) {
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        return FAIL_UPSTREAM_REFUSED;
    case NGHTTP2_PROTOCOL_ERROR:
    case NGHTTP2_FLOW_CONTROL_ERROR:
    case NGHTTP2_FRAME_SIZE_ERROR:
    case NGHTTP2_COMPRESSION_ERROR:
        return FAIL_UPSTREAM_MALFORMED;
    default:
        return FAIL_UPSTREAM_RESET;
    }
}
