#include "plan.h"
#include "wire.h"

#include <getopt.h>

static uint64_t due_ns(const struct plan *plan);

struct plan plan_default(uint64_t connections) {
    return (struct plan){
        .connections = connections,
        .timeout_ns = 10ull * 1000000000,
        .duration_ns = 2ull * 1000000000,
        .expect_bytes = -1,
    };
}

bool plan_option(struct plan *plan, int option, char *value) {
    switch (option) {
    case PLAN_CONNECTIONS:
        plan->connections = wire_number("--connections", value);
        return true;
    case PLAN_SECONDS:
        plan->duration_ns = measure_seconds(value);
        return true;
    case PLAN_WARMUP:
        plan->warmup_ns = measure_seconds(value);
        return true;
    case PLAN_COUNT:
        plan->limit = wire_number("--count", value);
        return true;
    case PLAN_RATE:
        plan->rate = (double)wire_number("--rate", value);
        return true;
    case PLAN_TIMEOUT:
        plan->timeout_ns = measure_seconds(value);
        return true;
    case PLAN_SERIES:
        plan->series_ms = wire_number("--series", value);
        return true;
    case PLAN_BYTES:
        plan->expect_bytes = (long long)wire_number("--bytes", value);
        return true;
    case PLAN_CPU_OF:
        pids_parse(&plan->pids, value);
        return true;
    default:
        return false;
    }
}

bool plan_address(struct plan *plan, int argc, char **argv) {
    return optind + 1 == argc && wire_address(argv[optind], &plan->address) == 0 &&
           plan->connections > 0;
}

void plan_begin(struct plan *plan) {
    wire_exact_timers();
    plan->begin_ns = plan->now_ns = wire_now_ns();
    plan->window_ns = plan->begin_ns + plan->warmup_ns;
    plan->end_ns = plan->window_ns + plan->duration_ns;
}

bool plan_is_over(const struct plan *plan, uint64_t answered) {
    return (plan->limit && answered >= plan->limit) || plan->now_ns >= plan->end_ns;
}

bool plan_is_used_up(const struct plan *plan) {
    return plan->limit && !plan->warmup_ns && plan->started == plan->limit;
}

bool plan_opens_window(struct plan *plan) {
    if (plan->is_counting || plan->now_ns < plan->window_ns)
        return false;
    plan->is_counting = true;
    plan->window_dispatched = plan->dispatched;
    plan->window_ns = plan->now_ns = wire_now_ns();
    plan->end_ns = plan->window_ns + plan->duration_ns;
    return true;
}

void plan_end(struct plan *plan) {
    plan->end_ns = wire_now_ns();
}

int plan_wait(struct plan *plan, struct epoll_event *events, int events_max, bool is_free) {
    uint64_t until_ns = plan->now_ns + plan->tick_ns;
    struct timespec timeout;
    int count;

    plan->was_free = is_free;
    if (plan->rate > 0 && is_free && due_ns(plan) < until_ns)
        until_ns = due_ns(plan);
    timeout = wire_until(until_ns);
    count = epoll_pwait2(plan->epoll, events, events_max, &timeout, NULL);
    plan->now_ns = wire_now_ns();
    return count;
}

bool plan_take(struct plan *plan, uint64_t *at_ns) {
    uint64_t due = due_ns(plan), late_ns = plan->now_ns - due;

    if (due > plan->now_ns)
        return false;
    plan->dispatched++;
    *at_ns = due;
    if (!plan->is_counting || !plan->was_free || late_ns < PLAN_LATE_NS)
        return true;
    plan->late++;
    if (late_ns > plan->late_max_ns)
        plan->late_max_ns = late_ns;
    return true;
}

uint64_t plan_unsent(const struct plan *plan) {
    uint64_t due = (uint64_t)((double)(plan->end_ns - plan->begin_ns) / 1e9 * plan->rate);

    return due > plan->dispatched ? due - plan->dispatched : 0;
}

static uint64_t due_ns(const struct plan *plan) {
    return plan->begin_ns + (uint64_t)((double)plan->dispatched * 1e9 / plan->rate);
}
