/* HTTP/2 towards upstreams: many exchanges over a conn, each a stream (RFC 9113). The counterpart
 * of h1_client.h. Home: loop.
 *
 *            | SETTINGS came | GOAWAY came, or   | the conn has ended, or nothing
 *            |               | ids are used up   | is left to be said on it
 *   OPENING  | OPEN          | ENDING            | OVER
 *   OPEN     | OPEN          | ENDING            | OVER
 *   ENDING   | ENDING        | ENDING            | OVER
 *
 * Exchanges are started while it is OPEN. In ENDING those that are on it go on; in OVER all have
 * been told, and the owner closes it once they have let go.
 *
 * Signs of life. While exchanges are on it, a connection that was silent for a while is asked with
 * a PING; one that then stays silent is dead. gRPC's servers take pings that come more often than
 * every five minutes for abuse, unless they have sent content or heads in between: so do we. */
#pragma once

#include "codec/h1_parse.h"
#include "codec/h2_message.h"
#include "codec/h2_session.h"
#include "exchange/exchange.h"

/* Between two pings with no head or content from the upstream in between (GRPC_ARG_HTTP2_MIN_RECV_
 * PING_INTERVAL_WITHOUT_DATA_MS and MinTime of grpc-go's EnforcementPolicy). */
#define H2_PING_SILENT_NS (300 * NS_PER_S)

/* How long the last frames of a connection that we end may take to go out. */
#define H2_CLIENT_END_NS NS_PER_S

struct h2_client;
struct h2_client_stream;

struct h2_client_settings {
    struct h1_limits limits;    /* of response heads and trailers */
    unsigned max_informational; /* 1xx responses before a final one */
    unsigned streams;           /* at once, >= 1; the upstream may allow less */
    int64_t ping_ns;            /* silence before a PING; 0: none */
    int64_t pong_timeout_ns;    /* silence after it */
};

/* What the clients of a loop share. */
struct h2_client_loop {
    struct h2_library library;
    struct h2_block block; /* scratch for heads and trailers */
};

void h2_client_loop_init(struct h2_client_loop *shared);
void h2_client_loop_deinit(struct h2_client_loop *shared);

struct h2_client_options {
    const struct h2_client_settings *settings; /* borrowed: outlives the conn */
    struct h2_client_loop *shared;             /* borrowed */
    /* State, room or use have changed. From the top of the stack. */
    void (*on_change)(void *ctx);
    /* The conn is gone, and the codec with it. */
    void (*on_closed)(void *ctx);
    void *ctx; /* borrowed: the owner's */
};

enum h2_client_state { H2_CLIENT_OPENING, H2_CLIENT_OPEN, H2_CLIENT_ENDING, H2_CLIENT_OVER };

/* Serves @conn, which is the codec's from now on. */
struct h2_client *h2_client_open(struct conn *conn, const struct h2_client_options *options);

enum h2_client_state h2_client_state(const struct h2_client *client);
/* Why it never was OPEN, or FAIL_NONE. */
enum fail h2_client_fail(const struct h2_client *client);
/* In which way the upstream breaks HTTP/2, behind UPSTREAM_MALFORMED. The codec's memory. */
const char *h2_client_why(const struct h2_client *client);
/* How many further streams may be reserved now. */
unsigned h2_client_room(const struct h2_client *client);
/* How many there may be at once, as far as is known. */
unsigned h2_client_streams_max(const struct h2_client *client);
/* Streams that were reserved and not given back yet. */
unsigned h2_client_used(const struct h2_client *client);

/* The right to one stream; there must be room. The codec's memory, until h2_client_detach(). */
struct h2_client_stream *h2_client_reserve(struct h2_client *client);

/* Starts an exchange: sends @head and then x->request as it comes; fills x->response_head and
 * x->response. Failures, also of the start, are events of @x. An upgrade becomes an extended
 * CONNECT (RFC 8441), if the upstream takes these. */
void h2_client_start(struct h2_client_stream *stream, struct exchange *x,
                     const struct request_head *head, struct content content);

/* Gives the stream back, whatever its state: if it is not through it is reset (CANCEL). */
void h2_client_detach(struct h2_client_stream *stream);

/* Ends an unused connection: GOAWAY, our FIN, and for a bounded time the upstream's is awaited.
 * @at_once: without any of it. */
void h2_client_close(struct h2_client *client, bool at_once);
