/* When a handler is not called any more: it goes by the share of its calls that fault, never by
 * their number, which anybody could reach who can make requests that fault.
 *
 *            | share reached    | hold over     | probe is good | probe faults | reset
 *   OFF      | HELD             | -             | -             | -            | OFF, counts
 * cleared HELD     | -                | PROBING: one  | -             | -            | OFF, counts
 * cleared PROBING  | -                | -             | OFF, cleared  | HELD         | OFF, counts
 * cleared
 *
 * A probe that nothing is heard of for another hold time is given up, and the next one goes.
 * Home: shared; any thread. */
#pragma once

#include "base/clock.h"
#include "config/config.h"
#include "state/keeper.h"

#include <pthread.h>
#include <stdatomic.h>

#define QUARANTINE_SLOTS 10 /* that a window is divided into */

enum quarantine_state { QUARANTINE_OFF, QUARANTINE_HELD, QUARANTINE_PROBING };

enum quarantine_answer {
    QUARANTINE_CALL,  /* it may be called */
    QUARANTINE_PROBE, /* the same, and much depends on it: quarantine_tell() with is_probe */
    QUARANTINE_NO,
};

struct quarantine {
    const struct config_handler *config; /* borrowed */
    _Atomic int state;                   /* enum quarantine_state; written under the lock */
    pthread_mutex_t lock;                /* of what follows */
    int64_t until_ns;                    /* HELD, PROBING: when the next probe may go */
    struct {
        int64_t number; /* which piece of time it counts */
        uint64_t calls, faults;
    } slots[QUARANTINE_SLOTS];
};

void quarantine_init(struct quarantine *q, const struct config_handler *config);
void quarantine_deinit(struct quarantine *q);

/* May it be called now? Costs one load while it may. */
enum quarantine_answer quarantine_ask(struct quarantine *q, int64_t now_ns);

/* How a call went that was allowed, and did run: it crashed or hung, or did not. A probe that never
 * ran (there was no room in the queue) is no news: quarantine_take_back(). */
void quarantine_tell(struct quarantine *q, bool is_probe, bool is_fault, int64_t now_ns);
void quarantine_take_back(struct quarantine *q);

/* Forgets all: an operator knows better, or it runs in another way from now on. */
void quarantine_reset(struct quarantine *q);

/* Is it held, or being tried? */
static inline bool quarantine_is_on(const struct quarantine *q) {
    return atomic_load_explicit(&q->state, memory_order_relaxed) != QUARANTINE_OFF;
}

/* For the state file: NULL while there is nothing to keep. Of a handler that is held, or being
 * tried, the time until it is tried is kept. */
json_t *quarantine_save(struct quarantine *q, const struct keeper_now *now);
/* @saved may be anything. */
void quarantine_take_up(struct quarantine *q, const json_t *saved, const struct keeper_now *now);
