/* What the kernel says of processes whose state is known. */
#include "base/proc_stat.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void of_ourselves(void **state) {
    struct proc_stat stat;

    assert_true(proc_stat_read(&stat, getpid()));
    assert_int_equal(stat.state, 'R');
    assert_int_equal(stat.parent, getppid());
    assert_true(stat.threads >= 1);
    assert_true(stat.start_ticks > 0);
    assert_true(stat.virtual_bytes > stat.resident_pages && stat.resident_pages > 0);
}

static void a_name_may_hold_anything(void **state) {
    struct proc_stat stat;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_NAME, ") Z 7 (");
        raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    assert_true(proc_stat_read(&stat, pid));
    assert_int_equal(stat.state, 'T');
    assert_int_equal(stat.parent, getpid());
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_false(proc_stat_read(&stat, pid));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_ourselves),
        cmocka_unit_test(a_name_may_hold_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
