/* HTTP/1 towards clients: bytes of a conn to exchanges and back (RFC 9112). One exchange at a time;
 * pipelined requests wait in the connection's input. Content streams both ways at once. Home: loop.
 *
 * States of reading, and what moves it on:
 *   HEAD     a request head is awaited or half read; whole: CONTENT (an exchange is made)
 *   CONTENT  its content is being read; ended: WAIT
 *   WAIT     nothing is read from the input until the exchange is finished; then HEAD
 *   TUNNEL   after 101: all bytes belong to the exchange's bodies
 *   CLOSED   the sending side of the client is closed, or we are about to close */
#pragma once

#include "base/buffer.h"
#include "base/spares.h"
#include "codec/h1_parse.h"
#include "exchange/exchange.h"
#include "transport/conn.h"

#define H1_SERVER_SPARES_MAX 256 /* closed ones whose memory a listener's loop keeps */

struct h1_server;
struct h1_server_loop;

struct h1_server_settings {
    struct h1_limits limits;
    int64_t header_timeout_ns;
    int64_t body_timeout_ns;
    int64_t idle_timeout_ns;
    int64_t stream_idle_timeout_ns;
    unsigned max_requests; /* 0: no bound */
    bool half_close;       /* EOF from a client that awaits its answer is no abort */
};

/* What a request was refused for before there was an exchange. */
struct h1_refusal {
    enum fail fail;
    const char *why; /* borrowed: for the time of the call */
    const union conn_address *client;
};

/* One listener on one loop: what its connections share. */
struct h1_server_loop {
    struct loop *loop;                         /* borrowed */
    const struct h1_server_settings *settings; /* borrowed: outlives the loop */
    void *ctx;                                 /* borrowed: the owner's */
    /* Memory for one exchange, its arena included, which the codec fills in: heads and content are
     * set, then EXCHANGE_STARTED wakes it. */
    struct exchange *(*make_exchange)(struct h1_server_loop *shared);
    /* Gives back one that was made but whose request head was refused. */
    void (*drop_exchange)(struct h1_server_loop *shared, struct exchange *x);
    /* Writes the reply to a refused head (status, fields and content, "Connection: close") into
     * @out. */
    void (*write_refusal)(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                          struct buffer *out);
    bool is_draining;        /* set by h1_server_drain() */
    bool is_pressed;         /* set by the owner: every answer says Connection: close */
    struct list all;         /* struct h1_server */
    _Atomic unsigned count;  /* of all; any thread may read */
    _Atomic unsigned active; /* of these with an exchange; any thread may read */
    struct buffer head;      /* scratch for heads */
    struct spares spares;    /* of struct h1_server */
};

void h1_server_loop_init(struct h1_server_loop *shared);
void h1_server_loop_deinit(struct h1_server_loop *shared);

/* Serves @conn, which is the codec's from now on. */
void h1_server_open(struct h1_server_loop *shared, struct conn *conn);

/* Answers @fail at once, unheard, and closes @conn, which is the codec's from now on. @why: static
 * text. */
void h1_server_refuse(struct h1_server_loop *shared, struct conn *conn, enum fail fail,
                      const char *why);

/* Closes up to @max (at most LONGEST_MAX) connections that have waited for a request for
 * @idle_ns or more, the longest idle first. Returns how many. */
/* How long an idle connection that is closed is still read: a request that crosses our FIN on its
 * way is not answered with a reset. Until then it counts. */
#define H1_SERVER_IDLE_LINGER_NS (500 * NS_PER_MS)
unsigned h1_server_evict(struct h1_server_loop *shared, int64_t idle_ns, unsigned max);

/* Every answer from now on says Connection: close; connections that await a request are closed as
 * soon as nothing of one has arrived. */
void h1_server_drain(struct h1_server_loop *shared);

/* Breaks off every connection. */
void h1_server_abort_all(struct h1_server_loop *shared);
