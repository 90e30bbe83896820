#include "child/minder.h"

#include "base/clock.h"
#include "base/control.h"
#include "child/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Between two rounds of SIGKILL; doubles, because of those that the kernel keeps. */
#define KILL_LOOK_NS (5 * NS_PER_MS)
#define KILL_LOOK_MAX_NS (500 * NS_PER_MS)

enum minding { RUNNING, ENDING, KILLING };

struct minder {
    const struct launch *launch; /* borrowed */
    enum minding state;
    int socket;  /* to the nursery; -1: at its end */
    int signals; /* signalfd */
    struct cgroup group;
    pid_t program;
    int status;
    bool was_killed;
    int64_t kill_at_ns; /* ENDING; KILLING: the next round */
    int64_t look_ns;    /* KILLING: between this one and the next */
};

static void mind(const struct launch *launch, int socket) __attribute__((__noreturn__));
static void keep_only(const struct launch *launch, int socket);
static int open_signals(void);
static bool start_program(struct minder *minder);
static void turn(struct minder *minder);
static bool reap(struct minder *minder);
static void end(struct minder *minder, int64_t grace_ns);
static void tell(struct minder *minder, const struct minder_report *report);

pid_t minder_start(const struct launch *launch, int *socket) {
    int ends[2], err = control_pair(ends);
    pid_t pid;

    if (err)
        return err;
    pid = fork();
    if (pid == 0)
        mind(launch, ends[1]);
    err = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -err;
    }
    *socket = ends[0];
    return pid;
}

void minder_end(int socket) {
    control_send(socket, "end", NULL, 0); /* whoever does not read is about to end */
}

static void mind(const struct launch *launch, int socket) {
    struct minder minder = {.launch = launch, .socket = socket, .look_ns = KILL_LOOK_NS};

    prctl(PR_SET_NAME, "weir-minder");
    keep_only(launch, socket);
    tree_hold();
    minder.signals = open_signals();
    if (minder.signals < 0 || !start_program(&minder))
        _exit(1);
    for (;;)
        turn(&minder);
}

/* Nothing else that the nursery has open may stay open because of us. */
static void keep_only(const struct launch *launch, int socket) {
    int kept[] = {launch->in, launch->out, launch->err, socket};
    int max = STDERR_FILENO;

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        max = kept[i] > max ? kept[i] : max;
    for (int fd = STDERR_FILENO + 1; fd < max; fd++) {
        bool is_kept = false;

        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            is_kept |= kept[i] == fd;
        if (!is_kept)
            close(fd);
    }
    close_range((unsigned)max + 1, ~0U, 0);
}

static int open_signals(void) {
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* False: there is no program, and the nursery was told why. */
static bool start_program(struct minder *minder) {
    const struct config_process *process = minder->launch->process;
    const struct cgroup_limits limits = {process->limits.total_memory_bytes,
                                         process->limits.processes};
    struct minder_report report = {.word = MINDER_STARTED};
    const int fds[] = {minder->launch->in, minder->launch->out, minder->launch->err};
    int ends[2], err;
    ssize_t got;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    err = cgroup_open(&minder->group, "", &limits, getpid());
    if (err) {
        tell(minder,
             &(struct minder_report){.word = MINDER_FAILED, .failure = {LAUNCH_GROUP, err}});
        return false;
    }
    minder->program = fork();
    if (minder->program == 0)
        launch_become(minder->launch, &minder->group, ends[1]);
    close(ends[1]);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    got = minder->program < 0 ? 0 : read(ends[0], &report.failure, sizeof report.failure);
    if (minder->program < 0)
        report.failure = (struct launch_failure){LAUNCH_SETUP, EAGAIN};
    if (minder->program < 0 || got > 0)
        report.word = MINDER_FAILED;
    close(ends[0]);
    report.pid = minder->program;
    tell(minder, &report);
    if (report.word == MINDER_STARTED)
        return true;
    if (minder->program > 0)
        waitpid(minder->program, NULL, 0);
    cgroup_close(&minder->group);
    return false;
}

static void turn(struct minder *minder) {
    struct pollfd polled[] = {{.fd = minder->socket, .events = POLLIN},
                              {.fd = minder->signals, .events = POLLIN}};
    int64_t now_ns = clock_now_ns(), left_ns = minder->kill_at_ns - now_ns;
    struct signalfd_siginfo info;
    struct control_message message;
    int got;

    poll(polled, 2,
         minder->state == RUNNING ? -1
         : left_ns <= 0           ? 0
                                  : (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS));
    while (minder->socket >= 0 && (got = control_receive(minder->socket, &message)) != 0) {
        int64_t grace_ns = minder->launch->process->stop.grace_ns;

        if (got > 0) {
            control_message_deinit(&message);
            end(minder, grace_ns);
            continue;
        }
        close(minder->socket);
        minder->socket = -1;
        end(minder, grace_ns < MINDER_ORPHAN_GRACE_NS ? grace_ns : MINDER_ORPHAN_GRACE_NS);
    }
    while (read(minder->signals, &info, sizeof info) > 0)
        ;
    if (reap(minder)) {
        tell(minder, &(struct minder_report){.word = MINDER_GONE,
                                             .status = minder->status,
                                             .was_killed = minder->was_killed,
                                             .has_run_out = cgroup_has_run_out(&minder->group)});
        cgroup_close(&minder->group);
        _exit(0);
    }
    if (minder->state == RUNNING || clock_now_ns() < minder->kill_at_ns)
        return;
    minder->state = KILLING;
    minder->was_killed = true;
    cgroup_kill(&minder->group);
    tree_signal(SIGKILL, NULL, 0);
    minder->kill_at_ns = clock_now_ns() + minder->look_ns;
    if (minder->look_ns < KILL_LOOK_MAX_NS)
        minder->look_ns *= 2;
}

/* True: nobody is left. */
static bool reap(struct minder *minder) {
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != minder->program)
            continue;
        minder->program = 0;
        minder->status = status;
    }
    if (pid < 0 && errno == ECHILD)
        return true;
    if (minder->program == 0 && minder->state == RUNNING)
        end(minder, minder->launch->process->stop.grace_ns); /* what it has left behind */
    return false;
}

/* Who is asked twice is to be gone by the earlier of the two times. */
static void end(struct minder *minder, int64_t grace_ns) {
    int64_t kill_at_ns = clock_now_ns() + grace_ns;
    int number = minder->launch->process->stop.signal;

    if (minder->state == KILLING)
        return;
    if (minder->state == ENDING) {
        if (kill_at_ns < minder->kill_at_ns)
            minder->kill_at_ns = kill_at_ns;
        return;
    }
    minder->state = ENDING;
    minder->kill_at_ns = kill_at_ns;
    tree_signal(number, NULL, 0);
    tree_signal(SIGCONT, NULL, 0); /* who is stopped could not hear it */
}

static void tell(struct minder *minder, const struct minder_report *report) {
    if (minder->socket >= 0)
        control_send_bytes(minder->socket, slice_of((const char *)report, sizeof *report), NULL, 0);
}
