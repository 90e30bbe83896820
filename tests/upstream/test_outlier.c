/* Tests of trials, and of what is made of them: endpoints that are compared with each other on a
 * clock that the tests set. Exchanges come evenly, a hundred a second and endpoint, and who fails
 * is drawn from a seed, so that each run is the same. */
#include "upstream/outlier.h"

#include "support/unit.h"
#include "upstream/trial.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define COUNT_MAX 8
#define PER_S 100
#define STEP_NS (NS_PER_S / PER_S)

enum kind { ERRS, STALLS, RESETS, BUSY };

static const struct endpoint_settings endpoint_settings = {
    .breaker = {
        .in_a_row = 5, .open_for_ns = 10 * NS_PER_S, .open_max_ns = 300 * NS_PER_S, .passes = 5}};
static const struct outlier_settings settings = {
    .share = 0.3,
    .calls_min = 20,
    .in_a_row = 5,
    .window_ns = 10 * NS_PER_S,
    .stall_ns = NS_PER_S,
    .eject_max = 0.5,
};

static struct world {
    struct endpoint *list[COUNT_MAX];
    size_t count;
    double bad[COUNT_MAX]; /* share of its requests */
    enum kind kind[COUNT_MAX];
    uint64_t seed;
    int64_t now_ns;
    struct trial *stalled; /* owned; those that wait */
    size_t stalled_count;
    unsigned sent[COUNT_MAX], failed[COUNT_MAX]; /* since the last reset_counts() */
} world;

static void make(size_t count) {
    world.count = count;
    for (size_t i = 0; i < count; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(80 + i))};
        struct sockaddr_storage address = {0};

        memcpy(&address, &in, sizeof in);
        world.list[i] = endpoint_new(&address, 1, 1);
        endpoint_set(world.list[i], &endpoint_settings);
    }
}

static int set_up(void **state) {
    world = (struct world){.seed = 42, .now_ns = 1000 * NS_PER_S};
    world.stalled = calloc(100000, sizeof *world.stalled);
    return 0;
}

static int tear_down(void **state) {
    for (size_t i = 0; i < world.stalled_count; i++)
        trial_end(&world.stalled[i], VERDICT_NONE, NULL, world.now_ns);
    for (size_t i = 0; i < world.count; i++)
        endpoint_unref(world.list[i]);
    free(world.stalled);
    return 0;
}

static bool is_open(size_t i) {
    return breaker_view(&world.list[i]->breaker).state == BREAKER_OPEN;
}

static bool draw(double share) {
    return (double)(rnd(&world.seed) >> 11) / (double)(UINT64_C(1) << 53) < share;
}

/* One request to the endpoint, if it takes it. */
static void ask(size_t i) {
    struct trial trial;
    bool is_bad = draw(world.bad[i]);

    if (!endpoint_is_usable(world.list[i], world.now_ns) ||
        !trial_begin(&trial, world.list[i], 0, false, world.now_ns))
        return;
    world.sent[i]++;
    world.failed[i] += is_bad;
    if (is_bad && world.kind[i] == STALLS) {
        struct trial *kept = &world.stalled[world.stalled_count++];

        *kept = trial;
        list_init(&kept->link);
        trial_sent(kept, NULL, world.now_ns);
        return;
    }
    trial_sent(&trial, NULL, world.now_ns - 5 * NS_PER_MS);
    if (is_bad && world.kind[i] == RESETS) {
        trial_end(&trial, VERDICT_BAD, "upstream_reset", world.now_ns);
    } else if (is_bad && world.kind[i] == BUSY) {
        trial_end(&trial, VERDICT_POOR, "status_503", world.now_ns);
    } else {
        trial_answered(&trial, world.now_ns);
        trial_end(&trial, is_bad ? VERDICT_DOUBTFUL : VERDICT_GOOD, is_bad ? "status_500" : NULL,
                  world.now_ns);
    }
}

/* Lets @ns pass, with a tick every 100 ms. */
static void pass(int64_t ns) {
    for (int64_t past = 0; past < ns; past += STEP_NS) {
        for (size_t i = 0; i < world.count; i++)
            ask(i);
        world.now_ns += STEP_NS;
        if (world.now_ns % OUTLIER_BUCKET_NS != 0)
            continue;
        for (size_t i = 0; i < world.count; i++)
            trial_look(world.list[i], 0, world.now_ns);
        outlier_look(world.list, world.count, &settings, world.now_ns);
    }
}

