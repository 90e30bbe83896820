/* A right of an exchange to be in flight: in a pipeline's concurrency, for which it may have to
 * wait in the pipeline's queue, or among its streams. And what the pipeline learns from those that
 * have one: how long answers take. Home: loop. */
#pragma once

#include "pipeline/pipeline.h"

/* Answers are handed to the shared part at most so often by a loop. */
#define PERMIT_LEARN_NS (5 * NS_PER_MS)

/* Zeroed memory is one that was not asked for. */
enum permit_kind {
    PERMIT_NONE,
    PERMIT_WAITING,
    PERMIT_REFUSED, /* while it waited; waiter.refused says why */
    PERMIT_CONCURRENCY,
    PERMIT_STREAM,
};

struct permit {
    struct waiter waiter; /* for the concurrency gate */
    enum permit_kind kind;
};

/* Where a permit is free and nobody waits it is taken; else false: permit_acquire() is to be asked.
 */
bool permit_try(struct pipeline_loop *part, struct permit *permit);

/* With the waiter's client, deadline and priority set. GATE_IN, GATE_WAIT (the part's granted() or
 * refused() follows; then permit_told()) or GATE_FULL: waiter.refused says why. */
enum gate_outcome permit_acquire(struct pipeline_loop *part, struct permit *permit);

/* The permit of @ticket, which was granted or refused. */
struct permit *permit_told(struct gate_ticket *ticket);

/* The exchange has become a stream: trades the permit for a stream's, if one is free. */
void permit_to_stream(struct pipeline_loop *part, struct permit *permit);

/* Gives back what it is, in any state. */
void permit_release(struct pipeline_loop *part, struct permit *permit);

/* An exchange that is no stream has got its answer from @endpoint (NULL: it has none), or none
 * before its deadline, @ns after it was sent. Not for what the upstream has refused, which is
 * quick. */
void permit_answered(struct pipeline_loop *part, struct endpoint *endpoint, int64_t ns);
