/* The supervisor's loop: signals, messages, children and deadlines; see supervisor.h. */
#include "supervisor/supervisor.h"

#include "base/alloc.h"
#include "base/log.h"
#include "handler/cells.h"
#include "supervisor/inherited.h"
#include "supervisor/state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MAX_NS (60 * NS_PER_S)  /* for a gateway to become ready */
#define RETIRED_MAX_NS (2 * NS_PER_S) /* for an old one to stop accepting */
#define GRACE_NS (5 * NS_PER_S)       /* for a gateway to end behind its own drain time */
#define LOOK_NS (500 * NS_PER_MS)     /* between two looks at the gateways */
#define POLLED_MAX (GENERATIONS_MAX + 3)

static int open_signals(struct supervisor *s);
static int open_shares(struct supervisor *s);
static void open_cells(struct supervisor *s);
static void turn(struct supervisor *s);
static int wait_ms(const struct supervisor *s, int64_t now_ns);
static void hear_signals(struct supervisor *s);
static void on_signal(struct supervisor *s, int number);
static void begin_to_end(struct supervisor *s, const char *reason);
static void end_at_once(struct supervisor *s);
static void hear(struct supervisor *s, struct generation *g);
static void reap(struct supervisor *s);
static void look(struct supervisor *s, int64_t now_ns);
static void look_at(struct supervisor *s, struct generation *g, int64_t now_ns);
static void close_all(struct supervisor *s);

int supervisor_run(const struct supervisor_options *options) {
    struct supervisor *s = xcalloc(1, sizeof *s);
    int err, status;

    s->options = options;
    s->current.text_fd = s->next.text_fd = s->shares_fd = s->cells_fd = -1;
    s->nursery = (struct nursery_link)NURSERY_LINK_NONE;
    notify_open(&s->notify);
    err = totals_open(&s->totals);
    if (!err)
        err = open_signals(s);
    if (err) {
        fprintf(stderr, "weir: cannot start: %s\n", strerror(-err));
        s->status = 1;
    } else {
        bool is_successor = supervisor_take_up(s);

        err = s->shares ? 0 : open_shares(s);
        if (err) {
            fprintf(stderr, "weir: cannot make memory for shared limits: %s\n", strerror(-err));
            s->is_over = true;
            s->status = 1;
        }
        if (s->cells_fd < 0)
            open_cells(s);
        if (!err && !is_successor) {
            inherited_take(&s->kept);
            supervisor_examine(s);
        }
        while (!s->is_over)
            turn(s);
    }
    status = s->status;
    close_all(s);
    return status;
}

static int open_signals(struct supervisor *s) {
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t signals;

    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&signals, numbers[i]);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* an error of write(2) will do; gateways inherit it */
    s->signals = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    return s->signals < 0 ? -errno : 0;
}

static int open_shares(struct supervisor *s) {
    void *memory = NULL;
    int err = totals_memory("weir-shares", sizeof *s->shares, &s->shares_fd, &memory);

    if (!err)
        s->shares = share_table_init(memory);
    return err;
}

/* It takes no memory before a handler uses it. Without, each gateway has its own. */
static void open_cells(struct supervisor *s) {
    void *memory = NULL;

    if (totals_memory("weir-cells", CELLS_REGION_BYTES, &s->cells_fd, &memory) == 0)
        munmap(memory, CELLS_REGION_BYTES);
    else
        s->cells_fd = -1;
}

static void turn(struct supervisor *s) {
    struct pollfd polled[POLLED_MAX] = {
        {.fd = s->signals, .events = POLLIN},
        {.fd = s->examination.pid ? s->examination.out : -1, .events = POLLIN},
        {.fd = s->examination.pid ? s->examination.err : -1, .events = POLLIN},
    };

    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        const struct generation *g = &s->generations[i];

        polled[3 + i] = (struct pollfd){.fd = g->state ? g->control : -1, .events = POLLIN};
    }
    poll(polled, POLLED_MAX, wait_ms(s, clock_now_ns()));
    hear_signals(s);
    if (s->examination.pid)
        examination_read(&s->examination);
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].state)
            hear(s, &s->generations[i]);
    if (!s->is_over)
        reap(s);
    if (!s->is_over)
        look(s, clock_now_ns());
}

