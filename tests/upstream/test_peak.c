/* The promises of proxy/upstream/peak.h; time is a number. */
#include "upstream/peak.h"

#include "support/unit.h"

#define MS NS_PER_MS
#define START NS_PER_S

static void what_was_never_used_is_not_known(void **state) {
    struct peak peak = {0};

    assert_int_equal(peak_ns(&peak, START), 0);
}

static void the_first_answer_and_a_longer_one_count_at_once(void **state) {
    struct peak peak = {0};

    peak_learn(&peak, 20 * MS, START);
    assert_int_equal(peak_ns(&peak, START), 20 * MS);
    peak_learn(&peak, 100 * MS, START + MS);
    assert_int_equal(peak_ns(&peak, START + MS), 100 * MS);
}

static void quicker_ones_let_it_fall(void **state) {
    struct peak peak = {0};
    int64_t now_ns = START, before_ns;

    peak_learn(&peak, 100 * MS, now_ns);
    peak_learn(&peak, 20 * MS, now_ns += MS);
    assert_in_range(peak_ns(&peak, now_ns), 99 * MS, 100 * MS - 1);
    for (unsigned i = 0; i < 1000; i++)
        peak_learn(&peak, 20 * MS, now_ns += 10 * MS);
    before_ns = peak_ns(&peak, now_ns); /* 20 + 80 / e */
    assert_in_range(before_ns, 48 * MS, 51 * MS);
    for (unsigned i = 0; i < 5000; i++)
        peak_learn(&peak, 20 * MS, now_ns += 10 * MS);
    assert_in_range(peak_ns(&peak, now_ns), 20 * MS, 21 * MS);
}

static void so_does_time(void **state) {
    struct peak peak = {0};

    peak_learn(&peak, 100 * MS, START);
    assert_int_equal(peak_ns(&peak, START + PEAK_FALL_NS), 50 * MS);
    assert_int_equal(peak_ns(&peak, START + 4 * PEAK_FALL_NS), 20 * MS);
    assert_true(peak_ns(&peak, INT64_MAX / 4) >= 1);        /* it is known */
    assert_int_equal(peak_ns(&peak, START - MS), 100 * MS); /* another loop's clock */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_never_used_is_not_known),
        cmocka_unit_test(the_first_answer_and_a_longer_one_count_at_once),
        cmocka_unit_test(quicker_ones_let_it_fall),
        cmocka_unit_test(so_does_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
