/* A loop's part of a pipeline: its pools and the balancer. */
#include "base/alloc.h"
#include "base/random.h"
#include "pipeline/pipeline.h"

#include <stdlib.h>

static size_t count_usable(const struct pipeline_loop *part, const struct endpoint *avoid,
                           int64_t now_ns);
static bool is_usable(const struct pool *pool, const struct endpoint *avoid, int64_t now_ns);

void pipeline_loop_open(struct pipeline_loop *part, struct pipeline *pipeline,
                        struct pool_loop *shared, gate_granted_fn *granted,
                        gate_refused_fn *refused) {
    *part = (struct pipeline_loop){.shared = pipeline, .pools_shared = shared};
    gate_desk_init(&part->desk, &pipeline->concurrency, shared->loop, granted);
    part->desk.refused = refused;
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
        return part->pools[0];
    usable = count_usable(part, avoid, now_ns);
    if (usable == 0) {
        avoid = NULL; /* there is no choice */
        usable = count_usable(part, avoid, now_ns);
    }
    if (usable == 0)
        return part->pools[random_below(part->set->count)];
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

static size_t count_usable(const struct pipeline_loop *part, const struct endpoint *avoid,
                           int64_t now_ns) {
    size_t usable = 0;

    for (size_t i = 0; i < part->set->count; i++)
        usable += is_usable(part->pools[i], avoid, now_ns);
    return usable;
}

/* @avoid counts as not usable: pipeline_pick() asks again without it when nothing else is left. */
static bool is_usable(const struct pool *pool, const struct endpoint *avoid, int64_t now_ns) {
    return pool->endpoint != avoid && (!list_is_empty(&pool->idle) || !list_is_empty(&pool->open) ||
                                       endpoint_may_dial(pool->endpoint, now_ns));
}
