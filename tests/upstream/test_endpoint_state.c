/* Tests of what outlives the process of an endpoint, with clocks that the tests set. */
#include "upstream/endpoint_state.h"

#include "upstream/trial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WALL_NS (1790000000 * NS_PER_S)

static const struct keeper_now then = {1000 * NS_PER_S, WALL_NS};
static struct endpoint *endpoint;

static int open_endpoint(void **state) {
    struct sockaddr_storage address = {0};
    struct sockaddr_in *in = (void *)&address;

    in->sin_family = AF_INET;
    in->sin_port = htons(80);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint = endpoint_new(&address, 1, 1);
    return 0;
}

static int close_endpoint(void **state) {
    endpoint_unref(endpoint);
    return 0;
}

/* Of an endpoint whose dials have failed 9 times, the last one just then. */
static json_t *saved_after_failures(enum fail fail) {
    json_t *saved;

    for (unsigned i = 0; i < 9; i++)
        endpoint_dial_failed(endpoint, fail, then.now_ns);
    saved = endpoint_save(endpoint, &then);
    assert_non_null(saved);
    close_endpoint(NULL);
    open_endpoint(NULL);
    return saved;
}

static void nothing_is_kept_of_one_that_is_well(void **state) {
    assert_null(endpoint_save(endpoint, &then));
    endpoint_dial_failed(endpoint, FAIL_CONNECT_REFUSED, then.now_ns);
    endpoint_dial_succeeded(endpoint);
    assert_null(endpoint_save(endpoint, &then));
}

static void failures_and_backoff_go_on_after_a_restart(void **state) {
    /* After a boot: the clocks have nothing to do with each other. */
    const struct keeper_now now = {5 * NS_PER_S, WALL_NS + 100 * NS_PER_MS};
    json_t *saved = saved_after_failures(FAIL_CONNECT_TIMEOUT);

    endpoint_take_up(endpoint, saved, &now);
    assert_false(endpoint_is_up(endpoint));
    assert_int_equal(endpoint->dial_failures, 9);
    assert_int_equal(endpoint->dial_fail, FAIL_CONNECT_TIMEOUT);
    assert_false(endpoint_may_dial(endpoint, now.now_ns));
    assert_true(endpoint_may_dial(endpoint, now.now_ns + ENDPOINT_BACKOFF_MAX_NS));
    json_decref(saved);
}

static void every_reason_that_a_dial_ends_with_is_known_again(void **state) {
    const enum fail fails[] = {FAIL_CONNECT_REFUSED, FAIL_CONNECT_TIMEOUT, FAIL_CONNECT_FAILED,
                               FAIL_TLS_PROTOCOL,    FAIL_TLS_CERTIFICATE, FAIL_TLS_ALERT,
                               FAIL_FDS_USED_UP};

    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        json_t *saved = saved_after_failures(fails[i]);

        endpoint_take_up(endpoint, saved, &then);
        assert_int_equal(endpoint->dial_fail, fails[i]);
        json_decref(saved);
    }
}

static void the_backoff_does_not_begin_anew(void **state) {
    const struct keeper_now now = {5 * NS_PER_S, WALL_NS + 2 * NS_PER_S};
    json_t *saved = saved_after_failures(FAIL_CONNECT_REFUSED);

    endpoint_take_up(endpoint, saved, &now);
    assert_false(endpoint_is_up(endpoint));
    assert_true(endpoint_may_dial(endpoint, now.now_ns));
    json_decref(saved);
}

static void after_a_long_pause_nothing_is_known(void **state) {
    const struct keeper_now now = {5 * NS_PER_S,
                                   WALL_NS + ENDPOINT_BACKOFF_MAX_NS + ENDPOINT_KEPT_NS + NS_PER_S};
    json_t *saved = saved_after_failures(FAIL_CONNECT_REFUSED);

    endpoint_take_up(endpoint, saved, &now);
    assert_true(endpoint_is_up(endpoint) && endpoint_may_dial(endpoint, now.now_ns));
    json_decref(saved);
}

static void nor_when_the_clock_was_set_back(void **state) {
    const struct keeper_now now = {5 * NS_PER_S, WALL_NS - 3600 * NS_PER_S};
    json_t *saved = saved_after_failures(FAIL_CONNECT_REFUSED);

    endpoint_take_up(endpoint, saved, &now);
    assert_true(endpoint_is_up(endpoint) && endpoint_may_dial(endpoint, now.now_ns));
    json_decref(saved);
}

