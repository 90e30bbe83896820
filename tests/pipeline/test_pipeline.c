/* The promises of proxy/pipeline/pipeline.h. Endpoints are addresses that nobody needs to listen
 * on, except where a dial must not fail. */
#include "pipeline/permit.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define ENDPOINTS 3
#define PICKS 400

static struct loop loops[2];
static struct fds fds;
static struct pool_loop shared[2];
static struct config_address addresses[ENDPOINTS];
static struct config_pipeline config;
static struct pipeline *pipeline;
static struct pipeline_loop parts[2];

/* A permit with the number of rights that came to it. */
struct guest {
    struct permit permit;
    unsigned granted;
};

static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct guest *guest = CONTAINER_OF(permit_told(ticket), struct guest, permit);

    assert_null(gift);
    guest->granted++;
}

static void on_refused(struct gate_ticket *ticket) {
    permit_told(ticket);
}

static struct config_address address_of(uint16_t port) {
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct config_address address = {.kind = ADDRESS_INET, .port = port, .sockaddr_len = sizeof in};

    memcpy(&address.sockaddr, &in, sizeof in);
    return address;
}

static struct pipeline *open_pipeline(const struct config_pipeline *from) {
    struct pipeline *made = NULL;
    char *why = NULL;

    assert_int_equal(
        pipeline_open(&made, &(struct pipeline_options){.config = from, .loops = 2}, &why), 0);
    return made;
}

static int set_up(void **state) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        addresses[i] = address_of((uint16_t)(i + 1));
    config = (struct config_pipeline){
        .name = (char *)"engine",
        .endpoints = addresses,
        .endpoint_count = ENDPOINTS,
        .limits = {.concurrency = 2, .connections = 4, .streams = 1, .dials = 8},
        .queue = {.size = 3},
    };
    fds = (struct fds){.limit = {100, 100, 100, 100}};
    pipeline = open_pipeline(&config);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_open(&loops[i], i), 0);
        shared[i] = (struct pool_loop){.loop = &loops[i], .fds = &fds};
        pipeline_loop_open(&parts[i], pipeline, &shared[i], on_granted, on_refused);
    }
    return 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < 2; i++)
        pipeline_loop_close(&parts[i]);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(gate_taken(&pipeline->concurrency), 0);
    assert_int_equal(gate_taken(&pipeline->streams), 0);
    for (unsigned i = 0; i < ENDPOINTS && i < pipeline->set->count; i++)
        assert_int_equal(atomic_load(&pipeline->set->list[i]->refs), 1); /* the pools are gone */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(finish_loop(&loops[i]), 0);
    pipeline_close(pipeline);
    return 0;
}

static struct endpoint *endpoint(unsigned i) {
    return pipeline->set->list[i];
}

static void load(unsigned i, uint32_t inflight) {
    atomic_store(&endpoint(i)->inflight, inflight);
}

static void fail_dial(unsigned i) {
    endpoint_dial_failed(endpoint(i), FAIL_CONNECT_REFUSED, loops[0].now_ns + 3600 * NS_PER_S);
}

/* How often each endpoint was picked. */
static void pick_many(unsigned counts[ENDPOINTS], const struct endpoint *avoid) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        counts[i] = 0;
    for (unsigned n = 0; n < PICKS; n++) {
        struct pool *pool = pipeline_pick(&parts[0], avoid);

        for (unsigned i = 0; i < ENDPOINTS; i++)
            counts[i] += pool->endpoint == endpoint(i);
    }
    assert_int_equal(counts[0] + counts[1] + counts[2], PICKS);
}

/* --- The balancer ---------------------------------------------------------------------------- */

static void equal_endpoints_share(void **state) {
    unsigned counts[ENDPOINTS];

    pick_many(counts, NULL);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        assert_in_range(counts[i], PICKS / 6, PICKS / 2);
}

static void of_two_the_less_loaded_is_picked(void **state) {
    unsigned counts[ENDPOINTS];

    load(0, 5);
    load(1, 1);
    load(2, 3);
    pick_many(counts, NULL);
    assert_int_equal(counts[0], 0); /* whatever it is compared with has less */
    assert_true(counts[1] > counts[2] && counts[2] > 0);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        load(i, 0);
}

