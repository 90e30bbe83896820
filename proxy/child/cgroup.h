/* A control group for the tree of one program (cgroups(7)): what bounds all its processes together,
 * and cannot be left. v1, or v2 where it is delegated to us. Linux. Home: a process of one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup_limits {
    uint64_t memory_bytes; /* that are resident, with the cache of files; 0: no bound */
    unsigned processes;    /* with threads; 0: no bound */
};

enum cgroup_controller { CGROUP_MEMORY, CGROUP_PROCESSES };
#define CGROUP_CONTROLLERS 2

struct cgroup {
    char *dirs[CGROUP_CONTROLLERS]; /* owned; NULL: none. The same one twice with v2 */
};

/* Once, before the first one: with v2 a group that systemd has delegated to us passes controllers
 * on only when no process is in it, so all of them go to a group "weir-main" below it. @root: "",
 * or what stands in for the root directory. */
void cgroup_prepare(const char *root);

/* Removes what owners have left that are gone. */
void cgroup_sweep(const char *root);

/* Makes the group that @limits need below the one this process is in, named after its @owner. 0, or
 * an errno when a limit cannot be had, with nothing made. */
int cgroup_open(struct cgroup *group, const char *root, const struct cgroup_limits *limits,
                pid_t owner);

/* This process, and what it will start. An errno. */
int cgroup_join(const struct cgroup *group);

/* Nobody in it starts anything any more, and with v2 all are killed. */
void cgroup_kill(const struct cgroup *group);

/* Was one of it killed for want of memory? */
bool cgroup_has_run_out(const struct cgroup *group);

/* Removes it: nobody is left in it. */
void cgroup_close(struct cgroup *group);
