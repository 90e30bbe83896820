/* Tests of the restarts' pace, with a clock that the tests move. */
#include "supervisor/crashes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LONG_NS (5 * NS_PER_S) /* a life that is not short */

static void who_dies_after_a_while_is_replaced_at_once(void **state) {
    struct crashes crashes = {0};

    for (int64_t i = 0; i < 100; i++)
        assert_int_equal(crashes_note(&crashes, i * 20 * NS_PER_S, LONG_NS), 0);
    assert_false(crashes.is_slow);
}

static void who_dies_soon_is_replaced_at_once_only_the_first_time(void **state) {
    struct crashes crashes = {0};
    int64_t expected_ns[] = {0, 50, 100, 200, 400};

    for (unsigned i = 0; i < CRASHES_MAX; i++)
        assert_int_equal(crashes_note(&crashes, i * NS_PER_S, NS_PER_MS),
                         expected_ns[i] * NS_PER_MS);
}

static void the_backoff_has_an_end(void **state) {
    struct crashes crashes = {0};

    /* Far apart, so that the window does not come into it. */
    for (int64_t i = 0; i < 100; i++) {
        int64_t wait_ns = crashes_note(&crashes, i * 100 * NS_PER_S, 0);

        assert_true(wait_ns <= CRASHES_BACKOFF_MAX_NS);
        assert_true(i < 10 || wait_ns == CRASHES_BACKOFF_MAX_NS);
    }
    assert_int_equal(crashes_note(&crashes, 20000 * NS_PER_S, LONG_NS), 0);
    assert_int_equal(crashes_note(&crashes, 20100 * NS_PER_S, 0), 0);
}

static void more_than_five_in_a_minute_are_slowed_down(void **state) {
    struct crashes crashes = {0};
    int64_t now_ns = 1000 * NS_PER_S;

    for (unsigned i = 0; i < CRASHES_MAX; i++) {
        crashes_note(&crashes, now_ns, LONG_NS);
        assert_false(crashes.is_slow);
        now_ns += 11 * NS_PER_S;
    }
    assert_int_equal(crashes_note(&crashes, now_ns, 4 * NS_PER_S), 6 * NS_PER_S);
    assert_true(crashes.is_slow);
    /* One that has lived for as long as the pause is late enough. */
    assert_int_equal(crashes_note(&crashes, now_ns + NS_PER_S, 30 * NS_PER_S), 0);
    assert_true(crashes.is_slow);
}

static void five_in_a_minute_are_not(void **state) {
    struct crashes crashes = {0};

    for (int64_t i = 0; i < 1000; i++) {
        crashes_note(&crashes, i * CRASHES_WINDOW_NS / CRASHES_MAX, LONG_NS);
        assert_false(crashes.is_slow);
    }
}

static void it_never_gives_up(void **state) {
    struct crashes crashes = {0};
    int64_t now_ns = 0;

    for (unsigned i = 0; i < 10000; i++) {
        int64_t wait_ns = crashes_note(&crashes, now_ns, NS_PER_MS);

        assert_true(wait_ns >= 0 && wait_ns <= CRASHES_SLOW_NS);
        now_ns += wait_ns + NS_PER_MS;
    }
    /* A quiet minute, and all is as before. */
    crashes_note(&crashes, now_ns + CRASHES_WINDOW_NS, LONG_NS);
    assert_false(crashes.is_slow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_dies_after_a_while_is_replaced_at_once),
        cmocka_unit_test(who_dies_soon_is_replaced_at_once_only_the_first_time),
        cmocka_unit_test(the_backoff_has_an_end),
        cmocka_unit_test(more_than_five_in_a_minute_are_slowed_down),
        cmocka_unit_test(five_in_a_minute_are_not),
        cmocka_unit_test(it_never_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
