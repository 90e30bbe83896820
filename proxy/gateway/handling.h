/* The handlers of a route around an exchange: which is called with what, and what becomes of its
 * answer. Requests pass them in the route's order, responses in reverse. An exchange whose route
 * has none never gets here. Home: loop. */
#pragma once

#include "gateway/crossing.h"
#include "handler/handlers.h"

enum handling_outcome {
    HANDLING_DONE,     /* all have been called: it may go on */
    HANDLING_WAIT,     /* for a call, or for content; the exchange is woken */
    HANDLING_ANSWERED, /* a handler's own answer is on its way to the client */
    HANDLING_FAILED,   /* c->fail and c->why say why */
};

struct handling {
    struct call *call; /* under way, or answered and not looked at yet; NULL: none */
    bool is_answered;
    bool is_response;  /* the response passes them */
    size_t next;       /* of the route's handlers: the one that is called, or will be */
    int64_t called_ns; /* since when call is under way */
    const struct config_handler *last; /* borrowed: who answered or failed; NULL: nobody */
    struct slice target; /* arena; as the client asked, once a handler has set another path */
    const struct call_variable *variables; /* arena */
    unsigned variable_count;
    size_t collected;     /* bytes of content that are charged to the gateway's memory for that */
    struct fields fields; /* arena; of any reply but the upstream's */
    /* Of a refusal (FAIL_HANDLER_REFUSED): */
    unsigned status;
    const char *title, *remedy; /* arena; NULL: nobody has refused */
};

/* What a handler has said when it refused; NULL: none has. */
static inline const struct handling *handling_refusal(const struct crossing *c) {
    return c->handling && c->handling->title ? c->handling : NULL;
}

/* Both are called again whenever the exchange is woken, until they have something else to say than
 * to wait. */
enum handling_outcome handling_request(struct crossing *c);
enum handling_outcome handling_response(struct crossing *c);

/* Puts what the handlers have counted themselves into the counters. Of the first loop, now and
 * then.
 */
void handling_count(struct gateway_loop *gl);

/* Nothing is waited for any more: a call that is under way ends without us, and what is charged is
 * given back. May be called at any time, and again. */
void handling_let_go(struct crossing *c);

/* c->fail is @reason, because of @handler. */
enum handling_outcome handling_fail(struct crossing *c, const struct config_handler *handler,
                                    enum fail reason);

/* Collects as much of the request's content as the handler @config may see (handling_body.c).
 * HANDLING_DONE: x->request holds it. */
enum handling_outcome handling_collect(struct crossing *c, const struct config_handler *config,
                                       unsigned flags);
/* What of it is handed on: into @to, and whether there is more. */
void handling_content(const struct crossing *c, const struct config_handler *config,
                      struct buffer *to, bool *is_truncated);
/* Has the request content that could be collected? */
bool handling_has_content(const struct crossing *c);
/* Gives back what is charged for content that is gone; all of it: @is_over. */
void handling_give_back(struct crossing *c, bool is_over);

/* Does what @handler wants done (handling_answer.c): to the head that is on its way, or by an
 * answer of its own. */
enum handling_outcome handling_apply(struct crossing *c, const struct config_handler *handler,
                                     const struct call_answer *answer);
/* What an answer of that HTTP status is to a gRPC client. */
enum grpc_status handling_grpc_status(unsigned http);