static int wait_ms(const struct supervisor *s, int64_t now_ns) {
    int64_t until_ns = now_ns + LOOK_NS;

    if (s->start_at_ns && s->start_at_ns < until_ns)
        until_ns = s->start_at_ns;
    if (s->nursery.start_at_ns && s->nursery.start_at_ns < until_ns)
        until_ns = s->nursery.start_at_ns;
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].end_by_ns && s->generations[i].end_by_ns < until_ns)
            until_ns = s->generations[i].end_by_ns;
    return until_ns > now_ns ? (int)((until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

static void hear_signals(struct supervisor *s) {
    struct signalfd_siginfo info;

    while (!s->is_over && read(s->signals, &info, sizeof info) == sizeof info)
        on_signal(s, (int)info.ssi_signo);
}

static void on_signal(struct supervisor *s, int number) {
    if (number == SIGUSR1) {
        log_reopen();
        for (unsigned i = 0; i < GENERATIONS_MAX; i++)
            if (s->generations[i].state)
                generation_tell(&s->generations[i], "reopen");
        nursery_link_tell(&s->nursery, "reopen");
    } else if (number == SIGHUP) {
        s->is_reload_wanted = true;
    } else if (number == SIGUSR2) {
        s->is_upgrade_wanted = true;
    } else if (number != SIGCHLD && s->is_ending) {
        log_warn("second signal: ending at once");
        end_at_once(s);
    } else if (number != SIGCHLD) {
        begin_to_end(s, strsignal(number));
    }
}

static void begin_to_end(struct supervisor *s, const char *reason) {
    int64_t drain_ns = s->current.text_fd >= 0 ? s->current.plan.drain_shutdown_ns
                                               : s->next.plan.drain_shutdown_ns;
    bool is_alone = true;

    s->is_ending = true;
    s->start_at_ns = 0;
    notify_stopping(&s->notify);
    log_info("%s: draining for up to %lld s", reason, (long long)(drain_ns / NS_PER_S));
    if (s->examination.pid) {
        pid_t pid = s->examination.pid;

        examination_cancel(&s->examination);
        waitpid(pid, NULL, 0);
    }
    /* First ours: what then comes is refused, and what waits is the gateway's to answer. */
    supervisor_reach_end(s);
    kept_close(&s->kept);
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        struct generation *g = &s->generations[i];

        if (!g->state)
            continue;
        is_alone = false;
        generation_tell(g, "drain %lld", (long long)drain_ns);
        g->end_by_ns = clock_now_ns() + drain_ns + GRACE_NS;
    }
    if (is_alone)
        supervisor_finish(s);
}

static void end_at_once(struct supervisor *s) {
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        struct generation *g = &s->generations[i];

        if (g->state) {
            kill(g->pid, SIGKILL);
            waitpid(g->pid, NULL, 0);
            generation_free(g);
        }
    }
    nursery_link_close(&s->nursery);
    s->is_over = true;
    s->status = 1;
}

