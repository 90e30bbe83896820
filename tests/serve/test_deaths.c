/* Tests of the deaths in the state file, with clocks that the tests set. */
#include "serve/deaths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WALL_NS (1790000000 * NS_PER_S)

static const struct keeper_now then = {1000 * NS_PER_S, WALL_NS};

/* What a keeper does between two processes; @now is the second one's. */
static struct crashes restart(struct crashes *before, const struct keeper_now *now) {
    struct crashes after = {0};
    struct keeper_section from = deaths_section(before), to = deaths_section(&after);
    json_t *saved = from.save(from.ctx, &then);

    to.take_up(to.ctx, saved, now);
    json_decref(saved);
    return after;
}

static void they_count_after_a_restart(void **state) {
    const struct keeper_now now = {3 * NS_PER_S, WALL_NS + 2 * NS_PER_S}; /* after a boot */
    struct crashes crashes = {0};

    for (int64_t i = CRASHES_MAX; i > 0; i--)
        crashes_note(&crashes, then.now_ns - i * NS_PER_S, NS_PER_S);
    assert_false(crashes.is_slow);
    crashes = restart(&crashes, &now);
    assert_int_equal(crashes.count, CRASHES_MAX);
    assert_int_equal(crashes.at_ns[0], now.now_ns - 7 * NS_PER_S);
    assert_int_equal(crashes.at_ns[CRASHES_MAX - 1], now.now_ns - 3 * NS_PER_S);
    crashes_note(&crashes, now.now_ns, NS_PER_S);
    assert_true(crashes.is_slow);
}

static void old_ones_are_forgotten(void **state) {
    struct keeper_now now = {3 * NS_PER_S, WALL_NS + CRASHES_WINDOW_NS};
    struct crashes crashes = {0}, after;

    crashes_note(&crashes, then.now_ns - CRASHES_WINDOW_NS, NS_PER_S);
    crashes_note(&crashes, then.now_ns - NS_PER_S, NS_PER_S);
    after = restart(&crashes, &then);
    assert_int_equal(after.count, 1);
    after = restart(&crashes, &now);
    assert_int_equal(after.count, 0);
    now.wall_ns = WALL_NS - 3600 * NS_PER_S; /* the clock was set back */
    after = restart(&crashes, &now);
    assert_int_equal(after.count, 0);
}

static void what_is_wrong_is_left_out(void **state) {
    json_t *wrong[] = {
        json_object(),
        json_pack("{s:s}", "at", "x"),
        json_pack("{s:{}}", "at"),
        json_pack("{s:[s, n, i]}", "at", "x", 0),
        NULL,
    };

    for (json_t **at = wrong; *at; at++) {
        struct crashes crashes = {0};
        struct keeper_section section = deaths_section(&crashes);

        section.take_up(section.ctx, *at, &then);
        assert_int_equal(crashes.count, 0);
        json_decref(*at);
    }
}

static void no_more_are_taken_up_than_count(void **state) {
    struct crashes crashes = {0};
    struct keeper_section section = deaths_section(&crashes);
    json_t *list = json_array(), *saved;

    for (int i = 0; i < 1000; i++)
        json_array_append_new(list, keeper_instant(then.now_ns - NS_PER_S, &then));
    saved = json_pack("{s:o}", "at", list);
    section.take_up(section.ctx, saved, &then);
    assert_int_equal(crashes.count, CRASHES_MAX);
    json_decref(saved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_count_after_a_restart),
        cmocka_unit_test(old_ones_are_forgotten),
        cmocka_unit_test(what_is_wrong_is_left_out),
        cmocka_unit_test(no_more_are_taken_up_than_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
