/* When is a line overloaded? Controlled delay (CoDel, RFC 8289), as "Fail at Scale" (Ben Maurer,
 * ACM Queue 13/8) has it for requests: a wait that stays above the target for a whole interval is
 * no burst that a queue is there for, but more than can be served. From then on the line is served
 * newest first and who has waited twice the target is dropped, so that what is served is served in
 * time.
 *
 *                 | waits > target for an interval | nobody waits for a tenth of the interval, or
 *                 | but not of a burst            | nobody was refused for an interval
 *      calm       | overloaded                     | -
 *      overloaded | -                              | calm
 *
 * Three things are not as there. A line that has been longer in that interval by a tenth is a burst
 * that is being worked off, however long its waits: all of it can be served. Overload does not end
 * with the first short wait, as newest first makes waits short, nor at the moment at which nobody
 * waits, which comes by chance under any load. And a line that was overloaded a short while ago is
 * so again after a tenth of the interval: load that comes in waves would have an interval's worth
 * of arrivals stand in line each time.
 *
 * A line that is not overloaded, but in which somebody has been standing for an interval, is
 * "standing": at full load nothing ever drains it, and oldest first would make everybody wait as
 * long as it is, for ever. Home: whoever owns it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CODEL_DROP_AFTER 2   /* targets */
#define CODEL_INTERVAL 8     /* targets: 100 ms of an answer's 20 ms, as CoDel has it */
#define CODEL_REMEMBERED 10  /* intervals for which an overload makes the next one likely */
#define CODEL_SHORT_SHARE 10 /* a tenth of the interval */
#define CODEL_LESS_SHARE 10  /* a tenth of who waits */

/* Zeroed memory is a line in which nobody waits. Times are CLOCK_MONOTONIC; 0: not. */
struct codel {
    int64_t busy_ns;    /* since when there is always somebody waiting */
    int64_t above_ns;   /* since when every wait was above the target */
    unsigned count_max; /* who has waited at once since then */
    int64_t refused_ns; /* when somebody was refused the last time; only while overloaded */
    int64_t empty_ns;   /* since when nobody waits */
    int64_t ended_ns;   /* when it was overloaded the last time */
    bool is_overloaded;
};

/* @target_ns 0: never overloaded, never standing. */
/* The first one is about to join; nobody waits any more. */
void codel_begin(struct codel *codel, int64_t target_ns, int64_t now_ns);
void codel_end(struct codel *codel, int64_t now_ns);
/* May it be forgotten, as it is a line in which nobody waits and that will be calm? */
bool codel_is_over(const struct codel *codel, int64_t target_ns, int64_t now_ns);
/* What is seen when somebody joins or is served. */
struct codel_look {
    int64_t target_ns, now_ns;
    int64_t wait_ns; /* how long one waits there */
    unsigned count;  /* who waits */
};

void codel_see(struct codel *codel, const struct codel_look *look);
/* Somebody was refused because of it. */
void codel_refused(struct codel *codel, int64_t now_ns);

bool codel_is_standing(const struct codel *codel, int64_t target_ns, int64_t now_ns);
