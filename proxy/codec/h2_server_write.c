/* The HTTP/2 server codec, writing part: one response, and how a stream and its exchange part. */
#include "codec/h2_server_state.h"

#include <assert.h>

static void send_informational(struct exchange *x, const struct response_head *head);
static void send_response(struct exchange *x, struct content content);
static void abort_response(struct exchange *x);
static void finished(struct exchange *x);
static bool has_content(const struct exchange *x);
static void reset(struct h2_stream *stream, uint32_t code);
static void leave(struct h2_stream *stream);

const struct exchange_client h2_server_client = {
    .send_informational = send_informational,
    .send_response = send_response,
    .abort = abort_response,
    .finished = finished,
};

static void send_informational(struct exchange *x, const struct response_head *head) {
    struct h2_stream *stream = x->client_ctx;
    struct h2_block *block = &stream->server->shared->block;

    h2_write_response(block, head, (struct content){CONTENT_NONE, 0}, false);
    nghttp2_submit_headers(stream->server->session.ng, NGHTTP2_FLAG_NONE, stream->id, NULL,
                           h2_block_list(block), h2_block_count(block), NULL);
    h2_session_touch(&stream->server->session);
}

static void send_response(struct exchange *x, struct content content) {
    struct h2_stream *stream = x->client_ctx;
    struct h2_server *server = stream->server;
    struct h2_block *block = &server->shared->block;
    unsigned status = x->response_head.status;
    bool is_bare = x->request_head.method == METHOD_HEAD || status == 204 || status == 304;
    nghttp2_data_provider provider;

    if (stream->is_connect && status / 100 == 2) {
        /* To the client it would mean that it has a tunnel. */
        x->upstream_why = "2xx in answer to an upgrade";
        body_reset(&x->response, FAIL_UPSTREAM_MALFORMED);
        exchange_wake(x, 0);
        return;
    }
    if (is_bare)
        content = (struct content){CONTENT_NONE, 0};
    stream->is_answered = true;
    provider = h2_outflow_open(&stream->out, &x->response);
    h2_write_response(block, &x->response_head, content, is_bare && status != 204);
    nghttp2_submit_response(server->session.ng, stream->id, h2_block_list(block),
                            h2_block_count(block), has_content(x) ? &provider : NULL);
    h2_session_touch(&server->session);
    if (x->is_stream)
        h2_server_arm(server, server->shared->settings->stream_idle_timeout_ns);
    if (status == 101)
        body_flush(&x->request); /* what the client sent ahead of the answer is the tunnel's */
}

/* Will there be DATA frames, or trailers? */
static bool has_content(const struct exchange *x) {
    unsigned status = x->response_head.status;

    if (x->request_head.method == METHOD_HEAD || status == 204 || status == 304)
        return false;
    return x->response.state != BODY_ENDED || body_waiting(&x->response) > 0 ||
           x->response.trailers.count > 0;
}

void h2_stream_response_sent(struct h2_stream *stream) {
    stream->is_sent = true;
    h2_outflow_close(&stream->out);
    if (stream->x)
        exchange_wake(stream->x, EXCHANGE_RESPONSE_SENT);
}

void h2_stream_on_reset(struct h2_outflow *flow) {
    exchange_wake(CONTAINER_OF(flow, struct h2_stream, out)->x, 0);
}

static void abort_response(struct exchange *x) {
    reset(x->client_ctx, x->response.state == BODY_RESET && x->upstream_code ? x->upstream_code
                         : x->response.state == BODY_RESET ? h2_code_of(x->response.fail)
                         : x->client_fail                  ? h2_code_of(x->client_fail)
                                                           : NGHTTP2_CANCEL);
}

static void finished(struct exchange *x) {
    struct h2_stream *stream = x->client_ctx;

    assert(stream->x == x);
    leave(stream);
    if (stream->is_sent && !stream->is_ended)
        reset(stream, NGHTTP2_NO_ERROR); /* RFC 9113 section 8.1: the rest is of no interest */
    else if (!stream->is_sent && !stream->is_reset)
        reset(stream, NGHTTP2_INTERNAL_ERROR);
}

static void reset(struct h2_stream *stream, uint32_t code) {
    stream->is_reset = true;
    h2_session_reset(&stream->server->session, stream->id, code);
}

void h2_stream_fail_content(struct h2_stream *stream, enum fail fail, const char *why) {
    struct exchange *x = stream->x;

    h2_inflow_close(&stream->in);
    x->client_fail = fail;
    x->client_why = why;
    body_reset(&x->request, fail);
    exchange_wake(x, EXCHANGE_CLIENT_FAIL);
}

void h2_stream_drop(struct h2_stream *stream, enum fail fail) {
    h2_stream_detach(stream, fail);
    reset(stream, h2_code_of(fail));
}

void h2_stream_detach(struct h2_stream *stream, enum fail fail) {
    struct h2_server_loop *shared = stream->server->shared;
    struct exchange *x = stream->x;
    bool is_through;

    if (!x)
        return;
    is_through = stream->is_sent && (!x->is_tunnel || x->request.state != BODY_OPEN);
    leave(stream);
    if (!stream->is_started) {
        shared->drop_exchange(shared, x);
    } else if (is_through) {
        /* It knows, and goes on by itself; what a tunnel still has to deliver is not waited for
         * longer than for any other silent stream. */
        x->client = NULL;
        if (x->is_tunnel && shared->settings->stream_idle_timeout_ns)
            loop_timer_start(x->loop, &x->deadline, shared->settings->stream_idle_timeout_ns);
    } else {
        if (x->request.state == BODY_OPEN)
            body_reset(&x->request, fail);
        exchange_client_gone(x, fail);
    }
}

/* The exchange is off the stream's and the server's books. */
static void leave(struct h2_stream *stream) {
    struct h2_server *server = stream->server;

    h2_inflow_close(&stream->in);
    h2_outflow_close(&stream->out);
    if (server->reading.arena == &stream->x->arena)
        server->reading.arena = NULL;
    stream->x = NULL;
    if (stream->is_started && --server->exchanges == 0)
        server->shared->active--;
}
