/* The watchdog: a thread that looks after the workers. It starts a new one where one has ended,
 * takes from one that takes its time what others could do, and kicks out the one whose run has
 * lasted too long: again and again, until that is caught at a place where it can be left (see
 * trap.h). If there is none in KICKS_MAX kicks it is given up, another slot takes its place, and
 * the process is tainted. While no worker works the watchdog sleeps. */
#include "handler/handlers_state.h"
#include "handler/heap.h"
#include "handler/process.h"
#include "handler/trap.h"

#include <stdlib.h>
#include <string.h>

#define IN_DOUBT "a handler has left it in doubt"
#define LOOK_NS (5 * NS_PER_MS)
#define LOOK_AT_REST_NS (2 * LOOK_NS) /* behind a look that has found nobody at work */
#define LOOKS_MAX 50                  /* of these, before it sleeps */
#define SLEEP_NS NS_PER_S             /* for which tables of cells want a beat */
#define FDS_LOOK_NS (50 * NS_PER_MS)  /* between two, behind faults */
#define KICK_NS (150 * NS_PER_US)
#define KICKS_MAX 300                /* that come at a bad time, */
#define KICKING_NS (50 * NS_PER_MS)  /* and at least for so long */
#define DEAF_CPU_NS (20 * NS_PER_MS) /* of CPU time without any that has come: it blocks them */
#define DEAF_NS (2 * NS_PER_S)       /* the same of time: else it may just not have had the CPU */
#define KICK_ABANDONED_NS (100 * NS_PER_MS)

static int64_t look(struct handlers *handlers, int64_t now_ns);
static bool look_at(struct worker_slot *slot, int64_t now_ns);
static bool kick(struct worker_slot *slot, uint64_t number, int64_t now_ns);
static int64_t cpu_ns(const struct worker_slot *slot);
static void abandon(struct worker_slot *slot, int64_t now_ns);
static void report_abandoned(struct worker_slot *slot, struct call *call, bool has_vanished,
                             int64_t now_ns);
static void look_at_abandoned(struct worker_slot *slot, int64_t now_ns);
static void replace(struct worker_slot *slot);
static void demote(struct handlers *handlers, struct handler *handler);
static void start_another(struct handlers *handlers);
static void wait_for(struct handlers *handlers, int64_t ns);

void *watchdog_run(void *arg) {
    struct handlers *handlers = arg;
    unsigned looks = 0;

    pthread_setname_np(pthread_self(), "weir-watchdog");
    pthread_mutex_lock(&handlers->lock);
    while (!handlers->is_watch_ending) {
        bool is_resting = handlers->idle == handlers->worker_count && handlers->queued == 0 &&
                          atomic_load(&handlers->abandoned) == 0;
        int64_t wait_ns;

        looks = is_resting ? looks + 1 : 0;
        handlers->is_watch_asleep = looks > LOOKS_MAX;
        handlers->is_retired_seen = false;
        pthread_mutex_unlock(&handlers->lock);
        wait_ns = look(handlers, clock_now_ns());
        pthread_mutex_lock(&handlers->lock);
        if (handlers->is_ending)
            pthread_cond_signal(&handlers->over);
        if (is_resting)
            wait_ns = handlers->is_watch_asleep ? SLEEP_NS : LOOK_AT_REST_NS;
        if (!handlers->is_retired_seen && !handlers->is_watch_ending)
            wait_for(handlers, wait_ns);
        if (!handlers->is_watch_asleep)
            looks = 0; /* somebody works again */
    }
    pthread_mutex_unlock(&handlers->lock);
    return NULL;
}

void handlers_taint(struct handlers *handlers, const char *why) {
    if (atomic_exchange(&handlers->is_tainted, true))
        return;
    log_warn("the gateway is to be replaced: %s", why);
    process_take_all(handlers);
    if (handlers->on_taint)
        handlers->on_taint(handlers->taint_ctx);
}

static void wait_for(struct handlers *handlers, int64_t ns) {
    int64_t until_ns = clock_now_ns() + ns;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};

    pthread_cond_timedwait(&handlers->watch, &handlers->lock, &until);
}

