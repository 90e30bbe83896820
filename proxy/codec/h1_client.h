/* HTTP/1 towards upstreams: one exchange at a time over a conn, never pipelined (RFC 9112). The
 * request's head and whatever content is there go out in one write; content then flows both ways at
 * once, and the answer may come before the request is through. Home: loop. */
#pragma once

#include "base/buffer.h"
#include "codec/h1_parse.h"
#include "exchange/exchange.h"
#include "transport/conn.h"

struct h1_client;

struct h1_client_settings {
    struct h1_limits limits;    /* of response heads and trailers */
    unsigned max_informational; /* 1xx responses before a final one */
};

/* How an exchange has left the connection behind. */
enum h1_client_end {
    H1_CLIENT_REUSABLE, /* another exchange may be started */
    H1_CLIENT_FINISHED, /* both messages went through, but it is to be closed */
    H1_CLIENT_BROKEN,   /* one of them did not, or the connection has ended: to be closed */
};

/* How long a connection that broke off in mid-message waits for the upstream to see that, and how
 * much of what the upstream still sends is thrown away meanwhile. */
#define H1_CLIENT_BROKEN_NS (500 * NS_PER_MS)
#define H1_CLIENT_BROKEN_BYTES_MAX (256 * 1024)

struct h1_client_options {
    const struct h1_client_settings *settings; /* borrowed: outlives the conn */
    struct buffer *head;                       /* borrowed: scratch of the loop */
    /* No exchange is on it any more. Unless it is reusable the owner closes it. Called from
     * h1_client_detach(), or from the conn when an idle one ends or gets bytes unasked. */
    void (*on_idle)(void *ctx, enum h1_client_end end);
    /* The conn is gone, and the codec with it. */
    void (*on_closed)(void *ctx);
    void *ctx;    /* borrowed: the owner's */
    bool is_used; /* it has carried an exchange before, on another loop */
};

/* Serves @conn, which is the codec's from now on. */
struct h1_client *h1_client_open(struct conn *conn, const struct h1_client_options *options);

/* Starts an exchange on an idle codec: sends @head, framed for @content, and then x->request as it
 * comes; fills x->response_head and x->response. Failures are events of @x. */
void h1_client_start(struct h1_client *client, struct exchange *x, const struct request_head *head,
                     struct content content);

/* It will be used soon. */
void h1_client_prefetch(const struct h1_client *client, const struct loop *loop);

/* The exchange lets go of the codec, whatever its state; on_idle() follows before this returns. */
void h1_client_detach(struct h1_client *client);

/* Closes the conn: our FIN first, then for a bounded time the upstream's is awaited, so that it has
 * let go of the connection before another takes its place. @at_once: no other will. */
void h1_client_close(struct h1_client *client, bool at_once);

/* Hands the idle connection out, as conn_export() does; on_closed() follows. */
int h1_client_export(struct h1_client *client, struct conn_parcel *parcel);
