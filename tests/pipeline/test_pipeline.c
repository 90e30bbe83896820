/* The promises of proxy/pipeline/pipeline.h. */
#include "world.h"

#include "base/alloc.h"
#include "pipeline/watch.h"

#include <stdio.h>
#include <stdlib.h>

static struct loop *const loops = world.loops;
static struct pipeline_loop *const parts = world.parts;

/* A permit with the number of rights that came to it. */
struct guest {
    struct permit permit;
    unsigned granted;
};

static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct guest *guest = CONTAINER_OF(ticket, struct guest, permit.ticket);

    assert_null(gift);
    permit_granted(&guest->permit);
    guest->granted++;
}

static int set_up(void **state) {
    world_configure();
    world_open(on_granted, NULL);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

/* --- Permits --------------------------------------------------------------------------------- */

static void permits_are_bounded_and_waited_for_in_line(void **state) {
    struct guest guests[6] = {0};

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(permit_acquire(&parts[i], &guests[i].permit), GATE_IN);
        assert_int_equal(guests[i].permit.kind, PERMIT_CONCURRENCY);
    }
    for (unsigned i = 2; i < 5; i++) {
        assert_int_equal(permit_acquire(&parts[i % 2], &guests[i].permit), GATE_WAIT);
        assert_int_equal(guests[i].permit.kind, PERMIT_WAITING);
    }
    assert_int_equal(permit_acquire(&parts[0], &guests[5].permit), GATE_FULL);
    assert_int_equal(guests[5].permit.kind, PERMIT_NONE);
    permit_release(&parts[0], &guests[5].permit); /* nothing was taken */
    permit_release(&parts[0], &guests[0].permit);
    AWAIT(&loops[0], &loops[1], guests[2].granted == 1);
    assert_int_equal(guests[2].permit.kind, PERMIT_CONCURRENCY);
    assert_int_equal(guests[3].granted, 0);
    permit_release(&parts[1], &guests[3].permit); /* leaves the line */
    permit_release(&parts[1], &guests[1].permit);
    AWAIT(&loops[0], &loops[1], guests[4].granted == 1);
    assert_int_equal(guests[3].granted, 0);
    permit_release(&parts[0], &guests[2].permit);
    permit_release(&parts[0], &guests[4].permit);
    permit_release(&parts[0], &guests[4].permit); /* once only */
}

static void a_permit_that_is_given_up_on_its_way_passes_on(void **state) {
    struct guest in[2] = {0}, far = {0}, next = {0};

    permit_acquire(&parts[0], &in[0].permit);
    permit_acquire(&parts[0], &in[1].permit);
    permit_acquire(&parts[1], &far.permit);
    permit_acquire(&parts[0], &next.permit);
    permit_release(&parts[0], &in[0].permit); /* a letter to loop 1 */
    permit_release(&parts[1], &far.permit);
    AWAIT(&loops[0], &loops[1], next.granted == 1);
    assert_int_equal(far.granted, 0);
    permit_release(&parts[0], &in[1].permit);
    permit_release(&parts[0], &next.permit);
}

static void a_stream_trades_its_permit_if_there_is_one_for_streams(void **state) {
    struct guest first = {0}, second = {0}, waits = {0};

    permit_acquire(&parts[0], &first.permit);
    permit_acquire(&parts[0], &second.permit);
    assert_int_equal(permit_acquire(&parts[0], &waits.permit), GATE_WAIT);
    permit_to_stream(&parts[0], &first.permit);
    assert_int_equal(first.permit.kind, PERMIT_STREAM);
    assert_int_equal(waits.granted, 1); /* its place is free at once */
    permit_to_stream(&parts[0], &second.permit);
    assert_int_equal(second.permit.kind,
                     PERMIT_CONCURRENCY); /* streams are full: it keeps its own */
    permit_to_stream(&parts[0], &first.permit);
    assert_int_equal(gate_taken(&world.pipeline->streams), 1);
    permit_release(&parts[0], &first.permit);
    assert_int_equal(gate_taken(&world.pipeline->streams), 0);
    permit_to_stream(&parts[0], &second.permit);
    assert_int_equal(second.permit.kind, PERMIT_STREAM);
    permit_release(&parts[0], &second.permit);
    permit_release(&parts[0], &waits.permit);
}

