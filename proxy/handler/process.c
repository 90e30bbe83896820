/* Process isolation, the gateway's side. */
#include "handler/process.h"

#include "base/alloc.h"
#include "handler/process_area.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_NS (5 * NS_PER_MS) /* between two looks at a process that works */
#define IN_BYTES (1ul << 20)    /* of frames, beside one with the longest content */
#define FRAME_ALIGN 64
#define DEMOTED_CELLS 16

static size_t in_bytes_of(const struct handler *handler);
static bool may_run(const struct handler *handler);
static bool make_ready(struct process_batch *batch);
static void attend(struct process_batch *batch);
static bool is_through(const struct process_batch *batch, uint32_t state);
static bool is_spent(const struct process_batch *batch);
static void kill_late(struct process_batch *batch);
static void end_of_process(struct process_batch *batch);
static void kill_process(const struct process_batch *batch);
static bool has_ended(const struct process_batch *batch);
static bool is_over(const struct process_batch *batch, int64_t now_ns);
static void cut(struct process_batch *batch);
static void give_back(struct process_batch *batch, unsigned from);
static void fail_one(struct process_batch *batch, const struct fault *fault,
                     enum call_outcome outcome);
static struct fault fault_of(const struct process_area *area);
static bool order(const struct process_batch *batch, enum process_order what);
static struct handler_instance *instance_of(const struct process_batch *batch);
static void serve_since(const struct process_batch *batch, int64_t now_ns);
static size_t pids_bytes(const struct handlers *handlers);
static bool demoted_key(const struct handler *handler, char *key, size_t size);
static struct weir_table *demoted_table(struct handlers *handlers, const struct handler *handler);

