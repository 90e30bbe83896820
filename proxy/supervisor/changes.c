/* From one generation to the next: the first start, a restart, a reload. */
#include "base/log.h"
#include "supervisor/state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define EXIT_UNUSABLE 2   /* configuration or addresses */
#define RETRY_NS NS_PER_S /* after a start that this process could not make */
#define GRACE_NS (5 * NS_PER_S)

static void give_up(struct supervisor *s, int status);
static void fail_reload(struct supervisor *s, enum reload_result result, const char *why);
static void open_log(const struct run_plan *plan);
static struct generation *free_place(struct supervisor *s);
static unsigned free_slot(const struct supervisor *s);
static void retire(struct generation *g, int64_t drain_ns);
static void restart(struct supervisor *s, const struct generation *dead, const char *how);
static void tell_others(struct supervisor *s);
static void describe(char *to, size_t max, int status);

void supervisor_examine(struct supervisor *s) {
    int err;

    if (s->has_served)
        notify_reloading(&s->notify);
    if (s->serving)
        generation_tell(s->serving, "save"); /* its successor will read it */
    err = examination_start(&s->examination, &(struct examination_options){
                                                 .binary = s->options->binary,
                                                 .name = s->options->name,
                                                 .text = s->options->text,
                                                 .text_fd = -1,
                                                 .is_quiet = !s->has_served,
                                             });

    if (!err)
        return;
    log_error("cannot check '%s': %s", s->options->name, strerror(-err));
    if (s->has_served)
        fail_reload(s, RELOAD_FAILED, "the check could not be started");
    else
        give_up(s, 1);
}

void supervisor_examined(struct supervisor *s, int status) {
    int result = examination_end(&s->examination, status, &s->next);
    char *why = NULL;

    if (s->is_upgrade) {
        s->is_upgrade = false;
        edition_deinit(&s->next);
        if (result)
            log_error("'%s' is not taken up: it does not accept the configuration that is served",
                      s->options->binary);
        else
            supervisor_upgrade(s);
        return;
    }
    if (result && !s->has_served) {
        give_up(s, result);
    } else if (result) {
        fail_reload(s, RELOAD_REFUSED, "the file has errors");
    } else if (kept_prepare(&s->kept, &s->next.plan, &why) == 0) {
        if (!s->has_served)
            open_log(&s->next.plan);
        supervisor_start(s, true);
    } else if (!s->has_served) {
        fprintf(stderr, "weir: %s\n", why);
        edition_deinit(&s->next);
        give_up(s, EXIT_UNUSABLE);
    } else {
        fail_reload(s, RELOAD_FAILED, why);
    }
    free(why);
}

void supervisor_start(struct supervisor *s, bool is_next) {
    struct generation *g = free_place(s);
    int err = -EBUSY;

    s->start_at_ns = 0;
    supervisor_need_nursery(s, is_next ? &s->next.plan : &s->current.plan);
    if (g)
        err = generation_start(g, &(struct generation_options){
                                      .binary = s->options->binary,
                                      .edition = is_next ? &s->next : &s->current,
                                      .kept = &s->kept,
                                      .number = ++s->started,
                                      .shares_fd = s->shares_fd,
                                      .slot = free_slot(s),
                                      .cells_fd = s->cells_fd,
                                      /* What was good enough to serve once has to be again. */
                                      .is_substitute = !is_next && !s->serving,
                                      .nursery = &s->nursery,
                                  });
    if (!err) {
        s->starting = g;
        s->is_next = is_next;
        return;
    }
    log_error("cannot start a gateway: %s",
              err == -EBUSY ? "too many are still finishing" : strerror(-err));
    if (!s->has_served)
        give_up(s, 1);
    else if (is_next)
        fail_reload(s, RELOAD_FAILED, "no gateway could be started");
    else
        s->start_at_ns = clock_now_ns() + RETRY_NS;
}

void supervisor_take_over(struct supervisor *s) {
    struct generation *g = s->starting, *old = s->serving;

    if (s->is_next) {
        edition_deinit(&s->current);
        s->current = s->next;
        s->next.text_fd = -1;
        kept_commit(&s->kept);
        if (s->has_served) {
            open_log(&s->current.plan);
            nursery_link_log(&s->nursery, &s->current.plan);
            s->is_reload_done = true;
        }
    }
    for (unsigned i = 0; i < s->current.plan.listener_count; i++)
        s->listeners[i] = kept_find(&s->kept, s->current.plan.listeners[i].address);
    memset(s->looks, 0, sizeof s->looks);
    supervisor_reach_end(s);
    s->starting = NULL;
    s->serving = g;
    s->start_at_ns = 0;
    g->state = GENERATION_SERVING;
    g->since_ns = clock_now_ns();
    log_info("gateway %d serves (generation %u)", (int)g->pid, g->number);
    supervisor_serve_programs(s);
    if (old)
        retire(old, old->is_wedged || old->is_tainted ? s->current.plan.drain_shutdown_ns
                                                      : s->current.plan.drain_reload_ns);
    else
        supervisor_make_live(s);
    if (!s->has_served && s->options->on_ready)
        s->options->on_ready(s->options->ctx);
    s->has_served = true;
}

