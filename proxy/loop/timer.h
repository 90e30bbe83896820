/* Timers of one loop: a hierarchical wheel with a tick of one millisecond. Starting, moving and
 * stopping one is O(1) and costs no system call; a whole wheel uses one libuv timer. A timer never
 * fires early, and late by at most a tick and the loop's own lag. Home: loop. */
#pragma once

#include "base/list.h"

#include <stdint.h>

struct timer;

typedef void timer_fn(struct timer *timer);

/* Part of whatever it belongs to; zeroed memory is not enough: timer_init(). */
struct timer {
    struct list link; /* in a slot while it runs */
    int64_t at_ms;    /* when it fires, on the wheel's scale */
    timer_fn *fire;
    uint8_t level, slot;
};

#define TIMER_LEVELS 8 /* of 64 slots each: 2^48 ms */
#define TIMER_SLOTS 64

struct timer_wheel {
    int64_t now_ms; /* everything up to and including this tick has fired */
    uint64_t occupied[TIMER_LEVELS];
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
    unsigned running; /* timers in the wheel */
};

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ms);

/* Fires everything that is due at @now_ms, in order of time. */
void timer_wheel_advance(struct timer_wheel *wheel, int64_t now_ms);

/* The tick at which timer_wheel_advance() next has something to do; INT64_MAX for never. It may be
 * earlier than the first timer. */
int64_t timer_wheel_next_ms(const struct timer_wheel *wheel);

void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer, int64_t at_ms);
void timer_wheel_remove(struct timer_wheel *wheel, struct timer *timer);

static inline void timer_init(struct timer *timer, timer_fn *fire) {
    list_init(&timer->link);
    timer->fire = fire;
    timer->at_ms = 0;
}

static inline bool timer_is_running(const struct timer *timer) {
    return list_is_linked(&timer->link);
}
