/* Workers: threads that take calls from the queues, a few at a time, and run the plugins.
 *
 * A thread in whose plugin something went wrong hands over what it has and ends by the bare system
 * call: what libc does at the end of a thread may need what is broken. The watchdog starts another
 * one in its place. Workers allocate nothing by malloc() that others free: a fault in the middle of
 * libc's would keep its arena locked. */
#include "handler/handlers_state.h"
#include "handler/heap.h"
#include "handler/host.h"
#include "handler/process.h"
#include "handler/trap.h"

#include "base/alloc.h"
#include "base/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GUARD_BYTES 65536ul
#define WHY_BYTES 256
#define MEAN_WEIGHT 8 /* a new time counts for one of so many */

static void *work(void *arg);
static struct handler *take(struct worker_slot *slot);
static struct handler *next_handler(struct handlers *handlers, const struct worker_slot *slot);
static unsigned batch_of(const struct handlers *handlers, const struct handler *handler);
static void run(struct worker_slot *slot, struct call *call, int64_t *now_ns);
static bool prepare(struct worker_slot *slot, struct call *call, struct handler_instance *instance);
static void finish(struct worker_slot *slot, struct call *call);
static void close_files(struct handler_instance *instance);
static void fail(struct worker_slot *slot, struct call *call, enum call_outcome outcome,
                 enum fault_kind kind, const char *text);
_Noreturn static void retire(struct worker_slot *slot, struct call *call);
_Noreturn static void leave(struct worker_slot *slot, enum slot_state state);
static void trim(struct answer_room *room);

int slot_open(struct worker_slot *slot, struct handlers *handlers, unsigned index) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t signal_bytes = (trap_stack_bytes() + page - 1) / page * page;
    size_t room_bytes = (sizeof(struct answer_room) + page - 1) / page * page;
    size_t bytes = 4 * GUARD_BYTES + signal_bytes + WORKER_STACK_BYTES + room_bytes;
    char *at;

    slot->handlers = handlers;
    slot->index = index;
    at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return -errno;
    slot->memory = at;
    slot->signal_stack = at + GUARD_BYTES;
    slot->stack = slot->signal_stack + signal_bytes + GUARD_BYTES;
    slot->room = (void *)(slot->stack + WORKER_STACK_BYTES + GUARD_BYTES);
    if (mprotect(slot->signal_stack, signal_bytes, PROT_READ | PROT_WRITE) < 0 ||
        mprotect(slot->stack, WORKER_STACK_BYTES, PROT_READ | PROT_WRITE) < 0 ||
        mprotect(slot->room, room_bytes, PROT_READ | PROT_WRITE) < 0) {
        int err = -errno;

        munmap(at, bytes);
        slot->memory = NULL;
        return err;
    }
    slot->guest.stack_low = (uintptr_t)slot->stack;
    slot->guest.stack_high = (uintptr_t)slot->stack + WORKER_STACK_BYTES;
    slot->instances = xcalloc(handlers->count, sizeof *slot->instances);
    for (size_t i = 0; i < handlers->count; i++)
        slot->instances[i].heap = heap_at(index * (unsigned)handlers->count + (unsigned)i);
    return 0;
}

void slot_close(struct worker_slot *slot) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room_bytes = (sizeof(struct answer_room) + page - 1) / page * page;

    if (slot->memory)
        munmap(slot->memory,
               (size_t)((char *)slot->room - slot->memory) + room_bytes + GUARD_BYTES);
    free(slot->instances);
}

int slot_start(struct worker_slot *slot) {
    int err;

    atomic_store(&slot->tid, 0);
    atomic_store(&slot->state, SLOT_RUNNING);
    err = thread_start_on(&slot->thread, slot->stack, WORKER_STACK_BYTES, work, slot);
    if (err)
        atomic_store(&slot->state, SLOT_FREE);
    return err;
}

void slot_clear(struct worker_slot *slot) {
    for (size_t i = 0; i < slot->handlers->count; i++) {
        struct handler_instance *instance = &slot->instances[i];

        if (&slot->handlers->list[i] != slot->failed)
            continue;
        /* In disorder as malloc() may be after a dirty fault, views are left as they are. */
        for (unsigned j = 0; !slot->guest.fault.is_dirty && j < instance->files.count; j++)
            watched_view_close(instance->files.list[j]);
        instance->files.count = 0;
        heap_drop(instance->heap);
        if (instance->image && (slot->failed->functions->flags & WEIR_HAS_STATICS))
            plugin_image_reset(instance->image);
        instance->is_ready = false;
    }
}

