/* The insides of the connection, shared by its plain half (conn.c) and its TLS half (conn_tls.c).
 */
#pragma once

#include "transport/conn.h"

#include <string.h>

/* Records are read into the loop's buffer this far behind its start, and decrypted to its start:
 * plain bytes are fewer than the records they come from, so with room for what OpenSSL may hold of
 * one more record they never reach what is still to be read. */
#define CONN_TLS_AHEAD ((size_t)20 * 1024)

/* conn.c: sends bytes as they are. As conn_send(). */
int conn_raw_send(struct conn *conn, const uv_buf_t *bufs, unsigned count);

/* conn.c, for the outbox: sends @bytes, of which the codec knows that they are sent. If that fails
 * the codec hears of it where it hears of the connection's end, behind what can still be read. */
void conn_send_held(struct conn *conn, struct slice bytes);

/* Copies all of @bufs to @to, one behind the other; returns how much that was. */
static inline size_t conn_gather(char *to, const uv_buf_t *bufs, unsigned count) {
    size_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        memcpy(to + len, bufs[i].base, bufs[i].len);
        len += bufs[i].len;
    }
    return len;
}

/* conn.c. What the socket has, up to @room bytes into @to; 0: nothing now; UV_EOF, or -errno. */
ssize_t conn_receive(struct conn *conn, char *to, size_t room);

/* conn.c: tells what conn_receive() said, unless the conn is closed, and runs a turn. */
void conn_heard(struct conn *conn, const char *base, ssize_t nread);

/* conn_tls.c. As conn_send(). */
int conn_tls_send(struct conn *conn, const uv_buf_t *bufs, unsigned count);

/* Says close_notify behind what is queued, if that is still to be said. */
void conn_tls_notify(struct conn *conn);

/* Starts the handshake. 0: under way; else failed. */
int conn_tls_start(struct conn *conn, struct slice first);

/* What the stream has read, as libuv tells it: records from @base on, or an end. */
void conn_tls_heard(struct conn *conn, ssize_t nread, const char *base);
