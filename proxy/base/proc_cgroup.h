/* Where this process is in each hierarchy of control groups: the lines of /proc/self/cgroup,
 * "0::/path" of v2 and "9:cpu,cpuacct:/path" of v1 (cgroups(7)). Linux. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#define PROC_CGROUP_LINE_BYTES 4096

struct proc_cgroup {
    const char *controllers; /* "": v2; in line */
    char *path;              /* in line; may be written to */
    char line[PROC_CGROUP_LINE_BYTES];
};

/* @root: "", or what stands in for the root directory. NULL: there are none, or with errno. */
FILE *proc_cgroup_open(const char *root);

/* The next one; false: there are no more. @file may be NULL. */
bool proc_cgroup_next(struct proc_cgroup *group, FILE *file);

/* Is @name in a list of controllers, as it is there, or with blanks in the files of v2? */
bool proc_cgroup_lists(const char *list, const char *name);
