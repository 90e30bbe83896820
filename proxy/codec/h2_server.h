/* HTTP/2 towards clients: the streams of a conn to exchanges and back (RFC 9113), by nghttp2. Many
 * exchanges at a time; content streams both ways at once, within windows that follow what the other
 * side of each exchange takes. Home: loop.
 *
 * A stream, and the exchange on it:
 *
 *              | its head is whole | answer sent      | exchange over   | reset, either side
 *   HEAD       | made: LIVE        | -                | -               | given back
 *   LIVE       | -                 | LIVE: RESPONSE_  | gone from it;   | CLIENT_GONE
 *              |                   | SENT             | RST when the    |
 *              |                   |                  | request goes on |
 *
 * Memory: an exchange for each stream, of which there are at most settings->max_concurrent_streams;
 * what it holds of content is bounded by h2_session.h. */
#pragma once

#include "codec/h1_server.h"
#include "codec/h2_guard.h"
#include "codec/h2_message.h"
#include "codec/h2_session.h"

struct h2_server;

struct h2_server_settings {
    struct h1_limits limits;
    int64_t header_timeout_ns;
    int64_t body_timeout_ns;
    int64_t idle_timeout_ns;
    int64_t stream_idle_timeout_ns;
    unsigned max_requests;           /* on one connection; 0: no bound */
    unsigned max_concurrent_streams; /* at least 1 */
    unsigned header_table_bytes;     /* of either HPACK table */
    unsigned max_continuations;      /* CONTINUATION frames of one section */
    struct h2_guard_limits guard;
};

/* One listener on one loop: what its connections share. */
struct h2_server_loop {
    struct loop *loop;                         /* borrowed */
    const struct h2_server_settings *settings; /* borrowed: outlives the loop */
    /* As in h1_server.h. A head that is refused becomes an exchange too: it starts with
     * EXCHANGE_CLIENT_FAIL. */
    struct exchange *(*make_exchange)(struct h2_server_loop *shared);
    void (*drop_exchange)(struct h2_server_loop *shared, struct exchange *x);
    /* A message that was malformed below that (RFC 9113 section 8.1.1: its stream was reset), or a
     * connection that was ended for abuse. */
    void (*note_refusal)(struct h2_server_loop *shared, const struct h1_refusal *refusal);
    bool is_draining;        /* set by h2_server_drain() */
    bool is_succeeded;       /* set by h2_server_succeed() */
    struct list all;         /* struct h2_server */
    _Atomic unsigned count;  /* of all; any thread may read */
    _Atomic unsigned active; /* of these with an exchange; any thread may read */
    struct h2_library library;
    struct h2_block block; /* scratch for heads */
};

void h2_server_loop_init(struct h2_server_loop *shared);
void h2_server_loop_deinit(struct h2_server_loop *shared);

/* Serves @conn, which is the codec's from now on. The connection preface is yet to be read. */
void h2_server_open(struct h2_server_loop *shared, struct conn *conn);

/* GOAWAY on every connection, in two steps; each is closed when its last stream is through. */
void h2_server_drain(struct h2_server_loop *shared);

/* The same where a successor serves new connections already: one that has not carried a request yet
 * may bring its first before. A GOAWAY beside its SETTINGS would be to some clients (grpc-core) a
 * connection that could not be made, and calls that wait for it would fail. */
void h2_server_succeed(struct h2_server_loop *shared);

/* The same on up to @max (at most LONGEST_MAX) connections that have been without a stream for
 * @idle_ns or more, the longest first. Returns how many. */
unsigned h2_server_evict(struct h2_server_loop *shared, int64_t idle_ns, unsigned max);

/* The same on up to @max that have carried a request, whether they are idle or not, the oldest
 * first: their clients come again, behind those that wait. */
void h2_server_retire(struct h2_server_loop *shared, unsigned max);

/* Breaks off every connection. */
void h2_server_abort_all(struct h2_server_loop *shared);