/* How long to wait until the next look. */
static int64_t look(struct handlers *handlers, int64_t now_ns) {
    int64_t wait_ns = LOOK_NS;

    if (now_ns >= handlers->beat_ns) {
        cells_beat(handlers->cells);
        handlers->beat_ns = now_ns + SLEEP_NS;
    }
    if (now_ns >= handlers->cpu_look_ns) {
        processes_look_at_cpu(handlers, now_ns);
        handlers->cpu_look_ns = now_ns + PROCESS_CPU_LOOK_NS;
    }
    if (handlers->has_lost && now_ns >= handlers->fds_look_ns) {
        handlers->has_lost = false;
        handlers->fds_look_ns = now_ns + FDS_LOOK_NS;
        losses_look_at_fds(handlers);
    }
    for (unsigned i = 0; i < handlers->slot_count; i++) {
        struct worker_slot *slot = &handlers->slots[i];

        switch (atomic_load(&slot->state)) {
        case SLOT_RUNNING:
            if (look_at(slot, now_ns))
                wait_ns = KICK_NS;
            process_loan_look(slot, now_ns);
            break;
        case SLOT_RETIRED:
            replace(slot);
            break;
        case SLOT_ABANDONED:
        case SLOT_ENDED:
            look_at_abandoned(slot, now_ns);
            break;
        default:
            break;
        }
    }
    return wait_ns;
}

/* True: it is being kicked. */
static bool look_at(struct worker_slot *slot, int64_t now_ns) {
    uint64_t number = atomic_load(&slot->guest.run);
    int64_t kick_at_ns = atomic_load(&slot->kick_at_ns);
    int64_t end_ns = atomic_load(&slot->handlers->end_ns);
    bool is_same = kick_at_ns != 0 && number == slot->seen_run;

    if (end_ns != 0 && kick_at_ns > end_ns)
        kick_at_ns = end_ns; /* nobody waits for it any more */

    slot->seen_run = number;
    if (is_same)
        slot_relieve(slot);
    if (!is_same || now_ns < kick_at_ns || number != atomic_load(&slot->guest.run)) {
        slot->kicked_since_ns = 0;
        return false;
    }
    if (slot->kicked_since_ns == 0) {
        slot->kicked_since_ns = now_ns;
        slot->kicked_cpu_ns = cpu_ns(slot);
        slot->kicks_before = slot->kicks_sent = atomic_load(&slot->guest.kicks);
    }
    if (kick(slot, number, now_ns))
        return true;
    abandon(slot, now_ns);
    return false;
}

/* One at a time. False: enough of them have been in vain, or it is not there any more. */
static bool kick(struct worker_slot *slot, uint64_t number, int64_t now_ns) {
    uint32_t arrived = atomic_load(&slot->guest.kicks);
    int64_t kicked_ns = now_ns - slot->kicked_since_ns;

    if (arrived == slot->kicks_sent) {
        if (!trap_kick(&slot->guest, number, atomic_load(&slot->tid)))
            return false;
        slot->kicks_sent++;
    }
    if (kicked_ns < KICKING_NS)
        return true;
    if (arrived != slot->kicks_before)
        return arrived - slot->kicks_before < KICKS_MAX && kicked_ns < DEAF_NS;
    return cpu_ns(slot) - slot->kicked_cpu_ns < DEAF_CPU_NS && kicked_ns < DEAF_NS;
}

/* That its thread has used. */
static int64_t cpu_ns(const struct worker_slot *slot) {
    struct timespec used;
    clockid_t clock;

    if (pthread_getcpuclockid(slot->thread, &clock) != 0 || clock_gettime(clock, &used) < 0)
        return 0;
    return used.tv_sec * NS_PER_S + used.tv_nsec;
}

