/* An exchange: one request and its response, protocol-neutral. The codecs on both sides meet only
 * here. I/O callbacks record what happened in `events` and wake the exchange; its owner's step
 * machine runs from the top of the loop's stack and is the only one that decides. Home: loop.
 * Owner: gateway. */
#pragma once

#include "base/arena.h"
#include "exchange/body.h"
#include "exchange/fail.h"
#include "exchange/head.h"
#include "loop/loop.h"

#include <sys/socket.h>

struct exchange;

/* What a client-side codec does for an exchange. HTTP/1 now; the exchange knows no other way to it.
 */
struct exchange_client {
    /* Passes an interim response on (RFC 9110 section 15.2), at once. */
    void (*send_informational)(struct exchange *x, const struct response_head *head);
    /* Sends x->response_head and, as it comes, x->response. @content: how long it is, if known. */
    void (*send_response)(struct exchange *x, struct content content);
    /* Breaks off a response that has begun. */
    void (*abort)(struct exchange *x);
    /* The exchange is over and goes away: forget it, and go on with the next. */
    void (*finished)(struct exchange *x);
};

enum exchange_event {
    EXCHANGE_STARTED = 1 << 0,     /* the request head is there */
    EXCHANGE_CLIENT_GONE = 1 << 1, /* nobody reads the response; x->client_fail says why */
    EXCHANGE_CLIENT_FAIL = 1 << 2, /* the request's content went wrong, an answer can still be sent;
                                      x->client_fail says why */
    EXCHANGE_RESPONSE_HEAD = 1 << 3, /* x->response_head is the final one */
    EXCHANGE_UPSTREAM_FAIL = 1 << 4, /* before a response head; x->upstream_fail says why */
    EXCHANGE_UPSTREAM_DONE = 1 << 5, /* request and response have gone through the upstream whole */
    EXCHANGE_RESPONSE_SENT = 1 << 6, /* the client's codec has sent the last byte */
    EXCHANGE_GRANTED = 1 << 7,       /* what it waited for in a queue is there */
    EXCHANGE_DEADLINE = 1 << 8,
};

struct exchange {
    struct task task;
    struct loop *loop; /* borrowed */
    struct arena arena;
    uint32_t events; /* enum exchange_event bits, cleared by who has acted on them */
    int64_t started_ns;

    const struct exchange_client *client;  /* borrowed: static; NULL once the client is gone */
    void *client_ctx;                      /* borrowed: the codec's */
    const struct sockaddr *client_address; /* borrowed: conn; AF_UNSPEC on unix sockets */
    struct slice client_certificate; /* borrowed: conn or arena; verified, as a Client-Cert field
                                        has it (RFC 9440); empty: none */
    struct slice client_subject;     /* borrowed likewise; the name in it (RFC 4514) */
    bool is_secure;                  /* it came over TLS */
    enum fail client_fail;
    const char *client_why; /* static text behind client_fail, or NULL */

    struct request_head request_head;
    struct content request_content;

    /* Changes an interim response before it is passed on; NULL: it stays as it is. */
    void (*adapt_informational)(struct exchange *x, struct response_head *head);
    struct response_head response_head;
    struct content response_content;
    enum fail upstream_fail;
    const char *upstream_why; /* static text behind upstream_fail, or NULL */
    uint32_t upstream_code;   /* with which an HTTP/2 upstream has reset it, or 0 */

    struct timer deadline;
    bool is_tunnel; /* 101 was answered: both bodies carry raw bytes */
    bool is_stream; /* may be silent for stream_idle, has no deadline; tunnels are streams */
    bool is_response_begun; /* send_response() was called */

    struct body request, response;
};

/* Of an exchange and what its owner has behind it: what the way back needs. */
#define EXCHANGE_WAY_BACK_BYTES 2304

/* Its answer is there; nobody has touched it since its request was sent. */
static inline void exchange_prefetch(const struct exchange *x) {
    loop_prefetch(x->loop, x, EXCHANGE_WAY_BACK_BYTES);
}

/* @memory is the arena's first block. */
void exchange_init(struct exchange *x, struct loop *loop, task_fn *run, void *memory, size_t size);

/* Takes everything back but @x itself. */
void exchange_deinit(struct exchange *x);

/* Records @events and puts @x on the ready list. */
static inline void exchange_wake(struct exchange *x, uint32_t events) {
    x->events |= events;
    loop_wake(x->loop, &x->task);
}

/* An interim response of the upstream: passes it on, if the client is still there. */
void exchange_inform(struct exchange *x, struct response_head *head);

/* The client has left: takes its codec off and wakes @x. */
void exchange_client_gone(struct exchange *x, enum fail fail) __attribute__((cold));

/* The upstream has failed: before the response head, as an event; after it, by resetting the
 * response. @why may be NULL. */
void exchange_upstream_failed(struct exchange *x, enum fail fail, const char *why)
    __attribute__((cold));
