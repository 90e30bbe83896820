/* What the conns of a loop send from within its turns, small as most of it is, leaves together at
 * the end of the batch (loop.h), one behind the other: then the kernel's way out, and weir's own
 * code between two of its walks, are still in the cache. A small request costs 3 to 6% less CPU.
 * To its codec such a send is done; one that fails afterwards is told as conn_send_held() says.
 * Home: loop. */
#pragma once

#include "transport/conn.h"

#define OUTBOX_SENDS_MAX 64
#define OUTBOX_SEND_BYTES_MAX 1024 /* of one conn; what is longer is not held up */
/* Nothing waits longer for what else the batch brings, except for the event under way. */
#define OUTBOX_WAIT_NS (200 * NS_PER_US)

/* Holds @total bytes of @bufs to send them on @conn later, or, false: they are to be sent now;
 * nothing of the conn is held any more then. */
bool outbox_hold(struct conn *conn, const uv_buf_t *bufs, unsigned count, size_t total);

/* Sends all that is held. */
void outbox_flush(struct loop *loop);

/* The same, if it has waited long enough. */
void outbox_look(struct loop *loop);
