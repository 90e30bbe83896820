/* A program that is run for one exchange: the request's content goes to its standard input, its
 * standard output comes back as the response, through pipes that hold back whoever is too fast on
 * either side. It is over when nobody of its process tree is left and all of its output was read.
 *
 * The response's head is there with the first output, or (output = "sse", or a stream by its route)
 * as soon as the program runs, or at its end. A program that fails before any output is a failure
 * of the exchange; one that fails later says so at the end of what it has said: in the trailer
 * "weir-exit-status", or in an event "exit". Whoever lets go of a run ends its tree. Home: loop. */
#pragma once

#include "base/buffer.h"
#include "child/run_loop.h"
#include "config/process.h"
#include "exchange/exchange.h"

struct run;

#define RUN_LINE_MAX (64 * 1024) /* output = "lines": a longer line is passed on in pieces */
#define RUN_ENV_MAX (128 * 1024) /* bytes of what a request adds to the environment */

struct run_options {
    unsigned pipeline; /* its index in the configuration that the nursery was given */
    enum config_output output;
    const char *content_type; /* borrowed: outlives the run; NULL: by the output */
    int64_t grace_ns;         /* for the end of a program that has closed its standard output */
    struct buffer env; /* "NAME=value", each with a NUL behind it; the run's from here on, also
                          when it cannot be started */
    /* Nobody of the tree is left. */
    void (*on_gone)(void *ctx);
    void *ctx; /* borrowed: until on_gone() */
};

/* Starts the program for @x: fills x->response_head and x->response, takes x->request, as a codec
 * would; failures from here on are events of @x. FAIL_NONE; else why there is none, and *@why may
 * say more; on_gone() is not called then. */
enum fail run_start(struct run **out, struct run_loop *rl, struct exchange *x,
                    const struct run_options *options, const char **why);

/* Is nobody of its tree left? */
bool run_is_gone(const struct run *run);

/* As it was given. */
void *run_ctx(const struct run *run);

/* The exchange lets go of it, whatever its state. */
void run_detach(struct run *run);

/* For run_loop.c: it can be sent now, the nursery has said something, the channel is lost. */
void run_send(struct run *run);
void run_told(struct run *run, const char *verb, const char *rest);
void run_lost(struct run *run);
unsigned long run_id(const struct run *run);
struct run *run_of_link(struct list *link);
struct run *run_of_unsent(struct list *link);
