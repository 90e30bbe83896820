/* Finds the endpoint that fails, or stalls, far more often than its peers: one that fails half of
 * its requests never fails five in a row for long.
 *
 * One loop of a pipeline looks at the tallies of all its endpoints every OUTLIER_BUCKET_NS. It
 * judges by as little of the past as there is enough of: OUTLIER_SPAN_NS at least, until an
 * endpoint and its peers have both had calls_min verdicts; then by twice as many, and so on up to
 * window_ns. Of an endpoint OUTLIER_STALLS_MIN stalls are enough: it gets few calls more, because
 * those that it has are counted as in flight. An endpoint is ejected (its breaker opens) when its
 * share of bad ones is at least `share`, twice that of its peers, and further above it than chance
 * explains (OUTLIER_SIGMAS). So
 * is one whose last in_a_row verdicts were poor or bad, however few, when its share and its peers'
 * over the whole window say the same. What all do alike is no endpoint's fault: then none is. No
 * more than `eject_max` of a pipeline's endpoints are kept out for it, but one may always be, and
 * one always stays. Home: loop. */
#pragma once

#include "upstream/endpoint.h"

#define OUTLIER_BUCKET_NS (100 * NS_PER_MS)
#define OUTLIER_BUCKETS 100 /* so that window_ns is 10 s at most */
#define OUTLIER_SPAN_NS (300 * NS_PER_MS)
#define OUTLIER_SIGMAS 5
#define OUTLIER_STALLS_MIN 3
#define OUTLIER_STALL_FACTOR 10 /* times the peers' mean time to first byte */

struct outlier_settings {
    double share; /* of bad verdicts, 0.0-1.0; 0: nobody is ever ejected for it */
    unsigned calls_min;
    unsigned in_a_row; /* as the breaker's; 0: none are enough */
    int64_t window_ns;
    int64_t stall_ns; /* a first byte that takes less is never stalled; 0: none ever is */
    double eject_max; /* share of the endpoints */
};

/* At every tick, of one and the same loop. @list are all endpoints of a pipeline. */
void outlier_look(struct endpoint *const *list, size_t count,
                  const struct outlier_settings *settings, int64_t now_ns);
