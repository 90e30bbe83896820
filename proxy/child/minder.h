/* The minder: a process between the nursery and one program. It is the subreaper of whatever that
 * program starts, so its descendants are exactly that tree, also those that called setsid() or
 * forked twice, and it stays until nobody of them is left. It learns from its socket when to end
 * them, by "end" or because the socket does: so no tree outlives who wanted it, whoever is killed.
 *
 *            | the program ends, others are left | "end", end of socket | grace is over | nobody is
 * left RUNNING  | ENDING: SIGTERM to all            | ENDING: the same     | -             | gone
 *   ENDING   | ENDING                            | ENDING               | KILLING       | gone
 *   KILLING  | KILLING: SIGKILL to all, again and again                                 | gone */
#pragma once

#include "child/launch.h"

#include <sys/types.h>

/* What it tells, as one packet each: STARTED or FAILED first, GONE last. */
enum minder_word { MINDER_STARTED, MINDER_FAILED, MINDER_GONE };

struct minder_report {
    enum minder_word word;
    pid_t pid;                     /* STARTED: of the program */
    struct launch_failure failure; /* FAILED */
    int status;                    /* GONE: of the program, as by wait(2) */
    int was_killed;                /* GONE: some of the tree had to be killed */
    int has_run_out;               /* GONE: of limits.total_memory */
};

#define MINDER_ORPHAN_GRACE_NS INT64_C(400000000) /* at most, when the nursery itself has ended */

/* Starts a minder, and it the program. Returns its pid; *@socket is ours then. -errno. The fds of
 * @launch stay the caller's. */
pid_t minder_start(const struct launch *launch, int *socket);

/* Asks for the end of the tree. */
void minder_end(int socket);
