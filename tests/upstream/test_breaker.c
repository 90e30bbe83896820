/* Tests of the breaker, on a clock that the tests set. */
#include "upstream/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OPEN_NS (10 * NS_PER_S)
#define START_NS (1000 * NS_PER_S)

static const struct breaker_settings settings = {
    .in_a_row = 5, .open_for_ns = OPEN_NS, .open_max_ns = 30 * NS_PER_S, .passes = 1};
static const struct breaker_settings careful = {
    .in_a_row = 5, .open_for_ns = OPEN_NS, .open_max_ns = 30 * NS_PER_S, .passes = 5};
static struct breaker breaker;
static int64_t now_ns;

static int open_breaker(void **state) {
    now_ns = START_NS;
    breaker_init(&breaker, &settings);
    return 0;
}

static int close_breaker(void **state) {
    breaker_deinit(&breaker);
    return 0;
}

static enum breaker_state state_of(void) {
    return breaker_view(&breaker).state;
}

/* Whoever enters, and is no probe. */
static enum breaker_change exchange(enum breaker_verdict verdict) {
    bool is_probe = true;

    assert_true(breaker_enter(&breaker, now_ns, &is_probe));
    assert_false(is_probe);
    return breaker_report(&breaker, verdict, "status_503", false, now_ns);
}

static void enter_as_probe(void) {
    bool is_probe = false;

    assert_true(breaker_may_enter(&breaker, now_ns));
    assert_true(breaker_enter(&breaker, now_ns, &is_probe));
    assert_true(is_probe);
}

static enum breaker_change probe(enum breaker_verdict verdict) {
    enter_as_probe();
    return breaker_report(&breaker, verdict, "upstream_reset", true, now_ns);
}

static void nobody_enters(void) {
    bool is_probe;

    assert_false(breaker_may_enter(&breaker, now_ns));
    assert_false(breaker_enter(&breaker, now_ns, &is_probe));
}

static void trip_in_a_row(void) {
    for (unsigned i = 1; i < settings.in_a_row; i++)
        assert_int_equal(exchange(VERDICT_BAD), BREAKER_SAME);
    assert_int_equal(exchange(VERDICT_BAD), BREAKER_TRIPPED);
}

static void five_failures_in_a_row_open_it(void **state) {
    struct breaker_view view;

    trip_in_a_row();
    nobody_enters();
    view = breaker_view(&breaker);
    assert_int_equal(view.state, BREAKER_OPEN);
    assert_int_equal(view.cause, BREAKER_IN_A_ROW);
    assert_string_equal(view.what, "status_503");
    assert_int_equal(view.since_ns, now_ns);
    assert_int_equal(view.until_ns, now_ns + OPEN_NS);
}

static void a_success_begins_the_count_anew(void **state) {
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned j = 1; j < settings.in_a_row; j++)
            exchange(VERDICT_BAD);
        exchange(VERDICT_GOOD);
    }
    assert_int_equal(state_of(), BREAKER_CLOSED);
}

static void what_is_doubtful_or_says_nothing_does_not_count(void **state) {
    for (unsigned i = 0; i < 100; i++) {
        exchange(VERDICT_DOUBTFUL);
        exchange(VERDICT_NONE);
    }
    for (unsigned i = 1; i < settings.in_a_row; i++) {
        exchange(VERDICT_BAD);
        exchange(VERDICT_DOUBTFUL);
    }
    assert_int_equal(state_of(), BREAKER_CLOSED);
    /* Nor does it begin the count anew. */
    assert_int_equal(exchange(VERDICT_BAD), BREAKER_TRIPPED);
}

static void poor_answers_count_but_do_not_open_it(void **state) {
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(exchange(VERDICT_POOR), BREAKER_SAME);
    assert_int_equal(breaker.failures, 100);
    assert_int_equal(exchange(VERDICT_BAD), BREAKER_TRIPPED);
    now_ns += OPEN_NS;
    assert_int_equal(probe(VERDICT_POOR), BREAKER_TRIPPED);
}

static void without_a_number_none_opens_it(void **state) {
    static const struct breaker_settings off = {.open_for_ns = OPEN_NS, .open_max_ns = OPEN_NS};

    breaker.settings = &off;
    for (unsigned i = 0; i < 1000; i++)
        exchange(VERDICT_BAD);
    assert_int_equal(state_of(), BREAKER_CLOSED);
}

