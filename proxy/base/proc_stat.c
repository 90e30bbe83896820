#include "base/proc_stat.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 1024

/* Behind the command name, counted from 0, where proc(5) counts from 3. */
enum stat_field {
    FIELD_STATE,
    FIELD_PARENT,
    FIELD_THREADS = 17,
    FIELD_START_TICKS = 19,
    FIELD_VIRTUAL_BYTES,
    FIELD_RESIDENT_PAGES,
    FIELD_COUNT,
};

bool proc_stat_read(struct proc_stat *stat, pid_t pid) {
    uint64_t fields[FIELD_COUNT] = {0};
    char path[32], text[TEXT_MAX], *at;
    ssize_t len;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    len = read(fd, text, sizeof text - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    at = strrchr(text, ')'); /* the name, in brackets, may hold anything */
    if (!at || strlen(at) < sizeof ") S" - 1)
        return false;
    stat->state = at[2];
    at += sizeof ") S" - 1;
    for (unsigned i = FIELD_PARENT; i < FIELD_COUNT; i++)
        fields[i] = (uint64_t)strtoll(at, &at, 10);
    stat->parent = (pid_t)fields[FIELD_PARENT];
    stat->threads = fields[FIELD_THREADS];
    stat->start_ticks = fields[FIELD_START_TICKS];
    stat->virtual_bytes = fields[FIELD_VIRTUAL_BYTES];
    stat->resident_pages = fields[FIELD_RESIDENT_PAGES];
    return true;
}
