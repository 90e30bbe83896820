/* The HTTP/2 client codec: streams, each the way of one exchange. */
#include "base/alloc.h"
#include "codec/h1_write.h"
#include "codec/h2_client_state.h"
#include "codec/websocket.h"

#include <assert.h>
#include <stdlib.h>

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx);
static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t stream_id,
                         const uint8_t *bytes, size_t len, void *ctx);
static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx);
static int on_stream_close(nghttp2_session *ng, int32_t stream_id, uint32_t code, void *ctx);
static void note_goaway(struct h2_client *client, const nghttp2_goaway *goaway);
static struct h2_client *client_of(void *ctx);
static bool submit(struct h2_client_stream *stream, const struct request_head *head,
                   struct content content);
static void take_head(struct h2_client_stream *stream, bool is_end);
static void take_trailers(struct h2_client_stream *stream);
static void take_tunnel(struct h2_client_stream *stream, struct response_head *head);
static void begin_tunnel(struct h2_client_stream *stream);
static void on_tunnel_ready(struct body *body);
static void response_received(struct h2_client_stream *stream);
static void request_sent(struct h2_client_stream *stream);
static enum fail fail_of(const struct h2_client_stream *stream, uint32_t code);
static void end_stream(struct h2_client_stream *stream, enum fail reason, const char *why);
static void fail(struct h2_client_stream *stream, enum fail reason, const char *why);
static void mark_fresh(struct h2_client_stream *stream);
static void recycle(struct h2_client_stream *stream);

static const struct body_sink_ops tunnel_sink = {.ready = on_tunnel_ready};

void h2_client_set_stream_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

struct h2_client_stream *h2_client_reserve(struct h2_client *client) {
    struct list *link = list_pop(&client->free);
    struct h2_client_stream *stream =
        link ? CONTAINER_OF(link, struct h2_client_stream, link) : xmalloc(sizeof *stream);

    assert(h2_client_room(client) > 0);
    *stream = (struct h2_client_stream){
        .client = client,
        .in.session = &client->session,
        .out = {.session = &client->session, .scratch = &client->o.shared->block},
        .is_attached = true,
    };
    list_init(&stream->link);
    list_init(&stream->fresh);
    list_push_back(&client->streams, &stream->link);
    client->used++;
    client->reserved++;
    return stream;
}

void h2_client_start(struct h2_client_stream *stream, struct exchange *x,
                     const struct request_head *head, struct content content) {
    struct h2_client *client = stream->client;

    assert(stream->is_attached && !stream->x);
    stream->x = x;
    client->reserved--;
    stream->is_closed = true; /* until nghttp2 knows it */
    stream->is_tunnel = h2_is_upgrade(head);
    if (stream->is_tunnel && !client->may_tunnel) {
        fail(stream, FAIL_UPSTREAM_TUNNEL, "SETTINGS without ENABLE_CONNECT_PROTOCOL");
    } else if (h2_client_state(client) != H2_CLIENT_OPEN || !submit(stream, head, content)) {
        fail(stream, FAIL_UPSTREAM_GOAWAY, "the connection ended before the request was sent");
    } else {
        stream->is_closed = false;
        stream->is_stale = client->heard > 0 && stream->id > 1;
        stream->heard_before = client->heard;
        if (client->on_wire++ == 0)
            h2_client_watch(client);
        h2_inflow_open(&stream->in, &x->response);
        h2_session_touch(&client->session);
    }
}

void h2_client_detach(struct h2_client_stream *stream) {
    struct h2_client *client = stream->client;
    struct exchange *x = stream->x;

    assert(stream->is_attached);
    stream->is_attached = false;
    stream->x = NULL;
    client->used--;
    list_remove(&stream->fresh);
    if (!x)
        client->reserved--;
    else if (x->request.sink_ctx == stream)
        x->request.sink = NULL;
    h2_inflow_close(&stream->in);
    h2_outflow_close(&stream->out);
    if (x && !stream->is_closed)
        h2_session_reset(&client->session, stream->id,
                         NGHTTP2_CANCEL); /* on_stream_close follows */
    else
        recycle(stream);
    h2_client_wake(client);
}

void h2_client_on_frame(struct h2_client *client, const nghttp2_frame *frame) {
    struct h2_client_stream *stream = h2_session_stream(&client->session, frame->hd.stream_id);
    bool is_end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    if (!stream || !stream->x || stream->is_failed)
        return;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (stream->is_head_received)
            take_trailers(stream);
        else
            take_head(stream, is_end);
    }
    if (is_end && stream->is_head_received && !stream->is_failed)
        response_received(stream);
}