static void one_probe_at_a_time_once_its_time_is_over(void **state) {
    trip_in_a_row();
    now_ns += OPEN_NS - 1;
    nobody_enters();
    now_ns++;
    enter_as_probe();
    assert_int_equal(state_of(), BREAKER_HALF_OPEN);
    nobody_enters();
    assert_int_equal(breaker_report(&breaker, VERDICT_GOOD, NULL, true, now_ns), BREAKER_RETURNED);
    assert_int_equal(state_of(), BREAKER_CLOSED);
    trip_in_a_row(); /* the count is a new one */
}

static void a_probe_that_says_nothing_lets_the_next_one_find_out(void **state) {
    trip_in_a_row();
    now_ns += OPEN_NS;
    assert_int_equal(probe(VERDICT_NONE), BREAKER_SAME);
    assert_int_equal(probe(VERDICT_GOOD), BREAKER_RETURNED);
}

static void a_probe_that_is_never_over_does_not_lock_it(void **state) {
    trip_in_a_row();
    now_ns += OPEN_NS;
    enter_as_probe();
    now_ns += OPEN_NS - 1;
    nobody_enters();
    now_ns++;
    enter_as_probe();
}

static void each_failed_probe_prolongs_it_up_to_a_bound(void **state) {
    const int64_t expected[] = {2 * OPEN_NS, 3 * OPEN_NS, 3 * OPEN_NS, 3 * OPEN_NS};

    trip_in_a_row();
    now_ns += OPEN_NS;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(probe(i % 2 ? VERDICT_BAD : VERDICT_DOUBTFUL), BREAKER_TRIPPED);
        assert_string_equal(breaker_view(&breaker).what, "upstream_reset");
        now_ns += expected[i] - 1;
        nobody_enters();
        now_ns++;
    }
    assert_int_equal(probe(VERDICT_GOOD), BREAKER_RETURNED);
}

static void the_number_of_trips_has_a_bound(void **state) {
    trip_in_a_row();
    for (unsigned i = 0; i < 2 * BREAKER_TRIPS_MAX; i++) {
        now_ns += settings.open_max_ns;
        probe(VERDICT_BAD);
    }
    assert_int_equal(breaker_view(&breaker).trips, BREAKER_TRIPS_MAX);
}

static void good_times_are_remembered(void **state) {
    for (unsigned i = 0; i < 2; i++) { /* again at once: longer */
        trip_in_a_row();
        assert_int_equal(breaker_view(&breaker).until_ns, now_ns + (i + 1) * OPEN_NS);
        now_ns += settings.open_max_ns;
        probe(VERDICT_GOOD);
    }
    now_ns += OPEN_NS; /* one trip is forgiven */
    trip_in_a_row();
    assert_int_equal(breaker_view(&breaker).trips, 2);
    now_ns += settings.open_max_ns;
    probe(VERDICT_GOOD);
    now_ns += 3600 * NS_PER_S; /* all are */
    trip_in_a_row();
    assert_int_equal(breaker_view(&breaker).trips, 1);
}

/* Half of its probes succeed; five in a row rarely do. */
static void it_may_have_to_pass_several_times(void **state) {
    breaker.settings = &careful;
    assert_true(breaker_trip(&breaker, BREAKER_OFTEN, "status_500", now_ns));
    assert_false(breaker_trip(&breaker, BREAKER_STALLS, "stalled", now_ns)); /* it is open */
    assert_int_equal(breaker_view(&breaker).cause, BREAKER_OFTEN);
    now_ns += OPEN_NS;
    for (unsigned i = 1; i < careful.passes; i++)
        assert_int_equal(probe(VERDICT_GOOD), BREAKER_SAME);
    assert_int_equal(probe(VERDICT_BAD), BREAKER_TRIPPED);
    now_ns += 2 * OPEN_NS;
    for (unsigned i = 1; i < careful.passes; i++)
        assert_int_equal(probe(VERDICT_GOOD), BREAKER_SAME);
    assert_int_equal(probe(VERDICT_GOOD), BREAKER_RETURNED);
}

