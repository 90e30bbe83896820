/* The TLS half of the connection: feeds the engine what the stream has read, and queues what the
 * engine has to say where plain bytes would be queued.
 *
 * libh2o's own TLS (2.2.5) is not used for this: beside the two defects of uv_cure.h it drops the
 * alert of a handshake that failed, calls a write done when it could not encrypt it, cannot
 * half-close, writes 1400-byte records for the first 200 KiB and reads 8 KiB at a time. */
#include "transport/conn_parts.h"

#include <assert.h>

static int shake(struct conn *conn);
static void read_all(struct conn *conn);
static void tell(struct conn *conn, int err);
static int sink(void *ctx, struct slice records);

int conn_secure(struct conn *conn, struct tls *tls, struct slice first, conn_ready_fn *on_ready) {
    assert(!conn->tls && !conn->is_closed);
    conn->tls = tls;
    conn->on_ready = on_ready;
    return conn_tls_start(conn, first);
}

void conn_adopt_tls(struct conn *conn, struct tls *tls) {
    if (!tls)
        return;
    conn->tls = tls;
    conn->is_secured = true;
    tls_set_sink(tls, sink, conn);
}

int conn_tls_start(struct conn *conn, struct slice first) {
    int err;

    tls_set_sink(conn->tls, sink, conn);
    tls_give(conn->tls, first);
    err = shake(conn);
    /* Nobody may send anything behind a first flight. */
    if (!err || (err == -EAGAIN && tls_has_unread(conn->tls)))
        return TLS_ERR_PROTOCOL;
    if (err != -EAGAIN)
        return err;
    conn_resume(conn);
    return 0;
}

int conn_tls_send(struct conn *conn, const uv_buf_t *bufs, unsigned count) {
    int err;

    assert(count <= CONN_SEND_BUFS_MAX && conn->is_secured);
    if (conn->is_closed || conn->is_write_closed || conn->is_notified)
        return -EPIPE;
    err = tls_write(conn->tls, bufs, count);
    if (err)
        return err;
    return conn->out.bytes ? CONN_QUEUED : CONN_SENT;
}

void conn_tls_notify(struct conn *conn) {
    if (!conn->is_secured || conn->is_notified)
        return;
    conn->is_notified = true;
    tls_notify(conn->tls); /* a broken stream will be heard of */
}

void conn_tls_heard(struct conn *conn, ssize_t nread, const char *base) {
    if (nread < 0) {
        tell(conn, nread == UV_EOF ? -ECONNRESET : (int)nread);
        return;
    }
    tls_give(conn->tls, slice_of(base, (size_t)nread));
    if (!conn->is_secured) {
        int err = shake(conn);

        if (err == -EAGAIN)
            return;
        conn->on_ready(conn, err);
        if (err || conn->is_closed)
            return;
        assert(conn->events);
    }
    read_all(conn);
}

static int shake(struct conn *conn) {
    int err = tls_handshake(conn->tls);

    if (!err)
        conn->is_secured = true;
    return err;
}

static void read_all(struct conn *conn) {
    char *plain = conn->loop->read_buffer;
    size_t len = 0;
    ssize_t n;

    do {
        n = tls_read(conn->tls, plain + len, (size_t)(tls_unread(conn->tls) - plain) - len);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    if (len > 0)
        conn->events->on_data(conn, slice_of(plain, len));
    if (n == -EAGAIN || conn->is_closed || conn->is_lingering)
        return;
    conn_pause(conn);
    conn->is_eof = true;
    if (n == 0) {
        conn->events->on_eof(conn);
    } else {
        conn->is_notified = true; /* the alert was the last word */
        conn->events->on_error(conn, (int)n);
    }
}

static void tell(struct conn *conn, int err) {
    if (conn->is_secured)
        conn->events->on_error(conn, err);
    else
        conn->on_ready(conn, err);
}

static int sink(void *ctx, struct slice records) {
    struct conn *conn = ctx;
    uv_buf_t buf = uv_buf_init((char *)records.base, (unsigned)records.len);
    int outcome = conn_raw_send(conn, &buf, 1);

    return outcome < 0 ? outcome : 0;
}
