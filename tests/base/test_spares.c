/* Tests proxy/base/spares.c. */
#include "base/spares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCK_BYTES 64
#define MAX 2

static void *take(struct spares *spares) {
    void *block = spares_take(spares, BLOCK_BYTES);

    memset(block, 0xff, BLOCK_BYTES);
    return block;
}

static void what_was_given_back_last_is_taken_first(void **state) {
    struct spares spares = {0};
    void *a = take(&spares), *b = take(&spares);
    uintptr_t was_a = (uintptr_t)a, was_b = (uintptr_t)b;
    unsigned count;

    spares_give(&spares, a, MAX);
    spares_give(&spares, b, MAX);
    count = spares.count;
    assert_int_equal(count, SPARES_ARE_KEPT ? 2 : 0);
    b = take(&spares);
    a = take(&spares);
    if (count > 0) {
        assert_int_equal((uintptr_t)b, was_b);
        assert_int_equal((uintptr_t)a, was_a);
    }
    assert_int_equal(spares.count, 0);
    free(a);
    free(b);
}

static void no_more_are_kept_than_there_may_be(void **state) {
    struct spares spares = {0};
    void *blocks[MAX + 1];

    for (size_t i = 0; i <= MAX; i++)
        blocks[i] = take(&spares);
    for (size_t i = 0; i <= MAX; i++)
        spares_give(&spares, blocks[i], MAX);
    assert_int_equal(spares.count, SPARES_ARE_KEPT ? MAX : 0);
    spares_drop(&spares);
    assert_int_equal(spares.count, 0);
    assert_null(spares.first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_back_last_is_taken_first),
        cmocka_unit_test(no_more_are_kept_than_there_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
