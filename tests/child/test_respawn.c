/* When a program that has died is started again. */
#include "child/respawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct respawn_settings settings = {5, 60 * NS_PER_S, 300 * NS_PER_S};
static int64_t now_ns;
static struct respawn r;
static bool is_trip;

static int begin(void **state) {
    now_ns = 1000 * NS_PER_S;
    r = (struct respawn){0};
    return 0;
}

static int64_t die(int64_t lived_ns) {
    now_ns += lived_ns;
    return respawn_died(&r, &settings, now_ns, lived_ns, &is_trip);
}

static void the_first_death_costs_no_time_and_the_next_ones_more_and_more(void **state) {
    assert_int_equal(die(NS_PER_S), 0);
    assert_int_equal(die(NS_PER_S), 100 * NS_PER_MS);
    assert_int_equal(die(NS_PER_S), 200 * NS_PER_MS);
    assert_int_equal(die(20 * NS_PER_S), 0);
    assert_int_equal(die(NS_PER_S), 0);
    assert_false(is_trip);
}

static void the_backoff_is_bounded(void **state) {
    const struct respawn_settings patient = {CONFIG_DEATHS_MAX, NS_PER_S, NS_PER_S};
    int64_t wait_ns = 0;

    for (int i = 0; i < 100; i++) {
        now_ns += 10 * NS_PER_S;
        wait_ns = respawn_died(&r, &patient, now_ns, 0, &is_trip);
        assert_false(is_trip);
    }
    assert_int_equal(wait_ns, RESPAWN_BACKOFF_MAX_NS);
}

/* 6 starts in all, and none again before the hold is over. */
static void more_than_5_deaths_in_60_s_hold_it(void **state) {
    for (int i = 0; i < 5; i++) {
        assert_true(respawn_may_start(&r, now_ns));
        die(NS_PER_S);
        assert_false(is_trip);
    }
    assert_int_equal(die(NS_PER_S), 300 * NS_PER_S);
    assert_true(is_trip);
    assert_false(respawn_may_start(&r, now_ns + 300 * NS_PER_S - 1));
    assert_int_equal(r.state, RESPAWN_HELD);
    assert_true(respawn_may_start(&r, now_ns + 300 * NS_PER_S));
    assert_int_equal(r.state, RESPAWN_PROBING);
}

static void deaths_that_are_far_apart_do_not(void **state) {
    for (int i = 0; i < 50; i++) {
        die(12 * NS_PER_S); /* five in each minute */
        assert_false(is_trip);
    }
}

static void behind_a_hold_one_death_is_enough(void **state) {
    while (!is_trip)
        die(NS_PER_S);
    now_ns += 300 * NS_PER_S;
    assert_true(respawn_may_start(&r, now_ns));
    assert_int_equal(die(30 * NS_PER_S), 300 * NS_PER_S);
    assert_true(is_trip);
}

static void who_lives_for_the_whole_window_is_as_new(void **state) {
    while (!is_trip)
        die(NS_PER_S);
    now_ns += 300 * NS_PER_S;
    assert_true(respawn_may_start(&r, now_ns));
    assert_int_equal(die(60 * NS_PER_S), 0);
    assert_false(is_trip);
    assert_int_equal(r.count, 1);
    respawn_clear(&r);
    assert_int_equal(r.count, 0);
}

static void as_text_it_is_the_same(void **state) {
    char text[RESPAWN_TEXT_MAX];
    struct respawn read;

    respawn_write(&r, now_ns, text);
    assert_string_equal(text, "");
    while (!is_trip)
        die(NS_PER_S);
    now_ns += 2 * NS_PER_S;
    respawn_write(&r, now_ns, text);
    assert_string_equal(text, "7000 6000 5000 4000 3000 2000 held 298000");
    assert_true(respawn_read(&read, text, now_ns));
    assert_int_equal(read.count, 6);
    assert_memory_equal(read.at_ns, r.at_ns, 6 * sizeof r.at_ns[0]);
    assert_int_equal(read.state, RESPAWN_HELD);
    assert_int_equal(read.held_until_ns, r.held_until_ns);
    respawn_may_start(&r, now_ns + 400 * NS_PER_S);
    respawn_write(&r, now_ns, text);
    assert_true(respawn_read(&read, text, now_ns));
    assert_int_equal(read.state, RESPAWN_PROBING);
}

static void no_more_deaths_are_kept_than_there_is_room_for(void **state) {
    const struct respawn_settings patient = {CONFIG_DEATHS_MAX, NS_PER_S, NS_PER_S};
    char text[RESPAWN_TEXT_MAX];
    struct respawn read;

    for (int i = 0; i < 1000; i++) {
        now_ns += 1000 * NS_PER_S; /* the oldest are too old to be told */
        respawn_died(&r, &patient, now_ns, 0, &is_trip);
    }
    assert_int_equal(r.count, CONFIG_DEATHS_MAX + 1);
    assert_int_equal(r.at_ns[CONFIG_DEATHS_MAX], now_ns);
    respawn_write(&r, now_ns + 150000 * NS_PER_S, text);
    assert_true(strlen(text) < RESPAWN_TEXT_MAX - 1);
    assert_true(respawn_read(&read, text, now_ns));
}

static void what_is_no_history_is_refused(void **state) {
    static const char *const texts[] = {"x",         "1 2",       "-1",
                                        "held",      "held x",    "99999999999999999999",
                                        "172800001", "probing 1", "1 held 2 held 3 4 x"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        r.count = 77;
        if (respawn_read(&r, texts[i], now_ns))
            assert_string_equal(texts[i],
                                "1 held 2 held 3 4 x"); /* what is behind it is not read */
        else
            assert_int_equal(r.count, 77);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_death_costs_no_time_and_the_next_ones_more_and_more,
                               begin),
        cmocka_unit_test_setup(the_backoff_is_bounded, begin),
        cmocka_unit_test_setup(more_than_5_deaths_in_60_s_hold_it, begin),
        cmocka_unit_test_setup(deaths_that_are_far_apart_do_not, begin),
        cmocka_unit_test_setup(behind_a_hold_one_death_is_enough, begin),
        cmocka_unit_test_setup(who_lives_for_the_whole_window_is_as_new, begin),
        cmocka_unit_test_setup(as_text_it_is_the_same, begin),
        cmocka_unit_test_setup(no_more_deaths_are_kept_than_there_is_room_for, begin),
        cmocka_unit_test_setup(what_is_no_history_is_refused, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
