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

/* Tells @crashes to another process. */
static struct crashes pass_on(const struct crashes *crashes, int64_t now_ns) {
    struct crashes other = {0};
    char text[CRASHES_TEXT_MAX];

    crashes_write(crashes, now_ns, text);
    assert_true(crashes_read(&other, text, now_ns));
    return other;
}

static void what_one_process_has_seen_another_goes_on_with(void **state) {
    struct crashes crashes = {0}, other;
    int64_t now_ns = 1000 * NS_PER_S, at_ns[CRASHES_MAX], other_at_ns[CRASHES_MAX];

    /* More than it remembers, so that the oldest is not the first of the ring. */
    for (unsigned i = 0; i < CRASHES_MAX + 2; i++)
        crashes_note(&crashes, now_ns += 100 * NS_PER_MS, LONG_NS);
    now_ns += 50 * NS_PER_S;
    other = pass_on(&crashes, now_ns);
    assert_int_equal(crashes_recent(&crashes, now_ns, at_ns), CRASHES_MAX);
    assert_int_equal(crashes_recent(&other, now_ns, other_at_ns), CRASHES_MAX);
    assert_memory_equal(at_ns, other_at_ns, sizeof at_ns);
    crashes_note(&other, now_ns, LONG_NS);
    assert_true(other.is_slow);
}

static void only_what_is_in_the_window_is_told(void **state) {
    struct crashes crashes = {0}, other;
    char text[CRASHES_TEXT_MAX];

    crashes_note(&crashes, 100 * NS_PER_S, LONG_NS);
    crashes_note(&crashes, 130 * NS_PER_S, LONG_NS);
    other = pass_on(&crashes, 100 * NS_PER_S + CRASHES_WINDOW_NS);
    assert_int_equal(other.count, 1);
    crashes_write(&crashes, 130 * NS_PER_S + CRASHES_WINDOW_NS, text);
    assert_string_equal(text, "");
}

static void the_longest_text_fits(void **state) {
    struct crashes crashes = {0}, other;
    char text[CRASHES_TEXT_MAX];

    for (unsigned i = 0; i < CRASHES_MAX; i++)
        crashes_note(&crashes, 1, LONG_NS);
    crashes_write(&crashes, CRASHES_WINDOW_NS, text);
    assert_string_equal(text, " 59999 59999 59999 59999 59999");
    other = pass_on(&crashes, CRASHES_WINDOW_NS);
    assert_int_equal(other.count, CRASHES_MAX);
}

static void what_is_no_such_text_is_not_believed(void **state) {
    const char *const wrong[] = {
        "", " ", "x", "1 x", "-1", "60001", "1 2", "5 4 3 2 1 0", "99999999999999999999",
    };
    struct crashes crashes = {0}, none = {0};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(crashes_read(&crashes, wrong[i], 100 * NS_PER_S));
        assert_memory_equal(&crashes, &none, sizeof none);
    }
    assert_true(crashes_read(&crashes, "60000 7 7 0", 100 * NS_PER_S));
    assert_int_equal(crashes.count, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_dies_after_a_while_is_replaced_at_once),
        cmocka_unit_test(who_dies_soon_is_replaced_at_once_only_the_first_time),
        cmocka_unit_test(the_backoff_has_an_end),
        cmocka_unit_test(more_than_five_in_a_minute_are_slowed_down),
        cmocka_unit_test(five_in_a_minute_are_not),
        cmocka_unit_test(it_never_gives_up),
        cmocka_unit_test(what_one_process_has_seen_another_goes_on_with),
        cmocka_unit_test(only_what_is_in_the_window_is_told),
        cmocka_unit_test(the_longest_text_fits),
        cmocka_unit_test(what_is_no_such_text_is_not_believed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
