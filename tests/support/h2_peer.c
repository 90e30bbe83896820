/* See h2_peer.h. */
#include "support/h2_peer.h"

#include "support/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a data provider has still to say. */
struct saying {
    struct slice left;
    bool has_trailers, stays_open;
};

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_peer *peer = ctx;

    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        peer->requests++;
        peer->newest = frame->hd.stream_id;
    }
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx) {
    struct peer_stream *stream = h2_peer_stream(ctx, frame->hd.stream_id);

    buffer_printf(frame->headers.cat == NGHTTP2_HCAT_REQUEST ? &stream->head : &stream->trailers,
                  "%.*s: %.*s\n", (int)name_len, (const char *)name, (int)value_len,
                  (const char *)value);
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx) {
    struct h2_peer *peer = ctx;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            h2_peer_stream(peer, frame->hd.stream_id)->is_ended = true;
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            break;
        peer->pings++;
        if (!peer->is_silent)
            nghttp2_submit_ping(ng, NGHTTP2_FLAG_ACK, frame->ping.opaque_data);
        break;
    case NGHTTP2_GOAWAY:
        peer->goaways++;
        peer->goaway_id = frame->goaway.last_stream_id;
        break;
    case NGHTTP2_RST_STREAM:
        h2_peer_stream(peer, frame->hd.stream_id)->is_reset = true;
        h2_peer_stream(peer, frame->hd.stream_id)->code = frame->rst_stream.error_code;
        break;
    default:
        break;
    }
    return 0;
}

static int on_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes,
                    size_t len, void *ctx) {
    struct h2_peer *peer = ctx;

    buffer_append(&h2_peer_stream(peer, id)->content, slice_of((const char *)bytes, len));
    if (!peer->is_stingy)
        nghttp2_session_consume(ng, id, len);
    return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx) {
    free(nghttp2_session_get_stream_user_data(ng, id));
    return 0;
}

static ssize_t read_saying(nghttp2_session *ng, int32_t id, uint8_t *to, size_t max,
                           uint32_t *flags, nghttp2_data_source *source, void *ctx) {
    static const nghttp2_nv trailer = {(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1, 0};
    struct saying *saying = source->ptr;
    size_t n = saying->left.len < max ? saying->left.len : max;

    if (n == 0 && saying->stays_open)
        return NGHTTP2_ERR_DEFERRED;
    if (n > 0)
        memcpy(to, saying->left.base, n);
    saying->left = slice_skip(saying->left, n);
    if (saying->left.len > 0 || saying->stays_open)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (saying->has_trailers) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(ng, id, &trailer, 1);
    }
    return (ssize_t)n;
}

void h2_peer_open(struct h2_peer *peer, int fd, int max_streams, bool may_tunnel) {
    nghttp2_settings_entry settings[2];
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    size_t count = 0;

    *peer = (struct h2_peer){.fd = fd};
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_auto_ping_ack(options, 1);
    nghttp2_option_set_no_auto_window_update(options, 1);
    assert_int_equal(nghttp2_session_server_new2(&peer->ng, callbacks, peer, options), 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    if (max_streams != PEER_SAYS_NOTHING)
        settings[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                     (uint32_t)max_streams};
    if (may_tunnel)
        settings[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    assert_int_equal(nghttp2_submit_settings(peer->ng, NGHTTP2_FLAG_NONE, settings, count), 0);
}

void h2_peer_close(struct h2_peer *peer) {
    for (unsigned i = 0; i < PEER_STREAMS; i++) {
        if (peer->ng)
            free(nghttp2_session_get_stream_user_data(peer->ng, (int32_t)(2 * i + 1)));
        buffer_deinit(&peer->streams[i].head);
        buffer_deinit(&peer->streams[i].content);
        buffer_deinit(&peer->streams[i].trailers);
    }
    if (peer->ng)
        nghttp2_session_del(peer->ng);
    if (peer->fd >= 0)
        close(peer->fd);
    *peer = (struct h2_peer){.fd = -1};
}

bool h2_peer_turn(struct h2_peer *peer) {
    static char some[65536];
    const uint8_t *frames;
    ssize_t n;

    if (peer->fd < 0)
        return true;
    while ((n = recv(peer->fd, some, sizeof some, MSG_DONTWAIT)) > 0)
        assert_int_equal(nghttp2_session_mem_recv(peer->ng, (uint8_t *)some, (size_t)n), n);
    peer->is_eof |= n == 0;
    while (!peer->is_eof && (n = nghttp2_session_mem_send(peer->ng, &frames)) > 0) {
        ssize_t sent = send(peer->fd, frames, (size_t)n, MSG_NOSIGNAL);

        assert_true(sent == n || (sent < 0 && (errno == EPIPE || errno == ECONNRESET)));
    }
    return true;
}

struct peer_stream *h2_peer_stream(struct h2_peer *peer, int32_t id) {
    assert_in_range(id, 1, 2 * PEER_STREAMS - 1);
    return &peer->streams[(id - 1) / 2];
}

static nghttp2_nv nv(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

void h2_peer_answer(struct h2_peer *peer, int32_t id, const char *status, bool is_end) {
    const nghttp2_nv head[] = {nv(":status", status), nv("x", "y")};

    assert_int_equal(nghttp2_submit_headers(peer->ng,
                                            is_end ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE,
                                            id, NULL, head, 2, NULL),
                     0);
    h2_peer_turn(peer);
}

void h2_peer_interim(struct h2_peer *peer, int32_t id, const char *status) {
    h2_peer_answer(peer, id, status, false);
}

static void say_content(struct h2_peer *peer, int32_t id, struct slice content, bool trailers,
                        bool stays_open) {
    struct saying *saying = calloc(1, sizeof *saying);
    nghttp2_data_provider provider = {.source.ptr = saying, .read_callback = read_saying};

    *saying = (struct saying){content, trailers, stays_open};
    nghttp2_session_set_stream_user_data(peer->ng, id, saying);
    assert_int_equal(nghttp2_submit_data(peer->ng, NGHTTP2_FLAG_END_STREAM, id, &provider), 0);
    h2_peer_turn(peer);
}

void h2_peer_content(struct h2_peer *peer, int32_t id, struct slice content, bool trailers) {
    say_content(peer, id, content, trailers, false);
}

void h2_peer_some(struct h2_peer *peer, int32_t id, struct slice content) {
    say_content(peer, id, content, false, true);
}

void h2_peer_reset(struct h2_peer *peer, int32_t id, uint32_t code) {
    nghttp2_submit_rst_stream(peer->ng, NGHTTP2_FLAG_NONE, id, code);
    h2_peer_turn(peer);
}

void h2_peer_goaway(struct h2_peer *peer, int32_t last_id, uint32_t code) {
    assert_int_equal(nghttp2_submit_goaway(peer->ng, NGHTTP2_FLAG_NONE, last_id, code, NULL, 0), 0);
    h2_peer_turn(peer);
}

void h2_peer_set_max(struct h2_peer *peer, uint32_t max_streams) {
    const nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams};

    nghttp2_submit_settings(peer->ng, NGHTTP2_FLAG_NONE, &entry, 1);
    h2_peer_turn(peer);
}

bool h2_peer_has(struct h2_peer *peer, int32_t id, const char *line) {
    struct buffer *head = &h2_peer_stream(peer, id)->head;
    size_t len = strlen(line);

    for (size_t at = 0; at + len < head->len; at++)
        if ((at == 0 || head->base[at - 1] == '\n') && memcmp(head->base + at, line, len) == 0 &&
            head->base[at + len] == '\n')
            return true;
    return false;
}