static void what_is_old_is_not_kept_any_longer(void **state) {
    struct keeper_now now = then;

    endpoint_dial_failed(endpoint, FAIL_CONNECT_REFUSED, then.now_ns);
    now.now_ns += ENDPOINT_KEPT_NS + ENDPOINT_BACKOFF_MAX_NS;
    assert_null(endpoint_save(endpoint, &now));
}

static void the_number_of_failures_has_a_bound(void **state) {
    json_t *saved;

    for (unsigned i = 0; i < 2 * ENDPOINT_KEPT_FAILURES_MAX; i++)
        endpoint_dial_failed(endpoint, FAIL_CONNECT_REFUSED, then.now_ns);
    saved = endpoint_save(endpoint, &then);
    close_endpoint(NULL);
    open_endpoint(NULL);
    endpoint_take_up(endpoint, saved, &then);
    assert_int_equal(endpoint->dial_failures, ENDPOINT_KEPT_FAILURES_MAX);
    json_decref(saved);
}

static void what_is_wrong_is_left_out(void **state) {
    const char *const wrong[] = {
        "[]",
        "{}",
        "\"x\"",
        "{\"failures\": 0, \"reason\": \"connect_refused\", \"dial_after\": 1790000000000}",
        "{\"failures\": -1, \"reason\": \"connect_refused\", \"dial_after\": 1790000000000}",
        "{\"failures\": 1001, \"reason\": \"connect_refused\", \"dial_after\": 1790000000000}",
        "{\"failures\": \"1\", \"reason\": \"connect_refused\", \"dial_after\": 1790000000000}",
        "{\"failures\": 1, \"reason\": \"no_such_reason\", \"dial_after\": 1790000000000}",
        "{\"failures\": 1, \"reason\": \"route_none\", \"dial_after\": 1790000000000}",
        "{\"failures\": 1, \"reason\": 7, \"dial_after\": 1790000000000}",
        "{\"failures\": 1, \"reason\": \"connect_refused\", \"dial_after\": 1790000060000}",
        "{\"failures\": 1, \"reason\": \"connect_refused\", \"dial_after\": \"soon\"}",
        "{\"failures\": 1, \"reason\": \"connect_refused\"}",
    };

    endpoint_take_up(endpoint, NULL, &then);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *saved = json_loads(wrong[i], JSON_DECODE_ANY, NULL);

        assert_non_null(saved);
        endpoint_take_up(endpoint, saved, &then);
        if (!endpoint_is_up(endpoint) || !endpoint_may_dial(endpoint, then.now_ns))
            fail_msg("it was taken up: %s", wrong[i]);
        json_decref(saved);
    }
}

static const struct endpoint_settings settings = {
    .breaker = {.in_a_row = 5,
                .open_for_ns = 10 * NS_PER_S,
                .open_max_ns = 300 * NS_PER_S,
                .passes = 1},
    .is_checked = true,
};

/* Into a fresh one, at @now, of which nothing else is known. */
static void take_over(const struct keeper_now *now, const struct endpoint_settings *set) {
    json_t *saved = endpoint_save(endpoint, &then);

    assert_non_null(saved);
    close_endpoint(NULL);
    open_endpoint(NULL);
    endpoint_set(endpoint, set);
    endpoint_take_up(endpoint, saved, now);
    json_decref(saved);
}

static void an_open_breaker_stays_open(void **state) {
    const struct keeper_now now = {5 * NS_PER_S, WALL_NS + 4 * NS_PER_S};
    struct breaker_view view;

    endpoint_set(endpoint, &settings);
    breaker_trip(&endpoint->breaker, BREAKER_STALLS, TRIAL_STALLED, then.now_ns);
    take_over(&now, &settings);
    view = breaker_view(&endpoint->breaker);
    assert_int_equal(view.state, BREAKER_OPEN);
    assert_int_equal(view.cause, BREAKER_STALLS);
    assert_string_equal(view.what, TRIAL_STALLED);
    assert_int_equal(view.trips, 1);
    assert_int_equal(view.since_ns, now.now_ns - 4 * NS_PER_S);
    assert_false(endpoint_is_usable(endpoint, now.now_ns + 6 * NS_PER_S - 1));
    assert_true(endpoint_is_usable(endpoint, now.now_ns + 6 * NS_PER_S));
}

