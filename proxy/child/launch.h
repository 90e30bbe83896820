/* What a new process does to become a program: its own session, directory, user, limits, signals
 * and standard streams. */
#pragma once

#include "child/cgroup.h"
#include "config/process.h"

struct launch {
    const struct config_process *process; /* borrowed */
    char *const *env;                     /* borrowed: whole, "NAME=value", NULL behind the last */
    int in, out, err;                     /* -1: /dev/null */
};

/* In how far it could not; with errno it goes to the fd. */
enum launch_step {
    LAUNCH_SETUP,
    LAUNCH_GROUP,
    LAUNCH_USER,
    LAUNCH_DIR,
    LAUNCH_STREAMS,
    LAUNCH_EXEC,
};

struct launch_failure {
    enum launch_step step;
    int err; /* errno */
};

/* Becomes the program, in @group; or writes a launch_failure to @tell, which exec closes, and ends.
 * In the child of a process of one thread. The kernel kills it when its parent ends. */
void launch_become(const struct launch *launch, const struct cgroup *group, int tell)
    __attribute__((__noreturn__));

/* "cannot execute it: No such file or directory" into @to. */
void launch_describe(const struct launch_failure *failure, char *to, size_t max);
