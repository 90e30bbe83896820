/* Does a gateway that is there also get on? Each of its loops publishes a heartbeat at least once a
 * second (loop/pulse.h); one that has been silent for server.wedge_after hangs, or its process is
 * stopped. Each acceptor tells how often it has looked: one that does not, while its socket has
 * clients in its backlog, has been lost. */
#include "base/log.h"
#include "base/proc_stat.h"
#include "base/thread.h"
#include "supervisor/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACKS_NS (300 * NS_PER_MS) /* for its threads to tell their stacks */
#define LATE_NS (2 * NS_PER_S)      /* between two looks: we were stopped as well */

struct verdict {
    unsigned running, stalled;
    unsigned first; /* of the stalled loops */
    int64_t silent_ns;
};

static struct verdict judge(const struct supervisor *s, const struct generation *g, int64_t now_ns);
static void replace(struct supervisor *s, struct generation *g, const struct verdict *verdict,
                    int64_t now_ns);
static void watch_listeners(struct supervisor *s, int64_t now_ns);
static bool is_neglected(struct supervisor *s, unsigned listener, unsigned socket, int64_t now_ns);
static void rotate(struct supervisor *s, int64_t now_ns);
static void watch_taint(struct supervisor *s, int64_t now_ns);
static bool is_stopped(pid_t pid);
static void ask_for_stacks(pid_t pid);

void supervisor_watch(struct supervisor *s, int64_t now_ns) {
    if (now_ns - s->looked_ns > LATE_NS)
        s->trusted_ns = now_ns; /* who knows what could run meanwhile */
    s->looked_ns = now_ns;
    if (s->serving && s->serving->is_tainted && !s->is_ending)
        watch_taint(s, now_ns);
    if (s->current.plan.wedge_after_ns == 0)
        return;
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        struct generation *g = &s->generations[i];
        struct verdict verdict;

        if (g->state != GENERATION_SERVING && g->state != GENERATION_RETIRING)
            continue;
        verdict = judge(s, g, now_ns);
        if (verdict.stalled > 0 && !g->is_wedged)
            replace(s, g, &verdict, now_ns);
        else if (verdict.stalled > 0 && verdict.stalled == verdict.running && !g->end_soon) {
            g->end_soon = true;
            g->end_by_ns = now_ns; /* the others have finished */
        }
    }
    if (s->serving && !s->serving->is_wedged && !s->is_ending) {
        supervisor_reach(s, now_ns);
        watch_listeners(s, now_ns);
    }
}

/* One that has clients in its backlog and does not look for them, though nothing holds it. */
static void watch_listeners(struct supervisor *s, int64_t now_ns) {
    for (unsigned i = 0; i < s->current.plan.listener_count; i++) {
        const struct kept *kept = s->listeners[i];

        for (unsigned j = 0; kept && j < kept->count; j++) {
            if (!is_neglected(s, i, j, now_ns))
                continue;
            log_error("listener '%s' lets nobody in though clients wait: gateway %d is replaced",
                      s->current.plan.listeners[i].name, (int)s->serving->pid);
            s->serving->is_wedged = true;
            ask_for_stacks(s->serving->pid);
            rotate(s, now_ns);
            return;
        }
    }
}

static bool is_neglected(struct supervisor *s, unsigned listener, unsigned socket, int64_t now_ns) {
    const struct kept *kept = s->listeners[listener];
    const struct accept_pulse *pulses = s->serving->board->sockets[listener];
    struct socket_look *seen = &s->looks[listener][socket];
    struct pollfd polled = {.fd = kept->fds[socket], .events = POLLIN};
    /* On one that all loops share any of them may look. */
    unsigned count = kept->is_shared ? s->serving->loops : 1;
    bool is_held = false;
    uint32_t looks = 0;

    for (unsigned i = socket; i < socket + count && i < PULSE_SOCKETS_MAX; i++) {
        looks += atomic_load_explicit(&pulses[i].looks, memory_order_relaxed);
        is_held |= atomic_load_explicit(&pulses[i].is_held, memory_order_relaxed) != 0;
    }
    if (poll(&polled, 1, 0) <= 0 || is_held || looks != seen->looks || seen->since_ns == 0 ||
        seen->since_ns < s->trusted_ns) {
        *seen = (struct socket_look){looks, now_ns};
        return false;
    }
    return now_ns - seen->since_ns >= s->current.plan.wedge_after_ns;
}

