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

struct h1_client_options {
    const struct h1_client_settings *settings; /* borrowed: outlives the conn */
    struct buffer *head;                       /* borrowed: scratch of the loop */
    /* No exchange is on it any more: @is_reusable tells whether another may be started now. If not,
     * the owner closes it. Called from within an exchange's step or from the conn. */
    void (*on_idle)(void *ctx, bool is_reusable);
    /* The conn is gone, and the codec with it. */
    void (*on_closed)(void *ctx);
    void *ctx; /* borrowed: the owner's */
};

/* Serves @conn, which is the codec's from now on. */
struct h1_client *h1_client_open(struct conn *conn, const struct h1_client_options *options);

/* Starts an exchange on an idle codec: sends @head, framed for @content, and then x->request as it
 * comes; fills x->response_head and x->response. Failures are events of @x. */
void h1_client_start(struct h1_client *client, struct exchange *x, const struct request_head *head,
                     struct content content);

/* The exchange lets go of the codec, whatever its state; on_idle() follows before this returns. */
void h1_client_detach(struct h1_client *client);

/* Closes the conn: politely (sends FIN, awaits the upstream's for a bounded time) or at once. */
void h1_client_close(struct h1_client *client, bool at_once);

/* Hands the idle connection's socket out (conn_export()); on_closed() follows. */
int h1_client_export(struct h1_client *client);