/* How long it takes until endpoint 0 is ejected; at most @max_ns. */
static int64_t time_to_eject(int64_t max_ns) {
    int64_t from_ns = world.now_ns;

    while (!is_open(0) && world.now_ns - from_ns < max_ns)
        pass(OUTLIER_BUCKET_NS);
    return world.now_ns - from_ns;
}

static void one_that_fails_half_of_its_requests_goes(void **state) {
    make(3);
    pass(30 * NS_PER_S);
    world.bad[0] = 0.5;
    assert_in_range(time_to_eject(10 * NS_PER_S), 0, NS_PER_S);
    assert_int_equal(breaker_view(&world.list[0]->breaker).cause, BREAKER_OFTEN);
    assert_string_equal(breaker_view(&world.list[0]->breaker).what, "status_500");
    assert_false(is_open(1) || is_open(2));
}

static void one_that_stalls_goes(void **state) {
    make(3);
    pass(30 * NS_PER_S);
    world.bad[0] = 1;
    world.kind[0] = STALLS;
    assert_in_range(time_to_eject(10 * NS_PER_S), NS_PER_S, 3 * NS_PER_S / 2);
    assert_int_equal(breaker_view(&world.list[0]->breaker).cause, BREAKER_STALLS);
    assert_false(is_open(1) || is_open(2));
}

static void one_that_stalls_half_of_its_requests_goes(void **state) {
    make(3);
    pass(30 * NS_PER_S);
    world.bad[0] = 0.5;
    world.kind[0] = STALLS;
    assert_in_range(time_to_eject(10 * NS_PER_S), NS_PER_S, 2 * NS_PER_S);
}

static void one_that_resets_half_of_its_requests_goes(void **state) {
    make(3);
    pass(30 * NS_PER_S);
    world.bad[0] = 0.5;
    world.kind[0] = RESETS;
    assert_in_range(time_to_eject(10 * NS_PER_S), 0, NS_PER_S);
}

/* Whatever the share, an hour of it: errors after the ejection are one in a thousand of all. */
static void it_stays_away_while_it_fails(void **state) {
    const double shares[] = {0.4, 0.5, 0.7, 1};

    make(3);
    pass(10 * NS_PER_S);
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        world.kind[0] = s % 2 ? RESETS : ERRS;
        world.bad[0] = shares[s];
        time_to_eject(10 * NS_PER_S);
        assert_true(is_open(0));
        memset(world.sent, 0, sizeof world.sent);
        memset(world.failed, 0, sizeof world.failed);
        pass(3600 * NS_PER_S);
        assert_true(world.failed[0] * 1000 < world.sent[0] + world.sent[1] + world.sent[2]);
        world.bad[0] = 0;
        pass(600 * NS_PER_S);
        assert_false(is_open(0)); /* and it comes back */
    }
}

static void what_all_do_is_nobodys_fault(void **state) {
    const enum kind kinds[] = {ERRS, STALLS, BUSY};

    make(3);
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < 3; i++)
            world.kind[i] = kinds[k];
        for (unsigned percent = 10; percent < 100; percent += 20) {
            for (size_t i = 0; i < 3; i++)
                world.bad[i] = percent / 100.0;
            pass(60 * NS_PER_S);
            assert_false(is_open(0) || is_open(1) || is_open(2));
        }
    }
}

static void chance_is_no_reason(void **state) {
    make(3);
    for (size_t i = 0; i < 3; i++)
        world.bad[i] = 0.05;
    world.bad[0] = 0.08;
    pass(4 * 3600 * NS_PER_S);
    assert_false(is_open(0) || is_open(1) || is_open(2));
}

static void so_are_a_few_calls(void **state) {
    make(2);
    pass(10 * NS_PER_S);
    world.now_ns += 20 * NS_PER_S; /* what was is forgotten */
    for (unsigned i = 0; i < settings.calls_min - 1; i++)
        trial_tell(world.list[0], 0, VERDICT_DOUBTFUL, "status_500", world.now_ns);
    for (unsigned i = 0; i < 100; i++)
        trial_tell(world.list[1], 0, VERDICT_GOOD, NULL, world.now_ns);
    outlier_look(world.list, world.count, &settings, world.now_ns);
    assert_false(is_open(0));
    trial_tell(world.list[0], 0, VERDICT_DOUBTFUL, "status_500", world.now_ns);
    for (unsigned i = 0; i < OUTLIER_SPAN_NS / OUTLIER_BUCKET_NS; i++) {
        world.now_ns += OUTLIER_BUCKET_NS;
        outlier_look(world.list, world.count, &settings, world.now_ns);
    }
    assert_true(is_open(0));
}

