/* The queue and the limiter under load, against what queueing theory knows, and against what they
 * promise. */
#include "sim.h"

#include "support/unit.h"

#include <math.h>

#define MS NS_PER_MS

static struct sim sim;

/* An engine of 2,000/s: 40 at once, 20 ms each. */
static void begin(double load) {
    sim = (struct sim){
        .sources = {{.per_s = 2000 * load, .client = 1, .priority = PRIORITY_DEFAULT}},
        .source_count = 1,
        .limit = 40,
        .places = 40,
        .service_ns = 20 * MS,
        .config = {.queue = {.size = 256, .target_ns = 10 * MS}},
        .warmup_ns = 3 * NS_PER_S,
        .duration_ns = 20 * NS_PER_S,
    };
}

static void near(double found, double wanted, double share) {
    if (fabs(found - wanted) > share * wanted)
        fail_msg("%g is not %g, give or take %g%%", found, wanted, 100 * share);
}

/* The share of M/G/c/c that is turned away. */
static double erlang_b(unsigned places, double load) {
    double b = 1;

    for (unsigned i = 1; i <= places; i++)
        b = load * b / (i + load * b);
    return b;
}

static void without_a_queue_it_is_erlangs_loss(void **state) {
    static const double loads[] = {0.8, 1, 2};

    for (unsigned i = 0; i < 3; i++) {
        begin(loads[i]);
        sim.config.queue.size = 0;
        sim.duration_ns = 60 * NS_PER_S;
        sim_run(&sim);
        near(sim.goodput, 2000 * loads[i] * (1 - erlang_b(40, 40 * loads[i])), 0.01);
    }
}

/* Pollaczek and Khinchine: rho * s / (2 * (1 - rho)). */
static void with_one_place_the_wait_is_that_of_an_m_d_1(void **state) {
    begin(0);
    sim.sources[0].per_s = 70;
    sim.limit = sim.places = 1;
    sim.service_ns = 10 * MS;
    sim.config.queue.size = 100000;
    sim.config.queue.target_ns = 0;
    sim.duration_ns = 2000 * NS_PER_S;
    sim_run(&sim);
    near(sim.mean_wait_ns, 0.7 * 10e6 / (2 * 0.3), 0.05);
    near(sim.goodput, 70, 0.02);
}

/* The order changes who waits, not how long they do in all. */
static void the_mean_wait_is_the_same_in_any_order(void **state) {
    double waits[2];

    for (unsigned i = 0; i < 2; i++) {
        begin(0.97);
        sim.config.queue.target_ns = i == 0 ? 0 : 10 * NS_PER_S;
        sim.config.queue.size = 100000;
        sim.source_count = 10;
        for (unsigned s = 0; s < 10; s++)
            sim.sources[s] = (struct sim_source){
                .per_s = 194, .client = i == 0 ? 0 : s + 1, .priority = PRIORITY_DEFAULT};
        sim_run(&sim);
        waits[i] = sim.mean_wait_ns;
    }
    near(waits[0], waits[1], 0.01);
}

static void what_can_be_done_is_done_and_done_in_time(void **state) {
    static const double loads[] = {1, 2, 5};

    for (unsigned i = 0; i < 3; i++) {
        begin(loads[i]);
        sim_run(&sim);
        assert_true(sim.goodput >= 0.97 * 2000);
        assert_true(sim.p50_ns <= 24 * MS);
        assert_true(sim.p99_ns <= 54 * MS);
        assert_true(sim.refused_p50_ns <= MS);
        assert_true(sim.queued_max <= 256);
    }
}

/* At exactly what can be done it is chance that makes a line, and nothing that drains it: as long
 * as an answer takes, whatever that is. */
static void at_full_load_the_wait_goes_by_what_an_answer_takes(void **state) {
    static const int64_t services_ns[] = {20 * MS, 50 * MS, 200 * MS};

    for (unsigned i = 0; i < 3; i++) {
        double service_ns = (double)services_ns[i];

        begin(0);
        sim.service_ns = services_ns[i];
        sim.sources[0].per_s = 40e9 / service_ns;
        sim.duration_ns = 3000 * sim.service_ns;
        sim_run(&sim);
        assert_true(sim.goodput >= 0.97 * sim.sources[0].per_s);
        assert_true((double)sim.p50_ns <= 1.2 * service_ns);
        assert_true((double)sim.p99_ns <= 2.7 * service_ns);
    }
}

