/* What a rush leaves behind: pools that are dropped at rest, and memory that goes back. */
#include "gateway/rest.h"

#include "fixture.h"
#include "handler/handlers_state.h"
#include "handler/trap.h"
#include "metrics/process.h"

#include <stdlib.h>
#include <string.h>

#define RUSH 40
#define BLOCKS 4096
#define BLOCK_BYTES 16384

static const struct config config; /* without listeners */
static struct gateway gateway;

static int open_gateway(void **state) {
    struct fixture *f;

    if (fixture_open(state))
        return -1;
    f = *state;
    gateway = (struct gateway){.config = &config, .loops = &f->gl, .loop_count = 1};
    f->gl.gateway = &gateway;
    return 0;
}

static int close_gateway(void **state) {
    rest_close(&gateway);
    return fixture_close(state);
}

/* So many exchanges at once, with what they had to wait for written and sent. */
static void rush(struct fixture *f) {
    struct crossing *all[RUSH];
    struct chunks waiting = {0};

    for (unsigned i = 0; i < RUSH; i++)
        all[i] = crossing_new(&f->listener);
    for (unsigned i = 0; i < RUSH; i++) {
        chunks_push(&waiting, &f->gl.loop, SLICE("some"));
        chunks_push_little(&waiting, &f->gl.loop, SLICE("more"));
        crossing_free(all[i]);
    }
    chunks_clear(&waiting, &f->gl.loop);
}

static void look_after(struct fixture *f, int64_t ns) {
    f->gl.loop.now_ns += ns;
    rest_look(&f->gl);
}

static void a_loop_at_rest_keeps_nothing_in_its_pools(void **state) {
    struct fixture *f = *state;

    rush(f);
    look_after(f, 0);
    look_after(f, REST_AFTER_NS - 1);
    assert_int_equal(f->gl.spare_crossings.count, SPARES_ARE_KEPT ? RUSH : 0);
    assert_true(f->gl.loop.chunk_count > 0);
    look_after(f, 1);
    assert_int_equal(f->gl.spare_crossings.count, 0);
    assert_int_equal(f->gl.loop.chunk_count + f->gl.loop.small_chunk_count, 0);
}

static void who_is_busy_keeps_its_pools(void **state) {
    struct fixture *f = *state;

    for (unsigned i = 0; i < 20; i++) {
        rush(f);
        look_after(f, REST_AFTER_NS - 1);
    }
    assert_int_equal(f->gl.spare_crossings.count, SPARES_ARE_KEPT ? RUSH : 0);
    assert_int_equal(gateway.rest.trims, 0);
}

static void memory_goes_back_once_a_rest_and_once_a_minute(void **state) {
    struct fixture *f = *state;

    look_after(f, 0);
    look_after(f, REST_AFTER_NS);
    assert_int_equal(gateway.rest.trims, 1);
    look_after(f, 10 * REST_TRIM_PAUSE_NS);
    assert_int_equal(gateway.rest.trims, 1); /* nothing has been since */
    rush(f);
    look_after(f, 0);
    rest_close(&gateway); /* it is through */
    look_after(f, REST_AFTER_NS);
    assert_int_equal(gateway.rest.trims, 2);
    rush(f);
    look_after(f, 0);
    look_after(f, REST_AFTER_NS);
    assert_int_equal(gateway.rest.trims, 2); /* it has just been */
    rest_close(&gateway);                    /* it is through */
    look_after(f, REST_TRIM_PAUSE_NS - REST_AFTER_NS);
    assert_int_equal(gateway.rest.trims, 3);
}

static void it_takes_all_loops(void **state) {
    struct fixture *f = *state;
    static struct gateway_loop loops[2];

    memset(loops, 0, sizeof loops);
    loops[0].gateway = &gateway;
    gateway.loops = loops;
    gateway.loop_count = 2;
    rest_look(&loops[0]);
    loops[0].loop.now_ns = NS_PER_S;
    rest_look(&loops[0]);
    loops[0].loop.now_ns += REST_AFTER_NS;
    rest_look(&loops[0]);
    assert_true(atomic_load(&loops[0].rest.is_at_rest));
    assert_int_equal(gateway.rest.trims, 0);
    atomic_store(&loops[1].rest.is_at_rest, true);
    rest_look(&loops[0]);
    assert_int_equal(gateway.rest.trims, 1);
    gateway.loops = &f->gl;
}

static void not_where_a_fault_may_have_left_malloc_locked(void **state) {
    struct fixture *f = *state;
    struct handlers handlers = {.is_tainted = true};

    gateway.handlers = &handlers;
    look_after(f, 0);
    look_after(f, REST_AFTER_NS);
    assert_true(atomic_load(&f->gl.rest.is_at_rest));
    assert_int_equal(gateway.rest.trims, 0);
    gateway.handlers = NULL;
}

static uint64_t resident(void) {
    struct process_figures figures;

    assert_true(process_look(&figures));
    return figures.resident_bytes;
}

static void what_malloc_has_free_goes_back_to_the_kernel(void **state) {
    static char *blocks[BLOCKS];
    struct fixture *f = *state;
    uint64_t before;

    if (HANDLER_HAS_SANITIZER)
        skip(); /* it has a malloc() of its own */
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        memset(blocks[i], 'x', BLOCK_BYTES);
    }
    for (unsigned i = 0; i < BLOCKS - 1; i++) /* the last one keeps the heap from shrinking */
        free(blocks[i]);
    before = resident();
    look_after(f, 0);
    look_after(f, REST_AFTER_NS);
    rest_close(&gateway); /* it is through */
    assert_true(resident() + (uint64_t)BLOCKS * BLOCK_BYTES / 2 < before);
    free(blocks[BLOCKS - 1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_loop_at_rest_keeps_nothing_in_its_pools, open_gateway,
                                        close_gateway),
        cmocka_unit_test_setup_teardown(who_is_busy_keeps_its_pools, open_gateway, close_gateway),
        cmocka_unit_test_setup_teardown(memory_goes_back_once_a_rest_and_once_a_minute,
                                        open_gateway, close_gateway),
        cmocka_unit_test_setup_teardown(it_takes_all_loops, open_gateway, close_gateway),
        cmocka_unit_test_setup_teardown(not_where_a_fault_may_have_left_malloc_locked, open_gateway,
                                        close_gateway),
        cmocka_unit_test_setup_teardown(what_malloc_has_free_goes_back_to_the_kernel, open_gateway,
                                        close_gateway),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