static struct verdict judge(const struct supervisor *s, const struct generation *g,
                            int64_t now_ns) {
    struct verdict verdict = {0};

    for (unsigned i = 0; i < g->loops; i++) {
        const struct pulse *pulse = &g->board->loops[i];
        int64_t alive_ns = atomic_load_explicit(&pulse->alive_ns, memory_order_relaxed);

        if (atomic_load_explicit(&pulse->state, memory_order_relaxed) != PULSE_RUNNING)
            continue;
        verdict.running++;
        if (alive_ns < s->trusted_ns)
            alive_ns = s->trusted_ns;
        if (now_ns - alive_ns < s->current.plan.wedge_after_ns)
            continue;
        if (verdict.stalled++ == 0) {
            verdict.first = i;
            verdict.silent_ns = now_ns - alive_ns;
        }
    }
    return verdict;
}

/* One of which nothing moves any more is killed, and then replaced as one that died. Of another the
 * rest goes on until there is a successor, and then finishes. */
static void replace(struct supervisor *s, struct generation *g, const struct verdict *verdict,
                    int64_t now_ns) {
    g->is_wedged = true;
    if (is_stopped(g->pid)) {
        generation_kill(g, "it is stopped and answers nobody");
        return;
    }
    log_error("gateway %d hangs: loop %u and %u more of %u have made no progress for %.1f s",
              (int)g->pid, verdict->first, verdict->stalled - 1, verdict->running,
              (double)verdict->silent_ns / 1e9);
    ask_for_stacks(g->pid);
    if (verdict->stalled == verdict->running) {
        g->end_soon = true;
        g->end_by_ns = now_ns + STACKS_NS;
    } else if (g->state == GENERATION_SERVING && !s->is_ending) {
        rotate(s, now_ns);
    }
}

/* A successor for the one that serves, unless one is on its way. */
static void rotate(struct supervisor *s, int64_t now_ns) {
    if (s->starting)
        return;
    totals_count_restart(&s->totals);
    s->start_at_ns = now_ns + crashes_note(&s->crashes, now_ns, now_ns - s->serving->since_ns);
}

/* One in which a handler has left libc in the middle of something: it still serves, but for how
 * long nobody knows. It has not crashed, so this is held against nobody; and a handler that does so
 * again and again does not make for more than one change in SUPERVISOR_TAINT_NS. */
static void watch_taint(struct supervisor *s, int64_t now_ns) {
    if (s->starting || s->start_at_ns || now_ns < s->taint_next_ns ||
        supervisor_retiring(s) >= SUPERVISOR_RETIRING_MAX)
        return;
    log_warn("gateway %d is in doubt since a fault of a handler: it is replaced",
             (int)s->serving->pid);
    s->taint_next_ns = now_ns + SUPERVISOR_TAINT_NS;
    totals_count_restart(&s->totals);
    s->start_at_ns = now_ns;
}

static bool is_stopped(pid_t pid) {
    struct proc_stat stat;

    return proc_stat_read(&stat, pid) && (stat.state == 'T' || stat.state == 't');
}

static void ask_for_stacks(pid_t pid) {
    const struct dirent *entry;
    char path[32];
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (!tasks)
        return;
    while ((entry = readdir(tasks))) {
        long tid = strtol(entry->d_name, NULL, 10);

        if (tid > 0)
            syscall(SYS_tgkill, pid, tid, THREAD_STACK_SIGNAL);
    }
    closedir(tasks);
}