/* Services of 20 ms and more, 40 on average. */
static void the_same_where_answers_take_more_or_less(void **state) {
    begin(0.5);
    sim.jitter = 1;
    sim.duration_ns = 60 * NS_PER_S;
    sim_run(&sim);
    assert_true(sim.goodput >= 0.96 * 1000);
    assert_true(sim.p50_ns <= 1.2 * 40 * MS);
    assert_true(sim.p99_ns <= 3.6 * 40 * MS);
}

/* The engine does nothing for a while (it collects its garbage, say). What has come together
 * meanwhile is a burst, and all of it can be done. */
static void a_pause_of_the_engine_costs_nobody(void **state) {
    static const struct {
        double load;
        int64_t ns;
    } pauses[] = {{0.5, 80 * MS}, {0.8, 70 * MS}, {0.8, 50 * MS}};

    for (unsigned i = 0; i < 3; i++) {
        begin(pauses[i].load);
        sim.jitter = 0.02;
        sim.pause_ns = pauses[i].ns;
        sim_run(&sim);
        assert_int_equal(sim.sources[0].refused, 0);
        assert_true(sim.queued_max >= 2000 * pauses[i].load * (double)pauses[i].ns / 2e9);
    }
}

static void below_that_nobody_is_refused(void **state) {
    begin(0.8);
    sim_run(&sim);
    assert_int_equal(sim.sources[0].refused, 0);
    assert_true(sim.p50_ns <= 21 * MS);
}

static void the_same_with_many_clients(void **state) {
    static const double loads[] = {2, 5};

    for (unsigned i = 0; i < 2; i++) {
        begin(loads[i]);
        sim.source_count = 50;
        for (unsigned s = 0; s < 50; s++)
            sim.sources[s] = (struct sim_source){
                .per_s = 40 * loads[i], .client = s + 1, .priority = PRIORITY_DEFAULT};
        sim_run(&sim);
        assert_true(sim.goodput >= 0.97 * 2000);
        assert_true(sim.p50_ns <= 24 * MS);
        assert_true(sim.p99_ns <= 54 * MS);
        assert_true(sim.refused_p50_ns <= MS);
    }
}

/* Who has something waiting already is no worse off than others, as long as it is not more than
 * they have. */
static void at_full_load_clients_wait_no_longer_than_one_would(void **state) {
    begin(1);
    sim.source_count = 20;
    sim.duration_ns = 60 * NS_PER_S;
    for (unsigned s = 0; s < 20; s++)
        sim.sources[s] =
            (struct sim_source){.per_s = 100, .client = s + 1, .priority = PRIORITY_DEFAULT};
    sim_run(&sim);
    assert_true(sim.goodput >= 0.97 * 2000);
    assert_true(sim.p50_ns <= 24 * MS);
    assert_true(sim.p99_ns <= 75 * MS);
}

static void the_limiter_finds_the_places_whatever_the_load(void **state) {
    static const double loads[] = {1, 2, 5};

    for (unsigned i = 0; i < 9; i++) {
        begin(loads[i % 3]);
        sim.seed = i + 1;
        sim.limit = 0;
        sim.slowdown = 0.01;
        sim_run(&sim);
        assert_true(sim.goodput >= (loads[i % 3] > 1 ? 0.985 : 0.96) * 2000);
        assert_in_range(limiter_limit(&sim.limiter), 30, 44);
        assert_true(sim.p50_ns <= 24 * MS);
        assert_true(sim.p99_ns <= 64 * MS);
    }
}

/* One place more than there are is an eighth too much. */
static void it_finds_few_places(void **state) {
    static const double loads[] = {1, 5};

    for (unsigned i = 0; i < 10; i++) {
        begin(0);
        sim.seed = i + 1;
        sim.sources[0].per_s = 400 * loads[i % 2];
        sim.limit = 0;
        sim.places = 8;
        sim.slowdown = 0.01;
        sim.duration_ns = 60 * NS_PER_S;
        sim_run(&sim);
        assert_true(sim.goodput >= (loads[i % 2] > 1 ? 0.985 : 0.92) * 400);
        assert_true(sim.p50_ns <= 36 * MS);
    }
}