/* Five of five, and the peers have answered a few themselves. */
static void few_calls_are_enough_in_a_row(void **state) {
    make(2);
    outlier_look(world.list, 2, &settings, world.now_ns);
    for (unsigned i = 0; i < 5; i++) {
        assert_false(is_open(0));
        trial_tell(world.list[0], 0, VERDICT_POOR, "status_503", world.now_ns);
        trial_tell(world.list[1], 0, i == 3 ? VERDICT_POOR : VERDICT_GOOD, "status_503",
                   world.now_ns);
        world.now_ns += OUTLIER_BUCKET_NS;
        outlier_look(world.list, 2, &settings, world.now_ns);
    }
    assert_true(is_open(0));
    assert_int_equal(breaker_view(&world.list[0]->breaker).cause, BREAKER_IN_A_ROW);
    assert_false(is_open(1));
}

static void one_alone_has_no_peers(void **state) {
    make(1);
    world.bad[0] = 0.9;
    pass(600 * NS_PER_S);
    assert_false(is_open(0));
}

static void no_more_than_half_of_them_go(void **state) {
    make(5);
    pass(10 * NS_PER_S);
    for (size_t i = 0; i < 3; i++)
        world.bad[i] = 0.9;
    for (unsigned t = 0; t < 600; t++) {
        unsigned out = 0;

        pass(OUTLIER_BUCKET_NS);
        for (size_t i = 0; i < 5; i++)
            out += !(breaker_view(&world.list[i]->breaker).state == BREAKER_CLOSED);
        assert_true(out <= 2);
    }
}

static void of_two_one_may_go_but_not_both(void **state) {
    make(2);
    pass(10 * NS_PER_S);
    world.bad[0] = 0.5;
    time_to_eject(10 * NS_PER_S);
    assert_true(is_open(0));
    world.bad[1] = 0.5;
    pass(8 * NS_PER_S);
    assert_false(is_open(1));
}

static void the_last_one_in_service_stays(void **state) {
    make(2);
    endpoint_change(world.list[1], ENDPOINT_DISABLED, 0, world.now_ns);
    for (unsigned t = 0; t < 100; t++) {
        world.now_ns += OUTLIER_BUCKET_NS;
        for (unsigned i = 0; i < 20; i++) {
            trial_tell(world.list[0], 0, VERDICT_DOUBTFUL, "status_500", world.now_ns);
            trial_tell(world.list[1], 0, VERDICT_GOOD, NULL, world.now_ns);
        }
        outlier_look(world.list, 2, &settings, world.now_ns);
    }
    assert_false(is_open(0));
    endpoint_change(world.list[1], 0, ENDPOINT_DISABLED, world.now_ns);
    world.now_ns += OUTLIER_BUCKET_NS;
    trial_tell(world.list[0], 0, VERDICT_DOUBTFUL, "status_500", world.now_ns);
    outlier_look(world.list, 2, &settings, world.now_ns);
    assert_true(is_open(0));
}

/* Ten times as long as its peers is far; where these take a second themselves, that is 10 s. */
/* A stalled one gets few calls: the balancer sees what it has in flight. */
static void three_stalls_are_enough(void **state) {
    make(3);
    for (unsigned t = 0; t < 200; t++) {
        world.now_ns += OUTLIER_BUCKET_NS;
        for (unsigned i = 0; i < 5; i++) {
            ask(1);
            ask(2);
        }
        if (t >= 100 && t < 103) {
            world.bad[0] = 1;
            world.kind[0] = STALLS;
            ask(0);
        }
        for (size_t i = 0; i < 3; i++)
            trial_look(world.list[i], 0, world.now_ns);
        outlier_look(world.list, 3, &settings, world.now_ns);
        assert_int_equal(is_open(0), t >= 112);
    }
    assert_int_equal(breaker_view(&world.list[0]->breaker).cause, BREAKER_STALLS);
}

static void how_long_is_far_too_long_depends_on_the_peers(void **state) {
    make(2);
    for (unsigned t = 0; t < 100; t++) {
        struct trial trial;

        world.now_ns += OUTLIER_BUCKET_NS;
        assert_true(trial_begin(&trial, world.list[1], 0, false, world.now_ns));
        trial_sent(&trial, NULL, world.now_ns - NS_PER_S);
        trial_answered(&trial, world.now_ns);
        trial_end(&trial, VERDICT_GOOD, NULL, world.now_ns);
        outlier_look(world.list, 2, &settings, world.now_ns);
    }
    assert_int_equal(world.list[0]->stalls_after_ns, 10 * NS_PER_S);
    assert_int_equal(world.list[1]->stalls_after_ns, 0); /* nothing is known of its peers */
}

