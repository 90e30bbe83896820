/* The insides of the HTTP/1 server codec, shared by its reading and its writing half. */
#pragma once

#include "codec/conn_watch.h"
#include "codec/h1_chunked.h"
#include "codec/h1_send.h"
#include "codec/h1_server.h"
#include "codec/h1_write.h"

enum h1_reading { H1_HEAD, H1_CONTENT, H1_WAIT, H1_TUNNEL, H1_CLOSED };

struct h1_server {
    struct h1_server_loop *shared; /* borrowed */
    struct list link;              /* in shared->all */
    struct conn *conn;             /* owned until its on_closed */
    struct exchange *x;            /* borrowed: its owner; NULL between exchanges */

    enum h1_reading reading;
    struct buffer input;   /* bytes that could not be used yet: a part of a head, later requests */
    size_t input_used;     /* of input, at its front */
    size_t seen;           /* bytes of the head that were there at the last parse */
    uint64_t content_left; /* CONTENT_LENGTH */
    struct h1_chunked chunked;
    int64_t head_since_ns;  /* first byte of the head, 0: none yet */
    int64_t read_ns;        /* when bytes last came */
    unsigned requests;      /* heads read */
    bool is_eof : 1;        /* the client has closed its sending side */
    bool is_eof_told : 1;   /* a tunnel's exchange has been told of it */
    bool is_persistent : 1; /* as the request and the settings allow */

    /* Writing. */
    struct h1_send send;
    bool is_sending : 1; /* send_response() was called, the end is not sent yet */
    bool is_sent : 1;    /* the whole response is written */
    bool is_closing : 1; /* no further request: close after this exchange */

    struct conn_watch watch;
};

extern const struct exchange_client h1_server_client;

/* The loop is the only writer. */
static inline void h1_server_count(_Atomic unsigned *figure, int by) {
    unsigned before = atomic_load_explicit(figure, memory_order_relaxed);

    atomic_store_explicit(figure, before + (unsigned)by, memory_order_relaxed);
}

/* Reading half, for the writing half: takes up the next request once the exchange is finished. */
void h1_server_continue(struct h1_server *server);

/* Writing half, for the reading half: sends what the response holds. @has_head: behind the head in
 * the scratch buffer. */
void h1_server_pump(struct h1_server *server, bool has_head);

/* Has the timer look after @timeout_ns at the latest. */
static inline void h1_server_arm(struct h1_server *server, int64_t timeout_ns) {
    conn_watch_arm(&server->watch, server->shared->loop, timeout_ns);
}

/* Reading half: the connection is of no use any more. */
void h1_server_client_gone(struct h1_server *server, enum fail fail) __attribute__((cold));
