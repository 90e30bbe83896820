/* The so many that have waited longest, out of many that are offered in any order. */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define LONGEST_MAX 256

struct longest {
    unsigned max; /* at most LONGEST_MAX */
    unsigned count;
    struct {
        int64_t since_ns;
        void *who;       /* borrowed */
    } list[LONGEST_MAX]; /* the longest first */
};

static inline void longest_init(struct longest *longest, unsigned max) {
    assert(max <= LONGEST_MAX);
    longest->max = max;
    longest->count = 0;
}

static inline void longest_offer(struct longest *longest, int64_t since_ns, void *who) {
    unsigned at = longest->count;

    while (at > 0 && longest->list[at - 1].since_ns > since_ns)
        at--;
    if (at == longest->max)
        return;
    longest->count += longest->count < longest->max;
    memmove(&longest->list[at + 1], &longest->list[at],
            (longest->count - 1 - at) * sizeof *longest->list);
    longest->list[at].since_ns = since_ns;
    longest->list[at].who = who;
}
