/* A loop's part of a pipeline: its pools and permits. */
#include "base/alloc.h"
#include "pipeline/pipeline.h"
#include "pipeline/watch.h"

#include <stdlib.h>

void pipeline_loop_open(struct pipeline_loop *part, struct pipeline *pipeline,
                        struct pool_loop *shared, gate_granted_fn *granted,
                        hold_let_go_fn *let_go) {
    *part = (struct pipeline_loop){.shared = pipeline, .pools_shared = shared};
    gate_desk_init(&part->desk, &pipeline->concurrency, shared->loop, granted);
    hold_open(part, let_go);
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
    hold_close(part);
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

enum gate_outcome permit_acquire(struct pipeline_loop *part, struct permit *permit) {
    enum gate_outcome outcome = gate_enter(&part->desk, &permit->ticket);

    if (outcome == GATE_IN)
        permit->kind = PERMIT_CONCURRENCY;
    else if (outcome == GATE_WAIT)
        permit->kind = PERMIT_WAITING;
    return outcome;
}

bool permit_try(struct pipeline_loop *part, struct permit *permit) {
    if (!gate_try(&part->shared->concurrency))
        return false;
    permit->ticket.desk = &part->desk;
    permit->ticket.state = TICKET_IN;
    permit->kind = PERMIT_CONCURRENCY;
    return true;
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
