/* The hold: exchanges that wait because no endpoint of their pipeline is usable, for one to come
 * back.
 *
 * They wait without a permit, in a line per loop, oldest first, and at most queue.size of them over
 * all loops; how long is up to who waits (hold, its deadline). Meanwhile one dial per HOLD_PROBE_NS
 * over all loops, jittered, finds out whether an endpoint is back, whatever its backoff or breaker
 * say; nobody else dials.
 *
 * Once one is back they are let go with their permit, as many as there are permits that nobody in
 * the queue waits for: who comes now goes first, and the backlog has the capacity that is spare.
 * And not all at once: HOLD_FIRST per loop, and for each that has its answer two more, up to the
 * loop's part of the limit, so that an engine that has just started is not run down. One that finds
 * the endpoint gone again comes back to its old place. Home: loop. */
#pragma once

#include "base/list.h"
#include "upstream/pool.h"

#include <stdatomic.h>

#define HOLD_PROBE_NS (100 * NS_PER_MS) /* on average; jittered by a quarter */
#define HOLD_LOOK_NS (10 * NS_PER_MS)   /* how soon a loop sees what another one has found out */
#define HOLD_FIRST 4

struct pipeline_loop;
struct permit;
struct hold_ticket;

/* It has its permit. May only record that and wake a task. */
typedef void hold_let_go_fn(struct hold_ticket *ticket);

/* Home: shared. */
struct hold_shared {
    _Atomic uint32_t held;    /* on all loops */
    _Atomic uint32_t holders; /* loops that hold any */
    _Atomic int64_t probe_ns; /* no probe before */
    uint32_t max;             /* that may be held */
};

/* A loop's part. */
struct hold {
    struct list line;   /* struct hold_ticket, oldest first */
    unsigned out;       /* let go, and not done yet */
    unsigned window;    /* how many may be */
    struct timer look;  /* while somebody is held */
    struct task probed; /* the probe has come to its end */
    struct lease probe;
    struct endpoint *probe_of; /* counted; while there is a probe; else NULL */
    enum fail probe_fail;
    size_t next_probe;
    struct log_limit logged;
    hold_let_go_fn *let_go;
};

enum hold_state { HOLD_NONE, HOLD_HELD, HOLD_OUT };

/* Zeroed memory is one that is not held. */
struct hold_ticket {
    struct list link;
    enum hold_state state;
    int64_t since_ns;      /* when it was held first */
    struct permit *permit; /* borrowed: as long as it is held */
};

void hold_open(struct pipeline_loop *part, hold_let_go_fn *let_go);
/* Nobody is held any more. */
void hold_close(struct pipeline_loop *part);

/* Is there an outage that is worth waiting out, and a place to wait? An endpoint that cannot be
 * agreed with on TLS does not come back by itself. */
bool hold_is_due(const struct pipeline_loop *part);

/* Holds @ticket, which is not held, until let_go() (at once, if an endpoint is back by now), with
 * @permit, which is PERMIT_NONE, acquired. A ticket that was held before keeps its place. False:
 * queue.size are held already. */
bool hold_enter(struct pipeline_loop *part, struct hold_ticket *ticket, struct permit *permit);

/* In any state: it is not held any more, or it is done with what it was let go for. @is_well: it
 * has had an answer. */
void hold_leave(struct pipeline_loop *part, struct hold_ticket *ticket, bool is_well);

/* Lets go who may go now: a permit or a connection has come back. */
void hold_look(struct pipeline_loop *part);
