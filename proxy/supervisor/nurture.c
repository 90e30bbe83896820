/* The nursery among the supervisor's processes: there when it is needed, replaced when it dies,
 * ended last. Whatever it may leave behind becomes our child and is ended too. */
#include "base/log.h"
#include "child/tree.h"
#include "supervisor/state.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static bool is_ours(const struct supervisor *s, pid_t pid);
static void sweep(const struct supervisor *s);

void supervisor_need_nursery(struct supervisor *s, const struct run_plan *plan) {
    int err;

    /* One that has died is replaced in its time, for all gateways. */
    if (!plan->programs[0] || s->nursery.pid || s->nursery.start_at_ns || s->is_ending)
        return;
    tree_hold();
    err = nursery_link_start(&s->nursery, s->options->binary, plan);
    if (!err)
        return;
    log_error("cannot start the nursery: %s", strerror(-err));
    s->nursery.start_at_ns = clock_now_ns() + NURSERY_AGAIN_NS;
}

void supervisor_serve_programs(struct supervisor *s) {
    if (s->nursery.pid && s->serving && !s->is_ending)
        nursery_link_tell(&s->nursery, "serve %u", s->serving->number);
}

void supervisor_reap_others(struct supervisor *s) {
    siginfo_t info = {0};
    int status;

    if (s->nursery.pid && waitpid(s->nursery.pid, &status, WNOHANG) > 0) {
        nursery_link_ended(&s->nursery);
        if (s->is_finishing) {
            if (status != 0)
                s->status = 1;
            s->is_over = true;
            return;
        }
        log_error("the nursery has died (wait status %#x), its programs end: another is started in "
                  "%.1f s",
                  (unsigned)status, (double)NURSERY_AGAIN_NS / 1e9);
        s->nursery.start_at_ns = clock_now_ns() + NURSERY_AGAIN_NS;
    }
    /* One of ours may end between two looks: it is left to whoever waits for it. */
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
        if (is_ours(s, info.si_pid))
            return;
        waitpid(info.si_pid, NULL, 0);
        info = (siginfo_t){0};
    }
}

void supervisor_look_after_nursery(struct supervisor *s, int64_t now_ns) {
    if (!s->nursery.start_at_ns || now_ns < s->nursery.start_at_ns || !s->serving)
        return;
    s->nursery.start_at_ns = 0;
    sweep(s);
    supervisor_need_nursery(s, &s->current.plan);
    for (unsigned i = 0; s->nursery.pid && i < GENERATIONS_MAX; i++)
        if (s->generations[i].state && generation_give_nursery(&s->generations[i], &s->nursery))
            log_error("cannot give gateway %d its way to the nursery", (int)s->generations[i].pid);
    supervisor_serve_programs(s);
}

void supervisor_finish(struct supervisor *s) {
    if (!s->nursery.pid) {
        s->is_over = true;
        return;
    }
    if (!s->is_finishing)
        nursery_link_tell(&s->nursery, "end");
    s->is_finishing = true;
}

static bool is_ours(const struct supervisor *s, pid_t pid) {
    bool is = pid == s->nursery.pid || pid == s->examination.pid;

    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        is |= s->generations[i].state && s->generations[i].pid == pid;
    return is;
}

/* Whoever is still there without a minder. */
static void sweep(const struct supervisor *s) {
    pid_t spared[GENERATIONS_MAX + 1];
    unsigned count = 0, left;

    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].state)
            spared[count++] = s->generations[i].pid;
    if (s->examination.pid)
        spared[count++] = s->examination.pid;
    left = tree_signal(SIGKILL, spared, count);
    if (left > 0)
        log_warn("killed %u processes that the nursery has left", left);
}
