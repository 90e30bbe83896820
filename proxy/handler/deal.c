/* Who gets which calls. Workers that rest are given them, in the order in which these came, by
 * whoever queues calls; one that has finished takes its next ones itself.
 *
 * Of those that rest the last to come is the first to go: its stack, its room for answers and its
 * instance are in the caches still. Each has a futex of its own: it finds its calls where it looks
 * first, and needs no lock that the one who woke it may hold. */
#include "handler/handlers_state.h"
#include "handler/process.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEAN_WEIGHT 8 /* a new time counts for one of so many */

static bool next_calls(struct worker_slot *slot, const struct deal_done *done,
                       struct handler **handler);
static void account(struct worker_slot *slot, const struct deal_done *done);
static struct handler *next_handler(struct handlers *handlers, const struct worker_slot *slot);
static void deal(struct worker_slot *slot, struct handler *handler);
static unsigned batch_of(const struct handlers *handlers, const struct handler *handler);
static void ring(struct worker_slot *slot, enum bell bell);
static enum bell wait_for_bell(struct worker_slot *slot);

struct handler *deal_take(struct worker_slot *slot, const struct deal_done *done) {
    struct handler *handler;
    bool is_over = !next_calls(slot, done, &handler);

    if (!handler && !is_over && wait_for_bell(slot) == BELL_CALLS)
        handler = atomic_load(&slot->busy);
    return handler;
}

void deal_put_back(struct worker_slot *slot, const struct deal_done *done,
                   struct handler_desk *desk) {
    struct handler *handler;

    if (!next_calls(slot, done, &handler))
        ring(slot, BELL_END);
    else if (handler && !process_lend(slot, desk))
        ring(slot, BELL_CALLS);
}

struct worker_slot *deal_out(struct handlers *handlers) {
    struct worker_slot *dealt = NULL, **at = &handlers->resting, *slot;

    while (handlers->queued > 0 && (slot = *at)) {
        struct handler *handler = next_handler(handlers, slot);

        if (!handler) { /* not for this one */
            at = &slot->next_idle;
            continue;
        }
        *at = slot->next_idle;
        handlers->idle--;
        deal(slot, handler);
        slot->next_idle = dealt;
        dealt = slot;
    }
    return dealt;
}

void deal_ring(struct worker_slot *dealt, struct handler_desk *desk) {
    struct worker_slot *next;

    for (; dealt; dealt = next) {
        next = dealt->next_idle; /* which is not ours any more once it is awake */
        if (!desk || !process_lend(dealt, desk))
            ring(dealt, BELL_CALLS);
    }
}

void deal_wake(struct worker_slot *slot) {
    ring(slot, BELL_CALLS);
}

void deal_end(struct handlers *handlers) {
    struct worker_slot *slot;

    while ((slot = handlers->resting)) {
        handlers->resting = slot->next_idle;
        handlers->idle--;
        ring(slot, BELL_END);
    }
}

/* *handler: whose calls it has now; NULL: it rests. False: it is over. */
static bool next_calls(struct worker_slot *slot, const struct deal_done *done,
                       struct handler **handler) {
    struct handlers *handlers = slot->handlers;
    bool is_ending;

    *handler = NULL;
    pthread_mutex_lock(&handlers->lock);
    account(slot, done);
    is_ending = handlers->is_ending;
    if (!is_ending)
        *handler = next_handler(handlers, slot);
    if (*handler) {
        deal(slot, *handler);
    } else if (!is_ending) {
        slot->next_idle = handlers->resting;
        handlers->resting = slot;
        handlers->idle++;
    }
    pthread_mutex_unlock(&handlers->lock);
    return !is_ending;
}

static void account(struct worker_slot *slot, const struct deal_done *done) {
    if (atomic_exchange(&slot->busy, NULL))
        done->handler->running--;
    if (done->calls > 0)
        done->handler->mean_ns += (done->ns / done->calls - done->handler->mean_ns) / MEAN_WEIGHT;
}

/* Each in its turn. Where there are several, none may have all workers. */
static struct handler *next_handler(struct handlers *handlers, const struct worker_slot *slot) {
    unsigned most = handlers->count > 1 && handlers->worker_count > 1 ? handlers->worker_count - 1
                                                                      : handlers->worker_count;

    for (size_t i = 0; handlers->queued > 0 && i < handlers->count; i++) {
        size_t at = (handlers->next + i) % handlers->count;
        struct handler *handler = &handlers->list[at];

        if (handler->queued_count > 0 && handler->running < most &&
            (slot->instances[at].image || atomic_load(&handler->is_in_process))) {
            handlers->next = (unsigned)(at + 1);
            return handler;
        }
    }
    return NULL;
}

static void deal(struct worker_slot *slot, struct handler *handler) {
    struct handlers *handlers = slot->handlers;
    unsigned count = batch_of(handlers, handler);

    handler->running++;
    handler->queued_count -= count;
    handlers->queued -= count;
    atomic_store(&slot->busy, handler);
    for (unsigned i = 0; i < count; i++) {
        struct call *call = CONTAINER_OF(list_pop(&handler->queued), struct call, link);

        call->place = CALL_TAKEN;
        atomic_store_explicit(&slot->taken[i], call, memory_order_release);
    }
    if (handlers->is_watch_asleep) {
        handlers->is_watch_asleep = false;
        pthread_cond_signal(&handlers->watch);
    }
}

/* Short calls many at a time, because handing over costs more than they do; long ones singly. */
static unsigned batch_of(const struct handlers *handlers, const struct handler *handler) {
    int64_t most = WORKER_BATCH_NS / (handler->mean_ns > 0 ? handler->mean_ns : 1);

    if (most < 1)
        most = 1;
    if (most > WORKER_BATCH_MAX)
        most = WORKER_BATCH_MAX;
    return handler->queued_count < most ? handler->queued_count : (unsigned)most;
}

static void ring(struct worker_slot *slot, enum bell bell) {
    atomic_store(&slot->bell, bell);
    syscall(SYS_futex, &slot->bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static enum bell wait_for_bell(struct worker_slot *slot) {
    uint32_t bell;

    while ((bell = atomic_exchange(&slot->bell, BELL_SILENT)) == BELL_SILENT)
        syscall(SYS_futex, &slot->bell, FUTEX_WAIT_PRIVATE, BELL_SILENT, NULL, NULL, 0);
    return (enum bell)bell;
}
