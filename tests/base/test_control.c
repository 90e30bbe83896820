/* Tests of the sockets between our processes. */
#include "base/control.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];

static int open_pair(void **state) {
    return control_pair(ends);
}

static int close_pair(void **state) {
    close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    return 0;
}

static void messages_arrive_whole_and_in_order(void **state) {
    struct control_message message;
    char longest[CONTROL_TEXT_MAX + 1];

    memset(longest, 'x', CONTROL_TEXT_MAX);
    longest[CONTROL_TEXT_MAX] = '\0';
    assert_int_equal(control_receive(ends[1], &message), 0);
    assert_int_equal(control_send(ends[0], "one", NULL, 0), 0);
    assert_int_equal(control_send(ends[0], longest, NULL, 0), 0);
    assert_int_equal(control_receive(ends[1], &message), 1);
    assert_string_equal(message.text, "one");
    assert_int_equal(message.fd_count, 0);
    assert_int_equal(control_receive(ends[1], &message), 1);
    assert_string_equal(message.text, longest);
    assert_int_equal(control_receive(ends[1], &message), 0);
}

static void fds_travel_and_are_closed_on_exec(void **state) {
    struct control_message message;
    int fds[CONTROL_FDS_MAX];

    for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
        fds[i] = ends[0];
    assert_int_equal(control_send(ends[0], "fds", fds, CONTROL_FDS_MAX), 0);
    assert_int_equal(control_send(ends[0], "too many", fds, CONTROL_FDS_MAX + 1), -E2BIG);
    assert_int_equal(control_receive(ends[1], &message), 1);
    assert_int_equal(message.fd_count, CONTROL_FDS_MAX);
    for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
        assert_int_equal(fcntl(message.fds[i], F_GETFD), FD_CLOEXEC);
    fds[0] = message.fds[0];
    fds[1] = message.fds[1];
    message.fds[0] = -1; /* taken */
    control_message_deinit(&message);
    assert_int_equal(fcntl(fds[1], F_GETFD), -1);
    assert_int_equal(close(fds[0]), 0);
}

static void who_does_not_read_is_not_waited_for(void **state) {
    char text[CONTROL_TEXT_MAX + 1];
    int err = 0;

    memset(text, 'x', CONTROL_TEXT_MAX);
    text[CONTROL_TEXT_MAX] = '\0';
    for (unsigned i = 0; !err && i < 100000; i++)
        err = control_send(ends[0], text, NULL, 0);
    assert_int_equal(err, -EAGAIN);
}

static void the_end_is_told_on_both_sides(void **state) {
    struct control_message message;

    assert_int_equal(control_send(ends[1], "last", NULL, 0), 0);
    close(ends[1]);
    ends[1] = -1;
    assert_int_equal(control_receive(ends[0], &message), 1);
    assert_string_equal(message.text, "last");
    assert_int_equal(control_receive(ends[0], &message), -EPIPE);
    assert_int_equal(control_send(ends[0], "x", NULL, 0), -EPIPE);
}

static void verbs_are_whole_words(void **state) {
    const char *rest = NULL;

    assert_true(control_is("drain 5", "drain", &rest));
    assert_string_equal(rest, "5");
    assert_true(control_is("ready", "ready", &rest));
    assert_string_equal(rest, "");
    assert_false(control_is("drained", "drain", &rest));
    assert_false(control_is("dra", "drain", &rest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_whole_and_in_order, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(fds_travel_and_are_closed_on_exec, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_not_waited_for, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(the_end_is_told_on_both_sides, open_pair, close_pair),
        cmocka_unit_test(verbs_are_whole_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
