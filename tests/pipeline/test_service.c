/* The promises of proxy/pipeline/service.h and flows.h; time is a number. */
#include "pipeline/service.h"

#include "pipeline/flows.h"
#include "support/unit.h"

#define MS NS_PER_MS
#define START (1000 * MS)

static void learn(struct service *service, unsigned count, int64_t ns, int64_t at_ns) {
    struct service_sample sample = {0};

    for (unsigned i = 0; i < count; i++)
        service_sample_add(&sample, ns);
    service_learn(service, &sample, at_ns);
}

static void the_mean_follows_what_is_measured(void **state) {
    struct service service = {0};

    learn(&service, 0, 0, START);
    assert_int_equal(service.mean_ns, 0);
    learn(&service, 1, 20 * MS, START);
    assert_int_equal(service.mean_ns, 20 * MS);
    for (unsigned i = 0; i < 10; i++)
        learn(&service, SERVICE_WEIGHT, 200 * MS, START);
    assert_in_range(service.mean_ns, 199 * MS, 200 * MS);
}

static void the_floor_is_the_fastest_of_the_last_seconds(void **state) {
    struct service service = {0};

    assert_int_equal(service_floor_ns(&service), 0);
    learn(&service, 1, 20 * MS, START);
    learn(&service, 1, 5 * MS, START + MS);
    learn(&service, 1, 30 * MS, START + SERVICE_FLOOR_NS);
    assert_int_equal(service_floor_ns(&service), 5 * MS);
    learn(&service, 1, 40 * MS, START + 2 * SERVICE_FLOOR_NS);
    assert_int_equal(service_floor_ns(&service), 30 * MS);
}

static void the_rate_is_that_of_the_line_or_of_little(void **state) {
    struct service service = {0};

    assert_true(service_rate(&service, 40, START) == 0);
    learn(&service, 10, 20 * MS, START);
    assert_in_range((int)service_rate(&service, 40, START), 1999, 2001);
    service_drain_begin(&service, START);
    for (int64_t i = 1; i <= 100; i++)
        service_drained(&service, START + i * 2 * MS);
    assert_in_range((int)service_rate(&service, 40, START + 200 * MS), 450, 550);
    service_drain_end(&service, START + 200 * MS);
    assert_in_range((int)service_rate(&service, 40, START + 10000 * MS), 450, 550);
}

static void a_line_that_stands_still_is_slow(void **state) {
    struct service service = {0};

    learn(&service, 10, 20 * MS, START);
    service_drain_begin(&service, START);
    assert_true(service_rate(&service, 40, START + 10000 * MS) <= 0.1);
}

static void each_client_that_waits_has_a_flow_for_each_priority(void **state) {
    struct flows flows;
    struct flow *a, *b, *urgent;

    flows_init(&flows);
    assert_null(flows_find(&flows, 7, 1));
    a = flows_get(&flows, 7, 1);
    b = flows_get(&flows, 8, 1);
    urgent = flows_get(&flows, 7, 0);
    assert_true(a != b && a != urgent && b != urgent);
    assert_ptr_equal(flows_get(&flows, 7, 1), a);
    assert_ptr_equal(flows_find(&flows, 7, 0), urgent);
    flows_put(&flows, a);
    assert_null(flows_find(&flows, 7, 1));
    flows_put(&flows, b);
    flows_put(&flows, urgent);
    assert_int_equal(flows.count, 0);
    flows_deinit(&flows);
}

static void clients_beyond_the_bound_share_a_flow(void **state) {
    struct flows flows;
    struct flow *own[FLOWS_MAX], *shared;

    flows_init(&flows);
    for (unsigned i = 0; i < FLOWS_MAX; i++)
        own[i] = flows_get(&flows, i + 1, 1);
    shared = flows_get(&flows, FLOWS_MAX + 1, 1);
    assert_int_equal(shared->client, 0);
    assert_ptr_equal(flows_get(&flows, FLOWS_MAX + 2, 1), shared);
    assert_ptr_equal(flows_find(&flows, FLOWS_MAX + 3, 1), shared);
    assert_ptr_equal(flows_get(&flows, 1, 1), own[0]);
    /* There is room again. */
    flows_put(&flows, own[0]);
    flows_put(&flows, own[1]);
    assert_int_not_equal(flows_get(&flows, FLOWS_MAX + 1, 1)->client, 0);
    flows_put(&flows, flows_find(&flows, FLOWS_MAX + 1, 1));
    flows_put(&flows, shared);
    for (unsigned i = 2; i < FLOWS_MAX; i++)
        flows_put(&flows, own[i]);
    flows_deinit(&flows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_follows_what_is_measured),
        cmocka_unit_test(the_floor_is_the_fastest_of_the_last_seconds),
        cmocka_unit_test(the_rate_is_that_of_the_line_or_of_little),
        cmocka_unit_test(a_line_that_stands_still_is_slow),
        cmocka_unit_test(each_client_that_waits_has_a_flow_for_each_priority),
        cmocka_unit_test(clients_beyond_the_bound_share_a_flow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
