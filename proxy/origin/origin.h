/* An HTTP/1.1 origin server on one loop, made of weir's own acceptor, connections and codec: what
 * the demo engine and the bridge to a stdio server are. What it answers is its owner's, who is
 * asked for each request (visit.h). Home: its process, loop. */
#pragma once

#include "codec/h1_server.h"
#include "transport/acceptor.h"

struct origin;
struct visit;

struct origin_options {
    const char *name; /* in messages: "the demo engine"; static */
    /* A request head has come: to be answered, now or later. */
    void (*visited)(struct visit *v);
    /* SIGTERM: no more will come; visits are woken with VISIT_ENDING. NULL: nothing to do. */
    void (*ending)(struct origin *origin);
};

struct origin {
    struct origin_options o;
    struct loop loop;
    struct fds fds;
    struct gate connections;
    struct h1_server_settings settings;
    struct h1_server_loop h1;
    struct acceptor *acceptor; /* owned; NULL: not accepting */
    struct list visits;        /* struct visit */
    uv_signal_t sigterm;
    struct timer drain_timer;
    int64_t drain_until_ns; /* 0: not draining; INT64_MAX: broken off what was left */
};

/* -errno. */
int origin_open(struct origin *origin, const struct origin_options *options);

/* Accepts on @fd (bound, listening, non-blocking; the caller's). -errno. */
int origin_listen(struct origin *origin, int fd);

/* Serves until SIGTERM or origin_end(), then finishes what is under way. Returns how many handles
 * were left open. */
unsigned origin_run(struct origin *origin);

/* As SIGTERM, from the loop; what is under way has @within_ns. More than once: the first counts. */
void origin_end(struct origin *origin, int64_t within_ns);