static void no_more_are_in_flight_than_there_are_connections(void **state) {
    struct pipeline *narrow;
    struct config_pipeline few = world.config;

    few.limits.concurrency = 1000;
    few.limits.connections = 5;
    narrow = world_open_pipeline(&few);
    assert_int_equal(narrow->concurrency.limit, 5 * ENDPOINTS);
    assert_int_equal(narrow->pool.dials, 4); /* shared out to the loops */
    pipeline_close(narrow);
    few.limits.dials = 1;
    narrow = world_open_pipeline(&few);
    assert_int_equal(narrow->pool.dials, 1); /* one at least */
    pipeline_close(narrow);
}

/* --- Another set of addresses ---------------------------------------------------------------- */

static struct endpoint_set *make_set(unsigned count) {
    struct endpoint_set *set = xcalloc(1, sizeof *set + count * sizeof(struct endpoint *));

    atomic_init(&set->refs, 1);
    set->count = count;
    return set;
}

static void pools_of_addresses_that_stay_stay(void **state) {
    struct endpoint_set *set = make_set(2);
    struct endpoint *fresh = endpoint_new(&(struct sockaddr_storage){.ss_family = AF_INET}, 4, 2);
    struct pool *kept = parts[0].pools[2];

    set->list[0] = fresh;
    set->list[1] = endpoint_ref(endpoint(2));
    pipeline_loop_take(&parts[0], set);
    assert_ptr_equal(parts[0].pools[1], kept);
    assert_ptr_equal(parts[0].pools[0]->endpoint, fresh);
    assert_ptr_equal(fresh->pools[0], parts[0].pools[0]);
    settle_down(&loops[0], &loops[1]);
    assert_null(endpoint(0)->pools[0]);                         /* gone on this loop, */
    assert_ptr_equal(endpoint(0)->pools[1], parts[1].pools[0]); /* not on the other */
}

static void without_addresses_there_is_nothing_to_pick(void **state) {
    pipeline_loop_take(&parts[0], make_set(0));
    assert_null(balancer_pick(&parts[0], &(struct balancer_wish){0}));
}

static void a_set_that_comes_after_the_close_is_dropped(void **state) {
    struct endpoint_set *set = pipeline_endpoints(world.pipeline);
    unsigned refs = atomic_load(&set->refs);

    pipeline_loop_close(&parts[0]);
    assert_int_equal(atomic_load(&set->refs), refs - 1);
    pipeline_loop_take(&parts[0], set);
    assert_int_equal(atomic_load(&set->refs), refs - 2);
    assert_null(parts[0].set);
    pipeline_loop_open(&parts[0], world.pipeline, &world.shared[0], on_granted, NULL);
}

static void one_address_written_twice_is_one_endpoint(void **state) {
    struct config_address twice[2] = {world_address(7), world_address(7)};
    struct config_pipeline doubled = world.config;
    struct pipeline *single;

    doubled.endpoints = twice;
    doubled.endpoint_count = 2;
    single = world_open_pipeline(&doubled);
    assert_int_equal(single->set->count, 1);
    pipeline_close(single);
}

static void orders_are_remembered_up_to_a_bound(void **state) {
    char text[ENDPOINT_TEXT_BYTES];

    for (unsigned i = 0; i <= PIPELINE_ORDERS_MAX; i++) {
        snprintf(text, sizeof text, "10.0.0.1:%u", i + 1);
        pipeline_remember_service(world.pipeline, slice_str(text), ENDPOINT_DISABLED);
        pipeline_remember_service(world.pipeline, slice_str(text),
                                  ENDPOINT_DRAINED); /* the last one */
        assert_int_equal(watch_order_for(world.pipeline, text), ENDPOINT_DRAINED);
    }
    assert_int_equal(world.pipeline->order_count, PIPELINE_ORDERS_MAX);
    assert_int_equal(watch_order_for(world.pipeline, "10.0.0.1:1"), 0);
    assert_int_equal(watch_order_for(world.pipeline, "10.0.0.1:2"), ENDPOINT_DRAINED);
    pipeline_remember_service(world.pipeline, SLICE("10.0.0.1:2"), 0);
    assert_int_equal(watch_order_for(world.pipeline, "10.0.0.1:2"), 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(orders_are_remembered_up_to_a_bound),
        WITH(permits_are_bounded_and_waited_for_in_line),
        WITH(a_permit_that_is_given_up_on_its_way_passes_on),
        WITH(a_stream_trades_its_permit_if_there_is_one_for_streams),
        WITH(no_more_are_in_flight_than_there_are_connections),
        WITH(pools_of_addresses_that_stay_stay),
        WITH(without_addresses_there_is_nothing_to_pick),
        WITH(a_set_that_comes_after_the_close_is_dropped),
        WITH(one_address_written_twice_is_one_endpoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
