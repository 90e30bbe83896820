/* The zygote, and the processes that it forks. */
#include "handler/process_area.h"

#include "base/alloc.h"
#include "handler/host.h"
#include "handler/trap.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WHY_BYTES FAULT_TEXT_MAX

struct zygote {
    struct handlers *handlers; /* as they were when it was forked */
    int socket, signals;
};

static void rename_process(const char *name);
static void close_others(const struct handlers *handlers, int keep);
static bool hear(struct zygote *zygote);
static void start(struct zygote *zygote, unsigned slot, unsigned handler);
static void bury(struct zygote *zygote);
static struct process_area *area_at(const struct zygote *zygote, size_t i);
_Noreturn static void live(struct zygote *zygote, unsigned at, unsigned number);
static void limit(const struct config_handler *config);
static void bound(int resource, unsigned long pages, size_t more);
static void work(struct worker_slot *slot, struct handler *handler, struct process_area *area);
_Noreturn static void end(struct process_area *area, const struct fault *fault);
static void say(struct guest *guest, enum log_level level, const char *text, size_t len);

_Noreturn void process_zygote(struct handlers *handlers, int socket) {
    struct zygote zygote = {.handlers = handlers, .socket = socket};
    struct pollfd polled[2];
    sigset_t child;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "weir-zygote");
    rename_process("handlers");
    close_others(handlers, socket);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &child, NULL);
    zygote.signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    polled[0] = (struct pollfd){.fd = socket, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = zygote.signals, .events = POLLIN};
    while (zygote.signals >= 0) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            break;
        if (polled[1].revents)
            bury(&zygote);
        if (polled[0].revents && !hear(&zygote))
            break;
    }
    for (size_t i = 0; i < handlers->slot_count * handlers->count; i++)
        if (handlers->pids[i] > 0)
            kill(handlers->pids[i], SIGKILL);
    while (wait(NULL) > 0)
        continue;
    _exit(0);
}

/* In the list of processes: its arguments are behind each other from the first on. */
static void rename_process(const char *name) {
    char line[4096], *first = program_invocation_name;
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t len = file ? fread(line, 1, sizeof line, file) : 0;
    size_t own = strlen(first) + 1;

    if (file)
        fclose(file);
    if (len <= own || len == sizeof line || memcmp(line, first, own) != 0)
        return;
    memset(first + own, 0, len - own);
    strncpy(first + own, name, len - own - 1);
}

/* Nothing else of the gateway's is needed than @keep and what wakes its loops, and it would stay
 * open with us. */
static void close_others(const struct handlers *handlers, int keep) {
    unsigned from = STDERR_FILENO + 1, next;

    do {
        next = keep >= (int)from ? (unsigned)keep : UINT_MAX;
        for (unsigned i = 0; i < handlers->desk_max; i++) {
            unsigned fd = (unsigned)handlers->desk_fds[i].by_processes;

            if (fd >= from && fd < next)
                next = fd;
        }
        if (next > from)
            close_range(from, next - 1, 0);
        from = next + 1;
    } while (next < UINT_MAX);
}

static bool hear(struct zygote *zygote) {
    const struct handlers *handlers = zygote->handlers;
    struct process_message message;
    ssize_t got = recv(zygote->socket, &message, sizeof message, MSG_DONTWAIT);

    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    if (got != sizeof message || message.slot >= handlers->slot_count ||
        message.handler >= handlers->count)
        return true;
    if (message.order == PROCESS_START) {
        start(zygote, message.slot, message.handler);
    } else {
        size_t i = message.slot * handlers->count + message.handler;

        if (handlers->pids[i] > 0)
            kill(handlers->pids[i], SIGKILL);
    }
    return true;
}

static void start(struct zygote *zygote, unsigned slot, unsigned handler) {
    size_t i = slot * zygote->handlers->count + handler;
    struct process_area *area = area_at(zygote, i);
    _Atomic pid_t *known = &zygote->handlers->pids[i];
    pid_t pid = *known;

    if (pid > 0) {
        kill(pid, SIGKILL);
        *known = 0;
        waitpid(pid, NULL, 0);
    }
    atomic_store(&area->state, PROCESS_STARTING);
    pid = fork();
    if (pid == 0)
        live(zygote, slot, handler);
    *known = pid > 0 ? pid : 0;
    if (pid < 0) {
        area->status = 0;
        atomic_store(&area->state, PROCESS_ENDED);
        process_tell(zygote->handlers, area);
    }
}

static void bury(struct zygote *zygote) {
    struct signalfd_siginfo unused;
    int status;
    pid_t pid;

    while (read(zygote->signals, &unused, sizeof unused) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < zygote->handlers->slot_count * zygote->handlers->count; i++) {
            struct process_area *area = area_at(zygote, i);

            if (zygote->handlers->pids[i] != pid)
                continue;
            zygote->handlers->pids[i] = 0;
            area->status = status;
            atomic_store(&area->state, PROCESS_ENDED);
            process_tell(zygote->handlers, area);
        }
}

