/* The promises of proxy/pipeline/limiter.h, against an upstream that is a formula: what it has not
 * the places for waits in it. */
#include "pipeline/limiter.h"

#include "support/unit.h"

#define MS NS_PER_MS
#define STEP (5 * MS)

static struct {
    struct limiter limiter;
    double places;
    int64_t service_ns;
    double demand; /* exchanges that clients would have in flight */
    double noise;
    bool has_spikes; /* at times all takes three times as long, whatever the load */
    uint64_t seed;
    int64_t now_ns;
    double answered; /* in all */
    unsigned least, most;
} world;

static double inflight(void) {
    double limit = limiter_limit(&world.limiter);

    return world.demand < limit ? world.demand : limit;
}

static double answer_ns(void) {
    double spike = world.has_spikes && world.now_ns / (100 * MS) % 7 == 0 ? 3 : 1;
    double over = inflight() / world.places, noise = (double)(rnd(&world.seed) % 1000) / 1000;

    return (double)world.service_ns * (over > 1 ? over : 1) * spike * (1 + world.noise * noise);
}

/* Answers come at Little's rate, and take what they take with so many in flight. */
static void spend(double seconds) {
    int64_t until_ns = world.now_ns + (int64_t)(seconds * 1e9);
    static double owed;

    while (world.now_ns < until_ns) {
        struct service_sample answers = {0};
        double ns = answer_ns();

        world.now_ns += STEP;
        owed += inflight() / ns * (double)STEP;
        for (; owed >= 1; owed--) {
            service_sample_add(&answers, (int64_t)ns);
            world.answered++;
        }
        limiter_learn(&world.limiter, &answers, (unsigned)inflight(), world.now_ns);
        if (limiter_limit(&world.limiter) < world.least)
            world.least = limiter_limit(&world.limiter);
        if (limiter_limit(&world.limiter) > world.most)
            world.most = limiter_limit(&world.limiter);
    }
}

static void begin(double places, int64_t service_ns, double demand) {
    limiter_init(&world.limiter, 4, 1000);
    world.places = places;
    world.service_ns = service_ns;
    world.demand = demand;
    world.noise = 0;
    world.has_spikes = false;
    world.seed = 1;
    world.now_ns = NS_PER_S;
    world.least = UINT32_MAX;
    world.most = 0;
}

static unsigned limit(void) {
    return limiter_keep(&world.limiter) ? (unsigned)world.limiter.limit : 0;
}

static void it_finds_what_the_upstream_can_do_at_once(void **state) {
    static const double places[] = {6, 12, 40, 200, 700};

    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        begin(places[i], 20 * MS, 5000);
        spend(10);
        assert_in_range(limit(), (int)(places[i] * 0.95), (int)(places[i] * 1.15) + 2);
    }
}

static void it_finds_it_in_noise(void **state) {
    begin(40, 20 * MS, 5000);
    world.noise = 0.2;
    spend(30);
    assert_in_range(limit(), 36, 50);
}

/* One place more than there are makes answers 2.5% longer: not enough to take it away again. */
static void it_does_not_go_to_and_fro(void **state) {
    begin(40, 20 * MS, 5000);
    spend(15);
    world.most = 0;
    spend(60);
    assert_int_equal(world.most, 41);
}

/* 7.9 are 7 at once: all of them are used. */
static void a_part_of_a_place_is_not_waited_for(void **state) {
    begin(40, 20 * MS, 5000);
    limiter_resume(&world.limiter, 8);
    world.limiter.limit = 7.9;
    spend(30);
    assert_in_range(limit(), 38, 42);
}

static void it_grows_faster_the_longer_it_is_too_low(void **state) {
    begin(1000, 20 * MS, 5000);
    limiter_resume(&world.limiter, 20);
    spend(1);
    assert_in_range(limit(), 22, 40);
    spend(9);
    assert_in_range(limit(), 600, 1000);
}

static void spikes_are_not_taken_for_load(void **state) {
    begin(40, 20 * MS, 5000);
    spend(5);
    world.has_spikes = true;
    world.least = UINT32_MAX;
    spend(60);
    assert_in_range(limit(), 36, 60);
    assert_true(world.least >= 20);
}

static void lasting_overload_does_not_pin_it_at_the_maximum(void **state) {
    begin(40, 20 * MS, 5000);
    spend(600);
    assert_in_range(limit(), 38, 48);
}