void h2_client_stream_lost(struct h2_client_stream *stream, enum fail reason, const char *why) {
    if (stream->is_closed || stream->id == 0)
        return;
    stream->is_closed = true;
    stream->client->on_wire--;
    h2_session_set_stream(&stream->client->session, stream->id, NULL);
    if (!stream->x) {
        recycle(stream);
        return;
    }
    if (!stream->is_head_sent || stream->id > stream->client->last_id)
        reason = FAIL_UPSTREAM_GOAWAY;
    else if (reason == FAIL_UPSTREAM_RESET && stream->is_stale &&
             stream->heard_before == stream->client->heard)
        reason = FAIL_UPSTREAM_STALE;
    end_stream(stream, reason, arena_printf(&stream->x->arena, "%s", why).base);
}

static struct h2_client *client_of(void *ctx) {
    return CONTAINER_OF((struct h2_session *)ctx, struct h2_client, session);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_client *client = client_of(ctx);
    struct h2_client_stream *stream = h2_session_stream(ctx, frame->hd.stream_id);

    if (stream && stream->x)
        h2_read_begin(&client->reading, &client->o.settings->limits, &stream->x->arena);
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx) {
    struct h2_client *client = client_of(ctx);
    struct h2_client_stream *stream = h2_session_stream(ctx, frame->hd.stream_id);

    if (!stream || !stream->x || stream->is_failed)
        return 0;
    if (h2_read_field(&client->reading, slice_of((const char *)name, name_len),
                      slice_of((const char *)value, value_len), flags))
        return 0;
    fail(stream, FAIL_UPSTREAM_HEAD_LARGE, "header section is too large");
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t stream_id,
                         const uint8_t *bytes, size_t len, void *ctx) {
    struct h2_client_stream *stream = h2_session_stream(ctx, stream_id);

    if (!stream || !stream->x || stream->is_failed) {
        nghttp2_session_consume(ng, stream_id, len);
        return 0;
    }
    h2_inflow_push(&stream->in, slice_of((const char *)bytes, len));
    mark_fresh(stream);
    return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    bool is_end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct h2_client_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS && !(frame->hd.type == NGHTTP2_DATA && is_end)) {
        if (frame->hd.type == NGHTTP2_GOAWAY)
            note_goaway(client_of(ctx), &frame->goaway);
        return 0;
    }
    stream = h2_session_stream(ctx, frame->hd.stream_id);
    if (!stream || !stream->x)
        return 0;
    stream->is_head_sent = true;
    if (is_end)
        request_sent(stream);
    return 0;
}

/* A connection error that nghttp2 has found, in its words. */
static void note_goaway(struct h2_client *client, const nghttp2_goaway *goaway) {
    char why[H2_WHY_MAX];

    if (goaway->error_code == NGHTTP2_NO_ERROR)
        return;
    h2_goaway_why(why, goaway);
    h2_client_blame(client, why);
}

static int on_stream_close(nghttp2_session *ng, int32_t stream_id, uint32_t code, void *ctx) {
    struct h2_client_stream *stream = h2_session_stream(ctx, stream_id);
    struct h2_client *client = client_of(ctx);

    h2_session_forget(&client->session);
    if (!stream)
        return 0;
    stream->is_closed = true;
    client->on_wire--;
    if (!nghttp2_session_check_request_allowed(ng))
        client->is_going = true; /* GOAWAY, or the ids are used up */
    h2_client_wake(client);
    if (stream->x) {
        stream->x->upstream_code = code;
        end_stream(stream, fail_of(stream, code),
                   code ? nghttp2_http2_strerror(code) : "the stream ended without a response");
    } else {
        recycle(stream);
    }
    return 0;
}

static bool submit(struct h2_client_stream *stream, const struct request_head *head,
                   struct content content) {
    struct h2_client *client = stream->client;
    struct h2_block *block = &client->o.shared->block;
    nghttp2_session *ng = client->session.ng;
    struct body *body = &stream->x->request;

    h2_write_request(block, head, content, client->submitted++ % H2_TEACH_EVERY == 0);
    if (stream->is_tunnel) {
        /* Its bytes go out once the upstream has agreed. */
        body->sink = &tunnel_sink;
        body->sink_ctx = stream;
        stream->is_request_sent = true;
        stream->id = nghttp2_submit_headers(ng, NGHTTP2_FLAG_NONE, -1, NULL, h2_block_list(block),
                                            h2_block_count(block), stream);
    } else if (body_is_done(body) && body->trailers.count == 0) {
        stream->id = nghttp2_submit_request(ng, NULL, h2_block_list(block), h2_block_count(block),
                                            NULL, stream);
    } else {
        nghttp2_data_provider provider = h2_outflow_open(&stream->out, body);

        stream->id = nghttp2_submit_request(ng, NULL, h2_block_list(block), h2_block_count(block),
                                            &provider, stream);
    }
    if (stream->id < 0)
        stream->id = 0; /* no id is left */
    stream->in.stream_id = stream->out.stream_id = stream->id;
    return stream->id > 0;
}

