/* The counters of others that /metrics adds to the gateway's own: the supervisor's, those of
 * gateways that have ended, and of those that are still finishing. Home: main thread, which
 * replaces, and admin, which renders. */
#pragma once

#include "metrics/metrics.h"

#include <pthread.h>

#define OTHER_COUNTERS_MAX 16

struct other_counters {
    pthread_mutex_t lock; /* guards the rest; held while a scrape is rendered */
    struct {
        const void *memory; /* owned mapping */
        size_t bytes;
    } list[OTHER_COUNTERS_MAX];
    unsigned count;
};

#define OTHER_COUNTERS_NONE \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Maps @count segments in place of those before; the fds stay the caller's. */
void other_counters_replace(struct other_counters *others, const int *fds, unsigned count);

/* Appends @own and all others as Prometheus text. */
void other_counters_render(struct other_counters *others, const struct metrics_segment *own,
                           struct buffer *text);
