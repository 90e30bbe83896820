#include "child/cgroup.h"

#include "base/alloc.h"
#include "base/proc_cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MOUNT "/sys/fs/cgroup"
#define PREFIX "weir-" /* of a group, before its owner's pid */
#define MAIN "/weir-main"
#define LINE_MAX_BYTES 4096
#define MOVE_ROUNDS 5 /* over the processes of a delegated group, which may fork meanwhile */
#define REMOVE_TRIES 20
#define REMOVE_PAUSE_US 5000 /* the last to end may not have left it yet */

static const struct {
    const char *name;
    const char *v1_limit, *v2_limit; /* files */
} controllers[] = {
    [CGROUP_MEMORY] = {"memory", "memory.limit_in_bytes", "memory.max"},
    [CGROUP_PROCESSES] = {"pids", "pids.max", "pids.max"},
};

static char *own_dir(const char *root, const char *controller, bool *is_v1);
static bool is_delegated(const char *dir);
static void move_all(const char *dir, const char *to);
static void sweep(const char *dir);
static int make(struct cgroup *group, enum cgroup_controller of, const char *root, uint64_t limit,
                pid_t owner);
static int pass_on(const char *dir, const char *controller);
static bool is_first(const struct cgroup *group, unsigned at);
static int write_to(const char *dir, const char *file, const char *text);
static bool read_from(const char *dir, const char *file, char *text, size_t max);

void cgroup_prepare(const char *root) {
    bool is_v1;
    char *dir = own_dir(root, "", &is_v1);

    if (dir && is_delegated(dir)) {
        char *leaf = xasprintf("%s" MAIN, dir);

        if (mkdir(leaf, 0755) == 0 || errno == EEXIST)
            move_all(dir, leaf);
        free(leaf);
    }
    free(dir);
}

void cgroup_sweep(const char *root) {
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        bool is_v1;
        char *dir = own_dir(root, controllers[i].name, &is_v1);

        if (dir)
            sweep(dir);
        free(dir);
    }
}

int cgroup_open(struct cgroup *group, const char *root, const struct cgroup_limits *limits,
                pid_t owner) {
    const uint64_t wanted[] = {
        [CGROUP_MEMORY] = limits->memory_bytes, [CGROUP_PROCESSES] = limits->processes};

    *group = (struct cgroup){0};
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        int err = wanted[i] ? make(group, i, root, wanted[i], owner) : 0;

        if (!err)
            continue;
        cgroup_close(group);
        return err;
    }
    return 0;
}

int cgroup_join(const struct cgroup *group) {
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        int err = is_first(group, i) ? write_to(group->dirs[i], "cgroup.procs", "0") : 0;

        if (err)
            return err;
    }
    return 0;
}

void cgroup_kill(const struct cgroup *group) {
    if (group->dirs[CGROUP_PROCESSES])
        write_to(group->dirs[CGROUP_PROCESSES], "pids.max", "0");
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        if (is_first(group, i))
            write_to(group->dirs[i], "cgroup.kill", "1");
}

bool cgroup_has_run_out(const struct cgroup *group) {
    char text[LINE_MAX_BYTES];
    const char *dir = group->dirs[CGROUP_MEMORY], *killed;

    if (!dir || !(read_from(dir, "memory.events", text, sizeof text) ||
                  read_from(dir, "memory.oom_control", text, sizeof text)))
        return false;
    killed = strstr(text, "oom_kill ");
    return killed && strtoul(killed + strlen("oom_kill "), NULL, 10) > 0;
}

void cgroup_close(struct cgroup *group) {
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (!is_first(group, i))
            continue;
        for (unsigned j = 0; j < REMOVE_TRIES && rmdir(group->dirs[i]) < 0 && errno == EBUSY; j++)
            usleep(REMOVE_PAUSE_US);
    }
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        free(group->dirs[i]);
        group->dirs[i] = NULL;
    }
}

/* Where this process is in the hierarchy that has @controller, "": in v2; below which programs get
 * theirs. NULL: nowhere. In a container the path may be one of the host's: then it is the mount. */
