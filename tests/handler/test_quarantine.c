/* Tests of the quarantine: what brings a handler in, and what lets it out. On a clock of its own.
 */
#include "handler/quarantine.h"

#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define WINDOW_NS (10 * NS_PER_S)
#define HOLD_NS (30 * NS_PER_S)

static char name[] = "h";
static struct config_handler config;
static struct quarantine q;
static int64_t now_ns;

static int begin(void **state) {
    config = (struct config_handler){.name = name, .hold_ns = HOLD_NS};
    config.fault.quarantine_share = 0.5;
    config.fault.min_calls = 20;
    config.fault.window_ns = WINDOW_NS;
    now_ns = 1000 * NS_PER_S;
    quarantine_init(&q, &config);
    return 0;
}

static int end(void **state) {
    quarantine_deinit(&q);
    return 0;
}

static void calls(unsigned good, unsigned bad) {
    for (unsigned i = 0; i < good + bad; i++) {
        assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_CALL);
        quarantine_tell(&q, false, i >= good, now_ns);
    }
}

static void bring_in(void) {
    calls(0, 20);
    assert_true(quarantine_is_on(&q));
}

static void few_calls_say_nothing(void **state) {
    calls(0, 19);
    assert_false(quarantine_is_on(&q));
    calls(0, 1);
    assert_true(quarantine_is_on(&q));
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_NO);
}

static void it_is_the_share_that_counts(void **state) {
    calls(100000, 0);
    for (int i = 0; i < 99999; i++)
        calls(0, 1);
    assert_false(quarantine_is_on(&q));
    calls(0, 1);
    assert_true(quarantine_is_on(&q));
}

static void a_share_of_nothing_is_never(void **state) {
    config.fault.quarantine_share = 0;
    calls(0, 1000);
    assert_false(quarantine_is_on(&q));
}

static void a_share_of_one_is_all(void **state) {
    config.fault.quarantine_share = 1;
    calls(1, 1000);
    assert_false(quarantine_is_on(&q));
    now_ns += WINDOW_NS;
    calls(0, 20);
    assert_true(quarantine_is_on(&q));
}

static void what_is_older_than_the_window_is_forgotten(void **state) {
    calls(0, 19);
    now_ns += WINDOW_NS;
    calls(19, 1);
    assert_false(quarantine_is_on(&q));
}

static void what_is_within_the_window_counts(void **state) {
    calls(0, 10);
    now_ns += WINDOW_NS - WINDOW_NS / QUARANTINE_SLOTS;
    calls(9, 0);
    calls(0, 1);
    assert_true(quarantine_is_on(&q));
}

static void after_the_hold_one_call_tries_it(void **state) {
    bring_in();
    now_ns += HOLD_NS - 1;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_NO);
    now_ns += 1;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_NO);
    quarantine_tell(&q, true, false, now_ns);
    calls(0, 19); /* the old ones are forgotten */
    assert_false(quarantine_is_on(&q));
}

static void a_probe_that_faults_holds_it_again(void **state) {
    bring_in();
    now_ns += HOLD_NS;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    now_ns += NS_PER_S;
    quarantine_tell(&q, true, true, now_ns);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS - 1), QUARANTINE_NO);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS), QUARANTINE_PROBE);
}

static void a_probe_that_never_ran_is_no_news(void **state) {
    bring_in();
    now_ns += HOLD_NS;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    quarantine_take_back(&q);
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
}

static void a_probe_that_is_lost_is_made_up_for(void **state) {
    bring_in();
    now_ns += HOLD_NS;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS - 1), QUARANTINE_NO);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS), QUARANTINE_PROBE);
}

static void calls_from_before_change_nothing(void **state) {
    bring_in();
    quarantine_tell(&q, false, false, now_ns);
    quarantine_tell(&q, false, true, now_ns);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS - 1), QUARANTINE_NO);
    now_ns += HOLD_NS;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    quarantine_tell(&q, false, false, now_ns);
    assert_true(quarantine_is_on(&q));
}