static void hear(struct supervisor *s, struct generation *g) {
    struct control_message message;
    const char *rest;
    int got = 0;

    while (g->control >= 0 && (got = control_receive(g->control, &message)) > 0) {
        control_message_deinit(&message);
        if (control_is(message.text, "ready", &rest)) {
            if (g == s->starting && !s->is_ending)
                supervisor_take_over(s);
        } else if (control_is(message.text, "retired", &rest)) {
            g->has_retired = true;
        } else if (control_is(message.text, "reload", &rest)) {
            s->is_reload_wanted = true;
        } else if (control_is(message.text, "drain", &rest)) {
            if (!s->is_ending)
                begin_to_end(s, "asked for by the admin plane");
        } else if (control_is(message.text, "deaths", &rest)) {
            if (s->crashes.count == 0 && crashes_read(&s->crashes, rest, clock_now_ns()))
                log_info("%u gateways died in the last %lld s, before this start", s->crashes.count,
                         (long long)(CRASHES_WINDOW_NS / NS_PER_S));
        } else if (control_is(message.text, "tainted", &rest)) {
            g->is_tainted = true;
        } else if (control_is(message.text, "stack", &rest)) {
            log_error("gateway %d: stack %s", (int)g->pid, rest);
        }
    }
    if (got < 0) { /* it ends: the rest is told by the kernel */
        close(g->control);
        g->control = -1;
    }
}

static void reap(struct supervisor *s) {
    int status;

    if (s->examination.pid && waitpid(s->examination.pid, &status, WNOHANG) > 0)
        supervisor_examined(s, status);
    for (unsigned i = 0; i < GENERATIONS_MAX && !s->is_over; i++) {
        struct generation *g = &s->generations[i];

        if (!g->state || waitpid(g->pid, &status, WNOHANG) <= 0)
            continue;
        hear(s, g); /* its last words */
        supervisor_ended(s, g, status);
    }
    supervisor_reap_others(s);
}

static void look(struct supervisor *s, int64_t now_ns) {
    notify_alive(&s->notify, now_ns);
    examination_look(&s->examination, now_ns);
    supervisor_watch(s, now_ns);
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (s->generations[i].state)
            look_at(s, &s->generations[i], now_ns);
    if (s->is_ending)
        return;
    supervisor_look_after_nursery(s, now_ns);
    if (s->start_at_ns && now_ns >= s->start_at_ns && !s->starting)
        supervisor_start(s, false);
    if (!s->serving || !s->serving->is_live || s->starting || s->examination.pid)
        return;
    if (s->is_upgrade_wanted) {
        s->is_upgrade_wanted = false;
        supervisor_examine_upgrade(s);
        return;
    }
    if (!s->is_reload_wanted)
        return;
    if (supervisor_retiring(s) < SUPERVISOR_RETIRING_MAX) {
        s->is_reload_wanted = s->is_reload_told = false;
        supervisor_examine(s);
    } else if (!s->is_reload_told) {
        s->is_reload_told = true;
        log_warn("the reload waits: %d gateways are still finishing", SUPERVISOR_RETIRING_MAX);
    }
}

static void look_at(struct supervisor *s, struct generation *g, int64_t now_ns) {
    if (g->end_by_ns && now_ns >= g->end_by_ns)
        generation_kill(g, "it has not ended in time");
    else if (g->state == GENERATION_STARTING && !g->end_by_ns &&
             now_ns - g->since_ns >= READY_MAX_NS)
        generation_kill(g, "it was not ready in time");
    if (g == s->serving && !g->is_live && !s->is_ending) {
        bool is_waiting = false;

        for (unsigned i = 0; i < GENERATIONS_MAX; i++)
            is_waiting |=
                s->generations[i].state == GENERATION_RETIRING && !s->generations[i].has_retired;
        if (!is_waiting || now_ns - g->since_ns >= RETIRED_MAX_NS)
            supervisor_make_live(s);
    }
}

static void close_all(struct supervisor *s) {
    supervisor_reach_end(s);
    if (s->current.text_fd >= 0 || s->next.text_fd >= 0)
        kept_remove_files(&s->kept);
    kept_deinit(&s->kept);
    edition_deinit(&s->current);
    edition_deinit(&s->next);
    totals_close(&s->totals);
    if (s->shares)
        munmap(s->shares, sizeof *s->shares);
    if (s->shares_fd >= 0)
        close(s->shares_fd);
    nursery_link_close(&s->nursery);
    if (s->cells_fd >= 0)
        close(s->cells_fd);
    notify_close(&s->notify);
    if (s->signals > 0)
        close(s->signals);
    free(s);
}