static char *own_dir(const char *root, const char *controller, bool *is_v1) {
    char *dir = NULL, *mount = xasprintf("%s" MOUNT, root);
    FILE *file = proc_cgroup_open(root);
    struct proc_cgroup group;

    while (proc_cgroup_next(&group, file)) {
        bool is_of_v1 = group.controllers[0] != '\0';

        if (is_of_v1 ? controller[0] == '\0' || !proc_cgroup_lists(group.controllers, controller)
                     : dir != NULL)
            continue;
        *is_v1 = is_of_v1;
        free(dir);
        dir = *is_v1 ? xasprintf("%s/%s%s", mount, controller, group.path)
                     : xasprintf("%s%s", mount, group.path);
        if (access(dir, W_OK) < 0) {
            free(dir);
            dir = *is_v1 ? xasprintf("%s/%s", mount, controller) : xasprintf("%s", mount);
        }
        if (*is_v1)
            break; /* then v2 does not have it */
    }
    if (file)
        fclose(file);
    /* Programs go beside those who were moved. */
    if (dir && strlen(dir) >= strlen(MAIN) && strcmp(dir + strlen(dir) - strlen(MAIN), MAIN) == 0)
        dir[strlen(dir) - strlen(MAIN)] = '\0';
    free(mount);
    return dir;
}

/* As systemd marks it: what is below is ours to do with. */
static bool is_delegated(const char *dir) {
    char mark;

    return getxattr(dir, "user.delegate", &mark, 1) == 1 && mark == '1';
}

static void move_all(const char *dir, const char *to) {
    char *path = xasprintf("%s/cgroup.procs", dir), pid[32];
    bool is_empty = false;

    for (unsigned round = 0; round < MOVE_ROUNDS && !is_empty; round++) {
        FILE *file = fopen(path, "re");

        is_empty = true;
        while (file && fgets(pid, sizeof pid, file)) {
            is_empty = false;
            write_to(to, "cgroup.procs", pid);
        }
        if (file)
            fclose(file);
    }
    free(path);
}

/* Somebody in it: it stays. */
static void sweep(const char *dir) {
    DIR *groups = opendir(dir);
    const struct dirent *entry;

    while (groups && (entry = readdir(groups))) {
        char *end, *path;
        long owner;

        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        owner = strtol(entry->d_name + strlen(PREFIX), &end, 10);
        if (*end || owner <= 0 || kill((pid_t)owner, 0) == 0 || errno != ESRCH)
            continue;
        path = xasprintf("%s/%s", dir, entry->d_name);
        rmdir(path);
        free(path);
    }
    if (groups)
        closedir(groups);
}

static int make(struct cgroup *group, enum cgroup_controller of, const char *root, uint64_t limit,
                pid_t owner) {
    bool is_v1;
    char *dir = own_dir(root, controllers[of].name, &is_v1), text[32];
    int err = dir ? 0 : ENOENT;

    if (!err && !is_v1)
        err = pass_on(dir, controllers[of].name);
    if (!err) {
        group->dirs[of] = xasprintf("%s/" PREFIX "%d", dir, (int)owner);
        if (mkdir(group->dirs[of], 0755) < 0 && errno != EEXIST)
            err = errno;
    }
    snprintf(text, sizeof text, "%" PRIu64, limit);
    if (!err)
        err = write_to(group->dirs[of], is_v1 ? controllers[of].v1_limit : controllers[of].v2_limit,
                       text);
    free(dir);
    return err;
}

/* Lets the groups below @dir have the controller. */
static int pass_on(const char *dir, const char *controller) {
    char text[LINE_MAX_BYTES], wanted[32];

    if (read_from(dir, "cgroup.subtree_control", text, sizeof text) &&
        proc_cgroup_lists(text, controller))
        return 0;
    if (!read_from(dir, "cgroup.controllers", text, sizeof text) ||
        !proc_cgroup_lists(text, controller))
        return ENOENT;
    snprintf(wanted, sizeof wanted, "+%s", controller);
    return write_to(dir, "cgroup.subtree_control", wanted);
}

static bool is_first(const struct cgroup *group, unsigned at) {
    if (!group->dirs[at])
        return false;
    for (unsigned i = 0; i < at; i++)
        if (group->dirs[i] && strcmp(group->dirs[i], group->dirs[at]) == 0)
            return false;
    return true;
}

static int write_to(const char *dir, const char *file, const char *text) {
    char *path = xasprintf("%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC), err = fd < 0 ? errno : 0;

    free(path);
    if (fd < 0)
        return err;
    if (write(fd, text, strlen(text)) < 0)
        err = errno;
    close(fd);
    return err;
}

static bool read_from(const char *dir, const char *file, char *text, size_t max) {
    char *path = xasprintf("%s/%s", dir, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, max - 1);

    free(path);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}