void slot_relieve(struct worker_slot *slot) {
    struct call *call;

    slot_post(slot);
    for (unsigned i = WORKER_BATCH_MAX; i-- > 0;) { /* the first is to be the first again */
        call = atomic_exchange(&slot->taken[i], NULL);
        if (call)
            calls_requeue(call);
    }
}

struct start {
    const struct weir_plugin *functions;
    struct weir_text config;
    void **state;
    char *why;
    size_t why_size;
    int result;
};

static void call_init(void *arg) {
    struct start *start = arg;

    start->result = start->functions->init(&plugin_host, start->config, start->state, start->why,
                                           start->why_size);
}

bool instance_start(struct guest *guest, struct handler *handler, struct handler_instance *instance,
                    char *why, size_t why_size) {
    struct start start = {
        .functions = instance->image->functions,
        .config = {handler->config->config, strlen(handler->config->config)},
        .state = &instance->state,
        .why = why,
        .why_size = why_size,
    };

    why[0] = '\0';
    instance->state = NULL;
    guest->call = (struct weir_call){0};
    guest->handler = &handler->guest;
    guest->heap = instance->heap;
    guest->files = &instance->files;
    guest->fault.kind = FAULT_NONE;
    if (start.functions->init && !guest_run(guest, call_init, &start))
        return false;
    why[why_size - 1] = '\0';
    instance->is_ready = start.result == 0;
    if (!instance->is_ready) /* it may be tried again and again */
        close_files(instance);
    return instance->is_ready;
}

static void close_files(struct handler_instance *instance) {
    for (unsigned i = 0; i < instance->files.count; i++)
        watched_view_close(instance->files.list[i]);
    instance->files.count = 0;
}

static void call_end(void *arg) {
    struct handler_instance *instance = arg;

    instance->image->functions->end(instance->state);
}

bool instance_end(struct guest *guest, struct handler *handler, struct handler_instance *instance) {
    bool is_good = true;

    if (!instance->is_ready)
        return true;
    guest->call = (struct weir_call){0};
    guest->handler = &handler->guest;
    guest->heap = instance->heap;
    guest->files = &instance->files;
    if (instance->image->functions->end)
        is_good = guest_run(guest, call_end, instance);
    instance->is_ready = false;
    close_files(instance);
    heap_drop(instance->heap);
    return is_good;
}

static void *work(void *arg) {
    struct worker_slot *slot = arg;
    struct handlers *handlers = slot->handlers;
    struct handler *handler;
    char name[16];

    snprintf(name, sizeof name, "weir-worker-%u", slot->index % 1000);
    pthread_setname_np(pthread_self(), name);
    trap_enter_thread(&slot->guest, slot->signal_stack);
    atomic_store(&slot->tid, (pid_t)syscall(SYS_gettid));
    while ((handler = take(slot))) {
        int64_t begun_ns = clock_now_ns(), now_ns = begun_ns;
        unsigned count = 0;

        if (atomic_load(&handler->is_in_process)) {
            for (unsigned i = 0; i < WORKER_BATCH_MAX; i++)
                count += atomic_load(&slot->taken[i]) != NULL;
            process_run(slot, handler);
            now_ns = clock_now_ns();
        }
        for (unsigned i = 0; i < WORKER_BATCH_MAX; i++) {
            struct call *call = atomic_exchange(&slot->taken[i], NULL);

            if (!call)
                continue;
            count++;
            run(slot, call, &now_ns);
        }
        slot_post(slot);
        atomic_fetch_add(&handler->calls, count);
        pthread_mutex_lock(&handlers->lock);
        if (atomic_exchange(&slot->busy, NULL))
            handler->running--;
        if (count > 0)
            handler->mean_ns += ((now_ns - begun_ns) / count - handler->mean_ns) / MEAN_WEIGHT;
        pthread_mutex_unlock(&handlers->lock);
    }
    for (size_t i = 0; i < handlers->count; i++)
        if (!instance_end(&slot->guest, &handlers->list[i], &slot->instances[i]))
            fault_report(&handlers->list[i], &slot->guest.fault, SLICE_NONE);
    trap_leave_thread();
    pthread_mutex_lock(&handlers->lock);
    atomic_store(&slot->state, SLOT_OVER);
    pthread_cond_signal(&handlers->over);
    pthread_mutex_unlock(&handlers->lock);
    return NULL;
}

