/* TLS handshakes of one listener's clients on one loop. How many are under way at once is bounded
 * over all loops by a gate; whoever finds it full waits in its line, and is not refused. A client
 * stands in line only once its first bytes are here, so that one which says nothing keeps nobody
 * out. Each has a time for its first bytes, and the same once more for the handshake. Home: loop.
 */
#pragma once

#include "transport/conn.h"
#include "transport/tls_server.h"

/* After a failure the client's reading is awaited so long, so that it gets the alert. */
#define HANDSHAKES_LINGER_NS (1 * NS_PER_S)
#define HANDSHAKES_LINGER_BYTES_MAX (64 * 1024)

enum handshake_result {
    HANDSHAKE_OK,
    HANDSHAKE_RESUMED,
    HANDSHAKE_TIMEOUT,
    HANDSHAKE_GONE,        /* the client has left */
    HANDSHAKE_CERTIFICATE, /* the client's is missing or not to be believed */
    HANDSHAKE_ALERT,       /* the client does not like what it got */
    HANDSHAKE_PROTOCOL,    /* the client does not speak TLS as we do */
    HANDSHAKE_RESULTS
};

struct handshakes_options {
    struct loop *loop;         /* borrowed */
    struct tls_server *server; /* borrowed */
    struct gate *gate;         /* borrowed: one right per handshake under way */
    int64_t timeout_ns;
    /* It is through: conn_start() it. @is_over: as it was said at its start. */
    void (*on_secured)(void *ctx, struct conn *conn, bool is_over);
    /* It is no TLS that has come but plain HTTP/1: conn_start() it, to say so. */
    void (*on_plain)(void *ctx, struct conn *conn);
    /* One has ended, whichever way; @why: of a failure, borrowed. Before on_secured() or
     * on_plain(). */
    void (*on_result)(void *ctx, enum handshake_result result, const struct conn *conn,
                      const char *why);
    void *ctx; /* borrowed */
};

struct handshakes {
    struct handshakes_options o;
    struct gate_desk desk;
    struct list all;        /* struct handshake */
    _Atomic unsigned count; /* of all; any thread may read */
};

void handshakes_init(struct handshakes *handshakes, const struct handshakes_options *options);

/* Takes over an accepted conn that was not started. @is_over: it will be refused (acceptor.h),
 * which can only be said once somebody listens. */
void handshakes_start(struct handshakes *handshakes, struct conn *conn, bool is_over);

/* Breaks off all. */
void handshakes_abort_all(struct handshakes *handshakes);

/* "ok", "resumed", ... */
const char *handshake_result_name(enum handshake_result result);
