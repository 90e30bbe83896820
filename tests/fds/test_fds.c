/* The promises of proxy/fds/fds.h. */
#include "fds/fds.h"

#include "support/unit.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#define THREADS 4
#define ROUNDS 50000
#define LIMIT 3

static struct fds fds;

static int set_up(void **state) {
    fds = (struct fds){.limit = {[FD_CLIENT] = 2, [FD_UPSTREAM] = LIMIT}};
    return 0;
}

static void a_class_has_as_many_as_its_limit(void **state) {
    assert_true(fds_acquire(&fds, FD_CLIENT));
    assert_true(fds_acquire(&fds, FD_CLIENT));
    assert_false(fds_acquire(&fds, FD_CLIENT));
    assert_int_equal(fds_used(&fds, FD_CLIENT), 2);
    fds_release(&fds, FD_CLIENT);
    assert_true(fds_acquire(&fds, FD_CLIENT));
    assert_false(fds_acquire(&fds, FD_CLIENT));
}

static void classes_do_not_touch_each_other(void **state) {
    assert_true(fds_acquire(&fds, FD_CLIENT));
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 0);
    assert_false(fds_acquire(&fds, FD_FILE)); /* no limit was set for it */
    assert_int_equal(fds_used(&fds, FD_FILE), 0);
}

static void force_enters_beyond_the_limit_and_blocks_others_until_it_is_over(void **state) {
    fds_force(&fds, FD_CLIENT);
    fds_force(&fds, FD_CLIENT);
    fds_force(&fds, FD_CLIENT);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 3);
    fds_release(&fds, FD_CLIENT);
    assert_false(fds_acquire(&fds, FD_CLIENT));
    fds_release(&fds, FD_CLIENT);
    assert_true(fds_acquire(&fds, FD_CLIENT));
}

static void every_class_has_a_name_of_its_own(void **state) {
    for (enum fd_class a = 0; a < FD_CLASSES; a++) {
        assert_true(strlen(fds_class_name(a)) > 0);
        for (enum fd_class b = 0; b < a; b++)
            assert_string_not_equal(fds_class_name(a), fds_class_name(b));
    }
}

static _Atomic uint32_t open_now;

static void *open_and_close(void *ctx) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!fds_acquire(&fds, FD_UPSTREAM))
            continue;
        assert(atomic_fetch_add(&open_now, 1) < LIMIT);
        atomic_fetch_sub(&open_now, 1);
        fds_release(&fds, FD_UPSTREAM);
    }
    return NULL;
}

static void the_limit_holds_over_all_threads(void **state) {
    pthread_t threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_class_has_as_many_as_its_limit, set_up),
        cmocka_unit_test_setup(classes_do_not_touch_each_other, set_up),
        cmocka_unit_test_setup(force_enters_beyond_the_limit_and_blocks_others_until_it_is_over,
                               set_up),
        cmocka_unit_test_setup(every_class_has_a_name_of_its_own, set_up),
        cmocka_unit_test_setup(the_limit_holds_over_all_threads, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
