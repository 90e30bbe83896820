/* Further tries: how many there may be, and when.
 *
 * The budget of a pipeline bounds what retries add to its load when all of it fails: a share of the
 * requests that were sent within the last RETRY_WINDOW_S seconds, and RETRY_FREE_PER_S a second, so
 * that a quiet pipeline may retry too. It is charged before the backoff. Each loop tallies its own
 * requests, and adds them to the common count by the dozen; so what one loop is allowed may be too
 * little by what others have not told yet, but never too much. */
#pragma once

#include "base/clock.h"
#include "base/slice.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define RETRY_WINDOW_S 10
#define RETRY_FREE_PER_S 3
#define RETRY_TALLY_MAX 64 /* requests that a loop keeps to itself; of one second */

/* Before retry n (1, 2, ...): a random part of RETRY_BACKOFF_NS, doubled n - 1 times, but never
 * more than RETRY_BACKOFF_MAX_NS. */
#define RETRY_BACKOFF_NS (25 * NS_PER_MS)
#define RETRY_BACKOFF_MAX_NS (250 * NS_PER_MS)

/* Home: shared. */
struct retry_budget {
    double share;         /* of the requests, 0 to 1 */
    pthread_mutex_t lock; /* guards seconds */
    struct {
        int64_t second; /* of CLOCK_MONOTONIC that the counts are of */
        uint64_t requests, retries;
    } seconds[RETRY_WINDOW_S];
};

/* A loop's requests that the budget does not know of yet. Zeroed memory is none. Home: loop. */
struct retry_tally {
    int64_t second;
    uint64_t requests;
};

void retry_budget_init(struct retry_budget *budget, double share);
void retry_budget_deinit(struct retry_budget *budget);

/* A request is being sent for the first time. */
void retry_budget_count(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns);

/* Takes one retry off, if there is one. */
bool retry_budget_take(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns);

/* How many retries are left. Any thread. */
uint64_t retry_budget_left(struct retry_budget *budget, int64_t now_ns);

/* Jittered; @retry counts from 1. Nanoseconds. */
int64_t retry_backoff_ns(unsigned retry);

/* What an upstream says of trying again: after so many nanoseconds, or RETRY_PUSHBACK_NEVER.
 * Retry-After: seconds; a date is as good as never, for who retries within a second (RFC 9110
 * section 10.2.3). grpc-retry-pushback-ms: milliseconds; what is no number means never. */
#define RETRY_PUSHBACK_NEVER INT64_MAX
int64_t retry_after_ns(struct slice value);
int64_t retry_pushback_ns(struct slice value);