static void unless_its_time_is_long_over(void **state) {
    const struct keeper_now late = {5 * NS_PER_S, WALL_NS + 10 * NS_PER_S + ENDPOINT_KEPT_NS + 1};
    struct keeper_now later = then;

    endpoint_set(endpoint, &settings);
    breaker_trip(&endpoint->breaker, BREAKER_OFTEN, TRIAL_500, then.now_ns);
    take_over(&late, &settings);
    breaker_trip(&endpoint->breaker, BREAKER_OFTEN, TRIAL_500, then.now_ns);
    later.now_ns += 10 * NS_PER_S + ENDPOINT_KEPT_NS + 1;
    assert_null(endpoint_save(endpoint, &later));
}

static void orders_hold_until_there_are_others(void **state) {
    const unsigned orders[] = {ENDPOINT_DRAINED, ENDPOINT_DISABLED};
    const struct keeper_now now = {5 * NS_PER_S, WALL_NS + 30 * 24 * 3600 * NS_PER_S};

    for (size_t i = 0; i < 2; i++) {
        endpoint_change(endpoint, orders[i], 0, then.now_ns);
        take_over(&now, &settings);
        assert_int_equal(endpoint->conditions, orders[i]);
        endpoint_change(endpoint, 0, orders[i], then.now_ns);
        assert_null(endpoint_save(endpoint, &then));
    }
}

static void who_was_unhealthy_is_so_until_a_check_says_other(void **state) {
    static const struct endpoint_settings unchecked = {
        .breaker = {.open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S, .passes = 1}};

    endpoint_change(endpoint, ENDPOINT_UNHEALTHY, 0, then.now_ns);
    take_over(&then, &settings);
    assert_int_equal(endpoint->conditions, ENDPOINT_UNHEALTHY);
    take_over(&then, &unchecked); /* nobody would ever say other */
    assert_int_equal(endpoint->conditions, 0);
}

static void a_breaker_that_cannot_be_is_left_out(void **state) {
    const char *const wrong[] = {
        "[]",
        "{}",
        "{\"cause\": \"x\", \"trips\": 1, \"since\": 1790000000000, \"until\": 1790000001000}",
        "{\"cause\": \"stalls\", \"trips\": 0, \"since\": 1790000000000, \"until\": 1790000001000}",
        "{\"cause\":\"stalls\", \"trips\":9999, \"since\":1790000000000, \"until\":1790000001000}",
        "{\"cause\": \"stalls\", \"trips\": 1, \"since\": 1790000002000, \"until\": 1790000003000}",
        "{\"cause\": \"stalls\", \"trips\": 1, \"since\": 1790000000000, \"until\": 1790000999000}",
        "{\"cause\": \"stalls\", \"trips\": 1, \"until\": 1790000001000}",
        "{\"cause\": \"stalls\", \"trips\": 1, \"since\": 1790000000000}",
    };

    endpoint_set(endpoint, &settings);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *saved = json_pack("{s:o}", "breaker", json_loads(wrong[i], JSON_DECODE_ANY, NULL));

        assert_non_null(saved);
        endpoint_take_up(endpoint, saved, &then);
        if (breaker_view(&endpoint->breaker).state != BREAKER_CLOSED)
            fail_msg("it was taken up: %s", wrong[i]);
        json_decref(saved);
    }
}

static void every_word_for_a_failure_is_known_again(void **state) {
    assert_string_equal(trial_what(TRIAL_STALLED), TRIAL_STALLED);
    assert_string_equal(trial_what(TRIAL_5XX), TRIAL_5XX);
    assert_string_equal(trial_what("upstream_reset"), "upstream_reset");
    assert_string_equal(trial_what("UNAVAILABLE"), "UNAVAILABLE");
    assert_null(trial_what("no such word"));
    assert_null(trial_what(NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_endpoint, close_endpoint)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_kept_of_one_that_is_well),
        TEST(failures_and_backoff_go_on_after_a_restart),
        TEST(every_reason_that_a_dial_ends_with_is_known_again),
        TEST(the_backoff_does_not_begin_anew),
        TEST(after_a_long_pause_nothing_is_known),
        TEST(nor_when_the_clock_was_set_back),
        TEST(what_is_old_is_not_kept_any_longer),
        TEST(the_number_of_failures_has_a_bound),
        TEST(what_is_wrong_is_left_out),
        TEST(an_open_breaker_stays_open),
        TEST(unless_its_time_is_long_over),
        TEST(orders_hold_until_there_are_others),
        TEST(who_was_unhealthy_is_so_until_a_check_says_other),
        TEST(a_breaker_that_cannot_be_is_left_out),
        TEST(every_word_for_a_failure_is_known_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
