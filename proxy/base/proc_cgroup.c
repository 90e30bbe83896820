#include "base/proc_cgroup.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

FILE *proc_cgroup_open(const char *root) {
    char *path = xasprintf("%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");

    free(path);
    return file;
}

bool proc_cgroup_next(struct proc_cgroup *group, FILE *file) {
    while (file && fgets(group->line, sizeof group->line, file)) {
        char *names = strchr(group->line, ':');

        group->path = names ? strchr(names + 1, ':') : NULL;
        if (!group->path)
            continue;
        *group->path++ = '\0';
        group->path[strcspn(group->path, "\n")] = '\0';
        group->controllers = names + 1;
        return true;
    }
    return false;
}

bool proc_cgroup_lists(const char *list, const char *name) {
    size_t len = strlen(name);

    while (*list) {
        size_t first = strcspn(list, ", \n");

        if (first == len && memcmp(list, name, len) == 0)
            return true;
        list += first;
        list += strspn(list, ", \n");
    }
    return false;
}