static void a_stalled_one_is_told_once(void **state) {
    struct trial trial;

    make(2);
    world.list[0]->stalls_after_ns = NS_PER_S;
    assert_true(trial_begin(&trial, world.list[0], 0, false, world.now_ns));
    trial_sent(&trial, NULL, world.now_ns);
    trial_look(world.list[0], 0, world.now_ns + NS_PER_S - 1);
    assert_non_null(trial.endpoint);
    trial_look(world.list[0], 0, world.now_ns + NS_PER_S);
    assert_null(trial.endpoint);
    trial_answered(&trial, world.now_ns + 2 * NS_PER_S);
    trial_end(&trial, VERDICT_GOOD, NULL, world.now_ns + 2 * NS_PER_S);
    assert_int_equal(world.list[0]->tallies[0].calls, 1);
    assert_int_equal(world.list[0]->tallies[0].bad, 1);
    assert_int_equal(world.list[0]->tallies[0].stalled, 1);
}

/* A slow upload is the client's affair; its clock begins when the upload is over. */
static void while_the_client_sends_nobody_stalls(void **state) {
    struct body request = {.state = BODY_OPEN};
    struct trial slow, other;

    make(1);
    world.list[0]->stalls_after_ns = NS_PER_S;
    assert_true(trial_begin(&slow, world.list[0], 0, false, world.now_ns));
    trial_sent(&slow, &request, world.now_ns);
    assert_true(trial_begin(&other, world.list[0], 0, false, world.now_ns));
    trial_sent(&other, NULL, world.now_ns);
    trial_look(world.list[0], 0, world.now_ns + NS_PER_S);
    assert_non_null(slow.endpoint);
    assert_null(other.endpoint); /* behind it in the line */
    request.state = BODY_ENDED;
    trial_look(world.list[0], 0, world.now_ns + 2 * NS_PER_S - 1);
    assert_non_null(slow.endpoint);
    trial_look(world.list[0], 0, world.now_ns + 2 * NS_PER_S);
    assert_null(slow.endpoint);
}

/* The streams of one connection that breaks. */
static void what_fails_in_one_turn_is_one_failure_in_a_row(void **state) {
    make(1);
    for (unsigned turn = 0; turn < 5; turn++) {
        assert_false(is_open(0));
        for (unsigned i = 0; i < 100; i++)
            trial_tell(world.list[0], 0, VERDICT_BAD, "upstream_reset", world.now_ns);
        world.now_ns += NS_PER_MS;
    }
    assert_true(is_open(0));
    assert_int_equal(world.list[0]->tallies[0].bad, 500);
}

static void with_no_share_nobody_goes(void **state) {
    struct outlier_settings off = settings;

    off.share = 0;
    make(2);
    for (unsigned t = 0; t < 100; t++) {
        world.now_ns += OUTLIER_BUCKET_NS;
        for (unsigned i = 0; i < 20; i++) {
            trial_tell(world.list[0], 0, VERDICT_DOUBTFUL, "status_500", world.now_ns);
            trial_tell(world.list[1], 0, VERDICT_GOOD, NULL, world.now_ns);
        }
        outlier_look(world.list, 2, &off, world.now_ns);
    }
    assert_false(is_open(0));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(one_that_fails_half_of_its_requests_goes),
        TEST(one_that_stalls_goes),
        TEST(one_that_stalls_half_of_its_requests_goes),
        TEST(one_that_resets_half_of_its_requests_goes),
        TEST(it_stays_away_while_it_fails),
        TEST(what_all_do_is_nobodys_fault),
        TEST(chance_is_no_reason),
        TEST(so_are_a_few_calls),
        TEST(few_calls_are_enough_in_a_row),
        TEST(one_alone_has_no_peers),
        TEST(no_more_than_half_of_them_go),
        TEST(of_two_one_may_go_but_not_both),
        TEST(the_last_one_in_service_stays),
        TEST(three_stalls_are_enough),
        TEST(how_long_is_far_too_long_depends_on_the_peers),
        TEST(a_stalled_one_is_told_once),
        TEST(while_the_client_sends_nobody_stalls),
        TEST(what_fails_in_one_turn_is_one_failure_in_a_row),
        TEST(with_no_share_nobody_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