static void the_failed_one_is_avoided_even_if_it_has_less_to_do(void **state) {
    unsigned counts[ENDPOINTS];

    load(0, 9);
    load(2, 9);
    pick_many(counts, endpoint(1));
    assert_int_equal(counts[1], 0);
    assert_true(counts[0] > 0 && counts[2] > 0);
    load(0, 0);
    load(2, 0);
}

static void one_that_may_not_be_dialled_is_not_picked(void **state) {
    unsigned counts[ENDPOINTS];

    fail_dial(1);
    pick_many(counts, NULL);
    assert_int_equal(counts[1], 0);
    fail_dial(0);
    pick_many(counts, NULL);
    assert_int_equal(counts[2], PICKS);
}

static void the_failed_one_is_taken_when_no_other_is_usable(void **state) {
    unsigned counts[ENDPOINTS];

    fail_dial(0);
    fail_dial(1);
    pick_many(counts, endpoint(2));
    assert_int_equal(counts[2], PICKS);
}

static void when_none_is_usable_one_says_why(void **state) {
    struct lease lease = {0};
    enum fail reason = FAIL_NONE;
    struct pool *pool;

    for (unsigned i = 0; i < ENDPOINTS; i++)
        fail_dial(i);
    pool = pipeline_pick(&parts[0], NULL);
    assert_non_null(pool);
    assert_int_equal(pool_lease(pool, &lease, false, &reason), POOL_FAILED);
    assert_int_equal(reason, FAIL_CONNECT_REFUSED);
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
    assert_int_equal(guests[5].permit.kind, PERMIT_REFUSED);
    assert_int_equal(guests[5].permit.waiter.refused, FAIL_QUEUE_FULL);
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
    assert_int_equal(gate_taken(&pipeline->streams), 1);
    permit_release(&parts[0], &first.permit);
    assert_int_equal(gate_taken(&pipeline->streams), 0);
    permit_to_stream(&parts[0], &second.permit);
    assert_int_equal(second.permit.kind, PERMIT_STREAM);
    permit_release(&parts[0], &second.permit);
    permit_release(&parts[0], &waits.permit);
}

static void no_more_are_in_flight_than_there_are_connections(void **state) {
    struct pipeline *narrow;
    struct config_pipeline few = config;

    few.limits.concurrency = 1000;
    few.limits.connections = 5;
    narrow = open_pipeline(&few);
    assert_int_equal(narrow->concurrency.limit, 5 * ENDPOINTS);
    assert_int_equal(narrow->pool.dials, 4); /* shared out to the loops */
    pipeline_close(narrow);
    few.limits.dials = 1;
    narrow = open_pipeline(&few);
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
    assert_null(pipeline_pick(&parts[0], NULL));
}

static void a_set_that_comes_after_the_close_is_dropped(void **state) {
    struct endpoint_set *set = pipeline_endpoints(pipeline);
    unsigned refs = atomic_load(&set->refs);

    pipeline_loop_close(&parts[0]);
    assert_int_equal(atomic_load(&set->refs), refs - 1);
    pipeline_loop_take(&parts[0], set);
    assert_int_equal(atomic_load(&set->refs), refs - 2);
    assert_null(parts[0].set);
    pipeline_loop_open(&parts[0], pipeline, &shared[0], on_granted, on_refused);
}

static void one_address_written_twice_is_one_endpoint(void **state) {
    struct config_address twice[2] = {address_of(7), address_of(7)};
    struct config_pipeline doubled = config;
    struct pipeline *single;

    doubled.endpoints = twice;
    doubled.endpoint_count = 2;
    single = open_pipeline(&doubled);
    assert_int_equal(single->set->count, 1);
    pipeline_close(single);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(equal_endpoints_share),
        WITH(of_two_the_less_loaded_is_picked),
        WITH(the_failed_one_is_avoided_even_if_it_has_less_to_do),
        WITH(one_that_may_not_be_dialled_is_not_picked),
        WITH(the_failed_one_is_taken_when_no_other_is_usable),
        WITH(when_none_is_usable_one_says_why),
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
