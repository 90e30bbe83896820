/* Limits from cgroupfs and meminfo, use from statm. */
#include "admission/memory.h"

#include "base/proc_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES_MAX 4096
#define PATH_BYTES_MAX (2 * LINE_BYTES_MAX)

static uint64_t cgroup_limit(const char *root);
static uint64_t limit_above(const char *mount, char *group, const char *file);
static uint64_t read_limit(const char *mount, const char *group, const char *file);
static uint64_t machine_limit(const char *root);
static uint64_t least(uint64_t a, uint64_t b);

uint64_t memory_limit(const char *root) {
    return least(cgroup_limit(root), machine_limit(root));
}

int memory_open(void) {
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

uint64_t memory_used(int fd) {
    char text[128];
    uint64_t size, resident;
    ssize_t len = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);

    if (len <= 0)
        return 0;
    text[len] = '\0';
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
        return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t cgroup_limit(const char *root) {
    char path[PATH_BYTES_MAX];
    struct proc_cgroup group;
    uint64_t limit = 0;
    FILE *file = proc_cgroup_open(root);

    while (proc_cgroup_next(&group, file)) {
        if (group.controllers[0] == '\0') {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
            limit = least(limit, limit_above(path, group.path, "memory.max"));
        } else if (proc_cgroup_lists(group.controllers, "memory")) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/memory", root);
            limit = least(limit, limit_above(path, group.path, "memory.limit_in_bytes"));
        }
    }
    if (file)
        fclose(file);
    return limit;
}

/* Of @group and all groups above it, each of which may set a limit. In a container the path may be
 * one of the host's: what is not there sets none. */
static uint64_t limit_above(const char *mount, char *group, const char *file) {
    uint64_t limit = 0;
    char *slash;

    while ((slash = strrchr(group, '/'))) {
        limit = least(limit, read_limit(mount, group, file));
        *slash = '\0';
    }
    return least(limit, read_limit(mount, "", file));
}

/* 0: none, or "max". */
static uint64_t read_limit(const char *mount, const char *group, const char *file) {
    char path[PATH_BYTES_MAX];
    uint64_t limit = 0;
    FILE *from;

    if (snprintf(path, sizeof path, "%s%s/%s", mount, group, file) >= (int)sizeof path)
        return 0;
    from = fopen(path, "re");
    if (!from)
        return 0;
    if (fscanf(from, "%" SCNu64, &limit) != 1)
        limit = 0;
    fclose(from);
    return limit;
}

static uint64_t machine_limit(const char *root) {
    char path[PATH_BYTES_MAX], line[LINE_BYTES_MAX];
    uint64_t kib = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) != 1)
        ;
    fclose(file);
    return kib * 1024;
}

/* Of limits, of which 0 is none. */
static uint64_t least(uint64_t a, uint64_t b) {
    if (a == 0 || b == 0)
        return a ? a : b;
    return a < b ? a : b;
}
