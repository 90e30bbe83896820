/* What the fuzz targets of HTTP/2 sessions share: frames made of the fuzzer's bytes, and a
 * session's turns over a socket pair whose other end nobody listens to. */
#pragma once

#include "base/buffer.h"
#include "transport/conn.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Frames whose lengths are right, of records: type, flags, stream below @streams, length, content.
 */
static inline void h2_fuzz_frames(struct buffer *to, struct slice in, unsigned streams) {
    while (in.len >= 4) {
        const uint8_t *r = (const uint8_t *)in.base;
        size_t len = r[3] < in.len - 4 ? r[3] : in.len - 4;
        char head[9] = {0, 0, (char)len, (char)(r[0] % 11),     (char)r[1],
                        0, 0, 0,         (char)(r[2] % streams)};

        buffer_append(to, slice_of(head, sizeof head));
        buffer_append(to, slice_of(in.base + 4, len));
        in = slice_skip(in, 4 + len);
    }
}

/* The loop, once per process, and a pair of sockets. */
static inline void h2_fuzz_open(struct loop *loop, int pair[2]) {
    if (!loop->read_buffer) {
        signal(SIGPIPE, SIG_IGN);
        if (loop_open(loop, 0) != 0)
            abort();
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        abort();
}

/* Lets the session do what it has to; what it says to @other is dropped. */
static inline void h2_fuzz_turn(struct loop *loop, int other) {
    static char sink[1 << 16];

    loop_turn(loop);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    while (recv(other, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
}

/* Has the session read @in, @piece bytes at a time. */
static inline void h2_fuzz_feed(struct conn *conn, int other, struct slice in, size_t piece) {
    while (in.len > 0 && !conn->is_closed && !conn->is_lingering) {
        size_t n = piece < in.len ? piece : in.len;

        conn->events->on_data(conn, slice_of(in.base, n));
        h2_fuzz_turn(conn->loop, other);
        in = slice_skip(in, n);
    }
}
