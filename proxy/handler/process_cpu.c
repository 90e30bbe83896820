/* The budget of CPU time of the processes that plugins run in.
 *
 * A call's time is bounded by its timeout. What is left over is what a plugin does beside its
 * calls, in threads or signal handlers that it should not have: then the process uses CPU while it
 * has nothing to do. Each look compares the CPU time that it has used with the time in which it had
 * calls; what is beyond adds up, and what was allowed and not used is not saved. */
#include "handler/process_area.h"

#include <stdio.h>
#include <time.h>

static void look_at(struct handlers *handlers, struct worker_slot *slot, size_t at, int64_t now_ns);
static int64_t cpu_of(pid_t pid);
static void end(struct handlers *handlers, struct worker_slot *slot, size_t at);

void processes_look_at_cpu(struct handlers *handlers, int64_t now_ns) {
    for (unsigned i = 0; handlers->pids && i < handlers->slot_count; i++)
        for (size_t j = 0; j < handlers->count; j++)
            if (handlers->list[j].config->process.cpu_ns > 0)
                look_at(handlers, &handlers->slots[i], j, now_ns);
}

static void look_at(struct handlers *handlers, struct worker_slot *slot, size_t at,
                    int64_t now_ns) {
    struct handler_instance *instance = &slot->instances[at];
    pid_t pid = atomic_load(&handlers->pids[slot->index * handlers->count + at]);
    /* In this order a batch that ends just now may count later, never twice. */
    int64_t served_ns = atomic_load(&instance->served_ns);
    int64_t since_ns = atomic_load(&instance->serving_since_ns);
    int64_t cpu_ns = pid > 0 ? cpu_of(pid) : -1;
    int64_t excess_ns = 0;

    if (since_ns != 0 && now_ns > since_ns)
        served_ns += now_ns - since_ns;
    if (cpu_ns >= 0 && pid == instance->spent.pid)
        excess_ns = instance->spent.excess_ns + (cpu_ns - instance->spent.cpu_ns) -
                    (served_ns - instance->spent.served_ns) -
                    (now_ns - instance->spent.seen_ns) / PROCESS_CPU_SHARE;
    instance->spent.pid = pid;
    instance->spent.cpu_ns = cpu_ns;
    instance->spent.served_ns = served_ns;
    instance->spent.seen_ns = now_ns;
    instance->spent.excess_ns = excess_ns > 0 ? excess_ns : 0;
    if (excess_ns > handlers->list[at].config->process.cpu_ns)
        end(handlers, slot, at);
}

/* Since it began; -1: there is no such process. */
static int64_t cpu_of(pid_t pid) {
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
        return -1;
    return used.tv_sec * NS_PER_S + used.tv_nsec;
}

/* When it has no calls; the next one finds another process. Only at twice its budget, because it
 * always has some, does the one fail that it is at. */
static void end(struct handlers *handlers, struct worker_slot *slot, size_t at) {
    struct handler_instance *instance = &slot->instances[at];
    struct fault fault = {.kind = FAULT_CPU};
    uint32_t state = PROCESS_READY;

    if (atomic_exchange(&instance->is_spent, true)) /* before: or it would not be believed */
        return;
    if (!atomic_compare_exchange_strong(&instance->area->state, &state, PROCESS_SPENT) &&
        instance->spent.excess_ns <= 2 * handlers->list[at].config->process.cpu_ns) {
        atomic_store(&instance->is_spent, false);
        return;
    }
    snprintf(fault.text, sizeof fault.text,
             "its process has used %lld ms of CPU beyond the time of its calls",
             (long long)(instance->spent.excess_ns / NS_PER_MS));
    fault_report(&handlers->list[at], &fault, SLICE_NONE);
    process_order(handlers, PROCESS_KILL, slot->index, (unsigned)at);
}
