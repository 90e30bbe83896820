#include "upstream/peak.h"

#include <stdatomic.h>

static double kept(const struct peak *peak, int64_t now_ns);

void peak_learn(struct peak *peak, int64_t ns, int64_t now_ns) {
    double share = kept(peak, now_ns);
    double old_ns = (double)atomic_load_explicit(&peak->ns, memory_order_relaxed) * share;
    double new_ns = (double)ns > old_ns ? (double)ns : old_ns + (double)ns * (1 - share);

    atomic_store_explicit(&peak->ns, new_ns > 1 ? (int64_t)new_ns : 1, memory_order_relaxed);
    atomic_store_explicit(&peak->at_ns, now_ns, memory_order_relaxed);
}

int64_t peak_ns(const struct peak *peak, int64_t now_ns) {
    int64_t ns = atomic_load_explicit(&peak->ns, memory_order_relaxed), now;

    if (ns == 0)
        return 0;
    now = (int64_t)((double)ns * kept(peak, now_ns));
    return now > 1 ? now : 1;
}

/* What is left of it: over short times the same as an exponential decay. */
static double kept(const struct peak *peak, int64_t now_ns) {
    int64_t past_ns = now_ns - atomic_load_explicit(&peak->at_ns, memory_order_relaxed);

    return past_ns > 0 ? (double)PEAK_FALL_NS / (double)(PEAK_FALL_NS + past_ns) : 1;
}