static void a_start_far_above_is_corrected_at_once(void **state) {
    begin(40, 20 * MS, 5000);
    limiter_resume(&world.limiter, 900);
    spend(10);
    assert_in_range(limit(), 38, 48);
}

/* At any time: right behind a probe too, of which the base is then fresh. */
static void an_upstream_that_gets_slower_keeps_its_places(void **state) {
    for (unsigned i = 0; i < 12; i++) {
        double before;

        begin(40, 20 * MS, 5000);
        spend(10 + i * 0.25);
        world.service_ns = 200 * MS;
        world.least = UINT32_MAX;
        spend(10);
        assert_in_range(limit(), 36, 50);
        assert_true(world.least >= 20);
        before = world.answered;
        spend(10);
        assert_true(world.answered - before >= 0.93 * 200 * 10);
    }
}

static void an_upstream_that_gets_faster_is_used_again(void **state) {
    double before;

    begin(40, 200 * MS, 5000);
    spend(30);
    world.service_ns = 20 * MS;
    spend(10);
    before = world.answered;
    spend(10);
    assert_true(world.answered - before >= 0.93 * 2000 * 10);
    assert_in_range(limit(), 36, 50);
}

static void an_upstream_that_gets_fewer_places_is_spared(void **state) {
    begin(200, 20 * MS, 5000);
    spend(10);
    world.places = 20;
    spend(10);
    assert_in_range(limit(), 18, 25);
    world.places = 200;
    spend(60);
    assert_in_range(limit(), 100, 230);
}

static void it_does_not_grow_where_nobody_uses_it(void **state) {
    begin(1000, 20 * MS, 10);
    spend(60);
    assert_int_equal(limit(), LIMITER_START);
}

static void it_keeps_between_its_bounds(void **state) {
    begin(1, 20 * MS, 5000);
    spend(30);
    assert_in_range(limit(), 4, 6);
    assert_true(world.least == 4);
    begin(100000, 20 * MS, 100000);
    spend(60);
    assert_int_equal(limit(), 1000);
}

static void probes_cost_little(void **state) {
    begin(40, 20 * MS, 5000);
    spend(30);
    world.answered = 0;
    spend(60);
    assert_true(world.answered >= 0.985 * 2000 * 60);
}

static void a_probe_that_does_not_drain_is_given_up(void **state) {
    struct service_sample answers = {.count = 20, .sum_ns = 20 * 20 * MS, .min_ns = 20 * MS};
    struct limiter *limiter = &world.limiter;
    bool was_probed = false;

    begin(40, 20 * MS, 5000);
    limiter_resume(limiter, 40);
    for (unsigned i = 0; i < 1000; i++) {
        limiter_learn(limiter, &answers, 40, world.now_ns += STEP); /* some of them never end */
        was_probed |= limiter->state == LIMITER_DRAIN;
        assert_int_not_equal(limiter->state, LIMITER_MEASURE);
    }
    assert_true(was_probed);
    assert_int_equal(limiter->state, LIMITER_STEADY);
}

static void what_is_kept_changes_by_a_tenth_only(void **state) {
    begin(40, 20 * MS, 5000);
    limiter_resume(&world.limiter, 50);
    world.limiter.limit = 54;
    assert_int_equal(limiter_keep(&world.limiter), 50);
    world.limiter.limit = 56;
    assert_int_equal(limiter_keep(&world.limiter), 56);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_the_upstream_can_do_at_once),
        cmocka_unit_test(it_finds_it_in_noise),
        cmocka_unit_test(it_does_not_go_to_and_fro),
        cmocka_unit_test(a_part_of_a_place_is_not_waited_for),
        cmocka_unit_test(it_grows_faster_the_longer_it_is_too_low),
        cmocka_unit_test(spikes_are_not_taken_for_load),
        cmocka_unit_test(lasting_overload_does_not_pin_it_at_the_maximum),
        cmocka_unit_test(a_start_far_above_is_corrected_at_once),
        cmocka_unit_test(an_upstream_that_gets_slower_keeps_its_places),
        cmocka_unit_test(an_upstream_that_gets_faster_is_used_again),
        cmocka_unit_test(an_upstream_that_gets_fewer_places_is_spared),
        cmocka_unit_test(it_does_not_grow_where_nobody_uses_it),
        cmocka_unit_test(it_keeps_between_its_bounds),
        cmocka_unit_test(probes_cost_little),
        cmocka_unit_test(a_probe_that_does_not_drain_is_given_up),
        cmocka_unit_test(what_is_kept_changes_by_a_tenth_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
