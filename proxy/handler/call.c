/* Calls, on the loops' side: making and queueing them, and what becomes of them when they are back
 * or late. */
#include "handler/call.h"

#include "base/alloc.h"
#include "handler/handlers_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct call *new_call(struct handler_desk *desk, const struct call_input *input);
static void refuse(struct call *call, enum call_outcome outcome);
static void on_late(struct timer *timer);
static bool withdraw(struct call *call);
static void answer(struct call *call);

struct call *call_submit(struct handler_desk *desk, const struct call_input *input,
                         call_done_fn *done, void *ctx) {
    struct handler *handler = &desk->handlers->list[input->handler];
    int64_t now_ns = desk->loop->now_ns;
    enum quarantine_answer may = quarantine_ask(&handler->quarantine, now_ns);
    struct call *call = new_call(desk, input);

    call->handler = handler;
    call->done = done;
    call->ctx = ctx;
    call->deadline_ns = now_ns + handler->config->timeout_ns;
    call->is_probe = may == QUARANTINE_PROBE;
    frame_write(&call->frame, input, call->deadline_ns);
    if (may == QUARANTINE_NO) {
        refuse(call, handler->config->on_quarantine == QUARANTINE_BYPASS ? CALL_BYPASSED
                                                                         : CALL_QUARANTINED);
        return call;
    }
    call->place = CALL_PENDING;
    list_push_back(&desk->pending, &call->link);
    loop_timer_start(desk->loop, &call->timer, handler->config->timeout_ns);
    loop_at_batch_end(desk->loop, &desk->flush);
    return call;
}

void call_forget(struct call *call) {
    assert(!call->is_answered);
    loop_timer_stop(call->desk->loop, &call->timer);
    call->is_forgotten = true;
    if (call->is_back || withdraw(call))
        call_destroy(call);
}

const struct call_answer *call_answer(const struct call *call) {
    assert(call->is_answered);
    return &call->answer;
}

void call_free(struct call *call) {
    assert(call->is_answered && !call->is_given_back);
    call->is_given_back = true;
    if (call->is_back)
        call_destroy(call);
}

void call_tell(struct call *call, bool is_fault, int64_t now_ns) {
    quarantine_tell(&call->handler->quarantine, call->is_probe, is_fault, now_ns);
    call->is_probe = false;
}

void call_take_back(struct call *call) {
    call->desk->out--;
    call->is_back = true;
    if (call->is_forgotten || call->is_given_back)
        call_destroy(call);
    else if (!call->is_answered)
        answer(call);
}

void call_destroy(struct call *call) {
    struct handler_desk *desk = call->desk;

    list_remove(&call->link);
    if (call->is_probe) /* it never ran */
        quarantine_take_back(&call->handler->quarantine);
    if (call->packed && call->packed != call->small)
        munmap(call->packed, call->packed_bytes);
    arena_deinit(&call->arena);
    if (call->is_pooled && desk->block_count < CALL_BLOCKS_MAX) {
        call->next = desk->blocks;
        desk->blocks = call;
        desk->block_count++;
    } else {
        free(call);
    }
}

void calls_post_all(struct call *newest) {
    struct call *rest = NULL, *next;

    for (; newest; newest = next) { /* oldest first */
        next = newest->next;
        newest->next = rest;
        rest = newest;
    }
    while (rest) {
        struct handler_desk *desk = rest->desk;
        struct call *first = rest, *last = rest;
        struct call *others = NULL, **to = &others;

        rest = rest->next;
        last->next = NULL;
        for (; rest; rest = next) {
            next = rest->next;
            rest->next = NULL;
            if (rest->desk == desk) {
                last->next = rest;
                last = rest;
            } else {
                *to = rest;
                to = &rest->next;
            }
        }
        desk_post(desk, first);
        rest = others;
    }
}

void calls_requeue(struct call *call) {
    struct handlers *handlers = call->desk->handlers;
    struct worker_slot *dealt;

    pthread_mutex_lock(&handlers->lock);
    call->place = CALL_QUEUED;
    list_push_front(&call->handler->queued, &call->link);
    call->handler->queued_count++;
    handlers->queued++;
    dealt = deal_out(handlers);
    pthread_mutex_unlock(&handlers->lock);
    deal_ring(dealt, NULL);
}

