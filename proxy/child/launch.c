#include "child/launch.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDS_USUAL 1024 /* soft limit: programs that use select(2) need no more */
#define EXIT_FAILED 126
#define STANDARD_FDS 3

static int become_user(const char *user);
static int set_limits(const struct config_process *process);
static int set_limit(int resource, rlim_t soft, rlim_t hard);
static int set_streams(const struct launch *launch);
static void become_bridge(const struct config_process *process);
static void reset_signals(void);
static void fail(int tell, enum launch_step step, int err) __attribute__((__noreturn__));

void launch_become(const struct launch *launch, const struct cgroup *group, int tell) {
    const struct config_process *process = launch->process;
    pid_t parent = getppid();
    int err;

    setsid();
    reset_signals();
    /* What systemd lets us bind is not for programs. */
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    err = process->is_mcp ? 0 : set_limits(process); /* they are the server's, not the bridge's */
    if (err)
        fail(tell, LAUNCH_SETUP, err);
    err = cgroup_join(group);
    if (err)
        fail(tell, LAUNCH_GROUP, err);
    err = become_user(process->user);
    if (err)
        fail(tell, LAUNCH_USER, err);
    /* Behind the change of user, which undoes it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILED); /* it has ended already */
    if (process->dir && chdir(process->dir) < 0)
        fail(tell, LAUNCH_DIR, errno);
    err = set_streams(launch);
    if (err)
        fail(tell, LAUNCH_STREAMS, err);
    environ = (char **)launch->env; /* its own PATH is the one that is searched */
    if (process->is_mcp)
        become_bridge(process);
    else
        execvp(process->command[0], process->command);
    fail(tell, LAUNCH_EXEC, errno);
}

void launch_describe(const struct launch_failure *failure, char *to, size_t max) {
    static const char *const steps[] = {"set its limits",
                                        "bound its memory or processes by a control group",
                                        "become its user",
                                        "enter its directory",
                                        "give it its standard streams",
                                        "execute it"};

    snprintf(to, max, "cannot %s: %s",
             (unsigned)failure->step < sizeof steps / sizeof *steps ? steps[failure->step]
                                                                    : "start it",
             failure->err > 0 ? strerror(failure->err) : "unknown");
}

static int become_user(const char *user) {
    const struct passwd *entry;

    if (!user || geteuid() != 0)
        return 0;
    errno = 0;
    entry = getpwnam(user);
    if (!entry)
        return errno ? errno : ESRCH;
    if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
        setuid(entry->pw_uid) < 0)
        return errno;
    return 0;
}

static int set_limits(const struct config_process *process) {
    struct rlimit fds = {FDS_USUAL, FDS_USUAL};
    rlim_t cpu_s = (rlim_t)(process->limits.cpu_ns / NS_PER_S);
    int err = 0;

    getrlimit(RLIMIT_NOFILE, &fds);
    if (process->limits.fds)
        err = set_limit(RLIMIT_NOFILE, process->limits.fds, process->limits.fds);
    else if (fds.rlim_cur > FDS_USUAL)
        err = set_limit(RLIMIT_NOFILE, FDS_USUAL, fds.rlim_max);
    if (!err && process->limits.memory_bytes)
        err = set_limit(RLIMIT_AS, process->limits.memory_bytes, process->limits.memory_bytes);
    /* SIGXCPU first, SIGKILL a second later. */
    if (!err && cpu_s)
        err = set_limit(RLIMIT_CPU, cpu_s, cpu_s + 1);
    return err;
}

static int set_limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit old;

    if (getrlimit(resource, &old) < 0)
        return errno;
    if (old.rlim_max != RLIM_INFINITY && hard > old.rlim_max)
        hard = old.rlim_max;
    if (soft > hard)
        soft = hard;
    return setrlimit(resource, &(struct rlimit){soft, hard}) < 0 ? errno : 0;
}

/* Ours may be among the standard ones: they are moved out of the way first. */
static int set_streams(const struct launch *launch) {
    const int wanted[STANDARD_FDS] = {launch->in, launch->out, launch->err};
    int moved[STANDARD_FDS];

    for (int i = 0; i < STANDARD_FDS; i++) {
        int fd = wanted[i] >= 0 ? wanted[i] : open("/dev/null", O_RDWR | O_CLOEXEC);

        moved[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, STANDARD_FDS);
        if (moved[i] < 0)
            return errno;
    }
    for (int i = 0; i < STANDARD_FDS; i++)
        if (dup2(moved[i], i) < 0)
            return errno;
    return 0;
}

/* This very binary, whatever stands in its place now. What it has to know goes before the command.
 */
static void become_bridge(const struct config_process *process) {
    const struct config_mcp *mcp = &process->mcp;
    char *argv[CONFIG_ARGUMENTS_MAX + 4] = {(char *)"weir", (char *)"mcp-stdio"};
    char settings[512];

    snprintf(settings, sizeof settings,
             "{\"sessions\":%u,\"calls\":%u,\"calls_per_session\":%u,\"queue\":%u,\"depth\":%u,"
             "\"message\":%zu,\"idle_ns\":%lld,\"ping_ns\":%lld,\"ask\":%d,\"memory\":%zu,"
             "\"cpu_ns\":%lld,\"fds\":%u}",
             mcp->sessions, mcp->calls, mcp->calls_per_session, mcp->queue, mcp->depth,
             mcp->message_bytes, (long long)mcp->idle_ns, (long long)mcp->ping_ns, (int)mcp->ask,
             process->limits.memory_bytes, (long long)process->limits.cpu_ns, process->limits.fds);
    argv[2] = settings;
    for (size_t i = 0; i < process->command_count && i < CONFIG_ARGUMENTS_MAX; i++)
        argv[3 + i] = process->command[i];
    execv("/proc/self/exe", argv);
}

static void reset_signals(void) {
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void fail(int tell, enum launch_step step, int err) {
    struct launch_failure failure = {step, err};

    if (write(tell, &failure, sizeof failure) != sizeof failure)
        _exit(EXIT_FAILED + 1);
    _exit(EXIT_FAILED);
}
