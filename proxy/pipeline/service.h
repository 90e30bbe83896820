/* What the upstream's service takes, as measured: how long its answers take, and how fast a line is
 * drained while there is one. Home: whoever owns it. */
#pragma once

#include <stdint.h>

#define SERVICE_WEIGHT 64                          /* answers that the mean remembers */
#define SERVICE_FLOOR_NS (5 * INT64_C(1000000000)) /* the floor is of this time, or twice of it */
#define SERVICE_RATE_NS (100 * INT64_C(1000000))   /* of drain that makes a rate */
#define SERVICE_RATE_MIN 8                         /* exchanges that do; fewer in a second */

/* What came in a while. Zeroed memory is nothing yet. */
struct service_sample {
    unsigned count;
    int64_t sum_ns, min_ns;
    double squares; /* sum of them, in ns^2: how much one answer differs from the other */
};

static inline void service_sample_add(struct service_sample *sample, int64_t ns) {
    if (sample->count == 0 || ns < sample->min_ns)
        sample->min_ns = ns;
    sample->count++;
    sample->sum_ns += ns;
    sample->squares += (double)ns * (double)ns;
}

/* Zeroed memory has measured nothing. */
struct service {
    int64_t mean_ns;       /* to the first byte of an answer; 0: not known */
    int64_t floor_ns[2];   /* the fastest in this period and in the one before; 0: none */
    int64_t floor_from_ns; /* when this period began */
    double per_s;          /* exchanges that left the line; 0: not known */
    int64_t drain_from_ns; /* 0: nobody waits */
    unsigned drained;      /* since then */
};

void service_learn(struct service *service, const struct service_sample *sample, int64_t now_ns);

/* Somebody waits now; nobody does; one was served. */
void service_drain_begin(struct service *service, int64_t now_ns);
void service_drain_end(struct service *service, int64_t now_ns);
void service_drained(struct service *service, int64_t now_ns);

/* No answer may be expected in less; 0: not known. */
int64_t service_floor_ns(const struct service *service);

/* How many leave a line in a second; where that was not measured what @places give by Little's law;
 * 0: not known. A line that stands still is slow. */
double service_rate(const struct service *service, unsigned places, int64_t now_ns);
