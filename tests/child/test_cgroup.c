/* Control groups below a directory that stands in for the root: what is made and written, with v1,
 * with v2, and without either. What the kernel makes of it, tests/flows/test_exec.py shows. */
#include "child/cgroup.h"

#include "base/slice.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_BYTES 512

static char root[] = "/tmp/weir-cgroup-XXXXXX";
static const struct cgroup_limits both = {.memory_bytes = 64 << 20, .processes = 7};

static char *at(const char *path) {
    static char text[sizeof root + PATH_BYTES];

    snprintf(text, sizeof text, "%s%s", root, path);
    return text;
}

/* With the directories above it. */
static void make_dir(const char *path) {
    for (const char *end = path; (end = strchr(end + 1, '/'));) {
        char part[PATH_BYTES];

        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        mkdir(at(part), 0700);
    }
    mkdir(at(path), 0700);
}

static void make_file(const char *path, const char *text) {
    FILE *file = fopen(at(path), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void assert_file(const char *path, const char *expected) {
    char text[PATH_BYTES] = "";
    FILE *file = fopen(at(path), "r");

    assert_non_null(file);
    if (!fgets(text, sizeof text, file))
        text[0] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

static bool is_there(const char *path) {
    return access(at(path), F_OK) == 0;
}

static void be_in(const char *lines) {
    make_dir("/proc/self");
    make_file("/proc/self/cgroup", lines);
}

/* What the kernel makes of itself in a new group. */
static void make_group(const char *dir) {
    static const char *const files[] = {"cgroup.procs",          "pids.max",    "memory.max",
                                        "memory.limit_in_bytes", "cgroup.kill", "memory.events"};
    char path[PATH_BYTES];

    make_dir(dir);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        make_file(path, "");
    }
}

static void with_v1_each_controller_has_a_group_of_its_own(void **state) {
    struct cgroup group;

    be_in("8:pids:/a/b\n5:cpu,cpuacct:/\n4:memory:/m\n0::/x\n");
    make_group("/sys/fs/cgroup/pids/a/b/weir-12");
    make_group("/sys/fs/cgroup/memory/m/weir-12");
    assert_int_equal(cgroup_open(&group, root, &both, 12), 0);
    assert_file("/sys/fs/cgroup/pids/a/b/weir-12/pids.max", "7");
    assert_file("/sys/fs/cgroup/memory/m/weir-12/memory.limit_in_bytes", "67108864");
    assert_int_equal(cgroup_join(&group), 0);
    assert_file("/sys/fs/cgroup/pids/a/b/weir-12/cgroup.procs", "0");
    assert_file("/sys/fs/cgroup/memory/m/weir-12/cgroup.procs", "0");
    cgroup_kill(&group);
    assert_file("/sys/fs/cgroup/pids/a/b/weir-12/pids.max", "0");
    assert_false(cgroup_has_run_out(&group));
    make_file("/sys/fs/cgroup/memory/m/weir-12/memory.oom_control",
              "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    unlink(at("/sys/fs/cgroup/memory/m/weir-12/memory.events"));
    assert_true(cgroup_has_run_out(&group));
    cgroup_close(&group);
}

/* As in a container that sees the host's paths. */
static void where_its_path_is_not_there_the_mount_is_taken(void **state) {
    struct cgroup group;

    be_in("8:pids:/docker/abc\n");
    make_group("/sys/fs/cgroup/pids/weir-12");
    assert_int_equal(cgroup_open(&group, root, &(struct cgroup_limits){.processes = 3}, 12), 0);
    assert_file("/sys/fs/cgroup/pids/weir-12/pids.max", "3");
    cgroup_close(&group);
}

static void with_v2_one_group_has_both(void **state) {
    struct cgroup group;

    be_in("0::/s\n1:name=systemd:/\n"); /* in whatever order */
    make_dir("/sys/fs/cgroup/s");
    make_file("/sys/fs/cgroup/s/cgroup.controllers", "cpu memory pids\n");
    make_file("/sys/fs/cgroup/s/cgroup.subtree_control", "memory\n");
    make_group("/sys/fs/cgroup/s/weir-12");
    assert_int_equal(cgroup_open(&group, root, &both, 12), 0);
    assert_string_equal(group.dirs[CGROUP_MEMORY], group.dirs[CGROUP_PROCESSES]);
    assert_file("/sys/fs/cgroup/s/cgroup.subtree_control", "+pidsy\n"); /* over "memory\n" */
    assert_file("/sys/fs/cgroup/s/weir-12/memory.max", "67108864");
    assert_file("/sys/fs/cgroup/s/weir-12/pids.max", "7");
    cgroup_kill(&group);
    assert_file("/sys/fs/cgroup/s/weir-12/cgroup.kill", "1");
    make_file("/sys/fs/cgroup/s/weir-12/memory.events", "low 0\noom 1\noom_kill 1\n");
    assert_true(cgroup_has_run_out(&group));
    cgroup_close(&group);
}

static void what_cannot_be_had_is_an_error(void **state) {
    struct cgroup group;

    be_in("0::/s\n");
    make_dir("/sys/fs/cgroup/s");
    make_file("/sys/fs/cgroup/s/cgroup.controllers", "memory\n");
    make_file("/sys/fs/cgroup/s/cgroup.subtree_control", "memory\n");
    make_group("/sys/fs/cgroup/s/weir-12");
    assert_int_equal(cgroup_open(&group, root, &both, 12), ENOENT);
    assert_null(group.dirs[CGROUP_MEMORY]);
    be_in("");
    assert_int_equal(cgroup_open(&group, root, &both, 12), ENOENT);
    assert_int_equal(cgroup_open(&group, root, &(struct cgroup_limits){0}, 12), 0);
    assert_int_equal(cgroup_join(&group), 0);
    cgroup_kill(&group);
    cgroup_close(&group);
}

static void a_delegated_group_is_emptied_first(void **state) {
    struct cgroup group;

    be_in("0::/s\n");
    make_dir("/sys/fs/cgroup/s/weir-main");
    make_file("/sys/fs/cgroup/s/cgroup.procs", "31\n");
    make_file("/sys/fs/cgroup/s/weir-main/cgroup.procs", "");
    cgroup_prepare(root);
    assert_file("/sys/fs/cgroup/s/weir-main/cgroup.procs", ""); /* it is not ours */
    if (setxattr(at("/sys/fs/cgroup/s"), "user.delegate", "1", 1, 0) < 0)
        skip(); /* this file system has no such attributes */
    cgroup_prepare(root);
    assert_file("/sys/fs/cgroup/s/weir-main/cgroup.procs", "31\n");
    be_in("0::/s/weir-main\n");
    make_file("/sys/fs/cgroup/s/cgroup.controllers", "memory pids\n");
    make_file("/sys/fs/cgroup/s/cgroup.subtree_control", "memory pids\n");
    make_group("/sys/fs/cgroup/s/weir-12");
    assert_int_equal(cgroup_open(&group, root, &both, 12), 0);
    assert_file("/sys/fs/cgroup/s/weir-12/pids.max", "7");
    cgroup_close(&group);
}

static void what_the_dead_have_left_is_removed(void **state) {
    char path[PATH_BYTES], dead[PATH_BYTES];
    pid_t gone = fork();

    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    be_in("8:pids:/\n");
    snprintf(dead, sizeof dead, "/sys/fs/cgroup/pids/weir-%d", (int)gone);
    snprintf(path, sizeof path, "/sys/fs/cgroup/pids/weir-%d", (int)getpid());
    make_dir(dead);
    make_dir(path);
    make_dir("/sys/fs/cgroup/pids/weir-main");
    make_dir("/sys/fs/cgroup/pids/other");
    cgroup_sweep(root);
    assert_false(is_there(dead));
    assert_true(is_there(path));
    assert_true(is_there("/sys/fs/cgroup/pids/weir-main"));
    assert_true(is_there("/sys/fs/cgroup/pids/other"));
}

static int set_up(void **state) {
    snprintf(root, sizeof root, "%s", "/tmp/weir-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where) {
    return remove(path);
}

static int tear_down(void **state) {
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(with_v1_each_controller_has_a_group_of_its_own),
        TEST(where_its_path_is_not_there_the_mount_is_taken),
        TEST(with_v2_one_group_has_both),
        TEST(what_cannot_be_had_is_an_error),
        TEST(a_delegated_group_is_emptied_first),
        TEST(what_the_dead_have_left_is_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
