/* The descendants by a look at all of /proc: the kernel's own lists of children leave some out
 * while processes come and go. */
#include "child/tree.h"

#include "base/alloc.h"
#include "base/proc_stat.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct member {
    pid_t pid, parent;
    uint64_t start; /* with the pid it names a process for good */
    bool is_ours, is_spared;
};

struct members {
    struct member *list; /* owned */
    size_t count, room;
};

static void look(struct members *members);
static bool look_at(pid_t pid, struct member *member);
static bool mark(struct members *members, pid_t self, const pid_t *spared, unsigned spared_count);
static const struct member *find(const struct members *members, pid_t pid);
static void send_signal(const struct member *member, pid_t self, int number);
static int by_pid(const void *a, const void *b);

int tree_hold(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

unsigned tree_signal(int number, const pid_t *spared, unsigned spared_count) {
    struct members members = {0};
    pid_t self = getpid();
    unsigned count = 0;

    look(&members);
    while (mark(&members, self, spared, spared_count))
        ;
    for (size_t i = 0; i < members.count; i++) {
        const struct member *member = &members.list[i];

        if (!member->is_ours || member->is_spared)
            continue;
        send_signal(member, self, number);
        count++;
    }
    free(members.list);
    return count;
}

static void look(struct members *members) {
    DIR *proc = opendir("/proc");
    const struct dirent *entry;

    while (proc && (entry = readdir(proc))) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);

        if (*end || pid <= 0)
            continue;
        if (members->count == members->room) {
            members->room = members->room ? 2 * members->room : 256;
            members->list = xrealloc(members->list, members->room * sizeof *members->list);
        }
        if (look_at((pid_t)pid, &members->list[members->count]))
            members->count++;
    }
    if (proc)
        closedir(proc);
    if (members->count > 0)
        qsort(members->list, members->count, sizeof *members->list, by_pid);
}

static bool look_at(pid_t pid, struct member *member) {
    struct proc_stat stat;

    if (!proc_stat_read(&stat, pid))
        return false;
    *member = (struct member){.pid = pid, .parent = stat.parent, .start = stat.start_ticks};
    return true;
}

/* One step from parents to children; false when nothing changes any more. A child may have a lower
 * pid than its parent. */
static bool mark(struct members *members, pid_t self, const pid_t *spared, unsigned spared_count) {
    bool has_changed = false;

    for (size_t i = 0; i < members->count; i++) {
        struct member *member = &members->list[i];
        const struct member *parent;

        if (member->is_ours)
            continue;
        parent = find(members, member->parent);
        if (member->parent != self && !(parent && parent->is_ours))
            continue;
        member->is_ours = has_changed = true;
        member->is_spared = parent && parent->is_spared;
        for (unsigned j = 0; j < spared_count; j++)
            member->is_spared |= spared[j] == member->pid;
    }
    return has_changed;
}

static const struct member *find(const struct members *members, pid_t pid) {
    const struct member wanted = {.pid = pid};

    return bsearch(&wanted, members->list, members->count, sizeof wanted, by_pid);
}

/* A child of ours keeps its number until we reap it. Another's is held by a pidfd, and looked at
 * once more behind that. */
static void send_signal(const struct member *member, pid_t self, int number) {
    struct member now;
    int fd;

    if (member->parent == self) {
        kill(member->pid, number);
        return;
    }
    fd = (int)syscall(SYS_pidfd_open, member->pid, 0);
    if (fd < 0)
        return;
    if (look_at(member->pid, &now) && now.start == member->start)
        syscall(SYS_pidfd_send_signal, fd, number, NULL, 0);
    close(fd);
}

static int by_pid(const void *a, const void *b) {
    const struct member *first = a, *second = b;

    return (first->pid > second->pid) - (first->pid < second->pid);
}
