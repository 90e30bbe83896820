/* An exchange as the gateway carries it across: with its route, its permit, its attempt and its
 * times. Made when a codec begins to read a head, gone when the answer is through. Home: loop. */
#pragma once

#include "child/run.h"
#include "codec/grpc.h"
#include "exchange/exchange.h"
#include "gateway/gateway.h"
#include "pipeline/balancer.h"
#include "pipeline/permit.h"
#include "route/route.h"
#include "upstream/trial.h"

/* First block of the arena: the usual request and response heads fit. */
#define CROSSING_ARENA_BYTES 6144
#define CROSSING_USED_BYTES 1024 /* of it, by a small exchange */
#define CROSSING_POOL_MAX 1024   /* free ones that a loop keeps */

/* How often one may meet a connection that ends: these attempts are nobody's failure and count
 * neither as such nor against retry.attempts, but an upstream may not keep us busy for ever. */
#define CROSSING_GOAWAYS_MAX 10

/* Events beyond the exchange's own. */
#define CROSSING_LEASE_OVER (1u << 16) /* the lease is held, or lease_fail says why not */
#define CROSSING_WAIT_OVER \
    (1u << 17) /* max_wait has passed, or GRPC_TRAILERS_WITHIN_NS, or TUNNEL_ANSWER_NS */
#define CROSSING_STREAMS (1u << 18) /* a second message has come */
#define CROSSING_TURN_OVER \
    (1u << 19) /* the hold's, the pause's, or the attempt's time has passed */

enum step {
    STEP_ROUTE,   /* which route and pipeline? */
    STEP_HANDLE,  /* the route's handlers see the request */
    STEP_QUEUE,   /* a permit to be in flight */
    STEP_LEASE,   /* a connection to an endpoint */
    STEP_SEND,    /* the request head goes out */
    STEP_AWAIT,   /* the response head */
    STEP_HANDLED, /* the handlers see it, too */
    STEP_RESPOND, /* it goes to the client */
    STEP_RELAY,   /* content flows; the end of both sides */
    STEP_HOLD,    /* no endpoint is usable: one comes back, or the time is up */
    STEP_PAUSE,   /* before it is tried again */
    STEP_HEALTH,  /* weir answers for its health, and goes on answering */
    STEP_REPLY,   /* weir's own answer is on its way */
    STEP_FINISH,
    STEPS
};

/* What becomes of an exchange that has failed. */
enum again {
    AGAIN_NOT,
    AGAIN_NOW,
    AGAIN_LATER, /* after pause_ns */
    AGAIN_HOLD,  /* when an endpoint is back */
};

struct crossing {
    struct exchange x;
    struct list link;                  /* in the loop's exchanges, oldest first */
    struct gateway_listener *listener; /* borrowed */
    enum step step;
    bool has_started;      /* its head was read: it counts */
    bool is_trusted;       /* the client's forwarding fields are believed */
    bool needs_fresh;      /* a connection that was not idle: the last one was stale */
    bool is_upstream_done; /* both messages have gone through the upstream */
    bool is_counted_stream, is_counted_tunnel; /* in the streams gauge */

    const struct config_route *route; /* borrowed: config; NULL until found */
    size_t route_index;
    struct slice allow;         /* arena; of a 405 */
    struct pipeline_loop *part; /* borrowed */
    size_t pipeline_index;
    struct handling
        *handling;         /* arena; once the route's handlers are asked; NULL: there are none */
    struct tunnel *tunnel; /* arena; of a WebSocket, from its request on, else NULL */
    enum config_priority priority; /* of the route, or as the client may say */
    struct permit permit;
    struct lease lease;
    struct run
        *run; /* of a pipeline that runs a program for each exchange; NULL: none (any more) */
    enum fail lease_fail;
    struct balancer_wish wish; /* what does not change from attempt to attempt */
    bool has_session;          /* of an affinity; its key is in wish */
    struct endpoint *endpoint; /* counted: of the last attempt; NULL: none yet */
    struct trial trial;        /* likewise */
    unsigned attempts;
    unsigned goaways; /* attempts that an upstream refused as it ended the connection */
    struct timer wait;

    /* Of further tries (again.c). */
    struct timer turn;
    enum again again; /* decided before the failure was told */
    int64_t pause_ns;
    unsigned sends, retries;
    bool has_no_budget; /* it would have been tried once more */
    struct hold_ticket held;
    int64_t hold_until_ns; /* 0: it was not held since it was last sent */
    int64_t hold_since_ns;
    int64_t held_ns; /* in all */

