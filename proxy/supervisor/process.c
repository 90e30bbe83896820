#include "supervisor/process.h"

#include "supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EXIT_NO_PROGRAM 126

static void become(const struct process_options *options, pid_t parent)
    __attribute__((__noreturn__));
static void put(int fd, int at);

pid_t process_start(const struct process_options *options) {
    pid_t parent = getpid(), pid = fork();

    if (pid < 0)
        return -errno;
    if (pid == 0)
        become(options, parent);
    return pid;
}

static void become(const struct process_options *options, pid_t parent) {
    sigset_t none;

    if (!options->may_outlive_us)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* it has ended already */
    put(options->in, STDIN_FILENO);
    put(options->out, STDOUT_FILENO);
    put(options->err, STDERR_FILENO);
    put(options->control, CONTROL_FD);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(options->path, options->argv);
    dprintf(STDERR_FILENO, "weir: cannot execute '%s': %s\n", options->path, strerror(errno));
    _exit(EXIT_NO_PROGRAM);
}

/* All of ours are closed by exec, and beyond the standard ones; in this order none is overwritten
 * before its turn. */
static void put(int fd, int at) {
    if (fd == at)
        fcntl(fd, F_SETFD, 0);
    else if (fd >= 0)
        dup2(fd, at);
}