static struct process_area *area_at(const struct zygote *zygote, size_t i) {
    return process_area_of(&zygote->handlers->slots[i / zygote->handlers->count],
                           &zygote->handlers->list[i % zygote->handlers->count]);
}

/* A process of its own from here on. */
_Noreturn static void live(struct zygote *zygote, unsigned at, unsigned number) {
    struct worker_slot *slot = &zygote->handlers->slots[at];
    struct handler *handler = &zygote->handlers->list[number];
    struct handler_instance *instance = &slot->instances[number];
    struct process_area *area = process_area_of(slot, handler);
    struct fault fault = {.kind = FAULT_INIT};
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "weir-plugin");
    close_others(zygote->handlers, -1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    munmap(zygote->handlers->pids, /* a plugin need not know, nor change, whose are whose */
           zygote->handlers->slot_count * zygote->handlers->count * sizeof(_Atomic pid_t));
    limit(handler->config);
    slot->guest.stack_low = 0;
    slot->guest.stack_high = UINTPTR_MAX;
    slot->guest.say = say;
    slot->guest.say_to = area;
    trap_enter_thread(&slot->guest, slot->signal_stack);
    area->line_count = 0;
    area->has_fault = 0;
    if (!instance->image)
        instance->image = handler->plugin->images; /* nobody else has it here */
    if (!instance_start(&slot->guest, handler, instance, fault.text, WHY_BYTES))
        end(area, slot->guest.fault.kind != FAULT_NONE ? &slot->guest.fault : &fault);
    atomic_store(&area->state, PROCESS_READY);
    process_tell(zygote->handlers, area);
    for (;;) {
        uint32_t state = atomic_load(&area->state);

        if (state != PROCESS_BUSY) {
            process_wait(&area->state, state, INT64_MAX);
            continue;
        }
        work(slot, handler, area);
        atomic_store(&area->state, PROCESS_READY);
        process_tell(zygote->handlers, area);
    }
}

/* Its heap lies in addresses that are reserved already, which only RLIMIT_DATA counts as it grows;
 * that in turn does not count mappings that are shared. */
static void limit(const struct config_handler *config) {
    struct rlimit none = {0, 0}, stack = {WORKER_STACK_BYTES, WORKER_STACK_BYTES};
    unsigned long all = 0, data = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_STACK, &stack);
    if (file && fscanf(file, "%lu %*u %*u %*u %*u %lu", &all, &data) == 2) {
        bound(RLIMIT_AS, all, config->process.memory);
        bound(RLIMIT_DATA, data, config->process.memory);
    }
    if (file)
        fclose(file);
}

static void bound(int resource, unsigned long pages, size_t more) {
    rlim_t bytes = pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;

    setrlimit(resource, &(struct rlimit){bytes, bytes});
}

/* Calls are claimed one by one: the gateway may take those back that are not begun yet. */
static void work(struct worker_slot *slot, struct handler *handler, struct process_area *area) {
    char *out = area->bytes + area->in_bytes;
    size_t out_at = 0;

    for (uint32_t i = 0; i < area->count; i++) {
        uint32_t expected = i;
        struct frame *frame;
        size_t bytes;

        if (PROCESS_OUT_BYTES - out_at < sizeof(struct answer_room) ||
            !atomic_compare_exchange_strong(&area->next, &expected, i + 1))
            return;
        frame = (void *)(area->bytes + area->calls[i].frame_at);
        frame_move(frame);
        slot->guest.call = (struct weir_call){frame, slot->room};
        slot->guest.handler = &handler->guest;
        slot->guest.heap = slot->instances[handler - slot->handlers->list].heap;
        slot->guest.files = &slot->instances[handler - slot->handlers->list].files;
        answer_clear(slot->room);
        if (!guest_run(&slot->guest, slot_call_plugin, slot))
            end(area, &slot->guest.fault);
        bytes = answer_packed_bytes(slot->room);
        answer_pack(slot->room, out + out_at);
        area->calls[i].answer_at = (uint32_t)out_at;
        area->calls[i].answer_bytes = (uint32_t)bytes;
        out_at += (bytes + 15) & ~(size_t)15;
        atomic_store(&area->finished, i + 1);
    }
}

_Noreturn static void end(struct process_area *area, const struct fault *fault) {
    area->fault = *fault;
    area->has_fault = 1;
    _exit(1);
}

/* There is no log here: the gateway writes it. */
static void say(struct guest *guest, enum log_level level, const char *text, size_t len) {
    struct process_area *area = guest->say_to;
    uint32_t i = area->line_count;

    if (i >= PROCESS_LINES_MAX)
        return;
    area->lines[i].level = (uint32_t)level;
    area->lines[i].len = (uint32_t)(len < PROCESS_LINE_BYTES ? len : PROCESS_LINE_BYTES);
    memcpy(area->lines[i].text, text, area->lines[i].len);
    area->line_count = i + 1;
}