    struct slice request_id; /* arena */
    enum fail fail;          /* why weir answered itself or broke off; FAIL_NONE */
    const char *why;         /* static text or arena, or NULL */
    unsigned status;         /* that the client got; 0: none */
    int64_t queued_ns, sent_ns, first_byte_ns; /* 0: not yet */

    bool is_grpc;
    struct rewrite *rewrite;  /* arena; of URLs; NULL: none are rewritten */
    struct grpc_web *web;     /* arena; of a gRPC-Web call, which is a gRPC call too; NULL: none */
    int64_t grpc_deadline_ns; /* as the client set it; 0: it has none */
    struct grpc_messages asked, answered;
    struct slice watched;    /* service whose health was asked for; arena; no base: none */
    unsigned watched_status; /* as last said */
    struct list watch;       /* in the loop's watches */
    max_align_t memory[CROSSING_ARENA_BYTES / sizeof(max_align_t)];
};

static inline struct crossing *crossing_of(struct exchange *x) {
    return CONTAINER_OF(x, struct crossing, x);
}

struct crossing *crossing_new(struct gateway_listener *listener);
void crossing_free(struct crossing *c);
/* Its head was read: from now on it has an id, counts, and will be recorded. */
void crossing_start(struct crossing *c);

/* The step machine (steps.c). */
void steps_run(struct task *task);
/* The pipelines' gate callbacks. */
void steps_permit_granted(struct gate_ticket *ticket, void *gift);
void steps_permit_refused(struct gate_ticket *ticket);

/* Further tries (again.c). */

/* What becomes of it after @fail; a retry has been charged then. */
enum again again_after(struct crossing *c, enum fail fail);
/* Takes back what the failed attempt has left. */
void again_prepare(struct crossing *c, enum fail fail);
/* May its request be processed twice? */
bool again_is_repeatable(const struct crossing *c);
/* Is the response head that has come one that the pipeline retries? */
bool again_is_unwelcome(struct crossing *c);
/* An attempt is about to be made. */
void again_sent(struct crossing *c);

/* Is it to wait until an endpoint is back? */
bool again_must_hold(const struct crossing *c);
enum again_hold {
    AGAIN_HOLD_WAIT,
    AGAIN_HOLD_OVER, /* it has its permit */
    AGAIN_HOLD_FULL, /* too many wait already */
    AGAIN_HOLD_TIMEOUT,
};
/* Begins or goes on to wait, without a permit. */
enum again_hold again_hold(struct crossing *c);
/* The pipelines' callback. */
void again_let_go(struct hold_ticket *ticket);

/* Where it belongs (affinity.c). */

/* Sets c->wish, once the route is known. FAIL_AFFINITY_LOST. */
enum fail affinity_find(struct crossing *c);
/* Of a strict one: may its endpoint be used? */
enum fail affinity_check(const struct crossing *c);
/* The response is about to be sent: learns from it, or adds a cookie. */
void affinity_respond(struct crossing *c);

/* The request as it is sent on: hop-by-hop fields removed, forwarding fields added (forward.c).
 * Into @out, whose fields live in the arena. */
void forward_request(struct crossing *c, struct request_head *out);
/* The same for x->response_head, in place. */
void forward_response(struct crossing *c);
/* A trusted client's X-Request-Id if it is sound, else a new one; arena. */
struct slice forward_request_id(struct crossing *c);
/* A new one into @to. */
#define REQUEST_ID_BYTES 32
struct slice forward_make_request_id(char *to);
/* Does it ask for a WebSocket, and nothing else? */
bool forward_is_websocket(const struct request_head *head);
/* Max-Forwards has run out (RFC 9110 section 7.6.2). */
bool forward_is_stopped(const struct crossing *c);

/* weir's own answer to c->fail: fills x->response_head, x->response_content and x->response
 * (reply.c). */
void reply_make(struct crossing *c);
/* The parts of it: Date and X-Request-Id; and @text as the content, or its length alone. */
void reply_add_own(struct crossing *c);
struct content reply_fill(struct crossing *c, struct slice text);
/* Sends what is in these. */
void reply_send(struct crossing *c);
/* After how long whoever is refused with it should come back: 1 to 60 s. */
unsigned reply_retry_ms(const struct crossing *c);
/* The same as bytes, for a head that could not be read. */
void reply_write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                         struct buffer *out);

/* Programs behind pipelines (programs.c). */

/* Why no request is to be sent to the pipeline now: its program keeps dying. FAIL_NONE: it may be.
 */
enum fail programs_refuse(struct crossing *c, const char **why);
/* Does the pipeline run a program for each exchange? */
static inline bool programs_is_exec(const struct crossing *c) {
    return c->part && c->part->shared->config->protocol == PROTOCOL_EXEC;
}
/* Has it started. FAIL_NONE, else as run_start(). */
enum fail programs_start(struct crossing *c, const char **why);
/* Lets go of the program, which takes the permit with it until nobody of its tree is left. */
void programs_let_go(struct crossing *c);

