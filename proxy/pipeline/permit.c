#include "pipeline/permit.h"

static void learn_limit(struct pipeline_loop *part);

bool permit_try(struct pipeline_loop *part, struct permit *permit) {
    if (!gate_enter_free(&part->desk, &permit->waiter.ticket))
        return false;
    permit->kind = PERMIT_CONCURRENCY;
    return true;
}

enum gate_outcome permit_acquire(struct pipeline_loop *part, struct permit *permit) {
    enum gate_outcome outcome = gate_enter(&part->desk, &permit->waiter.ticket);

    permit->kind = outcome == GATE_IN     ? PERMIT_CONCURRENCY
                   : outcome == GATE_WAIT ? PERMIT_WAITING
                                          : PERMIT_REFUSED;
    return outcome;
}

struct permit *permit_told(struct gate_ticket *ticket) {
    struct permit *permit = CONTAINER_OF(ticket, struct permit, waiter.ticket);

    permit->kind = ticket->state == TICKET_IN ? PERMIT_CONCURRENCY : PERMIT_REFUSED;
    return permit;
}

void permit_to_stream(struct pipeline_loop *part, struct permit *permit) {
    if (permit->kind != PERMIT_CONCURRENCY || !gate_try(&part->shared->streams))
        return;
    gate_leave(&part->shared->concurrency, &permit->waiter.ticket, part->pools_shared->loop);
    permit->kind = PERMIT_STREAM;
}

void permit_release(struct pipeline_loop *part, struct permit *permit) {
    struct loop *loop = part->pools_shared->loop;
    enum permit_kind kind = permit->kind;
    void *gift;

    permit->kind = PERMIT_NONE;
    if (kind == PERMIT_CONCURRENCY)
        gate_leave(&part->shared->concurrency, &permit->waiter.ticket, loop);
    else if (kind == PERMIT_STREAM)
        gate_leave(&part->shared->streams, NULL, loop);
    else if (kind == PERMIT_WAITING && gate_cancel(&permit->waiter.ticket, &gift) == GATE_OWED)
        gate_leave(&part->shared->concurrency, NULL, loop);
}

void permit_answered(struct pipeline_loop *part, struct endpoint *endpoint, int64_t ns) {
    struct pipeline *pipeline = part->shared;
    int64_t now_ns = part->pools_shared->loop->now_ns;

    service_sample_add(&part->answers, ns);
    if (endpoint && pipeline->config->balance.by == BALANCE_LATENCY)
        peak_learn(&endpoint->answers, ns, now_ns);
    if (now_ns - part->learned_ns < PERMIT_LEARN_NS)
        return;
    queue_learn(&pipeline->queue, &part->answers, now_ns);
    if (pipeline->config->limits.concurrency == 0)
        learn_limit(part);
    part->answers = (struct service_sample){0};
    part->learned_ns = now_ns;
}

static void learn_limit(struct pipeline_loop *part) {
    struct pipeline *pipeline = part->shared;
    struct gate *gate = &pipeline->concurrency;
    struct loop *loop = part->pools_shared->loop;
    unsigned limit;

    pthread_mutex_lock(&pipeline->limiter_lock);
    limiter_learn(&pipeline->limiter, &part->answers, gate_taken_in_all(gate), loop->now_ns);
    limit = limiter_limit(&pipeline->limiter);
    pthread_mutex_unlock(&pipeline->limiter_lock);
    if (limit != gate_limit(gate))
        gate_set_limit(gate, limit, loop);
}
