/* A loop's connections to one endpoint: dialling, idle, and leased to exchanges, whole (HTTP/1) or
 * stream by stream (HTTP/2).
 *
 * The bound on sockets holds over all loops (endpoint.connections): who finds none free stands in
 * the endpoint's one line. An idle connection that another loop waits for travels there; one that
 * is closed counts until it is really closed. Dials are bounded too: an endpoint's share for this
 * loop.
 *
 * An HTTP/2 connection cannot travel: where others wait for its right it is closed as soon as it is
 * idle. A loop that has none at all may have another loop keep new exchanges off one of its own for
 * that. Home: loop. */
#pragma once

#include "base/log.h"
#include "codec/h1_client.h"
#include "codec/h2_client.h"
#include "transport/tls_client.h"
#include "upstream/endpoint.h"

struct lease;
struct upstream_conn;

/* What all pools of a loop share. */
struct pool_loop {
    struct loop *loop;         /* borrowed */
    struct fds *fds;           /* borrowed */
    struct buffer head;        /* scratch for request heads; owned */
    struct h2_client_loop *h2; /* owned; NULL until there is a pool over HTTP/2 */
    struct log_limit failures_logged;
};

struct pool_settings {
    bool is_http2;
    struct h1_client_settings h1;
    struct h2_client_settings h2;
    int64_t dial_timeout_ns;
    int64_t idle_timeout_ns; /* 0: idle connections stay */
    struct tls_client *tls;  /* borrowed; NULL: plain connections */
    unsigned dials;          /* connects at once from this loop, >= 1 */
};

struct pool {
    struct endpoint *endpoint;            /* counted */
    struct pool_loop *shared;             /* borrowed */
    const struct pool_settings *settings; /* borrowed: outlives the pool */
    struct gate_desk desk;
    struct list idle;      /* struct upstream_conn, last used first */
    struct list others;    /* struct upstream_conn: dialling, leased (HTTP/2: fully) or closing */
    struct list dial_line; /* struct lease that has a right and waits for its turn to dial */
    unsigned dialling;
    bool is_starting;            /* dials, from dial_line */
    unsigned waiting;            /* leases in the endpoint's line */
    _Atomic unsigned idle_count; /* other loops look at it before they ask */
    struct mail asked;           /* another loop waits: hand over what is idle */
    _Atomic bool is_asked;
    struct timer idle_timer;
    bool is_closing;

    /* HTTP/2. */
    struct list open; /* struct upstream_conn with leased streams and room for more */
    struct list line; /* struct lease that wait for a stream */
    unsigned line_len;
    unsigned growing;      /* connections that wait for a right or are being dialled */
    unsigned streams_each; /* that a new connection is expected to take */
    enum fail refusal;     /* why the last one was not even dialled */
    struct task tidy;
    struct timer ask_timer;
    int64_t yield_after_ns;
    int64_t yield_look_ns;       /* likewise, for other processes */
    _Atomic unsigned open_count; /* other loops look at it before they ask */
    _Atomic bool must_yield;     /* who asks has none */

    struct mail farewell; /* the last letter to a closing pool: it frees it */
    bool is_farewell_sent;
};

enum lease_state { LEASE_NONE, LEASE_WAITING, LEASE_DIAL_LINE, LEASE_DIALLING, LEASE_HELD };

/* The right to use one connection for one exchange. Zeroed memory is a lease on nothing. */
struct lease {
    struct gate_ticket ticket;
    struct pool *pool;               /* borrowed while the lease is not NONE */
    struct upstream_conn *conn;      /* LEASE_DIALLING, LEASE_HELD */
    struct list link;                /* LEASE_DIAL_LINE; HTTP/2: LEASE_WAITING */
    struct h2_client_stream *stream; /* HTTP/2: LEASE_HELD */
    enum lease_state state;
    /* What it waited for is there (FAIL_NONE) or cannot be had. May only record that. */
    void (*ready)(struct lease *lease, enum fail fail);
};

enum pool_outcome {
    POOL_READY,  /* held */
    POOL_WAIT,   /* ready() will be called */
    POOL_FAILED, /* *fail says why */
};

void pool_loop_deinit(struct pool_loop *shared);
/* Makes what HTTP/2 needs, if it is not there. */
void pool_loop_use_h2(struct pool_loop *shared);

struct pool *pool_new(struct endpoint *endpoint, struct pool_loop *shared,
                      const struct pool_settings *settings);

/* No new leases; idle connections close, dials are cancelled, leased ones close when they come
 * back. The pool frees itself after its last connection. */
void pool_close(struct pool *pool);

/* Looks after the line for connections where other processes have some, and gives back what is idle
 * and awaited there. */
void pool_look(struct pool *pool);

/* Is there a connection that an exchange can have now? */
static inline bool pool_is_connected(const struct pool *pool) {
    return !list_is_empty(&pool->idle) || !list_is_empty(&pool->open) ||
           atomic_load_explicit(&pool->open_count, memory_order_relaxed) > 0;
}

/* The same where a dial has just failed: is it one that has shown since then that the endpoint
 * lives, or outlived that by POOL_DOUBT_NS? When an upstream dies its connections end one by one,
 * and a new one may be refused before the last of them has. */
#define POOL_DOUBT_NS (20 * NS_PER_MS)
bool pool_is_alive(const struct pool *pool);

/* @is_fresh: dials, unless the bound is reached, though there are idle connections: one of them has
 * just turned out to be dead. */
enum pool_outcome pool_lease(struct pool *pool, struct lease *lease, bool is_fresh,
                             enum fail *fail);

/* Starts the exchange that a held lease is for, as h1_client_start() and h2_client_start() do. */
void lease_start(struct lease *lease, struct exchange *x, const struct request_head *head,
                 struct content content);

/* Ends a lease in any state: what it waited for passes on, what it holds goes back to the pool or
 * is closed. */
void lease_end(struct lease *lease);