void slot_post(struct worker_slot *slot) {
    calls_post_all(atomic_exchange(&slot->done, NULL));
}

/* Waits for calls and takes some of one handler. NULL: it is over. */
static struct handler *take(struct worker_slot *slot) {
    struct handlers *handlers = slot->handlers;
    struct handler *handler = NULL;
    unsigned count = 0;

    pthread_mutex_lock(&handlers->lock);
    while (!handlers->is_ending && !(handler = next_handler(handlers, slot))) {
        handlers->idle++;
        pthread_cond_wait(&handlers->work, &handlers->lock);
        handlers->idle--;
    }
    if (handler) {
        count = batch_of(handlers, handler);
        handler->running++;
        handler->queued_count -= count;
        handlers->queued -= count;
        atomic_store(&slot->busy, handler);
        for (unsigned i = 0; i < count; i++) {
            struct call *call = CONTAINER_OF(list_pop(&handler->queued), struct call, link);

            call->place = CALL_TAKEN;
            atomic_store_explicit(&slot->taken[i], call, memory_order_release);
        }
        if (handlers->queued > 0 && handlers->idle > 0)
            pthread_cond_signal(&handlers->work);
        if (handlers->is_watch_asleep) {
            handlers->is_watch_asleep = false;
            pthread_cond_signal(&handlers->watch);
        }
    }
    pthread_mutex_unlock(&handlers->lock);
    return handler;
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

/* Short calls many at a time, because handing over costs more than they do; long ones singly. */
static unsigned batch_of(const struct handlers *handlers, const struct handler *handler) {
    int64_t most = WORKER_BATCH_NS / (handler->mean_ns > 0 ? handler->mean_ns : 1);

    if (most < 1)
        most = 1;
    if (most > WORKER_BATCH_MAX)
        most = WORKER_BATCH_MAX;
    return handler->queued_count < most ? handler->queued_count : (unsigned)most;
}

static void run(struct worker_slot *slot, struct call *call, int64_t *now_ns) {
    struct handler *handler = call->handler;
    struct handler_instance *instance = &slot->instances[handler - slot->handlers->list];

    if (*now_ns >= call->deadline_ns) { /* nobody waits for it any more */
        call->outcome = CALL_HANG;
        slot_push_done(slot, call);
        return;
    }
    atomic_store(&slot->current, call);
    atomic_store(&slot->kick_at_ns, *now_ns + handler->config->timeout_ns);
    if (instance->is_ready || prepare(slot, call, instance)) {
        slot->guest.call = (struct weir_call){&call->frame, slot->room};
        slot->guest.handler = &handler->guest;
        slot->guest.heap = instance->heap;
        slot->guest.files = &instance->files;
        answer_clear(slot->room);
        if (!guest_run(&slot->guest, slot_call_plugin, slot))
            retire(slot, call);
        finish(slot, call);
    }
    *now_ns = clock_now_ns();
}

/* A new instance, at its first call. */
static bool prepare(struct worker_slot *slot, struct call *call,
                    struct handler_instance *instance) {
    char why[WHY_BYTES];