static void it_finds_them_where_answers_take_long(void **state) {
    static const double loads[] = {1, 2, 5};

    for (unsigned i = 0; i < 3; i++) {
        begin(0);
        sim.sources[0].per_s = 200 * loads[i];
        sim.limit = 0;
        sim.slowdown = 0.01;
        sim.service_ns = 200 * MS;
        sim.warmup_ns = 10 * NS_PER_S;
        sim.duration_ns = 120 * NS_PER_S;
        sim_run(&sim);
        assert_true(sim.goodput >= (loads[i] > 1 ? 0.96 : 0.93) * 200);
        assert_true(sim.p50_ns <= 280 * MS);
    }
}

/* Some take many times what others do: a limit that follows each chance would starve them. */
static void it_finds_them_where_answers_take_more_or_less(void **state) {
    static const double loads[] = {0.5, 1, 2.5};

    for (unsigned i = 0; i < 3; i++) {
        begin(loads[i]);
        sim.limit = 0;
        sim.slowdown = 0.01;
        sim.jitter = 1;
        sim.duration_ns = 60 * NS_PER_S;
        sim_run(&sim);
        assert_true(sim.goodput >= 0.93 * 1000);
    }
}

static void one_greedy_client_takes_nothing_from_fair_ones(void **state) {
    unsigned offered = 0, served = 0;

    begin(0);
    sim.source_count = 21;
    for (unsigned s = 0; s < 21; s++)
        sim.sources[s] = (struct sim_source){
            .per_s = s == 0 ? 3000 : 60, .client = s + 1, .priority = PRIORITY_DEFAULT};
    sim_run(&sim);
    for (unsigned s = 1; s < 21; s++) {
        offered += sim.sources[s].offered;
        served += sim.sources[s].served;
    }
    assert_true(served >= 0.98 * offered);
    assert_true(sim.goodput >= 0.97 * 2000);
}

static void what_is_critical_succeeds_at_five_times_the_load(void **state) {
    begin(0);
    sim.source_count = 2;
    sim.sources[0] = (struct sim_source){.per_s = 1000, .client = 1, .priority = PRIORITY_CRITICAL};
    sim.sources[1] =
        (struct sim_source){.per_s = 9000, .client = 1, .priority = PRIORITY_BACKGROUND};
    sim_run(&sim);
    assert_true(sim.sources[0].served >= 0.99 * sim.sources[0].offered);
    assert_true(sim.goodput >= 0.97 * 2000);
}

static void nothing_is_done_for_who_would_not_wait_for_it(void **state) {
    begin(2);
    sim.sources[0].patience_ns = 25 * MS;
    sim_run(&sim);
    assert_true(sim.goodput >= 0.97 * 2000);
    assert_true(sim.p99_ns <= 25 * MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_queue_it_is_erlangs_loss),
        cmocka_unit_test(with_one_place_the_wait_is_that_of_an_m_d_1),
        cmocka_unit_test(the_mean_wait_is_the_same_in_any_order),
        cmocka_unit_test(what_can_be_done_is_done_and_done_in_time),
        cmocka_unit_test(at_full_load_the_wait_goes_by_what_an_answer_takes),
        cmocka_unit_test(the_same_where_answers_take_more_or_less),
        cmocka_unit_test(a_pause_of_the_engine_costs_nobody),
        cmocka_unit_test(below_that_nobody_is_refused),
        cmocka_unit_test(the_same_with_many_clients),
        cmocka_unit_test(at_full_load_clients_wait_no_longer_than_one_would),
        cmocka_unit_test(the_limiter_finds_the_places_whatever_the_load),
        cmocka_unit_test(it_finds_few_places),
        cmocka_unit_test(it_finds_them_where_answers_take_long),
        cmocka_unit_test(it_finds_them_where_answers_take_more_or_less),
        cmocka_unit_test(one_greedy_client_takes_nothing_from_fair_ones),
        cmocka_unit_test(what_is_critical_succeeds_at_five_times_the_load),
        cmocka_unit_test(nothing_is_done_for_who_would_not_wait_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
