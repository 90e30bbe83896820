/* The promises of proxy/pipeline/retry.h. */
#include "pipeline/retry.h"

#include "support/unit.h"

#define FREE (RETRY_WINDOW_S * RETRY_FREE_PER_S)

static struct retry_budget budget;
static struct retry_tally tally, other;

static int set_up(void **state) {
    retry_budget_init(&budget, 0.2);
    tally = other = (struct retry_tally){0};
    return 0;
}

static int tear_down(void **state) {
    retry_budget_deinit(&budget);
    return 0;
}

static int64_t at(double second) {
    return 1000 * NS_PER_S + (int64_t)(second * 1e9);
}

static unsigned take_all(int64_t now_ns) {
    unsigned n = 0;

    while (retry_budget_take(&budget, &tally, now_ns))
        n++;
    return n;
}

static void a_quiet_pipeline_may_retry_three_times_a_second(void **state) {
    assert_int_equal(take_all(at(0)), FREE);
    assert_int_equal(retry_budget_left(&budget, at(0)), 0);
    assert_int_equal(take_all(at(9.9)), 0);
    assert_int_equal(take_all(at(10)), FREE);
}

static void a_share_of_the_requests_may_be_retried(void **state) {
    for (unsigned i = 0; i < 1000; i++)
        retry_budget_count(&budget, &tally, at(0.5));
    assert_int_equal(take_all(at(0.6)), 200 + FREE);
    for (unsigned i = 0; i < 10; i++)
        retry_budget_count(&budget, &tally, at(0.7));
    assert_int_equal(take_all(at(0.8)), 2);
}

static void what_is_older_than_the_window_does_not_count(void **state) {
    for (unsigned i = 0; i < 1000; i++)
        retry_budget_count(&budget, &tally, at(0));
    retry_budget_count(&budget, &tally, at(1));
    assert_int_equal(retry_budget_left(&budget, at(9)), 200 + FREE);
    assert_int_equal(retry_budget_left(&budget, at(10)), FREE);
    /* A tally that nobody has asked for in all that time is too old as well. */
    for (unsigned i = 0; i < 10; i++)
        retry_budget_count(&budget, &other, at(10));
    assert_int_equal(take_all(at(25)), FREE);
    assert_true(retry_budget_take(&budget, &other, at(35)));
    assert_int_equal(take_all(at(35)), FREE - 1);
}

static void all_loops_share_it(void **state) {
    for (unsigned i = 0; i < 500; i++) {
        retry_budget_count(&budget, &tally, at(0));
        retry_budget_count(&budget, &other, at(0));
    }
    /* What the other one has not told yet is missing, and no more. */
    assert_in_range(take_all(at(0)), FREE + 200 - RETRY_TALLY_MAX / 5 - 1, FREE + 200);
    while (retry_budget_take(&budget, &other, at(0)))
        ;
    assert_false(retry_budget_take(&budget, &tally, at(0)));
}

/* Everything fails and is tried as often as it may: the load that comes out is what it is about. */
static void a_storm_is_at_most_a_quarter_more(void **state) {
    unsigned sent = 0, asked = 0;

    for (unsigned ms = 0; ms < 60000; ms += 2) { /* 500/s for a minute */
        int64_t now_ns = at(ms / 1000.0);

        asked++;
        sent++;
        retry_budget_count(&budget, &tally, now_ns);
        for (unsigned attempt = 2; attempt <= 10 && retry_budget_take(&budget, &tally, now_ns);
             attempt++)
            sent++;
    }
    assert_true(sent <= asked * 1.25);
    assert_true(sent >= asked * 1.15); /* but what may be retried is */
}

static void the_backoff_doubles_up_to_its_bound(void **state) {
    int64_t most[4] = {0};
    static const int64_t bounds[4] = {25 * NS_PER_MS, 50 * NS_PER_MS, 100 * NS_PER_MS,
                                      250 * NS_PER_MS};

    for (unsigned n = 0; n < 2000; n++)
        for (unsigned i = 0; i < 4; i++) {
            int64_t ns = retry_backoff_ns(i < 3 ? i + 1 : 100);

            assert_in_range(ns, 1, bounds[i]);
            most[i] = ns > most[i] ? ns : most[i];
        }
    for (unsigned i = 0; i < 4; i++)
        assert_true(most[i] > bounds[i] * 9 / 10); /* jittered over the whole of it */
}

static void what_the_upstream_says_is_read(void **state) {
    assert_int_equal(retry_after_ns(SLICE("0")), 0);
    assert_int_equal(retry_after_ns(SLICE("120")), 120 * NS_PER_S);
    assert_int_equal(retry_after_ns(SLICE("Fri, 31 Dec 1999 23:59:59 GMT")), RETRY_PUSHBACK_NEVER);
    assert_int_equal(retry_after_ns(SLICE("")), RETRY_PUSHBACK_NEVER);
    assert_int_equal(retry_after_ns(SLICE("9999999999")), RETRY_PUSHBACK_NEVER);
    assert_int_equal(retry_pushback_ns(SLICE("50")), 50 * NS_PER_MS);
    assert_int_equal(retry_pushback_ns(SLICE("-1")), RETRY_PUSHBACK_NEVER);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(a_quiet_pipeline_may_retry_three_times_a_second),
        WITH(a_share_of_the_requests_may_be_retried),
        WITH(what_is_older_than_the_window_does_not_count),
        WITH(all_loops_share_it),
        WITH(a_storm_is_at_most_a_quarter_more),
        cmocka_unit_test(the_backoff_doubles_up_to_its_bound),
        cmocka_unit_test(what_the_upstream_says_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
