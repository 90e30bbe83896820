/* Loans: a loop hands calls to a process itself, without the thread of the process's slot. That
 * sleeps, and is nobody's to wake but of who has the batch: the loop, or the watchdog once it has
 * taken the loan from it (slot->lender). So whatever the process does, or does not do any more,
 * there is a thread that can wait for it, and no loop ever does. */
#include "handler/process_area.h"

#include <assert.h>

#define LOAN_NS (5 * NS_PER_MS)     /* that a process may take before a thread looks after it */
#define LOAN_BYTES_MAX (64ul << 10) /* of frames, or of answers: a loop does not copy more */

static bool is_small(const struct worker_slot *slot);
static bool take_back(struct worker_slot *slot, struct handler_desk *desk);
static size_t answer_bytes(const struct process_batch *batch);

bool process_lend(struct worker_slot *slot, struct handler_desk *desk) {
    struct handler *handler = atomic_load(&slot->busy);
    struct process_area *area = process_area_of(slot, handler);
    struct process_batch *batch = slot->batch;

    if (!atomic_load(&handler->is_in_process) || atomic_load(&area->state) != PROCESS_READY ||
        !is_small(slot))
        return false;
    process_collect(slot, handler);
    batch->is_lent = true;
    if (batch->count == 0)
        return false; /* all of them were late */
    process_fill(batch);
    assert(batch->sent == batch->count); /* the area has room for the longest content */
    atomic_store(&area->desk, desk->index);
    if (!process_send_off(batch,
                          atomic_load(&desk->is_asleep) ? PROCESS_TELL_LOOP : PROCESS_TELL_NOBODY))
        return false;
    atomic_store(&slot->lent, area);
    atomic_store(&slot->lent_ns, batch->since_ns);
    atomic_store(&slot->lender, desk);
    desk->loans++;
    return true;
}

void process_loans_expect(const struct handler_desk *desk, bool is_asleep) {
    const struct handlers *handlers = desk->handlers;

    for (unsigned i = 0; desk->loans > 0 && i < handlers->slot_count; i++) {
        struct worker_slot *slot = &handlers->slots[i];

        if (atomic_load(&slot->lender) == desk)
            atomic_store(&atomic_load(&slot->lent)->waiter,
                         is_asleep ? PROCESS_TELL_LOOP : PROCESS_TELL_NOBODY);
    }
}

bool process_loans_are_back(const struct handler_desk *desk) {
    const struct handlers *handlers = desk->handlers;

    for (unsigned i = 0; desk->loans > 0 && i < handlers->slot_count; i++) {
        struct worker_slot *slot = &handlers->slots[i];

        if (atomic_load(&slot->lender) == desk &&
            atomic_load(&atomic_load(&slot->lent)->state) != PROCESS_BUSY)
            return true;
    }
    return false;
}

/* A slot that is lent again at once is looked at the next time. */
bool process_loans_take_back(struct handler_desk *desk) {
    const struct handlers *handlers = desk->handlers;
    unsigned before = desk->loans;
    bool is_some = false;

    desk->loans = 0;
    for (unsigned i = 0; before > 0 && i < handlers->slot_count; i++)
        if (atomic_load(&handlers->slots[i].lender) == desk) {
            if (take_back(&handlers->slots[i], desk))
                is_some = true;
            else
                desk->loans++;
        }
    return is_some;
}

void process_loans_give_up(struct handler_desk *desk) {
    const struct handlers *handlers = desk->handlers;

    for (unsigned i = 0; desk->loans > 0 && i < handlers->slot_count; i++) {
        struct handler_desk *lender = desk;

        if (atomic_compare_exchange_strong(&handlers->slots[i].lender, &lender, NULL))
            deal_wake(&handlers->slots[i]);
    }
}

void process_loan_look(struct worker_slot *slot, int64_t now_ns) {
    struct handler_desk *desk = atomic_load(&slot->lender);

    if (desk &&
        (now_ns - atomic_load(&slot->lent_ns) >= LOAN_NS ||
         atomic_load(&atomic_load(&slot->lent)->state) == PROCESS_ENDED) &&
        atomic_compare_exchange_strong(&slot->lender, &desk, NULL))
        deal_wake(slot);
}

bool process_is_lent(const struct worker_slot *slot) {
    return slot->batch && slot->batch->is_lent;
}

static bool is_small(const struct worker_slot *slot) {
    size_t bytes = 0;

    for (unsigned i = 0; i < WORKER_BATCH_MAX; i++) {
        const struct call *call = atomic_load(&slot->taken[i]);

        bytes += call ? call->frame.bytes : 0;
    }
    return bytes <= LOAN_BYTES_MAX;
}

/* False: it is not back, or not ours any more. What is large, or not well, is left to the slot's
 * thread. */
static bool take_back(struct worker_slot *slot, struct handler_desk *desk) {
    struct process_batch *batch = slot->batch;
    uint32_t state = atomic_load(&atomic_load(&slot->lent)->state);

    if (state == PROCESS_BUSY || !atomic_compare_exchange_strong(&slot->lender, &desk, NULL))
        return false;
    if (state == PROCESS_READY && answer_bytes(batch) <= LOAN_BYTES_MAX) {
        process_take_answers(batch);
        process_tell_lines(batch);
    }
    if (state == PROCESS_READY && batch->answered == batch->count) {
        int64_t now_ns = clock_now_ns();
        struct deal_done done = {batch->handler, batch->taken, now_ns - batch->since_ns};

        batch->is_lent = false;
        process_has_served(batch, now_ns);
        atomic_fetch_add(&batch->handler->calls, batch->taken);
        slot_post(slot);
        deal_put_back(slot, &done, desk);
    } else {
        slot_post(slot);
        deal_wake(slot);
    }
    return true;
}

static size_t answer_bytes(const struct process_batch *batch) {
    const struct process_area *area = batch->area;
    size_t bytes = 0;

    for (unsigned i = 0; i < batch->sent - batch->first; i++)
        bytes += area->calls[i].answer_bytes;
    return bytes;
}
