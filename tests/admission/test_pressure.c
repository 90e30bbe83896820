/* Tests proxy/admission/pressure.c. */
#include "admission/pressure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct pressure pressure;

static unsigned at(enum pressure_resource resource, double use) {
    pressure_update(&pressure, resource, use, 0.95);
    return pressure_actions(&pressure);
}

static int set_up(void **state) {
    pressure = (struct pressure){0};
    return 0;
}

static void connections_evict_then_close_then_shed(void **state) {
    assert_int_equal(at(PRESSURE_FDS, 0.849), 0);
    assert_int_equal(at(PRESSURE_FDS, 0.851), PRESSURE_EVICT);
    assert_int_equal(at(PRESSURE_FDS, 0.921), PRESSURE_EVICT | PRESSURE_CLOSE);
    assert_int_equal(at(PRESSURE_FDS, 0.951), PRESSURE_EVICT | PRESSURE_CLOSE | PRESSURE_SHED);
    assert_int_equal(at(PRESSURE_FDS, 1), PRESSURE_EVICT | PRESSURE_CLOSE | PRESSURE_SHED);
}

static void memory_goes_further(void **state) {
    unsigned shed = PRESSURE_EVICT | PRESSURE_CLOSE | PRESSURE_SHED;

    assert_int_equal(at(PRESSURE_MEMORY, 0.951), shed);
    assert_int_equal(at(PRESSURE_MEMORY, 0.971), shed | PRESSURE_SHED_MORE);
    assert_int_equal(at(PRESSURE_MEMORY, 0.981), shed | PRESSURE_SHED_MORE | PRESSURE_STOP);
}

static void a_late_loop_only_sheds(void **state) {
    pressure_update(&pressure, PRESSURE_LAG, 0.99, 1);
    assert_int_equal(pressure_actions(&pressure), 0);
    pressure_update(&pressure, PRESSURE_LAG, 1.01, 1);
    assert_int_equal(pressure_actions(&pressure), PRESSURE_SHED);
    pressure_update(&pressure, PRESSURE_LAG, 2.01, 1);
    assert_int_equal(pressure_actions(&pressure), PRESSURE_SHED | PRESSURE_SHED_MORE);
}

static void an_action_ends_only_well_below_where_it_began(void **state) {
    at(PRESSURE_FDS, 0.93);
    assert_int_equal(at(PRESSURE_FDS, 0.88), PRESSURE_EVICT | PRESSURE_CLOSE);
    assert_int_equal(at(PRESSURE_FDS, 0.86), PRESSURE_EVICT);
    assert_int_equal(at(PRESSURE_FDS, 0.81), PRESSURE_EVICT);
    assert_int_equal(at(PRESSURE_FDS, 0.79), 0);
    assert_int_equal(at(PRESSURE_FDS, 0.81), 0);
}

static void the_steps_move_with_the_setting(void **state) {
    pressure_update(&pressure, PRESSURE_FDS, 0.5, 0.5);
    assert_int_equal(pressure_actions(&pressure), PRESSURE_EVICT | PRESSURE_CLOSE | PRESSURE_SHED);
}

static void what_is_off_asks_for_nothing_and_ends_what_it_asked_for(void **state) {
    at(PRESSURE_MEMORY, 1);
    pressure_update(&pressure, PRESSURE_MEMORY, 1, 0);
    assert_int_equal(pressure_actions(&pressure), 0);
}

static void a_use_that_cannot_be_read_asks_for_nothing(void **state) {
    at(PRESSURE_MEMORY, 1);
    assert_int_equal(at(PRESSURE_MEMORY, 0), 0);
}

static void the_resources_add_up(void **state) {
    at(PRESSURE_FDS, 0.86);
    pressure_update(&pressure, PRESSURE_LAG, 1.5, 1);
    assert_int_equal(pressure_actions(&pressure), PRESSURE_EVICT | PRESSURE_SHED);
    at(PRESSURE_FDS, 0.1);
    assert_int_equal(pressure_actions(&pressure), PRESSURE_SHED);
}

static void everything_has_a_name(void **state) {
    for (unsigned i = 0; i < PRESSURE_ACTIONS; i++)
        assert_non_null(pressure_action_name(i));
    for (unsigned i = 0; i < PRESSURE_RESOURCES; i++)
        assert_non_null(pressure_resource_name(i));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(connections_evict_then_close_then_shed, set_up),
        cmocka_unit_test_setup(memory_goes_further, set_up),
        cmocka_unit_test_setup(a_late_loop_only_sheds, set_up),
        cmocka_unit_test_setup(an_action_ends_only_well_below_where_it_began, set_up),
        cmocka_unit_test_setup(the_steps_move_with_the_setting, set_up),
        cmocka_unit_test_setup(what_is_off_asks_for_nothing_and_ends_what_it_asked_for, set_up),
        cmocka_unit_test_setup(a_use_that_cannot_be_read_asks_for_nothing, set_up),
        cmocka_unit_test_setup(the_resources_add_up, set_up),
        cmocka_unit_test_setup(everything_has_a_name, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
