/* The insides of the HTTP/2 server codec, shared by its reading, its writing and its watching part.
 */
#pragma once

#include "codec/conn_watch.h"
#include "codec/h2_server.h"

/* Of one stream; dies with nghttp2's own. */
struct h2_stream {
    struct list link;         /* in server->streams */
    struct list fresh;        /* in server->fresh: its body has got bytes, or its end */
    struct h2_server *server; /* borrowed */
    struct exchange *x;       /* borrowed: its owner; NULL: gone */
    int32_t id;
    struct h2_inflow in;
    struct h2_outflow out;
    int64_t started_ns;
    bool is_started : 1;  /* the exchange runs: the head was whole */
    bool is_ended : 1;    /* END_STREAM has come */
    bool is_answered : 1; /* the final head is submitted */
    bool is_sent : 1;     /* the response is through */
    bool is_reset : 1;    /* we have reset it */
    bool is_client_reset : 1;
    bool is_connect : 1; /* extended CONNECT */
};

struct h2_server {
    struct h2_server_loop *shared; /* borrowed */
    struct list link;              /* in shared->all */
    struct conn *conn;             /* owned until its on_closed */
    struct h2_session session;
    struct h2_guard guard;
    struct list streams; /* struct h2_stream, oldest first */
    struct list fresh;   /* struct h2_stream.fresh */
    unsigned exchanges;  /* on the streams */
    unsigned requests;   /* heads read */

    /* The section that is being read: one at a time on a connection. */
    struct h2_reading reading;
    int64_t head_since_ns; /* 0: none */

    int64_t idle_since_ns; /* no stream since */
    struct conn_watch watch;
};

extern const struct exchange_client h2_server_client;

/* h2_server_read.c: what nghttp2 tells. */
void h2_server_set_callbacks(nghttp2_session_callbacks *callbacks);

/* Why a connection, or a stream before its exchange, is ended. */
void h2_server_note(struct h2_server *server, enum fail fail, const char *why);
/* Ends the connection when it is too much. 0, or what a callback of nghttp2 returns. */
int h2_server_count(struct h2_server *server, enum h2_abuse kind);
/* Ends the connection; NGHTTP2_ERR_CALLBACK_FAILURE. */
int h2_server_refuse(struct h2_server *server, enum fail fail, const char *why);

/* h2_server_write.c: the stream's exchange hears nothing of it any more, and is told why if it has
 * not been through. */
void h2_stream_detach(struct h2_stream *stream, enum fail fail);
/* The same, and the stream is reset. */
void h2_stream_drop(struct h2_stream *stream, enum fail fail);
void h2_stream_on_reset(struct h2_outflow *flow);
void h2_stream_response_sent(struct h2_stream *stream);
/* The request's content is broken off; an answer can still be given. */
void h2_stream_fail_content(struct h2_stream *stream, enum fail fail, const char *why);

/* h2_server_watch.c: the timer, which looks after @timeout_ns at the latest. */
void h2_server_watch_init(struct h2_server *server);
static inline void h2_server_arm(struct h2_server *server, int64_t timeout_ns) {
    conn_watch_arm(&server->watch, server->shared->loop, timeout_ns);
}

/* h2_server.c: the connection is of no use any more. */
void h2_server_client_gone(struct h2_server *server, enum fail fail);
