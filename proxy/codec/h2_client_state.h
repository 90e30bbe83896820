/* The insides of the HTTP/2 client codec, shared by its connection and its streams. */
#pragma once

#include "codec/h2_client.h"
#include "codec/h2_message.h"

/* One head of so many is teaching (h2_write_request()), in case that newer entries have pushed the
 * names out of the upstream's HPACK table. */
#define H2_TEACH_EVERY 64

struct h2_client_stream {
    struct list link;         /* in client->streams, or ->free */
    struct list fresh;        /* in client->fresh: content came in this turn of reading */
    struct h2_client *client; /* borrowed: owns it */
    struct exchange *x;       /* borrowed: its owner; NULL: reserved, or detached */
    struct h2_inflow in;
    struct h2_outflow out;
    int32_t id;            /* 0: not started */
    uint64_t heard_before; /* client->heard when it started */
    unsigned informational;
    bool is_attached : 1;  /* reserved and not given back */
    bool is_stale : 1;     /* the conn had been used before: its end may be a race */
    bool is_tunnel : 1;    /* an extended CONNECT */
    bool is_begun : 1;     /* the tunnel's bytes go out */
    bool is_head_sent : 1; /* handed to the conn, so that the upstream may have seen it */
    bool is_request_sent : 1;
    bool is_head_received : 1;
    bool is_response_received : 1;
    bool is_failed : 1; /* the exchange was told */
    bool is_closed : 1; /* nghttp2 knows it no more */
};

struct h2_client {
    struct h2_session session;
    struct conn *conn; /* owned until its on_closed */
    struct h2_client_options o;
    struct list streams;       /* struct h2_client_stream: reserved, or known to nghttp2 */
    struct list free;          /* struct h2_client_stream, to be used again */
    struct list fresh;         /* struct h2_client_stream.fresh */
    struct h2_reading reading; /* the section that is coming in */
    unsigned used;             /* attached streams */
    unsigned reserved;         /* of these: not started */
    unsigned on_wire;          /* started and not closed, detached ones included */
    unsigned submitted;        /* heads of requests */
    unsigned remote_max;       /* SETTINGS_MAX_CONCURRENT_STREAMS */
    int32_t last_id;           /* GOAWAY: streams above it were not processed */
    uint64_t heard;            /* bytes in all */
    int64_t heard_ns;          /* when the last came, or the first stream began after a rest */
    int64_t pinged_ns;         /* 0: never */
    struct task changed;
    struct timer timer;   /* signs of life; the end */
    enum fail fail;       /* why it is of no use */
    char why[H2_WHY_MAX]; /* it breaks HTTP/2; "": it does not */
    bool is_ready : 1;    /* SETTINGS are there */
    bool may_tunnel : 1;
    bool is_going : 1;     /* no new streams */
    bool is_over : 1;      /* the session is */
    bool is_broken : 1;    /* the conn is */
    bool is_closing : 1;   /* h2_client_close() was called */
    bool is_pinging : 1;   /* nothing has come since the PING */
    bool is_ping_free : 1; /* a head or content has come since */
};

/* nghttp2's callbacks that concern streams (h2_client_stream.c). */
void h2_client_set_stream_callbacks(nghttp2_session_callbacks *callbacks);
/* A frame of a stream is complete. */
void h2_client_on_frame(struct h2_client *client, const nghttp2_frame *frame);
/* The upstream breaks HTTP/2 in this way; the first one counts. @why is copied. */
void h2_client_blame(struct h2_client *client, const char *why);
/* The conn has ended under @stream; @why is copied. */
void h2_client_stream_lost(struct h2_client_stream *stream, enum fail reason, const char *why);

/* A stream has begun on a connection that carried none. */
void h2_client_watch(struct h2_client *client);

static inline void h2_client_wake(struct h2_client *client) {
    loop_wake(client->conn->loop, &client->changed);
}
