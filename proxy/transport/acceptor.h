/* Accepts connections of one listening socket on one loop: uv_poll and accept4(), at most
 * ACCEPTOR_BATCH per wake, because libuv's own uv_listen() hides errors and, without fds, silently
 * drops clients. A connection is accepted only when the admission gate has a right for it; while
 * there is none the socket is not polled, and clients wait in its backlog. Home: loop. */
#pragma once

#include "loop/gate.h"
#include "transport/conn.h"

#define ACCEPTOR_BATCH 64
#define ACCEPTOR_TURN_NS (5 * NS_PER_MS) /* of a wake: after it nobody else is accepted in it */
#define ACCEPTOR_FULL \
    4 /* wakes in a row that took all they might, before the next takes twice as many */
#define ACCEPTOR_PAUSE_NS \
    (100 * NS_PER_MS) /* after an accept error that will not go away at once */

struct acceptor;

struct acceptor_options {
    struct loop *loop; /* borrowed */
    int fd;            /* listening, non-blocking; the acceptor's once it is open */
    bool is_unix;
    struct fds *fds;          /* borrowed */
    struct gate *connections; /* borrowed: one right per client connection */
    struct addresses
        *addresses; /* borrowed: counts connections by client address; NULL: nobody does */
    struct accept_pulse *pulse; /* borrowed: where it shows that it looks; NULL: nobody watches */
    /* A new connection: conn_start() it. @is_over: its address has as many as it may already. */
    void (*on_accept)(void *ctx, struct conn *conn, bool is_over);
    /* accept4() failed with @err (positive errno). */
    void (*on_error)(void *ctx, int err);
    void *ctx; /* borrowed */
};

int acceptor_open(struct acceptor **out, const struct acceptor_options *options);

/* Takes what waits in the backlog, as far as there are rights, then closes the socket. Connections
 * live on. Accepts NULL. */
void acceptor_close(struct acceptor *acceptor);

/* Accepts nothing while @is_held: clients wait in the backlog. */
void acceptor_hold(struct acceptor *acceptor, bool is_held);

/* Is it kept from accepting by the connection limit? */
bool acceptor_is_waiting(const struct acceptor *acceptor);
