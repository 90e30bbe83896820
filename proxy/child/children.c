/* One program with its minder, as the nursery sees it. */
#include "base/alloc.h"
#include "base/control.h"
#include "child/cgroup.h"
#include "child/nursery_state.h"
#include "child/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of our own environment; the rest is not the programs' business. */
static const char *const passed_on[] = {"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"};
#define PASSED_ON (sizeof passed_on / sizeof *passed_on)
static const char default_path[] =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static char **make_env(const struct child_options *options, char *own[PASSED_ON]);
static void on_minder(struct nursery *nursery, struct watch *watch);
static void take_report(struct nursery *nursery, struct child *child,
                        const struct minder_report *report);
static void take_start(struct nursery *nursery, struct child *child);
static void kill_left(struct nursery *nursery, const struct child *child);
static void take_end(struct nursery *nursery, struct child *child,
                     const struct minder_report *report);
static void on_said(struct nursery *nursery, struct watch *watch);
static void on_counts(struct nursery *nursery, struct watch *watch);
static void close_counts(struct nursery *nursery, struct child *child);
static void forget(struct nursery *nursery, struct child *child);

int child_start(struct nursery *nursery, struct child **out, const struct child_options *options) {
    struct launch launch = {
        .process = options->program->process, .in = options->in, .out = options->out};
    char *own[PASSED_ON] = {NULL}, **env;
    struct child *child;
    int ends[2], socket;
    pid_t minder;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    launch.err = ends[1];
    if (launch.out < 0)
        launch.out = ends[1];
    env = make_env(options, own);
    launch.env = env;
    minder = minder_start(&launch, &socket);
    for (size_t i = 0; i < PASSED_ON; i++)
        free(own[i]);
    free(env);
    close(ends[1]);
    if (minder < 0) {
        close(ends[0]);
        return minder;
    }
    child = xcalloc(1, sizeof *child);
    child->minder = minder;
    child->set = program_set_ref(options->set);
    child->program = options->program;
    child->row = options->row;
    child->socket.ready = on_minder;
    child->said.ready = on_said;
    child->counts = (struct watch){.fd = -1, .ready = on_counts};
    output_init(&child->output, options->program->name, options->limit);
    list_init(&child->in_channel);
    list_push_back(&nursery->children, &child->link);
    nursery->child_count++;
    nursery_watch(nursery, &child->socket, socket);
    nursery_watch(nursery, &child->said, ends[0]);
    *out = child;
    return 0;
}

void child_watch_counts(struct nursery *nursery, struct child *child, int fd) {
    nursery_watch(nursery, &child->counts, fd);
}

void child_end(struct child *child) {
    if (child->is_ending)
        return;
    child->is_ending = true;
    if (!child->instance) {
        atomic_fetch_sub(&child->row->running, 1);
        atomic_fetch_add(&child->row->ending, 1);
    }
    if (child->socket.fd >= 0)
        minder_end(child->socket.fd);
}

/* Whoever else ends here was left by a minder that was killed. */
void child_reaped(struct nursery *nursery, pid_t minder) {
    for (struct list *at = nursery->children.next; at != &nursery->children; at = at->next) {
        struct child *child = CONTAINER_OF(at, struct child, link);

        if (child->minder != minder)
            continue;
        if (child->socket.fd >= 0)
            on_minder(nursery, &child->socket); /* its last words */
        if (!child->is_told) {
            if (nursery->supervisor.fd >= 0)
                kill_left(nursery, child);
            take_end(
                nursery, child,
                &(struct minder_report){.word = MINDER_GONE, .status = SIGKILL, .was_killed = 1});
        }
        forget(nursery, child);
        return;
    }
}

/* They are ours now; what the other minders look after is spared. */
static void kill_left(struct nursery *nursery, const struct child *child) {
    pid_t *minders = xcalloc(nursery->child_count, sizeof *minders);
    unsigned count = 0;

    log_error("the minder of a program of '%s' was killed: its processes are too",
              child->program->name);
    for (struct list *at = nursery->children.next; at != &nursery->children; at = at->next)
        minders[count++] = CONTAINER_OF(at, struct child, link)->minder;
    tree_signal(SIGKILL, minders, count);
    free(minders);
    cgroup_sweep("");
}

void children_free(struct nursery *nursery) {
    while (!list_is_empty(&nursery->children))
        forget(nursery, CONTAINER_OF(nursery->children.next, struct child, link));
}

/* What is ours, what the configuration says, what the request brings. */
static char **make_env(const struct child_options *options, char *own[PASSED_ON]) {
    const struct config_process *process = options->program->process;
    size_t count = PASSED_ON + 1 + process->variable_count + 1, at = 0;
    char **env;

    for (size_t i = 0; i < options->env_bytes; i++)
        count += options->env[i] == '\0';
    env = xcalloc(count, sizeof *env);
    for (size_t i = 0; i < PASSED_ON; i++) {
        const char *value = getenv(passed_on[i]);

        if (value)
            env[at++] = own[i] = xasprintf("%s=%s", passed_on[i], value);
    }
    if (!own[0])
        env[at++] = (char *)default_path;
    /* The first of a name is the one that getenv(3) finds, so what was set twice is taken out. */
    for (size_t i = 0; i < process->variable_count; i++) {
        size_t name = strcspn(process->variables[i], "=") + 1, same = 0;

        while (same < at && strncmp(env[same], process->variables[i], name) != 0)
            same++;
        env[same] = process->variables[i];
        at += same == at;
    }
    for (size_t i = 0; i < options->env_bytes; i += strlen(options->env + i) + 1)
        env[at++] = (char *)options->env + i;
    return env;
}