/* An interim head, or the final one. */
static void take_head(struct h2_client_stream *stream, bool is_end) {
    struct h2_client *client = stream->client;
    struct exchange *x = stream->x;
    struct response_head head;
    struct content content;
    const char *why = "";
    enum h1_outcome outcome =
        h2_read_response(&client->reading, x->request_head.method, is_end, &head, &content, &why);

    if (outcome != H1_DONE) {
        fail(stream, outcome == H1_HEAD_LARGE ? FAIL_UPSTREAM_HEAD_LARGE : FAIL_UPSTREAM_MALFORMED,
             why);
        return;
    }
    if (head.status < 200) {
        if (++stream->informational > client->o.settings->max_informational)
            fail(stream, FAIL_UPSTREAM_MALFORMED, "too many interim (1xx) responses");
        else
            exchange_inform(x, &head);
        return;
    }
    stream->is_head_received = true;
    if (stream->is_tunnel && head.status < 300 && !is_end) {
        take_tunnel(stream, &head);
        content = (struct content){CONTENT_TUNNEL, 0};
    }
    x->response_head = head;
    x->response_content = content;
    exchange_wake(x, EXCHANGE_RESPONSE_HEAD);
}

static void take_trailers(struct h2_client_stream *stream) {
    const char *why = "";

    if (h2_read_trailers(&stream->client->reading, &stream->x->response.trailers, &why) != H1_DONE)
        fail(stream, FAIL_UPSTREAM_MALFORMED, why);
}

/* The upstream agrees to a tunnel: to the exchange this is what HTTP/1.1 would have answered. */
static void take_tunnel(struct h2_client_stream *stream, struct response_head *head) {
    struct exchange *x = stream->x;
    const struct fields *asked = &x->request_head.fields;
    const struct field *key = fields_find(asked, FIELD_SEC_WEBSOCKET_KEY);

    head->status = 101;
    head->reason = h1_reason(101);
    fields_add_known(&head->fields, &x->arena, FIELD_UPGRADE,
                     fields_find(asked, FIELD_UPGRADE)->value);
    if (key)
        fields_add(&head->fields, &x->arena, FIELD_SEC_WEBSOCKET_ACCEPT,
                   field_name(FIELD_SEC_WEBSOCKET_ACCEPT), websocket_accept(&x->arena, key->value));
    stream->is_request_sent = false;
    if (x->request.state == BODY_OPEN)
        begin_tunnel(stream);
}

static void begin_tunnel(struct h2_client_stream *stream) {
    nghttp2_data_provider provider = h2_outflow_open(&stream->out, &stream->x->request);

    stream->is_begun = true;
    nghttp2_submit_data(stream->client->session.ng, NGHTTP2_FLAG_END_STREAM, stream->id, &provider);
    h2_session_touch(&stream->client->session);
}

/* The client's side has become a tunnel too. */
static void on_tunnel_ready(struct body *body) {
    struct h2_client_stream *stream = body->sink_ctx;

    if (stream->is_head_received && !stream->is_begun && body->state == BODY_OPEN)
        begin_tunnel(stream);
}

static void response_received(struct h2_client_stream *stream) {
    stream->is_response_received = stream->in.is_ended = true;
    body_end(&stream->x->response);
    mark_fresh(stream);
    if (stream->is_request_sent)
        exchange_wake(stream->x, EXCHANGE_UPSTREAM_DONE);
}

static void request_sent(struct h2_client_stream *stream) {
    stream->is_request_sent = true;
    if (stream->is_response_received)
        exchange_wake(stream->x, EXCHANGE_UPSTREAM_DONE);
}

/* Why a stream was closed before its response was whole. */
static enum fail fail_of(const struct h2_client_stream *stream, uint32_t code) {
    if (stream->id > stream->client->last_id || !stream->is_head_sent)
        return FAIL_UPSTREAM_GOAWAY;
    return h2_fail_of(code);
}

/* The stream is no more, for @reason, unless the response is whole: an answer that did not wait for
 * the rest of the request (RFC 9113 section 8.1). */
static void end_stream(struct h2_client_stream *stream, enum fail reason, const char *why) {
    if (stream->is_response_received) {
        if (!stream->is_request_sent)
            h2_outflow_close(&stream->out);
        exchange_wake(stream->x, EXCHANGE_UPSTREAM_DONE);
    } else {
        fail(stream, stream->is_head_received ? FAIL_UPSTREAM_INCOMPLETE : reason, why);
    }
}

/* Tells the exchange; the stream stays with it until it detaches. */
static void fail(struct h2_client_stream *stream, enum fail reason, const char *why) {
    if (stream->is_failed)
        return;
    stream->is_failed = true;
    exchange_upstream_failed(stream->x, reason, why);
}

static void mark_fresh(struct h2_client_stream *stream) {
    if (!list_is_linked(&stream->fresh))
        list_push_back(&stream->client->fresh, &stream->fresh);
}

static void recycle(struct h2_client_stream *stream) {
    list_remove(&stream->link);
    list_remove(&stream->fresh);
    list_push_front(&stream->client->free, &stream->link);
}
