/* Descendants that try to get away. Each test is a process of its own that holds its tree. */
#include "child/tree.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_NS (20 * NS_PER_S)

/* One that waits to be killed. */
static void stay(void) {
    for (;;)
        pause();
}

/* Leaves one behind that has no parent but its reaper, and no session of ours. */
static void daemonise(int tell) {
    if (fork() > 0)
        _exit(0);
    setsid();
    if (fork() > 0)
        _exit(0);
    if (write(tell, "x", 1) != 1)
        _exit(1);
    stay();
}

static void await_bytes(int fd, unsigned count) {
    char byte;

    while (count-- > 0)
        assert_int_equal(read(fd, &byte, 1), 1);
}

/* Kills until nobody is left; false: somebody stays. */
static bool kill_all(const pid_t *spared, unsigned spared_count, unsigned left) {
    int64_t until_ns = clock_now_ns() + PATIENCE_NS;

    while (tree_signal(SIGKILL, spared, spared_count) > left && clock_now_ns() < until_ns)
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return tree_signal(0, spared, spared_count) <= left;
}

static void all_of_them_are_found(void **state) {
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 5; i++)
        if (fork() == 0)
            daemonise(ends[1]);
    if (fork() == 0) {
        if (fork() > 0)
            stay();
        if (write(ends[1], "x", 1) == 1)
            stay();
    }
    await_bytes(ends[0], 6);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    assert_true(tree_signal(0, NULL, 0) >= 7);
    assert_true(kill_all(NULL, 0, 0));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    close(ends[0]);
    close(ends[1]);
}

static void who_is_spared_stays_with_all_of_his(void **state) {
    pid_t spared;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    spared = fork();
    if (spared == 0) {
        if (fork() > 0)
            stay();
        if (write(ends[1], "x", 1) == 1)
            stay();
    }
    await_bytes(ends[0], 1);
    if (fork() == 0)
        stay();
    assert_int_equal(tree_signal(0, &spared, 1), 1);
    assert_true(kill_all(&spared, 1, 0));
    assert_int_equal(waitpid(spared, NULL, WNOHANG), 0);
    assert_int_equal(tree_signal(0, NULL, 0), 2);
    assert_true(kill_all(NULL, 0, 0));
    close(ends[0]);
    close(ends[1]);
}

static void nobody_else_is_touched(void **state) {
    assert_int_equal(tree_signal(SIGKILL, NULL, 0), 0);
}

static int hold(void **state) {
    return tree_hold();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_them_are_found),
        cmocka_unit_test(who_is_spared_stays_with_all_of_his),
        cmocka_unit_test(nobody_else_is_touched),
    };

    return cmocka_run_group_tests(tests, hold, NULL);
}
