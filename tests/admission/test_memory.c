/* Tests proxy/admission/memory.c, over a tree of files in place of /proc and /sys. */
#include "admission/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static char root[64];

/* Makes the file at root/@path, and the folders above it. */
static void put(const char *path, const char *text) {
    char whole[256];
    FILE *file;

    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        mkdir(whole, 0700);
        *at = '/';
    }
    file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state) {
    strcpy(root, "/tmp/weir-test-memory-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("proc/meminfo", "MemFree: 12 kB\nMemTotal:       1048576 kB\nMemFree: 5 kB\n");
    return 0;
}

static int tear_down(void **state) {
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void without_cgroups_it_is_the_machine_s(void **state) {
    assert_int_equal(memory_limit(root), 1024 * MIB);
}

static void v2_the_least_of_all_groups_above_counts(void **state) {
    put("proc/self/cgroup", "0::/a/b/c\n");
    put("sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("sys/fs/cgroup/a/b/memory.max", "209715200\n");
    put("sys/fs/cgroup/a/memory.max", "419430400\n");
    assert_int_equal(memory_limit(root), 200 * MIB);
}

static void v2_in_a_container_the_root_of_the_mount_counts(void **state) {
    put("proc/self/cgroup", "0::/../host/path\n");
    put("sys/fs/cgroup/memory.max", "104857600\n");
    assert_int_equal(memory_limit(root), 100 * MIB);
}

static void v1_the_memory_controller_s_group_counts(void **state) {
    put("proc/self/cgroup", "9:cpuset:/other\n8:pids,memory:/job\n1:name=systemd:/\n0::/\n");
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "314572800\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit(root), 300 * MIB);
}

static void a_group_may_not_promise_more_than_the_machine_has(void **state) {
    put("proc/self/cgroup", "8:memory:/job\n");
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit(root), 1024 * MIB);
}

static void nonsense_is_no_limit(void **state) {
    put("proc/self/cgroup", "nonsense\n:\n0::\n8:memory:\n\n");
    put("sys/fs/cgroup/memory.max", "lots\n");
    put("proc/meminfo", "none\n");
    assert_int_equal(memory_limit(root), 0);
}

static void nothing_to_read_is_no_limit(void **state) {
    assert_int_equal(memory_limit("/tmp/weir-there-is-no-such-folder"), 0);
}

static void what_is_used_is_at_least_what_was_just_filled(void **state) {
    int fd = memory_open();
    uint64_t before = memory_used(fd);
    volatile char *filled = malloc(32 * MIB); /* or a compiler may see that nobody reads it */

    assert_true(fd >= 0);
    for (size_t i = 0; i < 32 * MIB; i += 1024)
        filled[i] = 1;
    assert_true(memory_used(fd) >= before + 30 * MIB);
    free((void *)filled);
    close(fd);
    assert_int_equal(memory_used(-1), 0);
    assert_int_equal(memory_used(fd), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_cgroups_it_is_the_machine_s, set_up, tear_down),
        cmocka_unit_test_setup_teardown(v2_the_least_of_all_groups_above_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(v2_in_a_container_the_root_of_the_mount_counts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(v1_the_memory_controller_s_group_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_group_may_not_promise_more_than_the_machine_has, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nonsense_is_no_limit, set_up, tear_down),
        cmocka_unit_test(nothing_to_read_is_no_limit),
        cmocka_unit_test(what_is_used_is_at_least_what_was_just_filled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
