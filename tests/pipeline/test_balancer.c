/* The promises of proxy/pipeline/balancer.h. */
#include "world.h"

#include "base/hash.h"

#include <stdio.h>

#define PICKS 400

static struct pipeline_loop *const part = &world.parts[0];

static int set_up(void **state) {
    world_configure();
    world_open(NULL, NULL);
    return 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        atomic_store(&endpoint(i)->inflight, 0);
    world_close();
    return 0;
}

static void load(unsigned i, uint32_t inflight) {
    atomic_store(&endpoint(i)->inflight, inflight);
}

/* The index of the endpoint that is picked. */
static unsigned pick(const struct balancer_wish *wish) {
    struct pool *pool = balancer_pick(part, wish);

    for (unsigned i = 0; i < ENDPOINTS; i++)
        if (pool->endpoint == endpoint(i))
            return i;
    fail_msg("an endpoint of nobody");
    return 0;
}

/* How often each endpoint was picked. */
static void pick_many(unsigned counts[ENDPOINTS], const struct endpoint *avoid) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        counts[i] = 0;
    for (unsigned n = 0; n < PICKS; n++)
        counts[pick(&(struct balancer_wish){.avoid = avoid})]++;
}

static uint64_t key_of(unsigned n) {
    char text[16];

    snprintf(text, sizeof text, "client-%u", n);
    return hash_of(slice_str(text));
}

static unsigned pick_key(unsigned n) {
    return pick(&(struct balancer_wish){.is_keyed = true, .key = key_of(n)});
}

/* --- The less loaded of two ------------------------------------------------------------------- */

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
}

static void one_that_has_just_returned_gets_less(void **state) {
    static const struct endpoint_settings slowly = {
        .breaker = {.open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S},
        .slow_start_ns = 10 * NS_PER_S,
    };
    unsigned counts[ENDPOINTS];

    endpoint_set(endpoint(0), &slowly);
    atomic_store(&endpoint(0)->returned_ns, world.loops[0].now_ns - NS_PER_S); /* a tenth */
    load(0, 1);
    load(1, 9);
    load(2, 9);
    pick_many(counts, NULL);
    assert_int_equal(counts[0], 0); /* two of a tenth of the weight are more than ten */
    load(0, 0);
    load(1, 19);
    load(2, 19);
    pick_many(counts, NULL);
    assert_true(counts[0] > PICKS / 2);
}

