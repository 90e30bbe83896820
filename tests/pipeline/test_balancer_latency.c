/* The promise of balance = { by = "latency" }: who is slow gets little. Exchanges arrive at three
 * endpoints, each takes as long as its endpoint does, and time is simulated. */
#include "world.h"

#include <math.h>

#define MS NS_PER_MS
#define JOBS_MAX 4096
#define ARRIVALS 30000

static struct pipeline_loop *const part = &world.parts[0];

static struct {
    int64_t services_ns[ENDPOINTS];
    unsigned counts[ENDPOINTS];
    unsigned slow; /* answers that took more than twice what the quickest endpoint does */
} sim;

static struct job {
    int64_t sent_ns, done_ns;
    unsigned at;
} jobs[JOBS_MAX];

static unsigned job_count;
static uint64_t seed;

static double exponential(void) {
    return -log((double)((rnd(&seed) >> 11) + 1) / 9007199254740992.0);
}

static void arrive(int64_t now_ns) {
    struct pool *pool = balancer_pick(part, &(struct balancer_wish){0});
    struct job *job = &jobs[job_count++];

    assert_true(job_count < JOBS_MAX);
    for (job->at = 0; endpoint(job->at) != pool->endpoint;)
        job->at++;
    atomic_fetch_add(&pool->endpoint->inflight, 1);
    sim.counts[job->at]++;
    job->sent_ns = now_ns;
    job->done_ns = now_ns + (int64_t)((double)sim.services_ns[job->at] * (1 + 0.2 * exponential()));
}

static void answer_until(int64_t now_ns) {
    for (unsigned i = 0; i < job_count;) {
        struct job job = jobs[i];

        if (job.done_ns > now_ns) {
            i++;
            continue;
        }
        jobs[i] = jobs[--job_count];
        atomic_fetch_sub(&endpoint(job.at)->inflight, 1);
        sim.slow += job.done_ns - job.sent_ns > 2 * sim.services_ns[ENDPOINTS - 1];
        permit_answered(part, endpoint(job.at), job.done_ns - job.sent_ns);
    }
}

/* ARRIVALS exchanges, @per_s of them. */
static void run(enum config_balance by, double per_s) {
    int64_t *now_ns = &world.loops[0].now_ns;

    world_configure();
    world.config.balance.by = by;
    world_open(NULL, NULL);
    seed = 1;
    job_count = 0;
    for (unsigned i = 0; i < ENDPOINTS; i++)
        sim.counts[i] = 0;
    sim.slow = 0;
    for (unsigned i = 0; i < ARRIVALS; i++) {
        *now_ns += (int64_t)(1e9 / per_s * exponential());
        answer_until(*now_ns);
        arrive(*now_ns);
    }
    answer_until(INT64_MAX);
    world_close();
}

static void set_services(int64_t first_ns, int64_t others_ns) {
    sim.services_ns[0] = first_ns;
    for (unsigned i = 1; i < ENDPOINTS; i++)
        sim.services_ns[i] = others_ns;
}

/* Busy or not: with little to do no number in flight tells who is slow. */
static void one_that_takes_five_times_as_long_gets_little(void **state) {
    static const double rates[] = {50, 150, 1200};

    set_services(100 * MS, 20 * MS);
    for (unsigned i = 0; i < 3; i++) {
        run(BALANCE_LEAST, rates[i]);
        assert_true(sim.counts[0] >= ARRIVALS / 12);
        assert_true(sim.slow >= ARRIVALS / 12);
        run(BALANCE_LATENCY, rates[i]);
        assert_in_range(sim.counts[0], 1, ARRIVALS / 20);
        assert_true(sim.slow <= ARRIVALS / 20);
    }
}

static void equal_ones_share_as_before(void **state) {
    set_services(20 * MS, 20 * MS);
    run(BALANCE_LATENCY, 1200);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        assert_in_range(sim.counts[i], ARRIVALS * 28 / 100, ARRIVALS * 38 / 100);
}

/* Until all that are compared have answered, it goes by what is in flight. */
static void an_unknown_one_is_compared_by_its_load(void **state) {
    world_configure();
    world.config.balance.by = BALANCE_LATENCY;
    world_open(NULL, NULL);
    peak_learn(&endpoint(1)->answers, NS_PER_S, world.loops[0].now_ns);
    atomic_store(&endpoint(0)->inflight, 3);
    atomic_store(&endpoint(2)->inflight, 3);
    sim.counts[1] = 0;
    for (unsigned n = 0; n < 100; n++)
        sim.counts[1] += balancer_pick(part, &(struct balancer_wish){0})->endpoint == endpoint(1);
    assert_true(sim.counts[1] >= 40); /* whenever it is one of the two */
    peak_learn(&endpoint(0)->answers, 20 * MS, world.loops[0].now_ns);
    peak_learn(&endpoint(2)->answers, 20 * MS, world.loops[0].now_ns);
    for (unsigned n = 0; n < 100; n++)
        assert_ptr_not_equal(balancer_pick(part, &(struct balancer_wish){0})->endpoint,
                             endpoint(1));
    for (unsigned i = 0; i < ENDPOINTS; i++)
        atomic_store(&endpoint(i)->inflight, 0);
    world_close();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_takes_five_times_as_long_gets_little),
        cmocka_unit_test(equal_ones_share_as_before),
        cmocka_unit_test(an_unknown_one_is_compared_by_its_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
