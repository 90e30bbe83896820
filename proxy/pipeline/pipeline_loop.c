/* A loop's part of a pipeline: its pools, the balancer, and permits. */
#include "base/alloc.h"
#include "base/random.h"
#include "pipeline/pipeline.h"
#include "pipeline/watch.h"

#include <stdlib.h>

static size_t count_usable(const struct pipeline_loop *part, const struct endpoint *avoid,
                           int64_t now_ns);
static bool is_usable(const struct pool *pool, const struct endpoint *avoid, int64_t now_ns);
static struct pool *any_in_service(const struct pipeline_loop *part);

void pipeline_loop_open(struct pipeline_loop *part, struct pipeline *pipeline,
                        struct pool_loop *shared, gate_granted_fn *granted) {
    *part = (struct pipeline_loop){.shared = pipeline, .pools_shared = shared};
    gate_desk_init(&part->desk, &pipeline->concurrency, shared->loop, granted);
    pthread_mutex_lock(&pipeline->lock);
    pipeline->parts[shared->loop->index] = part;
    pthread_mutex_unlock(&pipeline->lock);
    pipeline_loop_take(part, pipeline_endpoints(pipeline));
}

void pipeline_loop_close(struct pipeline_loop *part) {
    struct pipeline *pipeline = part->shared;

    pthread_mutex_lock(&pipeline->lock);
    pipeline->parts[part->pools_shared->loop->index] = NULL;
    pthread_mutex_unlock(&pipeline->lock);
    part->is_closed = true;
    watch_close(part);
    for (size_t i = 0; i < part->set->count; i++)
        pool_close(part->pools[i]);
    endpoint_set_unref(part->set);
    free(part->pools);
    part->set = NULL;
    part->pools = NULL;
}

void pipeline_loop_take(struct pipeline_loop *part, struct endpoint_set *set) {
    struct endpoint_set *old = part->set;
    struct pool **pools;

    if (part->is_closed) {
        endpoint_set_unref(set);
        return;
    }
    pools = xcalloc(set->count, sizeof(struct pool *));
    for (size_t i = 0; i < set->count; i++) {
        for (size_t j = 0; old && j < old->count; j++) {
            if (part->pools[j] && old->list[j] == set->list[i]) {
                pools[i] = part->pools[j];
                part->pools[j] = NULL;
            }
        }
        if (!pools[i])
            pools[i] = pool_new(set->list[i], part->pools_shared, &part->shared->pool);
    }
    for (size_t j = 0; old && j < old->count; j++)
        if (part->pools[j])
            pool_close(part->pools[j]);
    free(part->pools);
    endpoint_set_unref(old);
    part->pools = pools;
    part->set = set;
    watch_take(part);
}

void pipeline_loop_look(struct pipeline_loop *part) {
    gate_look(&part->shared->concurrency, part->pools_shared->loop);
    for (size_t i = 0; part->set && i < part->set->count; i++)
        pool_look(part->pools[i]);
}

struct pool *pipeline_pick(const struct pipeline_loop *part, const struct endpoint *avoid) {
    int64_t now_ns = part->pools_shared->loop->now_ns;
    struct pool *best = NULL;
    size_t usable, first, second;
    uint32_t least = 0;

    if (!part->set || part->set->count == 0)
        return NULL;
    if (part->set->count == 1)
        return endpoint_is_in_service(part->set->list[0]) ? part->pools[0] : NULL;
    usable = count_usable(part, avoid, now_ns);
    if (usable == 0) {
        avoid = NULL; /* there is no choice */
        usable = count_usable(part, avoid, now_ns);
    }
    if (usable == 0)
        return any_in_service(part);
    first = random_below(usable);
    second = usable > 1 ? random_below(usable - 1) : first;
    if (usable > 1 && second >= first)
        second++;
    for (size_t i = 0, n = 0; i < part->set->count; i++) {
        uint32_t inflight;

        if (!is_usable(part->pools[i], avoid, now_ns))
            continue;
        inflight = atomic_load_explicit(&part->pools[i]->endpoint->inflight, memory_order_relaxed);
        /* Of equals the one that was drawn first, or all would go to the front of the list. */
        if ((n == first || n == second) &&
            (!best || inflight < least || (inflight == least && n == first))) {
            best = part->pools[i];
            least = inflight;
        }
        n++;
    }
    return best;
}

static struct pool *any_in_service(const struct pipeline_loop *part) {
    size_t first = random_below(part->set->count);

    for (size_t i = 0; i < part->set->count; i++) {
        struct pool *pool = part->pools[(first + i) % part->set->count];

        if (endpoint_is_in_service(pool->endpoint))
            return pool;
    }
    return NULL;
}

enum gate_outcome permit_acquire(struct pipeline_loop *part, struct permit *permit) {
    enum gate_outcome outcome = gate_enter(&part->desk, &permit->ticket);

    if (outcome == GATE_IN)
        permit->kind = PERMIT_CONCURRENCY;
    else if (outcome == GATE_WAIT)
        permit->kind = PERMIT_WAITING;
    return outcome;
}

void permit_granted(struct permit *permit) {
    permit->kind = PERMIT_CONCURRENCY;
}

void permit_to_stream(struct pipeline_loop *part, struct permit *permit) {
    if (permit->kind != PERMIT_CONCURRENCY || !gate_try(&part->shared->streams))
        return;
    gate_leave(&part->shared->concurrency, &permit->ticket, part->pools_shared->loop);
    permit->kind = PERMIT_STREAM;
}

void permit_release(struct pipeline_loop *part, struct permit *permit) {
    struct loop *loop = part->pools_shared->loop;
    enum permit_kind kind = permit->kind;
    void *gift;

    permit->kind = PERMIT_NONE;
    if (kind == PERMIT_CONCURRENCY)
        gate_leave(&part->shared->concurrency, &permit->ticket, loop);
    else if (kind == PERMIT_STREAM)
        gate_leave(&part->shared->streams, NULL, loop);
    else if (kind == PERMIT_WAITING && gate_cancel(&permit->ticket, &gift) == GATE_OWED)
        gate_leave(&part->shared->concurrency, NULL, loop);
}

static size_t count_usable(const struct pipeline_loop *part, const struct endpoint *avoid,
                           int64_t now_ns) {
    size_t usable = 0;

    for (size_t i = 0; i < part->set->count; i++)
        usable += is_usable(part->pools[i], avoid, now_ns);
    return usable;
}

/* @avoid counts as not usable: pipeline_pick() asks again without it when nothing else is left. */
static bool is_usable(const struct pool *pool, const struct endpoint *avoid, int64_t now_ns) {
    return pool->endpoint != avoid && endpoint_is_usable(pool->endpoint, now_ns) &&
           (!list_is_empty(&pool->idle) || !list_is_empty(&pool->open) ||
            endpoint_may_dial(pool->endpoint, now_ns));
}
