/* What the HTTP/2 tools share. */
#include "h2wire.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

const char h2_message[] = "\0\0\0\0\x0d" H2_TEXT;

void h2_out_free(struct h2_out *out) {
    free(out->bytes);
    *out = (struct h2_out){0};
}

void h2_submit_settings(nghttp2_session *ng) {
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, H2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW_BYTES},
    };
    int err = nghttp2_submit_settings(ng, NGHTTP2_FLAG_NONE, settings,
                                      sizeof settings / sizeof *settings);

    if (!err)
        err = nghttp2_session_set_local_window_size(ng, NGHTTP2_FLAG_NONE, 0, H2_WINDOW_BYTES);
    assert(!err);
    (void)err;
}

int h2_send(int fd, nghttp2_session *ng, struct h2_out *out) {
    const uint8_t *frame;
    ssize_t n = 0;

    if (!out->bytes)
        out->bytes = malloc(WIRE_BUFFER_BYTES);
    assert(out->bytes);
    for (;;) {
        if (out->sent == out->len) {
            out->sent = out->len = 0;
            /* A frame has 16 KiB and its head at most. */
            while (out->len < WIRE_BUFFER_BYTES / 2 &&
                   (n = nghttp2_session_mem_send(ng, &frame)) > 0) {
                memcpy(out->bytes + out->len, frame, (size_t)n);
                out->len += (size_t)n;
            }
            if (n < 0)
                return -1;
            if (out->len == 0)
                return 0;
        }
        n = send(fd, out->bytes + out->sent, out->len - out->sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? 1 : -1;
        out->sent += (size_t)n;
    }
}

long h2_messages(uint64_t *seen, const uint8_t *bytes, size_t len) {
    uint64_t before = *seen / H2_MESSAGE_BYTES;
    size_t at = *seen % H2_MESSAGE_BYTES;

    *seen += len;
    while (len > 0) {
        size_t part = H2_MESSAGE_BYTES - at;

        if (part > len)
            part = len;
        if (memcmp(bytes, h2_message + at, part) != 0)
            return -1;
        bytes += part;
        len -= part;
        at = 0;
    }
    return (long)(*seen / H2_MESSAGE_BYTES - before);
}