/* Whoever takes the call from its place, it or us, decides what becomes of the slot. */
static void abandon(struct worker_slot *slot, int64_t now_ns) {
    struct handlers *handlers = slot->handlers;
    struct call *call = atomic_exchange(&slot->current, NULL);
    bool has_vanished =
        !trap_kick(&slot->guest, atomic_load(&slot->guest.run), atomic_load(&slot->tid));
    struct handler *busy;

    slot->kicked_since_ns = 0;
    if (!call)
        return; /* it has just finished */
    slot->failed = call->handler;
    slot->abandoned = call;
    slot->kick_next_ns = now_ns + KICK_ABANDONED_NS;
    atomic_store(&slot->kick_at_ns, 0);
    busy = atomic_exchange(&slot->busy, NULL);
    pthread_mutex_lock(&handlers->lock);
    if (busy)
        busy->running--;
    pthread_mutex_unlock(&handlers->lock);
    slot_relieve(slot);
    report_abandoned(slot, call, has_vanished, now_ns);
    atomic_fetch_add(&handlers->abandoned, 1);
    /* It may have ended meanwhile, and said so. */
    atomic_compare_exchange_strong(&slot->state, &(int){SLOT_RUNNING},
                                   has_vanished ? SLOT_ENDED : SLOT_ABANDONED);
    slot->held_bytes = WORKER_STACK_BYTES;
    for (size_t i = 0; i < handlers->count; i++)
        slot->held_bytes += heap_used(slot->instances[i].heap);
    handlers_taint(handlers, IN_DOUBT);
    demote(handlers, slot->failed);
    losses_add(handlers, slot->held_bytes);
    start_another(handlers);
}

static void report_abandoned(struct worker_slot *slot, struct call *call, bool has_vanished,
                             int64_t now_ns) {
    struct fault fault = {.kind = has_vanished ? FAULT_EXIT : FAULT_HANG, .is_dirty = true};

    strncpy(fault.text,
            has_vanished ? "its thread has ended"
                         : "it cannot be stopped: its thread is left to itself",
            sizeof fault.text - 1);
    slot->guest.fault.is_dirty = true;
    fault_report(call->handler, &fault, frame_slice(call->frame.request.id));
    call_tell(call, true, now_ns);
}

/* One that gets out after all makes its slot free again. */
static void look_at_abandoned(struct worker_slot *slot, int64_t now_ns) {
    if (atomic_load(&slot->state) == SLOT_ABANDONED && now_ns >= slot->kick_next_ns) {
        slot->kick_next_ns = now_ns + KICK_ABANDONED_NS;
        if (!trap_kick(&slot->guest, atomic_load(&slot->guest.run), atomic_load(&slot->tid)))
            atomic_store(&slot->state, SLOT_ENDED);
    }
    if (atomic_load(&slot->state) != SLOT_ENDED)
        return;
    pthread_join(slot->thread, NULL);
    slot->abandoned->outcome = CALL_HANG;
    slot->abandoned->next = NULL;
    desk_post(slot->abandoned->desk, slot->abandoned);
    slot->abandoned = NULL;
    atomic_fetch_sub(&slot->handlers->lost_bytes, slot->held_bytes);
    losses_add(slot->handlers, slot_clear(slot));
    atomic_fetch_sub(&slot->handlers->abandoned, 1);
    atomic_store(&slot->state, SLOT_FREE);
}

static void replace(struct worker_slot *slot) {
    struct handlers *handlers = slot->handlers;
    int err;

    pthread_join(slot->thread, NULL);
    handlers->has_lost = true;
    fault_report(slot->failed, &slot->guest.fault, slice_str(slot->failed_id));
    if (slot->guest.fault.is_dirty) {
        handlers_taint(handlers, IN_DOUBT);
        demote(handlers, slot->failed);
    }
    losses_add(handlers, slot_clear(slot));
    slot->kicked_since_ns = 0;
    err = slot_start(slot);
    if (err) {
        log_error("cannot start a thread for handlers: %s", strerror(-err));
        handlers_taint(handlers, "it has a worker too few");
        return;
    }
    atomic_fetch_add(&handlers->replaced, 1);
}

static void demote(struct handlers *handlers, struct handler *handler) {
    if (handler->config->fault.demote)
        process_demote(handlers, handler);
}

static void start_another(struct handlers *handlers) {
    for (unsigned i = 0; i < handlers->slot_count; i++) {
        struct worker_slot *slot = &handlers->slots[i];

        if (atomic_load(&slot->state) == SLOT_FREE && slot_start(slot) == 0) {
            atomic_fetch_add(&handlers->replaced, 1);
            return;
        }
    }
    log_error("no place is left for another thread for handlers: %d hang and cannot be stopped",
              WORKER_ABANDONED_MAX);
}
