/* See h2_wire.h. */
#include "h2_wire.h"

#include "support/unit.h"

#include <arpa/inet.h>

#define TEXT_MAX 100 /* longer content is not put into the log */

static uint32_t load32(const char *from) {
    uint32_t n;

    memcpy(&n, from, 4);
    return ntohl(n);
}

void h2_frame(struct buffer *to, uint8_t type, uint8_t flags, uint32_t stream_id,
              struct slice payload) {
    char head[9] = {(char)(payload.len >> 16), (char)(payload.len >> 8), (char)payload.len,
                    (char)type, (char)flags};
    uint32_t id = htonl(stream_id);

    memcpy(head + 5, &id, 4);
    buffer_append(to, slice_of(head, sizeof head));
    buffer_append(to, payload);
}

static void append_string(struct buffer *to, struct slice s) {
    size_t n = s.len;

    if (n < 127) {
        buffer_append_char(to, (char)n);
    } else {
        buffer_append_char(to, 127);
        for (n -= 127; n >= 128; n >>= 7)
            buffer_append_char(to, (char)(n | 128));
        buffer_append_char(to, (char)n);
    }
    buffer_append(to, s);
}

void h2_section(struct buffer *to, const char *lines) {
    while (*lines) {
        const char *end = strchr(lines, '\n'), *colon = strstr(lines + 1, ": ");
        struct buffer value = {0};

        assert_non_null(end);
        assert_true(colon && colon < end);
        for (const char *at = colon + 2; at < end; at++) {
            if (*at == '\\')
                at++;
            buffer_append_char(&value, at[-1] != '\\' ? *at
                                       : *at == 'r'   ? '\r'
                                       : *at == 'n'   ? '\n'
                                                      : '\0');
        }
        buffer_append_char(to, 0);
        append_string(to, slice_of(lines, (size_t)(colon - lines)));
        append_string(to, buffer_slice(&value));
        buffer_deinit(&value);
        lines = end + 1;
    }
}

void h2_head(struct buffer *to, uint32_t stream_id, uint8_t flags, const char *lines) {
    struct buffer section = {0};

    h2_section(&section, lines);
    h2_frame(to, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | flags, stream_id,
             buffer_slice(&section));
    buffer_deinit(&section);
}

void h2_data(struct buffer *to, uint32_t stream_id, uint8_t flags, struct slice data) {
    h2_frame(to, NGHTTP2_DATA, flags, stream_id, data);
}

static void frame_of_number(struct buffer *to, uint8_t type, uint32_t stream_id, uint32_t n) {
    n = htonl(n);
    h2_frame(to, type, 0, stream_id, slice_of((const char *)&n, sizeof n));
}

void h2_rst(struct buffer *to, uint32_t stream_id, uint32_t code) {
    frame_of_number(to, NGHTTP2_RST_STREAM, stream_id, code);
}

void h2_window_update(struct buffer *to, uint32_t stream_id, uint32_t by) {
    frame_of_number(to, NGHTTP2_WINDOW_UPDATE, stream_id, by);
}

void h2_settings(struct buffer *to, uint16_t id, uint32_t value) {
    char entry[6] = {(char)(id >> 8), (char)id};
    uint32_t n = htonl(value);

    memcpy(entry + 2, &n, 4);
    h2_frame(to, NGHTTP2_SETTINGS, 0, 0, slice_of(entry, id ? sizeof entry : 0));
}

void h2_settings_ack(struct buffer *to) {
    h2_frame(to, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, SLICE_NONE);
}

void h2_reader_open(struct h2_reader *reader) {
    *reader = (struct h2_reader){0};
    assert_int_equal(nghttp2_hd_inflate_new(&reader->inflater), 0);
}

void h2_reader_close(struct h2_reader *reader) {
    nghttp2_hd_inflate_del(reader->inflater);
    buffer_deinit(&reader->in);
    buffer_deinit(&reader->log);
    buffer_deinit(&reader->content);
}