static void an_operator_can_let_it_out(void **state) {
    bring_in();
    quarantine_reset(&q);
    calls(0, 19);
    assert_false(quarantine_is_on(&q));
    quarantine_reset(&q);
    bring_in();
    now_ns += HOLD_NS;
    assert_int_equal(quarantine_ask(&q, now_ns), QUARANTINE_PROBE);
    quarantine_reset(&q);
    quarantine_tell(&q, true, true, now_ns); /* counts as one, no more */
    assert_false(quarantine_is_on(&q));
    quarantine_take_back(&q);
    assert_false(quarantine_is_on(&q));
}

static void it_survives_a_restart(void **state) {
    struct keeper_now now = {now_ns, 1700000000 * NS_PER_S};
    json_t *saved = quarantine_save(&q, &now);

    assert_null(saved);
    bring_in();
    now.now_ns += 10 * NS_PER_S;
    now.wall_ns += 10 * NS_PER_S;
    saved = quarantine_save(&q, &now);
    assert_non_null(saved);
    quarantine_reset(&q);
    now.now_ns = 5 * NS_PER_S; /* booted again meanwhile, in no time */
    quarantine_take_up(&q, saved, &now);
    assert_int_equal(quarantine_ask(&q, now.now_ns), QUARANTINE_NO);
    assert_int_equal(quarantine_ask(&q, now.now_ns + 20 * NS_PER_S - 1), QUARANTINE_NO);
    assert_int_equal(quarantine_ask(&q, now.now_ns + 20 * NS_PER_S), QUARANTINE_PROBE);
    json_decref(saved);
}

static void the_file_may_say_anything(void **state) {
    struct keeper_now now = {now_ns, 1700000000 * NS_PER_S};
    const char *texts[] = {
        "{}", "[]", "1", "{\"until\":\"x\"}", "{\"until\":1e300}", "{\"until\":-1}"};
    json_t *saved;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        saved = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        assert_non_null(saved);
        quarantine_take_up(&q, saved, &now);
        assert_false(quarantine_is_on(&q));
        json_decref(saved);
    }
    quarantine_take_up(&q, NULL, &now);
    assert_false(quarantine_is_on(&q));

    /* Far ahead: no longer than a hold. */
    saved = json_pack("{s:I}", "until", (json_int_t)1700000000000 + 86400000);
    quarantine_take_up(&q, saved, &now);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS - 1), QUARANTINE_NO);
    assert_int_equal(quarantine_ask(&q, now_ns + HOLD_NS), QUARANTINE_PROBE);
    quarantine_reset(&q);
    config.fault.quarantine_share = 0; /* off meanwhile */
    quarantine_take_up(&q, saved, &now);
    assert_false(quarantine_is_on(&q));
    json_decref(saved);
}

static void *ask_and_tell(void *probes) {
    for (int i = 0; i < 20000; i++) {
        enum quarantine_answer answer = quarantine_ask(&q, now_ns);

        if (answer == QUARANTINE_PROBE)
            atomic_fetch_add((_Atomic unsigned *)probes, 1);
        else if (answer == QUARANTINE_CALL)
            quarantine_tell(&q, false, true, now_ns);
    }
    return NULL;
}

static void many_threads_get_one_probe(void **state) {
    pthread_t threads[4];
    _Atomic unsigned probes = 0;

    for (int round = 0; round < 2; round++) { /* in the first one it is brought in */
        for (int i = 0; i < 4; i++)
            assert_int_equal(thread_start(&threads[i], ask_and_tell, &probes), 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        assert_true(quarantine_is_on(&q));
        assert_int_equal(probes, round);
        now_ns += HOLD_NS;
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(few_calls_say_nothing),
        TEST(it_is_the_share_that_counts),
        TEST(a_share_of_nothing_is_never),
        TEST(a_share_of_one_is_all),
        TEST(what_is_older_than_the_window_is_forgotten),
        TEST(what_is_within_the_window_counts),
        TEST(after_the_hold_one_call_tries_it),
        TEST(a_probe_that_faults_holds_it_again),
        TEST(a_probe_that_never_ran_is_no_news),
        TEST(a_probe_that_is_lost_is_made_up_for),
        TEST(calls_from_before_change_nothing),
        TEST(an_operator_can_let_it_out),
        TEST(it_survives_a_restart),
        TEST(the_file_may_say_anything),
        TEST(many_threads_get_one_probe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
