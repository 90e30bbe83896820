/* How long the answers of one endpoint take: a moving average that believes the worst ("peak EWMA",
 * as in Finagle). An answer that took longer counts at once, quicker ones let it fall bit by bit,
 * and so does time, by half in PEAK_FALL_NS: an endpoint that nobody was sent to is tried again.
 *
 * Home: shared; loops write it without a lock, so that one answer of many may be forgotten. */
#pragma once

#include "base/clock.h"

#include <stdint.h>

#define PEAK_FALL_NS (10 * NS_PER_S)

/* Zeroed memory knows of no answer. */
struct peak {
    _Atomic int64_t ns, at_ns;
};

/* An answer took @ns. */
void peak_learn(struct peak *peak, int64_t ns, int64_t now_ns);

/* What the next one may take, at least 1; 0: not known. */
int64_t peak_ns(const struct peak *peak, int64_t now_ns);