static void late_words_of_who_entered_before_change_nothing(void **state) {
    trip_in_a_row();
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(breaker_report(&breaker, VERDICT_GOOD, NULL, false, now_ns), BREAKER_SAME);
        assert_int_equal(breaker_report(&breaker, VERDICT_BAD, "x", false, now_ns), BREAKER_SAME);
    }
    assert_int_equal(breaker_view(&breaker).trips, 1);
    assert_int_equal(breaker_view(&breaker).until_ns, now_ns + OPEN_NS);
}

static void the_last_one_is_probed_before_its_time(void **state) {
    unsigned entered = 0;
    int64_t until_ns;

    trip_in_a_row();
    until_ns = breaker_view(&breaker).until_ns;
    /* 9 s, asked 1000 times a second: ten a second are let in, a quarter more or less. */
    for (unsigned i = 0; i < 9000; i++, now_ns += NS_PER_MS) {
        bool is_probe = false;

        if (!breaker_enter_early(&breaker, now_ns, &is_probe))
            continue;
        entered++;
        assert_true(is_probe);
        breaker_report(&breaker, VERDICT_BAD, "connect_refused", true, now_ns);
    }
    assert_in_range(entered, 72, 120);
    /* They do not prolong it. */
    assert_int_equal(breaker_view(&breaker).until_ns, until_ns);
    assert_int_equal(breaker_view(&breaker).trips, 1);
}

static void one_early_probe_that_succeeds_is_enough(void **state) {
    bool is_probe = false;

    breaker.settings = &careful;
    breaker_trip(&breaker, BREAKER_OFTEN, "status_500", now_ns);
    now_ns += NS_PER_MS;
    assert_true(breaker_enter_early(&breaker, now_ns, &is_probe));
    assert_int_equal(breaker_report(&breaker, VERDICT_GOOD, NULL, is_probe, now_ns),
                     BREAKER_RETURNED);
    assert_true(breaker_enter_early(&breaker, now_ns, &is_probe));
    assert_false(is_probe);
}

static void a_hint_brings_the_probe_forward(void **state) {
    breaker_hint(&breaker, now_ns);
    assert_int_equal(state_of(), BREAKER_CLOSED);
    trip_in_a_row();
    now_ns += NS_PER_S;
    nobody_enters();
    breaker_hint(&breaker, now_ns);
    enter_as_probe();
}

static void it_can_be_closed_by_hand(void **state) {
    trip_in_a_row();
    breaker_reset(&breaker);
    assert_int_equal(exchange(VERDICT_GOOD), BREAKER_SAME);
    assert_int_equal(breaker_view(&breaker).trips, 0);
}

static void it_goes_on_as_it_was(void **state) {
    struct breaker_view view;

    trip_in_a_row();
    view = breaker_view(&breaker);
    close_breaker(NULL);
    breaker_init(&breaker, &settings);
    breaker_restore(&breaker, &view);
    now_ns += OPEN_NS - 1;
    nobody_enters();
    now_ns++;
    probe(VERDICT_BAD);
    assert_int_equal(breaker_view(&breaker).trips, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_breaker, close_breaker)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(five_failures_in_a_row_open_it),
        TEST(a_success_begins_the_count_anew),
        TEST(what_is_doubtful_or_says_nothing_does_not_count),
        TEST(poor_answers_count_but_do_not_open_it),
        TEST(without_a_number_none_opens_it),
        TEST(one_probe_at_a_time_once_its_time_is_over),
        TEST(a_probe_that_says_nothing_lets_the_next_one_find_out),
        TEST(a_probe_that_is_never_over_does_not_lock_it),
        TEST(each_failed_probe_prolongs_it_up_to_a_bound),
        TEST(the_number_of_trips_has_a_bound),
        TEST(good_times_are_remembered),
        TEST(it_may_have_to_pass_several_times),
        TEST(late_words_of_who_entered_before_change_nothing),
        TEST(the_last_one_is_probed_before_its_time),
        TEST(one_early_probe_that_succeeds_is_enough),
        TEST(a_hint_brings_the_probe_forward),
        TEST(it_can_be_closed_by_hand),
        TEST(it_goes_on_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