int processes_open(struct handlers *handlers) {
    int ends[2];
    bool is_wanted = false;

    handlers->zygote_socket = -1;
    for (size_t i = 0; i < handlers->count; i++) {
        struct handler *handler = &handlers->list[i];
        size_t bytes = sizeof(struct process_area) + in_bytes_of(handler) + PROCESS_OUT_BYTES;

        if (!may_run(handler))
            continue;
        is_wanted = true;
        for (unsigned j = 0; j < handlers->slot_count; j++) {
            struct process_area *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

            if (area == MAP_FAILED)
                return -errno;
            area->in_bytes = in_bytes_of(handler);
            handlers->slots[j].instances[i].area = area;
        }
    }
    if (!is_wanted)
        return 0;
    handlers->pids =
        mmap(NULL, pids_bytes(handlers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (handlers->pids == MAP_FAILED) {
        handlers->pids = NULL;
        return -errno;
    }
    for (unsigned i = 0; i < handlers->slot_count; i++)
        handlers->slots[i].batch = xcalloc(1, sizeof *handlers->slots[i].batch);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    handlers->zygote = fork();
    if (handlers->zygote < 0) {
        int err = -errno;

        close(ends[0]);
        close(ends[1]);
        return err;
    }
    if (handlers->zygote == 0)
        process_zygote(handlers, ends[1]);
    close(ends[1]);
    handlers->zygote_socket = ends[0];
    return 0;
}

void processes_close(struct handlers *handlers) {
    if (handlers->zygote > 0) {
        close(handlers->zygote_socket);
        while (waitpid(handlers->zygote, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    if (handlers->pids)
        munmap(handlers->pids, pids_bytes(handlers));
    for (size_t i = 0; i < handlers->count; i++)
        for (unsigned j = 0; j < handlers->slot_count; j++) {
            struct process_area *area =
                handlers->slots[j].instances ? handlers->slots[j].instances[i].area : NULL;

            if (area)
                munmap(area, sizeof *area + in_bytes_of(&handlers->list[i]) + PROCESS_OUT_BYTES);
        }
}

struct process_area *process_area_of(const struct worker_slot *slot,
                                     const struct handler *handler) {
    return slot->instances[handler - slot->handlers->list].area;
}

unsigned process_run(struct worker_slot *slot, struct handler *handler) {
    struct process_batch *batch = slot->batch;

    if (!batch->is_lent)
        process_collect(slot, handler);
    else if (batch->sent > batch->answered)
        attend(batch);
    while (batch->answered < batch->count) {
        struct call *call = batch->calls[batch->answered];

        if (clock_now_ns() >= call->deadline_ns) {
            call->outcome = CALL_HANG;
            slot_push_done(slot, call);
            batch->answered++;
            continue;
        }
        if (!make_ready(batch))
            continue; /* one of them has paid for it */
        process_fill(batch);
        if (batch->sent == batch->answered)
            continue; /* the first did not fit */
        if (process_send_off(batch, PROCESS_TELL_THREAD))
            attend(batch);
        else if (!is_spent(batch))
            end_of_process(batch);
    }
    batch->is_lent = false;
    process_has_served(batch, clock_now_ns());
    slot_post(slot);
    return batch->taken;
}

void process_collect(struct worker_slot *slot, struct handler *handler) {
    struct process_batch *batch = slot->batch;
    int64_t now_ns = clock_now_ns();

    *batch = (struct process_batch){
        .slot = slot, .handler = handler, .area = process_area_of(slot, handler)};
    for (unsigned i = 0; i < WORKER_BATCH_MAX; i++) {
        struct call *call = atomic_exchange(&slot->taken[i], NULL);

        if (!call)
            continue;
        batch->taken++;
        if (now_ns >= call->deadline_ns) {
            call->outcome = CALL_HANG;
            slot_push_done(slot, call);
        } else {
            batch->calls[batch->count++] = call;
        }
    }
}

void process_fill(struct process_batch *batch) {
    struct process_area *area = batch->area;
    size_t at = 0, limit = in_bytes_of(batch->handler);
    unsigned count = 0;

    batch->sent = batch->first = batch->answered;
    batch->is_cut = false;
    for (; batch->sent < batch->count; batch->sent++, count++) {
        const struct frame *frame = &batch->calls[batch->sent]->frame;

        if (frame->bytes > limit - at)
            break;
        /* The process makes the pointers right: here nothing is read back. */
        memcpy(area->bytes + at, frame, frame->bytes);
        area->calls[count].frame_at = (uint32_t)at;
        at += (frame->bytes + FRAME_ALIGN - 1) & ~(size_t)(FRAME_ALIGN - 1);
        if (at > limit)
            at = limit;
    }
    area->count = count;
    area->line_count = 0;
    atomic_store(&area->next, 0);
    atomic_store(&area->finished, 0);
    if (count > 0)
        return;
    batch->calls[batch->answered]->outcome = CALL_FULL; /* larger than any */
    slot_push_done(batch->slot, batch->calls[batch->answered++]);
}

bool process_send_off(struct process_batch *batch, enum process_waiter waiter) {
    struct process_area *area = batch->area;
    uint32_t state = PROCESS_READY;

    batch->since_ns = clock_now_ns();
    serve_since(batch, batch->since_ns);
    atomic_store(&area->waiter, waiter);
    if (!atomic_compare_exchange_strong(&area->state, &state, PROCESS_BUSY)) {
        batch->sent = batch->first;
        return false;
    }
    process_wake(&area->state);
    return true;
}

bool process_take_answers(struct process_batch *batch) {
    struct process_area *area = batch->area;
    const char *out = area->bytes + in_bytes_of(batch->handler);
    unsigned finished = atomic_load(&area->finished), before = batch->answered;

    if (finished > batch->sent - batch->first)
        finished = batch->sent - batch->first;
    while (batch->answered < batch->first + finished) {
        struct call *call = batch->calls[batch->answered];
        unsigned i = batch->answered - batch->first;
        size_t at = area->calls[i].answer_at, bytes = area->calls[i].answer_bytes;

        if (bytes < sizeof(struct answer_head) || bytes > sizeof(struct answer_room) ||
            at > PROCESS_OUT_BYTES || bytes > PROCESS_OUT_BYTES - at) {
            struct fault fault = {.kind = FAULT_ANSWER, .text = "what it left is no answer"};

            fail_one(batch, &fault, CALL_FAULT);
            continue;
        }
        memcpy(call_packed_room(call, bytes), out + at, bytes);
        slot_finish(batch->slot, call);
        batch->answered++;
    }
    return batch->answered > before;
}

void process_tell_lines(struct process_batch *batch) {
    struct process_area *area = batch->area;
    uint32_t count = area->line_count;

    for (uint32_t i = 0; i < count && i < PROCESS_LINES_MAX; i++) {
        uint32_t level = area->lines[i].level, len = area->lines[i].len;

        if (level <= LOG_DEBUG && len <= PROCESS_LINE_BYTES && log_is_on((enum log_level)level))
            log_limited(batch->handler->guest.lines, (enum log_level)level, "handler '%s': %.*s",
                        batch->handler->config->name, (int)len, area->lines[i].text);
    }
    area->line_count = 0;
}

void process_has_served(struct process_batch *batch, int64_t now_ns) {
    struct handler_instance *instance = instance_of(batch);
    int64_t since_ns = atomic_exchange(&instance->serving_since_ns, 0);

    if (since_ns != 0)
        atomic_fetch_add(&instance->served_ns, now_ns - since_ns);
}

void process_take_all(struct handlers *handlers) {
    for (size_t i = 0; !atomic_load(&handlers->is_zygote_gone) && i < handlers->count; i++)
        if (may_run(&handlers->list[i]))
            atomic_store(&handlers->list[i].is_in_process, true);
}

void process_demote(struct handlers *handlers, struct handler *handler) {
    struct weir_table *table = demoted_table(handlers, handler);
    struct weir_cell cell = {0, 0};
    char key[WEIR_KEY_MAX];

    if (!may_run(handler) || handler->config->isolation == ISOLATION_PROCESS ||
        atomic_exchange(&handler->is_demoted, true))
        return;
    atomic_store(&handler->is_in_process, true);
    quarantine_reset(&handler->quarantine);
    log_warn("handler '%s' runs in processes of its own from now on, because of a dirty fault",
             handler->config->name);
    if (table && demoted_key(handler, key, sizeof key)) {
        struct weir_text text = {key, strlen(key)};

        while (!cells_swap(table, text, &cell, (struct weir_cell){1, 0}) && cell.a == 0)
            continue;
    }
}

bool process_is_demoted(struct handlers *handlers, const struct handler *handler) {
    struct weir_table *table = demoted_table(handlers, handler);
    struct weir_cell cell = {0, 0};
    char key[WEIR_KEY_MAX];

    return table && may_run(handler) && demoted_key(handler, key, sizeof key) &&
           cells_get(table, (struct weir_text){key, strlen(key)}, &cell) && cell.a != 0;
}

bool process_order(struct handlers *handlers, enum process_order what, unsigned slot,
                   unsigned handler) {
    struct process_message message = {(uint32_t)what, slot, handler};

    return send(handlers->zygote_socket, &message, sizeof message, MSG_NOSIGNAL) == sizeof message;
}

void process_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns) {
    struct timespec most = {ns / NS_PER_S, ns % NS_PER_S};

    syscall(SYS_futex, word, FUTEX_WAIT, value, ns == INT64_MAX ? NULL : &most, NULL, 0);
}

void process_tell(const struct handlers *handlers, struct process_area *area) {
    uint32_t desk = atomic_load(&area->desk);

    switch (atomic_load(&area->waiter)) {
    case PROCESS_TELL_THREAD:
        process_wake(&area->state);
        break;
    case PROCESS_TELL_LOOP:
        if (desk < handlers->desk_max)
            eventfd_write(handlers->desk_fds[desk].by_processes, 1);
        break;
    default:
        break;
    }
}

void process_wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static size_t in_bytes_of(const struct handler *handler) {
    return (handler->config->body_max + 2 * IN_BYTES - 1) / IN_BYTES * IN_BYTES;
}

/* Does it run in processes, or could it have to? */
static bool may_run(const struct handler *handler) {
    return handler->config->isolation == ISOLATION_PROCESS || handler->config->fault.demote;
}

/* A process that waits for calls. False: there is none, and the first call is answered with that.
 */
static bool make_ready(struct process_batch *batch) {
    struct process_area *area = batch->area;
    int64_t until_ns = clock_now_ns() + PROCESS_START_NS;
    struct fault fault;
    uint32_t state = atomic_load(&area->state);

    atomic_store(&area->waiter, PROCESS_TELL_THREAD);
    for (; state == PROCESS_SPENT && is_spent(batch) && clock_now_ns() < until_ns;
         state = atomic_load(&area->state))
        process_wait(&area->state, state, LOOK_NS);
    if (state == PROCESS_READY)
        return true;
    area->has_fault = 0;
    serve_since(batch, clock_now_ns()); /* init() counts, too */
    atomic_store(&instance_of(batch)->is_spent, false);
    atomic_store(&area->state, PROCESS_STARTING);
    if (!order(batch, PROCESS_START)) {
        fault =
            (struct fault){.kind = FAULT_INIT, .text = "the process that starts others is gone"};
        fail_one(batch, &fault, CALL_FAULT);
        atomic_store(&batch->slot->handlers->is_zygote_gone, true);
        handlers_taint(batch->slot->handlers, fault.text);
        return false;
    }
    while ((state = atomic_load(&area->state)) == PROCESS_STARTING && clock_now_ns() < until_ns)
        process_wait(&area->state, PROCESS_STARTING, LOOK_NS);
    if (state == PROCESS_READY)
        return true;
    if (state == PROCESS_STARTING) {
        kill_process(batch);
        fault = (struct fault){.kind = FAULT_INIT, .text = "its init() does not return"};
        fail_one(batch, &fault, CALL_FAULT);
    } else {
        end_of_process(batch);
    }
    return false;
}

/* Until the process is through with the batch, or has ended. */
static void attend(struct process_batch *batch) {
    struct process_area *area = batch->area;

    atomic_store(&area->waiter, PROCESS_TELL_THREAD);
    for (;;) {
        uint32_t state;
        int64_t now_ns;

        process_wait(&area->state, PROCESS_BUSY, LOOK_NS);
        state = atomic_load(&area->state);
        now_ns = clock_now_ns();
        if (process_take_answers(batch))
            batch->since_ns = now_ns;
        if (is_through(batch, state))
            break; /* what it has left goes with the next batch */
        if (state != PROCESS_BUSY) {
            end_of_process(batch);
            break;
        }
        if (now_ns - batch->since_ns < LOOK_NS)
            continue;
        cut(batch);
        slot_post(batch->slot);
        if (now_ns - batch->since_ns >= batch->handler->config->timeout_ns ||
            is_over(batch, now_ns)) {
            kill_late(batch);
            break;
        }
    }
    process_tell_lines(batch);
}

/* With what it was given, or for good. One that is well begins at least one call of a batch, if
 * that is not taken from it. */
static bool is_through(const struct process_batch *batch, uint32_t state) {
    return batch->answered == batch->sent ||
           (state == PROCESS_READY && (batch->answered > batch->first || batch->is_cut)) ||
           (state == PROCESS_SPENT && is_spent(batch));
}

/* By the watchdog, which is about to kill it. */
static bool is_spent(const struct process_batch *batch) {
    return atomic_load(&instance_of(batch)->is_spent);
}

/* If it has got on in its last moment it is not at the call that took too long any more, and what
 * it is at is done again. */
static void kill_late(struct process_batch *batch) {
    struct fault fault = {.kind = FAULT_HANG, .text = "its process was killed"};

    kill_process(batch);
    if (!process_take_answers(batch))
        fail_one(batch, &fault, CALL_HANG);
}

/* With the call that it was at. One whose state is none that it can be in has not ended, but
 * nothing that it goes on to say is worth waiting for. */
static void end_of_process(struct process_batch *batch) {
    struct fault fault = {.kind = FAULT_STATE,
                          .text = "it has overwritten the state of its process, which was killed"};

    if (!has_ended(batch))
        kill_process(batch);
    else if (is_spent(batch))
        fault = (struct fault){.kind = FAULT_CPU};
    else
        fault = fault_of(batch->area);
    fail_one(batch, &fault, CALL_FAULT);
}

/* It is gone before anything else is done: it may have become ready again meanwhile, and must not
 * be killed in the next batch. */
static void kill_process(const struct process_batch *batch) {
    int64_t until_ns = clock_now_ns() + PROCESS_START_NS;

    order(batch, PROCESS_KILL);
    while (!has_ended(batch) && clock_now_ns() < until_ns)
        process_wait(&batch->area->state, atomic_load(&batch->area->state), LOOK_NS);
}

/* Anybody who has the area can say so: the zygote says it where no plugin can, too. */
static bool has_ended(const struct process_batch *batch) {
    const struct handlers *handlers = batch->slot->handlers;
    size_t handler = (size_t)(batch->handler - handlers->list);

    return atomic_load(&batch->area->state) == PROCESS_ENDED &&
           atomic_load(&handlers->pids[batch->slot->index * handlers->count + handler]) == 0;
}

/* All is coming to its end, and has waited long enough. */
static bool is_over(const struct process_batch *batch, int64_t now_ns) {
    int64_t end_ns = atomic_load(&batch->slot->handlers->end_ns);

    return end_ns != 0 && now_ns >= end_ns;
}

/* It takes its time: what it has not begun goes to others. */
static void cut(struct process_batch *batch) {
    uint32_t claimed = atomic_exchange(&batch->area->next, PROCESS_CUT);
    unsigned from;

    if (claimed >= batch->sent - batch->first)
        return; /* there is nothing left, or it was cut before */
    batch->is_cut = true;
    from = batch->first + claimed;
    give_back(batch, from > batch->answered ? from : batch->answered + 1);
}

static void give_back(struct process_batch *batch, unsigned from) {
    for (unsigned i = batch->count; i-- > from;)
        calls_requeue(batch->calls[i]);
    if (batch->count > from) {
        batch->taken -= batch->count - from;
        batch->count = from;
    }
    if (batch->sent > from)
        batch->sent = from;
}

static void fail_one(struct process_batch *batch, const struct fault *fault,
                     enum call_outcome outcome) {
    struct call *call = batch->calls[batch->answered++];

    if (fault->kind != FAULT_CPU) /* the watchdog has told of it */
        fault_report(batch->handler, fault, frame_slice(call->frame.request.id));
    call->outcome = outcome;
    call_tell(call, true, clock_now_ns());
    slot_push_done(batch->slot, call);
}

/* Whatever it was, it is clean: it was no process of ours. */
static struct fault fault_of(const struct process_area *area) {
    struct fault fault = area->fault;
    int status = area->status;

    if (area->has_fault && fault.kind > FAULT_NONE && fault.kind < FAULT_KINDS) {
        fault.is_dirty = false;
        fault.text[sizeof fault.text - 1] = '\0';
        if (fault.signal < 0 || fault.signal >= NSIG)
            fault.signal = 0;
        return fault;
    }
    fault = (struct fault){.kind = FAULT_EXIT};
    if (WIFSIGNALED(status))
        snprintf(fault.text, sizeof fault.text, "its process was ended by signal %d",
                 WTERMSIG(status));
    else
        snprintf(fault.text, sizeof fault.text, "its process has ended with status %d",
                 WEXITSTATUS(status));
    return fault;
}

static bool order(const struct process_batch *batch, enum process_order what) {
    struct handlers *handlers = batch->slot->handlers;

    return process_order(handlers, what, batch->slot->index,
                         (unsigned)(batch->handler - handlers->list));
}

static struct handler_instance *instance_of(const struct process_batch *batch) {
    return &batch->slot->instances[batch->handler - batch->slot->handlers->list];
}

/* The time that its calls have (process_cpu.c) begins. */
static void serve_since(const struct process_batch *batch, int64_t now_ns) {
    atomic_compare_exchange_strong(&instance_of(batch)->serving_since_ns, &(int64_t){0}, now_ns);
}

static size_t pids_bytes(const struct handlers *handlers) {
    return handlers->slot_count * handlers->count * sizeof *handlers->pids;
}

/* Of the file as it is loaded: another one gets another chance. */
static bool demoted_key(const struct handler *handler, char *key, size_t size) {
    struct stat stat_of;

    if (stat(handler->plugin->path, &stat_of) < 0)
        return false;
    snprintf(key, size, "%llx:%llx:%llx", (unsigned long long)stat_of.st_ino,
             (unsigned long long)stat_of.st_size, (unsigned long long)stat_of.st_mtime);
    return true;
}

static struct weir_table *demoted_table(struct handlers *handlers, const struct handler *handler) {
    return cells_table(handlers->cells, slice_str(handler->config->name), SLICE("(demoted)"),
                       DEMOTED_CELLS);
}
