/* The promises of proxy/pipeline/codel.h; time is a number. */
#include "pipeline/codel.h"

#include "support/unit.h"

#define MS NS_PER_MS
#define TARGET (20 * MS)
#define INTERVAL (CODEL_INTERVAL * TARGET)
#define START (1000 * MS)

static void look(struct codel *codel, int64_t wait_ns, unsigned count, int64_t at_ns) {
    codel_see(codel, &(struct codel_look){TARGET, at_ns, .wait_ns = wait_ns, .count = count});
}

/* Waits of @wait_ns are seen every millisecond from @from_ns until @to_ns. */
static void see(struct codel *codel, int64_t wait_ns, int64_t from_ns, int64_t to_ns) {
    for (int64_t at_ns = from_ns; at_ns <= to_ns; at_ns += MS)
        look(codel, wait_ns, 9, at_ns);
}

static void overload(struct codel *codel) {
    codel_begin(codel, TARGET, START);
    see(codel, TARGET + 1, START, START + INTERVAL);
    assert_true(codel->is_overloaded);
}

static void a_wait_above_the_target_for_an_interval_is_overload(void **state) {
    struct codel codel = {0};

    codel_begin(&codel, TARGET, START);
    see(&codel, TARGET + 1, START, START + INTERVAL - MS);
    assert_false(codel.is_overloaded);
    look(&codel, TARGET + 1, 9, START + INTERVAL);
    assert_true(codel.is_overloaded);
}

static void one_short_wait_in_the_interval_is_enough_to_be_calm(void **state) {
    struct codel codel = {0};

    codel_begin(&codel, TARGET, START);
    see(&codel, 5 * TARGET, START, START + INTERVAL - MS);
    look(&codel, TARGET, 9, START + INTERVAL - MS);
    see(&codel, 5 * TARGET, START + INTERVAL, START + 2 * INTERVAL - MS);
    assert_false(codel.is_overloaded);
    look(&codel, 5 * TARGET, 9, START + 2 * INTERVAL);
    assert_true(codel.is_overloaded);
}

static void a_burst_that_is_worked_off_is_no_overload(void **state) {
    struct codel codel = {0};
    int64_t at_ns = START;

    codel_begin(&codel, TARGET, START);
    for (unsigned count = 500; count > 100; count--, at_ns += MS)
        look(&codel, (int64_t)count * MS, count, at_ns);
    assert_false(codel.is_overloaded);
    look(&codel, 100 * MS, 100, at_ns += INTERVAL);
    for (int64_t end_ns = at_ns + INTERVAL; at_ns <= end_ns; at_ns += MS)
        look(&codel, 100 * MS, 100, at_ns);
    assert_true(codel.is_overloaded);
}

static void without_a_target_nothing_is_overload(void **state) {
    struct codel codel = {0};

    codel_begin(&codel, 0, START);
    for (int64_t at_ns = START; at_ns < START + 100 * INTERVAL; at_ns += INTERVAL)
        codel_see(&codel, &(struct codel_look){0, at_ns, .wait_ns = INTERVAL, .count = 9});
    assert_false(codel.is_overloaded);
    assert_false(codel_is_standing(&codel, 0, START + 100 * INTERVAL));
}

static void short_waits_do_not_end_it_while_somebody_is_refused(void **state) {
    struct codel codel = {0};
    int64_t at_ns = START + INTERVAL;

    overload(&codel);
    for (unsigned i = 0; i < 10; i++, at_ns += INTERVAL / 2) {
        codel_refused(&codel, at_ns);
        see(&codel, 0, at_ns, at_ns + INTERVAL / 2);
        assert_true(codel.is_overloaded);
    }
    see(&codel, 0, at_ns, at_ns + INTERVAL / 2);
    assert_false(codel.is_overloaded);
}

static void a_line_that_is_empty_for_a_moment_stays_overloaded(void **state) {
    struct codel codel = {0};
    int64_t at_ns = START + INTERVAL;

    overload(&codel);
    codel_end(&codel, at_ns);
    assert_false(codel_is_over(&codel, TARGET, at_ns + INTERVAL / CODEL_SHORT_SHARE - 1));
    codel_begin(&codel, TARGET, at_ns + INTERVAL / CODEL_SHORT_SHARE - 1);
    assert_true(codel.is_overloaded);
    codel_end(&codel, at_ns);
    assert_true(codel_is_over(&codel, TARGET, at_ns + INTERVAL / CODEL_SHORT_SHARE));
    codel_begin(&codel, TARGET, at_ns + INTERVAL / CODEL_SHORT_SHARE);
    assert_false(codel.is_overloaded);
}

static void what_was_overloaded_a_short_while_ago_is_so_again_soon(void **state) {
    struct codel codel = {0};
    int64_t at_ns = START + INTERVAL;

    overload(&codel);
    codel_end(&codel, at_ns);
    at_ns += CODEL_REMEMBERED * INTERVAL / 2;
    codel_begin(&codel, TARGET, at_ns);
    see(&codel, 2 * TARGET, at_ns, at_ns + INTERVAL / CODEL_SHORT_SHARE - MS);
    assert_false(codel.is_overloaded);
    look(&codel, 2 * TARGET, 9, at_ns + INTERVAL / CODEL_SHORT_SHARE);
    assert_true(codel.is_overloaded);
    /* Long ago is as never. */
    codel_end(&codel, at_ns);
    at_ns += 2 * CODEL_REMEMBERED * INTERVAL;
    codel_begin(&codel, TARGET, at_ns);
    see(&codel, 2 * TARGET, at_ns, at_ns + INTERVAL - MS);
    assert_false(codel.is_overloaded);
}

static void who_is_always_there_is_standing(void **state) {
    struct codel codel = {0};

    assert_false(codel_is_standing(&codel, TARGET, START));
    codel_begin(&codel, TARGET, START);
    assert_false(codel_is_standing(&codel, TARGET, START + INTERVAL - 1));
    assert_true(codel_is_standing(&codel, TARGET, START + INTERVAL));
    codel_end(&codel, START + INTERVAL);
    assert_false(codel_is_standing(&codel, TARGET, START + 2 * INTERVAL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_above_the_target_for_an_interval_is_overload),
        cmocka_unit_test(one_short_wait_in_the_interval_is_enough_to_be_calm),
        cmocka_unit_test(a_burst_that_is_worked_off_is_no_overload),
        cmocka_unit_test(without_a_target_nothing_is_overload),
        cmocka_unit_test(short_waits_do_not_end_it_while_somebody_is_refused),
        cmocka_unit_test(a_line_that_is_empty_for_a_moment_stays_overloaded),
        cmocka_unit_test(what_was_overloaded_a_short_while_ago_is_so_again_soon),
        cmocka_unit_test(who_is_always_there_is_standing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