void calls_drop(struct handler *handler) {
    for (struct list *link = handler->queued.next, *next; link != &handler->queued; link = next) {
        next = link->next;
        call_destroy(CONTAINER_OF(link, struct call, link));
    }
}

static struct call *new_call(struct handler_desk *desk, const struct call_input *input) {
    size_t bytes = offsetof(struct call, frame) + frame_bytes(input);
    struct call *call = bytes <= CALL_BLOCK_BYTES ? desk->blocks : NULL;

    if (call) {
        desk->blocks = call->next;
        desk->block_count--;
    } else {
        call = xmalloc(bytes <= CALL_BLOCK_BYTES ? CALL_BLOCK_BYTES : bytes);
    }
    memset(call, 0, offsetof(struct call, small));
    call->is_pooled = bytes <= CALL_BLOCK_BYTES;
    call->desk = desk;
    list_init(&call->link);
    timer_init(&call->timer, on_late);
    arena_init(&call->arena, call->first, sizeof call->first);
    return call;
}

/* It is told later: not from within call_submit(). */
static void refuse(struct call *call, enum call_outcome outcome) {
    struct handler_desk *desk = call->desk;

    call->place = CALL_BACK;
    call->is_back = true;
    call->outcome = outcome;
    list_push_back(&desk->refused, &call->link);
    loop_wake(desk->loop, &desk->refuse);
}

void calls_tell_refused(struct task *task) {
    struct handler_desk *desk = CONTAINER_OF(task, struct handler_desk, refuse);
    struct list *link;

    while ((link = list_pop(&desk->refused)))
        answer(CONTAINER_OF(link, struct call, link));
}

/* The end of a batch of events: what it brought goes to the workers, under one lock. */
void calls_flush(struct task *task) {
    struct handler_desk *desk = CONTAINER_OF(task, struct handler_desk, flush);
    struct handlers *handlers = desk->handlers;
    struct worker_slot *dealt;
    struct list full, *link;

    list_init(&full);
    desk_expect(desk);
    pthread_mutex_lock(&handlers->lock);
    while ((link = list_pop(&desk->pending))) {
        struct call *call = CONTAINER_OF(link, struct call, link);

        if (call->handler->queued_count >= call->handler->config->queue) {
            list_push_back(&full, &call->link);
            continue;
        }
        call->place = CALL_QUEUED;
        list_push_back(&call->handler->queued, &call->link);
        call->handler->queued_count++;
        handlers->queued++;
        desk->out++;
    }
    dealt = deal_out(handlers);
    pthread_mutex_unlock(&handlers->lock);
    deal_ring(dealt, desk);
    while ((link = list_pop(&full)))
        refuse(CONTAINER_OF(link, struct call, link), CALL_FULL);
}

/* The client need not wait for whoever has it. */
static void on_late(struct timer *timer) {
    struct call *call = CONTAINER_OF(timer, struct call, timer);

    withdraw(call);
    call->is_answered = true;
    call->answer = (struct call_answer){.outcome = CALL_HANG};
    call->done(call, call->ctx);
}

/* True: no worker has it; it is back. */
static bool withdraw(struct call *call) {
    struct handlers *handlers = call->desk->handlers;

    pthread_mutex_lock(&handlers->lock);
    if (call->place == CALL_QUEUED) {
        call->handler->queued_count--;
        handlers->queued--;
        call->desk->out--;
    }
    if (call->place == CALL_QUEUED || call->place == CALL_PENDING) {
        list_remove(&call->link);
        call->place = CALL_BACK;
        call->is_back = true;
    }
    pthread_mutex_unlock(&handlers->lock);
    return call->is_back;
}

static void answer(struct call *call) {
    loop_timer_stop(call->desk->loop, &call->timer);
    call->is_answered = true;
    call->answer = (struct call_answer){.outcome = call->outcome};
    if (call->outcome == CALL_CONTINUE &&
        !answer_read(call->packed, call->packed_bytes, &call->frame, &call->arena, &call->answer)) {
        struct fault fault = {.kind = FAULT_ANSWER, .text = "what it left cannot be read"};

        fault_report(call->handler, &fault, frame_slice(call->frame.request.id));
        call->answer = (struct call_answer){.outcome = CALL_FAULT};
    }
    call->done(call, call->ctx);
}
