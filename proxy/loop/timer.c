/* The timer wheel. A timer lies on the level of the highest bit in which its tick differs from the
 * wheel's: so all timers of a level agree with the wheel in every bit above it, a slot's start can
 * be told from its number, and the lowest level that is not empty holds the next one. When the
 * wheel reaches a slot of a higher level, its timers move down. */
#include "loop/timer.h"

#include <assert.h>

#define TIMER_BITS 6
#define EXPIRED_LEVEL TIMER_LEVELS

static void place(struct timer_wheel *wheel, struct timer *timer);
static bool next_slot(const struct timer_wheel *wheel, unsigned *level, unsigned *slot,
                      int64_t *at_ms);

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ms) {
    wheel->now_ms = now_ms;
    wheel->running = 0;
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < TIMER_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer, int64_t at_ms) {
    assert(!timer_is_running(timer));
    timer->at_ms = at_ms > wheel->now_ms ? at_ms : wheel->now_ms + 1;
    wheel->running++;
    place(wheel, timer);
}

void timer_wheel_remove(struct timer_wheel *wheel, struct timer *timer) {
    if (!timer_is_running(timer))
        return;
    list_remove(&timer->link);
    wheel->running--;
    if (timer->level != EXPIRED_LEVEL && list_is_empty(&wheel->slots[timer->level][timer->slot]))
        wheel->occupied[timer->level] &= ~(UINT64_C(1) << timer->slot);
}

int64_t timer_wheel_next_ms(const struct timer_wheel *wheel) {
    unsigned level, slot;
    int64_t at_ms;

    return next_slot(wheel, &level, &slot, &at_ms) ? at_ms : INT64_MAX;
}

void timer_wheel_advance(struct timer_wheel *wheel, int64_t now_ms) {
    unsigned level, slot;
    int64_t at_ms;

    while (next_slot(wheel, &level, &slot, &at_ms) && at_ms <= now_ms) {
        struct list due, *link;

        wheel->now_ms = at_ms;
        list_init(&due);
        list_splice(&due, &wheel->slots[level][slot]);
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        /* Marked, because one that fires may stop another that is due with it. */
        for (link = due.next; link != &due; link = link->next)
            CONTAINER_OF(link, struct timer, link)->level = EXPIRED_LEVEL;
        while ((link = list_pop(&due))) {
            struct timer *timer = CONTAINER_OF(link, struct timer, link);

            if (timer->at_ms > at_ms) {
                place(wheel, timer);
                continue;
            }
            wheel->running--;
            timer->fire(timer);
        }
    }
    if (now_ms > wheel->now_ms)
        wheel->now_ms = now_ms;
}

static void place(struct timer_wheel *wheel, struct timer *timer) {
    uint64_t differ = (uint64_t)timer->at_ms ^ (uint64_t)wheel->now_ms;
    unsigned level = differ ? (63 - (unsigned)__builtin_clzll(differ)) / TIMER_BITS : 0;

    assert(level < TIMER_LEVELS);
    timer->level = (uint8_t)level;
    timer->slot = (uint8_t)((uint64_t)timer->at_ms >> (level * TIMER_BITS)) & (TIMER_SLOTS - 1);
    list_push_back(&wheel->slots[level][timer->slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << timer->slot;
}

static bool next_slot(const struct timer_wheel *wheel, unsigned *level, unsigned *slot,
                      int64_t *at_ms) {
    for (unsigned l = 0; l < TIMER_LEVELS; l++) {
        unsigned shift = l * TIMER_BITS;

        if (!wheel->occupied[l])
            continue;
        *level = l;
        *slot = (unsigned)__builtin_ctzll(wheel->occupied[l]);
        *at_ms = (wheel->now_ms >> (shift + TIMER_BITS) << (shift + TIMER_BITS)) |
                 ((int64_t)*slot << shift);
        return true;
    }
    return false;
}
