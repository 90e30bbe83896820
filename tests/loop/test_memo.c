/* The promises of proxy/loop/memo.h. */
#include "loop/memo.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "support/unit.h"

#include <pthread.h>
#include <stdlib.h>

#define SETS (MEMO_ENTRIES / MEMO_WAYS)

static struct memo *memo;

static int set_up(void **state) {
    memo = xcalloc(1, sizeof *memo);
    return 0;
}

static int tear_down(void **state) {
    free(memo);
    return 0;
}

/* Keys of one set. */
static uint64_t in_set(uint64_t set, uint64_t n) {
    return set + (n + 1) * SETS;
}

static void what_was_put_is_known(void **state) {
    assert_int_equal(memo_get(memo, 7, 0), 0);
    memo_put(memo, 7, 70, 0);
    memo_put(memo, in_set(7, 0), 71, 0);
    assert_int_equal(memo_get(memo, 7, NS_PER_S), 70);
    assert_int_equal(memo_get(memo, in_set(7, 0), 0), 71);
    memo_put(memo, 7, 72, 0);
    assert_int_equal(memo_get(memo, 7, 0), 72);
    assert_int_equal(memo_get(memo, 8, 0), 0);
}

static void the_least_recently_used_one_gives_way(void **state) {
    for (unsigned i = 0; i < MEMO_WAYS; i++)
        memo_put(memo, in_set(3, i), i + 1, i * NS_PER_S);
    assert_int_equal(memo_get(memo, in_set(3, 0), 100 * NS_PER_S), 1); /* now it is the youngest */
    memo_put(memo, in_set(3, MEMO_WAYS), 1000, 101 * NS_PER_S);
    assert_int_equal(memo_get(memo, in_set(3, 1), 101 * NS_PER_S), 0);
    assert_int_equal(memo_get(memo, in_set(3, 0), 101 * NS_PER_S), 1);
    assert_int_equal(memo_get(memo, in_set(3, MEMO_WAYS), 101 * NS_PER_S), 1000);
}

static void it_is_bounded(void **state) {
    unsigned known = 0;

    for (uint64_t i = 0; i < 3 * MEMO_ENTRIES; i++)
        memo_put(memo, hash_mix(i), i + 1, (int64_t)i * NS_PER_MS);
    for (uint64_t i = 0; i < 3 * MEMO_ENTRIES; i++) {
        uint64_t value = memo_get(memo, hash_mix(i), 3 * MEMO_ENTRIES * NS_PER_MS);

        assert_true(value == 0 || value == i + 1);
        known += value != 0;
    }
    assert_in_range(known, MEMO_ENTRIES * 9 / 10, MEMO_ENTRIES);
}

/* Writers who fight for the entries of one set. */
static void *write_and_read(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;

    for (unsigned i = 0; i < 200000; i++) {
        uint64_t n = rnd(&seed) % 32, value;

        memo_put(memo, in_set(5, n), n + 1, 0);
        n = rnd(&seed) % 32;
        value = memo_get(memo, in_set(5, n), 0);
        if (value != 0 && value != n + 1)
            return arg;
    }
    return NULL;
}

static void a_fact_is_never_another_ones(void **state) {
    pthread_t threads[4];
    void *wrong;

    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(what_was_put_is_known),
        WITH(the_least_recently_used_one_gives_way),
        WITH(it_is_bounded),
        WITH(a_fact_is_never_another_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