static void log_section(struct h2_reader *reader, struct slice section) {
    const char *separator = " ";

    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(reader->inflater, &nv, &flags,
                                              (const uint8_t *)section.base, section.len, 1);

        assert_true(used >= 0);
        section = slice_skip(section, (size_t)used);
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            buffer_printf(&reader->log, "%s%.*s=%.*s", separator, (int)nv.namelen, nv.name,
                          (int)nv.valuelen, nv.value);
            separator = ", ";
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL)
            break;
    }
    nghttp2_hd_inflate_end_headers(reader->inflater);
}

static void log_frame(struct h2_reader *reader, const nghttp2_frame_hd *head,
                      struct slice payload) {
    struct buffer *log = &reader->log;
    const char *end = head->flags & NGHTTP2_FLAG_END_STREAM ? " END_STREAM" : "";
    bool is_ack = head->flags & NGHTTP2_FLAG_ACK;

    switch (head->type) {
    case NGHTTP2_DATA:
        buffer_printf(log, "DATA %d %zu%s", head->stream_id, head->length, end);
        if (payload.len > 0 && payload.len < TEXT_MAX)
            buffer_printf(log, " %.*s", SLICE_ARG(payload));
        buffer_append(&reader->content, payload);
        break;
    case NGHTTP2_HEADERS:
        buffer_printf(log, "HEADERS %d%s", head->stream_id, end);
        assert_true(head->flags & NGHTTP2_FLAG_END_HEADERS);
        log_section(reader, payload);
        break;
    case NGHTTP2_RST_STREAM:
        buffer_printf(log, "RST_STREAM %d %s", head->stream_id,
                      nghttp2_http2_strerror(load32(payload.base)));
        break;
    case NGHTTP2_SETTINGS:
        buffer_printf(log, "SETTINGS%s", is_ack ? " ACK" : "");
        reader->settings += !is_ack;
        break;
    case NGHTTP2_PING:
        buffer_printf(log, "PING%s", is_ack ? " ACK" : "");
        reader->pings += !is_ack;
        memcpy(&reader->ping, payload.base, sizeof reader->ping);
        break;
    case NGHTTP2_GOAWAY:
        buffer_printf(log, "GOAWAY %u %s", load32(payload.base),
                      nghttp2_http2_strerror(load32(payload.base + 4)));
        break;
    case NGHTTP2_WINDOW_UPDATE:
        buffer_printf(log, "WINDOW_UPDATE %d %u", head->stream_id, load32(payload.base));
        break;
    default:
        buffer_printf(log, "frame %u", head->type);
    }
    buffer_append_char(log, '\n');
}

void h2_reader_feed(struct h2_reader *reader, struct slice bytes) {
    struct slice in;

    buffer_append(&reader->in, bytes);
    in = buffer_slice(&reader->in);
    while (in.len >= 9) {
        nghttp2_frame_hd head = {
            .length = load32(in.base) >> 8,
            .type = (uint8_t)in.base[3],
            .flags = (uint8_t)in.base[4],
            .stream_id = (int32_t)(load32(in.base + 5) & INT32_MAX),
        };

        if (in.len < 9 + head.length)
            break;
        log_frame(reader, &head, slice_of(in.base + 9, head.length));
        in = slice_skip(in, 9 + head.length);
    }
    if (in.len > 0)
        memmove(reader->in.base, in.base, in.len);
    reader->in.len = in.len;
    *buffer_reserve(&reader->log, 1) = '\0';
}

unsigned h2_reader_count(const struct h2_reader *reader, const char *text) {
    unsigned count = 0;

    for (const char *line = reader->log.base; line && *line; line = strchr(line, '\n') + 1)
        count += strncmp(line, text, strlen(text)) == 0;
    return count;
}

bool h2_reader_has(const struct h2_reader *reader, const char *text) {
    return h2_reader_count(reader, text) > 0;
}