    if (instance_start(&slot->guest, call->handler, instance, why, sizeof why))
        return true;
    if (slot->guest.fault.kind != FAULT_NONE)
        retire(slot, call);
    heap_drop(instance->heap);
    atomic_store(&slot->kick_at_ns, 0);
    if (atomic_exchange(&slot->current, NULL) != call)
        leave(slot, SLOT_ENDED);
    fail(slot, call, CALL_FAULT, FAULT_INIT, why);
    return false;
}

void slot_call_plugin(void *arg) {
    struct worker_slot *slot = arg;
    const struct frame *frame = slot->guest.call.frame;
    struct handler_instance *instance = &slot->instances[frame->handler];
    const struct weir_plugin *functions = instance->image->functions;
    enum weir_verdict verdict;

    if (frame->phase == CALL_REQUEST)
        verdict = functions->request(instance->state, &slot->guest.call, &frame->request);
    else
        verdict = functions->response(instance->state, &slot->guest.call, &frame->request,
                                      &frame->response);
    slot->room->head.verdict = (uint32_t)verdict;
}

/* It has returned. */
static void finish(struct worker_slot *slot, struct call *call) {
    atomic_store(&slot->kick_at_ns, 0);
    /* Given up by the watchdog a moment ago, it is not ours any more, nor is this place. */
    if (atomic_exchange(&slot->current, NULL) != call)
        leave(slot, SLOT_ENDED);
    answer_pack(slot->room, call_packed_room(call, answer_packed_bytes(slot->room)));
    trim(slot->room);
    slot_finish(slot, call);
}

void slot_finish(struct worker_slot *slot, struct call *call) {
    struct answer_head head;

    memcpy(&head, call->packed, sizeof head);
    if (head.verdict != WEIR_CONTINUE &&
        (head.verdict != WEIR_RESPOND || head.reply == ANSWER_NO_REPLY ||
         call->frame.phase != CALL_REQUEST)) {
        fail(slot, call, CALL_FAULT, FAULT_ANSWER,
             "expected WEIR_CONTINUE, or WEIR_RESPOND after respond() or refuse()");
        return;
    }
    call->outcome = CALL_CONTINUE;
    call_tell(call, false, call->deadline_ns - call->handler->config->timeout_ns);
    slot_push_done(slot, call);
}

void *call_packed_room(struct call *call, size_t bytes) {
    call->packed = call->small;
    call->packed_bytes = bytes;
    if (bytes <= sizeof call->small)
        return call->packed;
    call->packed = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (call->packed == MAP_FAILED) { /* out of memory: the same as everywhere */
        log_error("handler '%s': no memory for an answer of %zu bytes", call->handler->config->name,
                  bytes);
        abort();
    }
    return call->packed;
}

/* What a large answer has used is not kept for the small ones that usually follow. */
static void trim(struct answer_room *room) {
    if (room->allocated > 0 && room->allocated > CALL_BLOCK_BYTES * 4)
        madvise(room->records, sizeof room->records, MADV_DONTNEED);
    if (room->head.content_len > CALL_BLOCK_BYTES * 4)
        madvise(room->content, sizeof room->content, MADV_DONTNEED);
}

void slot_push_done(struct worker_slot *slot, struct call *call) {
    struct call *first = atomic_load(&slot->done);

    do
        call->next = first;
    while (!atomic_compare_exchange_weak(&slot->done, &first, call));
}

/* What went wrong without leaving the thread in disorder. */
static void fail(struct worker_slot *slot, struct call *call, enum call_outcome outcome,
                 enum fault_kind kind, const char *text) {
    struct fault fault = {.kind = kind};

    snprintf(fault.text, sizeof fault.text, "%s", text);
    fault_report(call->handler, &fault, frame_slice(call->frame.request.id));
    call->outcome = outcome;
    call_tell(call, true, clock_now_ns());
    slot_push_done(slot, call);
}

/* The plugin has faulted in @call, or was kicked out of it. */
_Noreturn static void retire(struct worker_slot *slot, struct call *call) {
    const struct fault *fault = &slot->guest.fault;
    struct slice id = frame_slice(call->frame.request.id);

    atomic_store(&slot->kick_at_ns, 0);
    if (atomic_exchange(&slot->current, NULL) != call)
        leave(slot, SLOT_ENDED);
    slot->failed = call->handler;
    snprintf(slot->failed_id, sizeof slot->failed_id, "%.*s", SLICE_ARG(id));
    call->outcome = fault->kind == FAULT_HANG ? CALL_HANG : CALL_FAULT;
    call_tell(call, true, clock_now_ns());
    slot_push_done(slot, call);
    slot_relieve(slot);
    leave(slot, SLOT_RETIRED);
}

_Noreturn static void leave(struct worker_slot *slot, enum slot_state state) {
    struct handlers *handlers = slot->handlers;
    struct handler *busy = atomic_exchange(&slot->busy, NULL);

    trap_leave_thread();
    if (busy)
        atomic_fetch_add(&busy->calls, 1);
    pthread_mutex_lock(&handlers->lock);
    if (busy)
        busy->running--;
    atomic_store(&slot->state, state);
    handlers->is_retired_seen = true;
    handlers->is_watch_asleep = false;
    pthread_cond_signal(&handlers->watch);
    pthread_mutex_unlock(&handlers->lock);
    for (;;)
        syscall(SYS_exit, 0);
}