static void the_failed_one_is_avoided_even_if_it_has_less_to_do(void **state) {
    unsigned counts[ENDPOINTS];

    load(0, 9);
    load(2, 9);
    pick_many(counts, endpoint(1));
    assert_int_equal(counts[1], 0);
    assert_true(counts[0] > 0 && counts[2] > 0);
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

static void one_out_of_service_is_not_picked(void **state) {
    unsigned counts[ENDPOINTS];

    endpoint_change(endpoint(0), ENDPOINT_DISABLED, 0, 1);
    endpoint_change(endpoint(2), ENDPOINT_UNHEALTHY, 0, 1);
    pick_many(counts, NULL);
    assert_int_equal(counts[1], PICKS);
}

static void an_order_reaches_the_endpoint(void **state) {
    struct balancer_wish none = {0};

    endpoint_unref(pipeline_set_service(world.pipeline, SLICE("127.0.0.1:2"), ENDPOINT_DISABLED));
    for (unsigned n = 0; n < PICKS; n++)
        assert_int_not_equal(pick(&none), 1);
    endpoint_unref(pipeline_set_service(world.pipeline, SLICE("127.0.0.1:1"), ENDPOINT_DRAINED));
    endpoint_unref(pipeline_set_service(world.pipeline, SLICE("127.0.0.1:3"), ENDPOINT_DISABLED));
    assert_null(balancer_pick(part, &none));
    assert_null(pipeline_set_service(world.pipeline, SLICE("127.0.0.1:4"), ENDPOINT_DISABLED));
    endpoint_unref(pipeline_set_service(world.pipeline, SLICE("127.0.0.1:1"), 0));
    assert_int_equal(pick(&none), 0);
}

static void one_whose_breaker_is_open_is_not_picked(void **state) {
    struct balancer_wish none = {0};

    breaker_trip(&endpoint(0)->breaker, BREAKER_OFTEN, NULL, world.loops[0].now_ns);
    for (unsigned n = 0; n < PICKS; n++)
        assert_int_not_equal(pick(&none), 0);
    assert_int_equal(balancer_outage(part), FAIL_NONE);
    /* With none usable, one that says why. */
    for (unsigned i = 1; i < ENDPOINTS; i++)
        breaker_trip(&endpoint(i)->breaker, BREAKER_OFTEN, NULL, world.loops[0].now_ns);
    assert_non_null(balancer_pick(part, &none));
    assert_int_equal(balancer_outage(part), FAIL_ENDPOINT_NONE);
}

static void the_failed_one_is_taken_when_no_other_is_usable(void **state) {
    unsigned counts[ENDPOINTS];

    fail_dial(0);
    fail_dial(1);
    pick_many(counts, endpoint(2));
    assert_int_equal(counts[2], PICKS);
}

static void who_failed_before_is_not_sent_to_find_out(void **state) {
    struct balancer_wish wish = {.avoid = endpoint(2), .is_sure = true};

    for (unsigned i = 0; i < 2; i++) { /* their backoff is over */
        fail_dial(i);
        endpoint_let_dial(endpoint(i));
    }
    for (unsigned n = 0; n < PICKS; n++)
        assert_int_equal(pick(&wish), 2); /* although it is to be avoided */
    fail_dial(2);
    endpoint_let_dial(endpoint(2));
    for (unsigned n = 0; n < PICKS; n++)
        assert_int_not_equal(pick(&wish), 2); /* there is no sure one: any other */
}

static void when_none_is_usable_one_says_why(void **state) {
    struct lease lease = {0};
    enum fail reason = FAIL_NONE;
    struct pool *pool;

    for (unsigned i = 0; i < ENDPOINTS; i++)
        fail_dial(i);
    pool = balancer_pick(part, &(struct balancer_wish){0});
    assert_non_null(pool);
    assert_int_equal(pool_lease(pool, &lease, false, &reason), POOL_FAILED);
    assert_int_equal(reason, FAIL_CONNECT_REFUSED);
}

/* --- By key ----------------------------------------------------------------------------------- */

static void a_key_leads_to_the_same_endpoint(void **state) {
    unsigned counts[ENDPOINTS] = {0};

    for (unsigned n = 0; n < PICKS; n++) {
        unsigned first = pick_key(n);

        counts[first]++;
        for (unsigned again = 0; again < 3; again++)
            assert_int_equal(pick_key(n), first);
        assert_int_equal(balancer_home(part, key_of(n)), endpoint(first)->id);
    }
    for (unsigned i = 0; i < ENDPOINTS; i++)
        assert_in_range(counts[i], PICKS / 4, PICKS / 2);
}

static void only_the_keys_of_one_that_goes_move(void **state) {
    unsigned before[PICKS], counts[ENDPOINTS] = {0};

    for (unsigned n = 0; n < PICKS; n++)
        before[n] = pick_key(n);
    fail_dial(1);
    for (unsigned n = 0; n < PICKS; n++) {
        unsigned now = pick_key(n);

        if (before[n] == 1)
            counts[now]++;
        else
            assert_int_equal(now, before[n]);
    }
    assert_int_equal(counts[1], 0);
    assert_true(counts[0] > PICKS / 10 && counts[2] > PICKS / 10); /* and to all the others */
}

static void no_key_leads_to_more_than_its_bound(void **state) {
    unsigned hot = pick_key(7), other;

    load(hot, BALANCER_BOUND_MIN - 1); /* nothing elsewhere, but it is little */
    assert_int_equal(pick_key(7), hot);
    load(hot, BALANCER_BOUND_MIN);
    assert_int_not_equal(pick_key(7), hot);
    /* 31 in all with this one: a third and a quarter of that is 13. */
    for (unsigned i = 0; i < ENDPOINTS; i++)
        load(i, i == hot ? 12 : 9);
    assert_int_equal(pick_key(7), hot);
    load(hot, 14);
    other = pick_key(7);
    assert_int_not_equal(other, hot);
    for (unsigned n = 0; n < PICKS; n++)
        assert_int_not_equal(pick_key(n), hot);
    assert_int_equal(pick_key(7), other); /* the second in the key's own order */
}

static void one_that_has_just_returned_gets_a_part_of_its_keys(void **state) {
    static const struct endpoint_settings slowly = {
        .breaker = {.open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S},
        .slow_start_ns = 10 * NS_PER_S,
    };
    unsigned own = 0, kept = 0;

    for (unsigned n = 0; n < PICKS; n++)
        own += pick_key(n) == 0;
    endpoint_set(endpoint(0), &slowly);
    atomic_store(&endpoint(0)->returned_ns, world.loops[0].now_ns - 5 * NS_PER_S);
    for (unsigned n = 0; n < PICKS; n++)
        kept += pick_key(n) == 0;
    assert_in_range(kept, own / 3, own * 2 / 3);
}

/* --- Who belongs to one ------------------------------------------------------------------------
 */

static void who_belongs_to_one_gets_it(void **state) {
    struct balancer_wish wish = {.home = endpoint(2)->id};
    bool is_known = false;

    load(2, 1000);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(pick(&wish), 2);
    endpoint_change(endpoint(2), ENDPOINT_DRAINED, 0, 1); /* for others only */
    assert_int_equal(pick(&wish), 2);
    endpoint_change(endpoint(2), ENDPOINT_DISABLED, 0, 1);
    assert_int_not_equal(pick(&wish), 2);
    assert_null(balancer_find(part, endpoint(2)->id, &is_known));
    assert_true(is_known);
    assert_null(balancer_find(part, 12345, &is_known));
    assert_false(is_known);
}

static void who_has_failed_there_is_served_elsewhere(void **state) {
    struct balancer_wish wish = {.home = endpoint(2)->id, .avoid = endpoint(2)};

    assert_int_not_equal(pick(&wish), 2);
}

/* --- Outages -----------------------------------------------------------------------------------
 */

static void one_endpoint_that_is_not_known_to_be_down_is_no_outage(void **state) {
    assert_int_equal(balancer_outage(part), FAIL_NONE);
    fail_dial(0);
    fail_dial(1);
    assert_int_equal(balancer_outage(part), FAIL_NONE);
    fail_dial(2);
    assert_int_equal(balancer_outage(part), FAIL_CONNECT_REFUSED);
    endpoint_let_dial(endpoint(2)); /* that it may be dialled is no sign of life */
    assert_int_equal(balancer_outage(part), FAIL_CONNECT_REFUSED);
    endpoint_dial_succeeded(endpoint(2));
    assert_int_equal(balancer_outage(part), FAIL_NONE);
    endpoint_change(endpoint(2), ENDPOINT_DISABLED, 0, 1);
    assert_int_equal(balancer_outage(part), FAIL_CONNECT_REFUSED);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        endpoint_change(endpoint(i), ENDPOINT_DISABLED, 0, 1);
    assert_int_equal(balancer_outage(part), FAIL_ENDPOINT_NONE);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(equal_endpoints_share),
        WITH(of_two_the_less_loaded_is_picked),
        WITH(one_that_has_just_returned_gets_less),
        WITH(the_failed_one_is_avoided_even_if_it_has_less_to_do),
        WITH(one_that_may_not_be_dialled_is_not_picked),
        WITH(one_out_of_service_is_not_picked),
        WITH(an_order_reaches_the_endpoint),
        WITH(one_whose_breaker_is_open_is_not_picked),
        WITH(the_failed_one_is_taken_when_no_other_is_usable),
        WITH(who_failed_before_is_not_sent_to_find_out),
        WITH(when_none_is_usable_one_says_why),
        WITH(a_key_leads_to_the_same_endpoint),
        WITH(only_the_keys_of_one_that_goes_move),
        WITH(no_key_leads_to_more_than_its_bound),
        WITH(one_that_has_just_returned_gets_a_part_of_its_keys),
        WITH(who_belongs_to_one_gets_it),
        WITH(who_has_failed_there_is_served_elsewhere),
        WITH(one_endpoint_that_is_not_known_to_be_down_is_no_outage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
