/* What the kernel says of a process in /proc/PID/stat, proc(5). Linux. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
    char state; /* R, S, D, T, t, Z, ... */
    pid_t parent;
    uint64_t threads;
    uint64_t start_ticks; /* since the boot; with the pid it names a process for good */
    uint64_t virtual_bytes, resident_pages;
};

/* False: there is no such process, or /proc cannot be read. Allocates nothing. Any thread. */
bool proc_stat_read(struct proc_stat *stat, pid_t pid);