static void on_minder(struct nursery *nursery, struct watch *watch) {
    struct child *child = CONTAINER_OF(watch, struct child, socket);
    struct control_message message;
    struct minder_report report;
    size_t len;
    int got = 0;

    while (watch->fd >= 0 &&
           (got = control_receive_bytes(watch->fd, &report, sizeof report, &len, &message)) > 0) {
        control_message_deinit(&message);
        if (len == sizeof report)
            take_report(nursery, child, &report);
    }
    if (got < 0)
        nursery_unwatch(nursery, watch); /* it is to be reaped */
}

static void take_report(struct nursery *nursery, struct child *child,
                        const struct minder_report *report) {
    char why[160];

    switch (report->word) {
    case MINDER_STARTED:
        child->pid = report->pid;
        take_start(nursery, child);
        break;
    case MINDER_FAILED:
        launch_describe(&report->failure, why, sizeof why);
        log_limited(child->output.limit, LOG_ERROR, "cannot start '%s' for pipeline '%s': %s",
                    child->program->process->command[0], child->program->name, why);
        atomic_fetch_add(&child->row->failed_starts, 1);
        if (child->channel)
            channel_tell(nursery, child->channel, "failed %lu %s", child->id, why);
        child->channel = NULL;
        list_remove(&child->in_channel);
        take_end(nursery, child, report);
        break;
    case MINDER_GONE:
        take_end(nursery, child, report);
        break;
    }
}

static void take_start(struct nursery *nursery, struct child *child) {
    atomic_fetch_add(&child->row->starts, 1);
    if (child->instance)
        instance_started(child->instance);
    else if (child->channel)
        channel_tell(nursery, child->channel, "started %lu %d", child->id, (int)child->pid);
}

static void take_end(struct nursery *nursery, struct child *child,
                     const struct minder_report *report) {
    struct nursery_channel *channel = child->channel;

    if (child->is_told)
        return;
    child->is_told = true;
    if (child->said.fd >= 0)
        on_said(nursery, &child->said);
    if (report->was_killed)
        atomic_fetch_add(&child->row->killed, 1);
    if (report->word != MINDER_FAILED)
        atomic_store(&child->row->last_status, report->status);
    if (child->instance) {
        instance_gone(nursery, child->instance, report);
        child->instance = NULL;
        return;
    }
    if (report->has_run_out)
        log_limited(child->output.limit, LOG_ERROR,
                    "a program of '%s' was killed: it needed more than limits.total_memory",
                    child->program->name);
    atomic_fetch_sub(child->is_ending ? &child->row->ending : &child->row->running, 1);
    child->channel = NULL;
    list_remove(&child->in_channel);
    if (channel)
        channel_tell(nursery, channel, "gone %lu %d %d", child->id, report->status,
                     report->was_killed);
}

static void on_said(struct nursery *nursery, struct watch *watch) {
    struct child *child = CONTAINER_OF(watch, struct child, said);

    if (output_read(&child->output, watch->fd))
        return;
    output_end(&child->output);
    nursery_unwatch(nursery, watch);
}

static void on_counts(struct nursery *nursery, struct watch *watch) {
    struct child *child = CONTAINER_OF(watch, struct child, counts);
    struct control_message message;
    struct mcp_counts counts;
    size_t len;
    int got = 0;

    while ((got = control_receive_bytes(watch->fd, &counts, sizeof counts, &len, &message)) > 0) {
        control_message_deinit(&message);
        if (len != sizeof counts)
            continue;
        board_count_mcp(child->row, &counts, &child->counted);
        child->counted = counts;
    }
    if (got < 0)
        nursery_unwatch(nursery, watch);
}

/* What it has had open is so no more. */
static void close_counts(struct nursery *nursery, struct child *child) {
    struct mcp_counts last;

    if (child->counts.fd >= 0)
        on_counts(nursery, &child->counts);
    last = child->counted;
    last.sessions = last.calls = 0;
    board_count_mcp(child->row, &last, &child->counted);
    nursery_unwatch(nursery, &child->counts);
}

static void forget(struct nursery *nursery, struct child *child) {
    close_counts(nursery, child);
    output_end(&child->output);
    nursery_unwatch(nursery, &child->socket);
    nursery_unwatch(nursery, &child->said);
    list_remove(&child->link);
    list_remove(&child->in_channel);
    nursery->child_count--;
    program_set_unref(child->set);
    nursery_bury(nursery, child);
}