void supervisor_ended(struct supervisor *s, struct generation *g, int status) {
    struct generation dead = *g;
    char how[128];

    describe(how, sizeof how, status);
    if (g->state != GENERATION_STARTING)
        totals_fold(&s->totals, g->memory, g->segment_bytes);
    if (g->slot < SHARE_SLOTS)
        share_table_clear(s->shares, g->slot);
    if (s->serving == g)
        s->serving = NULL;
    if (s->starting == g)
        s->starting = NULL;
    generation_free(g);
    if (s->is_ending) {
        bool is_last = true;

        if (status != 0) {
            log_error("gateway %d %s", (int)dead.pid, how);
            s->status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        for (unsigned i = 0; i < GENERATIONS_MAX; i++)
            is_last &= !s->generations[i].state;
        if (is_last)
            supervisor_finish(s);
    } else if (!s->has_served) {
        log_error("gateway %d %s before it was ready", (int)dead.pid, how);
        give_up(s, WIFEXITED(status) && status != 0 ? WEXITSTATUS(status) : 1);
    } else if (dead.state == GENERATION_RETIRING) {
        log_line(status ? LOG_ERROR : LOG_INFO, "gateway %d, which was finishing, %s",
                 (int)dead.pid, how);
        tell_others(s);
    } else if (dead.state == GENERATION_STARTING && s->is_next) {
        log_error("gateway %d %s before it was ready", (int)dead.pid, how);
        fail_reload(s, RELOAD_FAILED, "its gateway could not start");
    } else {
        restart(s, &dead, how);
    }
}

void supervisor_make_live(struct supervisor *s) {
    char deaths[CRASHES_TEXT_MAX];

    s->serving->is_live = true;
    tell_others(s);
    crashes_write(&s->crashes, clock_now_ns(), deaths);
    generation_tell(s->serving, "deaths%s", deaths);
    generation_tell(s->serving, "live");
    if (s->is_reload_done)
        totals_count_reload(&s->totals, RELOAD_OK);
    s->is_reload_done = false;
    notify_ready(&s->notify);
}

unsigned supervisor_retiring(const struct supervisor *s) {
    unsigned count = 0;

    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        count += s->generations[i].state == GENERATION_RETIRING;
    return count;
}

/* Before anything was served: there is nothing to keep up. */
static void give_up(struct supervisor *s, int status) {
    s->status = status;
    supervisor_finish(s);
}

static void fail_reload(struct supervisor *s, enum reload_result result, const char *why) {
    log_error("the reload of '%s' has failed, the old configuration stays: %s", s->options->name,
              why);
    totals_count_reload(&s->totals, result);
    notify_ready(&s->notify);
    kept_forget(&s->kept);
    edition_deinit(&s->next);
    if (!s->serving && s->start_at_ns == 0) /* it died meanwhile */
        s->start_at_ns = clock_now_ns();
}

/* When it cannot be opened the gateway says so and ends; meanwhile lines go to standard error. */
static void open_log(const struct run_plan *plan) {
    const struct log_options options = {(enum log_level)plan->log_level, plan->log_file, NULL};
    const char *failed;

    log_close();
    log_open_direct(&options, &failed);
}

/* NULL: there is none, but soon. */
static struct generation *free_place(struct supervisor *s) {
    struct generation *oldest = NULL;

    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        struct generation *g = &s->generations[i];

        if (!g->state)
            return g;
        if (g->state == GENERATION_RETIRING && (!oldest || g->number < oldest->number))
            oldest = g;
    }
    if (oldest)
        generation_kill(oldest, "a new one needs its place");
    return NULL;
}

/* There are as many as places. */
static unsigned free_slot(const struct supervisor *s) {
    unsigned used = 0, slot = 0;

    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].state && s->generations[i].slot < SHARE_SLOTS)
            used |= 1U << s->generations[i].slot;
    while (used & 1U << slot)
        slot++;
    return slot;
}

static void retire(struct generation *g, int64_t drain_ns) {
    g->state = GENERATION_RETIRING;
    g->since_ns = clock_now_ns();
    g->end_by_ns = g->since_ns + drain_ns + GRACE_NS;
    generation_tell(g, "retire %lld", (long long)drain_ns);
}

/* It had served, or was to serve again. */
static void restart(struct supervisor *s, const struct generation *dead, const char *how) {
    int64_t now_ns = clock_now_ns(), wait_ns;
    int64_t lived_ns = dead->state == GENERATION_SERVING ? now_ns - dead->since_ns : 0;
    bool was_slow = s->crashes.is_slow;

    wait_ns = crashes_note(&s->crashes, now_ns, lived_ns);
    if (wait_ns)
        log_error("gateway %d %s: another is started in %.2f s", (int)dead->pid, how,
                  (double)wait_ns / 1e9);
    else
        log_error("gateway %d %s: another is started at once", (int)dead->pid, how);
    if (s->crashes.is_slow && !was_slow)
        log_error("gateways died more than %d times in %lld s: they are started every %lld s only, "
                  "clients wait meanwhile",
                  CRASHES_MAX, (long long)(CRASHES_WINDOW_NS / NS_PER_S),
                  (long long)(CRASHES_SLOW_NS / NS_PER_S));
    totals_count_restart(&s->totals);
    tell_others(s);
    if (s->starting || s->serving)
        return; /* a successor is there, or on its way */
    if (wait_ns == 0)
        supervisor_start(s, false);
    else
        s->start_at_ns = now_ns + wait_ns;
}

static void tell_others(struct supervisor *s) {
    int fds[GENERATIONS_MAX + 2];
    unsigned count = 0;

    if (!s->serving || !s->serving->is_live)
        return;
    fds[count++] = s->totals.own_fd;
    if (s->totals.base_fd >= 0)
        fds[count++] = s->totals.base_fd;
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].state == GENERATION_RETIRING)
            fds[count++] = s->generations[i].memory_fd;
    if (s->serving->control >= 0 && control_send(s->serving->control, "others", fds, count) != 0)
        log_warn("cannot tell gateway %d of other counters", (int)s->serving->pid);
}

static void describe(char *to, size_t max, int status) {
    if (WIFSIGNALED(status))
        snprintf(to, max, "died by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(to, max, "ended with status %d", WEXITSTATUS(status));
}