/* Streams (stream.c). */

/* The exchange's deadline is in @ns, or when the client has said, whichever is sooner; 0: only the
 * latter. */
void stream_start_deadline(struct crossing *c, int64_t ns);
/* It turns out to be a stream, which has no deadline but its client's, and another limit than
 * exchanges that come and go. May be told again. */
void stream_begin(struct crossing *c);
/* text/event-stream? */
bool stream_is_of_events(const struct response_head *head);

/* What is particular of gRPC calls (grpc.c). */

/* How long after a first response message the trailers of a unary call may take. */
#define GRPC_TRAILERS_WITHIN_NS NS_PER_S

/* The call's own deadline is read, and its messages will be watched. */
void grpc_begin(struct crossing *c);
/* An attempt is about to be made: its answer will be watched too. A gRPC-Web call's @head and
 * @content are made those of a gRPC call. */
void grpc_send(struct crossing *c, struct request_head *head, struct content *content);
/* Content has come, of whole messages and pieces of them. */
void grpc_see_request(struct crossing *c, struct slice bytes);
void grpc_see_response(struct crossing *c, struct slice bytes);
/* Has it turned out to be a stream? */
bool grpc_is_streaming(struct crossing *c);
/* weir's own answer to c->fail: trailers only, into x->response_head, whose fields are kept. */
void grpc_reply(struct crossing *c);
/* The same without a status. */
void grpc_reply_begin(struct crossing *c);
/* Ends a response that is broken off with trailers that say why. False when that cannot be said, or
 * the upstream has said it by a reset: the response is to be aborted. */
bool grpc_end(struct crossing *c);
/* How it ended, for logs and metrics. */
enum grpc_status grpc_outcome(const struct crossing *c);

/* gRPC-Web calls on routes that take them: what is said otherwise there is translated, and from
 * there on they are gRPC calls (grpc_web.c). */

/* Is it one? Then c->web is there, and it is a gRPC call from now on. */
void grpc_web_look(struct crossing *c);
/* The parts of grpc_begin() and grpc_send(). */
void grpc_web_begin(struct crossing *c);
void grpc_web_send(struct crossing *c, struct request_head *head, struct content *content);
/* The upstream's answer is about to be sent on: x->response_head and x->response_content. */
void grpc_web_respond(struct crossing *c);
/* The content-type of weir's own answer. */
struct slice grpc_web_reply_type(struct crossing *c);
/* As grpc_end(), with x->response.trailers set. */
bool grpc_web_end(struct crossing *c);
/* The trailers that were said; a field may be in the head instead. */
const struct fields *grpc_web_trailers_said(const struct crossing *c);

/* WebSockets (tunnel.c), which are told 1001 ("going away") when they have to end. Of other
 * exchanges these do nothing. */

/* How long both sides may take to answer the first Close frame. */
#define TUNNEL_ANSWER_NS (2 * NS_PER_S)

/* What the client sends will be watched. */
void tunnel_begin(struct crossing *c);
/* An attempt is about to be made: what the upstream sends will be watched too. */
void tunnel_send(struct crossing *c);
/* It is to be closed, at the next border between frames of either direction. */
void tunnel_end(struct crossing *c);
/* Something has come, or tunnel_end() was called: is a border there? */
void tunnel_look(struct crossing *c);

/* What the attempt says of its endpoint (verdict.c). The first word counts. */

/* It has an answer, in part or whole; or it has become a stream. */
void verdict_look(struct crossing *c);
/* It has failed: c->fail. */
void verdict_fail(struct crossing *c);

/* weir's own health service (health.c). */
enum health_outcome {
    HEALTH_WAIT,     /* for the request, or because it is a Watch */
    HEALTH_ANSWERED, /* the answer is on its way */
    HEALTH_BAD,      /* what is asked cannot be read */
};

bool health_is_asked(const struct crossing *c);
enum health_outcome health_answer(struct crossing *c);
/* At every tick: tells the watchers what has changed. */
void health_look(struct gateway_loop *gl);
/* Ends all watches. */
void health_drain(struct gateway_loop *gl);

/* Access log and counters of a finished one (access.c). */
void access_record(struct crossing *c);
/* c->fail, for the operator: what a client alone can cause is in the access log only. */
void access_log_failure(const struct crossing *c);
void access_record_refusal(struct gateway_listener *listener, const struct h1_refusal *refusal,
                           struct slice request_id, enum counters_protocol protocol);
