/* Tests of who may use an endpoint, and how much of it. */
#include "upstream/endpoint.h"

#include "upstream/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW_NS (1000 * NS_PER_S)

static const struct endpoint_settings settings = {
    .breaker = {.in_a_row = 1, .open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S, .passes = 1},
    .slow_start_ns = 10 * NS_PER_S,
};
static struct endpoint *list[4];

static int set_up(void **state) {
    for (size_t i = 0; i < 4; i++) {
        list[i] = endpoint_new(&(struct sockaddr_storage){.ss_family = AF_UNIX}, 1, 1);
        endpoint_set(list[i], &settings);
    }
    return 0;
}

static int tear_down(void **state) {
    for (size_t i = 0; i < 4; i++)
        endpoint_unref(list[i]);
    return 0;
}

static void a_new_one_is_used_as_any_other(void **state) {
    assert_true(endpoint_is_usable(list[0], NOW_NS));
    assert_true(endpoint_is_usable_again(list[0], NOW_NS));
    assert_int_equal(endpoint_weight(list[0], NOW_NS), ENDPOINT_WEIGHT_MAX);
}

static void who_is_drained_keeps_what_belongs_to_it(void **state) {
    assert_true(endpoint_change(list[0], ENDPOINT_DRAINED, 0, NOW_NS));
    assert_false(endpoint_change(list[0], ENDPOINT_DRAINED, 0, NOW_NS));
    assert_false(endpoint_is_usable(list[0], NOW_NS));
    assert_true(endpoint_is_usable_again(list[0], NOW_NS));
    assert_true(endpoint_change(list[0], ENDPOINT_DISABLED, ENDPOINT_DRAINED, NOW_NS));
    assert_false(endpoint_is_usable(list[0], NOW_NS));
    assert_false(endpoint_is_usable_again(list[0], NOW_NS));
    assert_true(endpoint_change(list[0], 0, ENDPOINT_DISABLED, NOW_NS));
    assert_true(endpoint_is_usable(list[0], NOW_NS));
}

static void an_open_breaker_keeps_everybody_out(void **state) {
    breaker_trip(&list[0]->breaker, BREAKER_OFTEN, "x", NOW_NS);
    assert_false(endpoint_is_usable(list[0], NOW_NS));
    assert_false(endpoint_is_usable_again(list[0], NOW_NS));
    assert_true(endpoint_is_usable(list[0], NOW_NS + NS_PER_S));
}

static void its_share_grows_after_it_returns(void **state) {
    endpoint_change(list[0], ENDPOINT_UNHEALTHY, 0, NOW_NS);
    endpoint_change(list[0], 0, ENDPOINT_UNHEALTHY, NOW_NS);
    assert_int_equal(endpoint_weight(list[0], NOW_NS), ENDPOINT_WEIGHT_MIN);
    assert_int_equal(endpoint_weight(list[0], NOW_NS + 2 * NS_PER_S), 20);
    assert_int_equal(endpoint_weight(list[0], NOW_NS + 5 * NS_PER_S), 50);
    assert_int_equal(endpoint_weight(list[0], NOW_NS + 10 * NS_PER_S), ENDPOINT_WEIGHT_MAX);
    assert_int_equal(endpoint_weight(list[0], NOW_NS + 99 * NS_PER_S), ENDPOINT_WEIGHT_MAX);
}

static bool mark(size_t i, bool is_healthy) {
    return health_mark(list, 4, list[i], is_healthy, 0.5, NOW_NS);
}

static unsigned count_usable(void) {
    unsigned usable = 0;

    for (size_t i = 0; i < 4; i++)
        usable += endpoint_is_usable(list[i], NOW_NS);
    return usable;
}

static void when_fewer_than_half_are_healthy_all_are_used(void **state) {
    assert_false(mark(0, false));
    assert_false(mark(1, false));
    assert_int_equal(count_usable(), 2);
    assert_true(mark(2, false));
    assert_int_equal(count_usable(), 4);
    assert_true(mark(3, false));
    assert_int_equal(count_usable(), 4);
    assert_true(mark(0, true));
    assert_int_equal(count_usable(), 4);
    assert_false(mark(1, true));
    assert_int_equal(count_usable(), 2);
}

static void who_is_out_of_service_is_not_counted(void **state) {
    endpoint_change(list[2], ENDPOINT_DISABLED, 0, NOW_NS);
    endpoint_change(list[3], ENDPOINT_UNCHECKED, 0, NOW_NS);
    assert_false(mark(0, false)); /* one of two */
    assert_int_equal(count_usable(), 1);
    assert_true(mark(1, false));
    assert_int_equal(count_usable(), 2); /* panic lets in whom the checks keep out, nobody else */
    assert_true(mark(3, false));
    assert_int_equal(count_usable(), 3); /* it was checked */
}

static void without_a_share_there_is_no_panic(void **state) {
    for (size_t i = 0; i < 4; i++)
        assert_false(health_mark(list, 4, list[i], false, 0, NOW_NS));
    assert_int_equal(count_usable(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_new_one_is_used_as_any_other),
        TEST(who_is_drained_keeps_what_belongs_to_it),
        TEST(an_open_breaker_keeps_everybody_out),
        TEST(its_share_grows_after_it_returns),
        TEST(when_fewer_than_half_are_healthy_all_are_used),
        TEST(who_is_out_of_service_is_not_counted),
        TEST(without_a_share_there_is_no_panic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
