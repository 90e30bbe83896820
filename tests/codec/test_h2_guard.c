/* The promises of proxy/codec/h2_guard.h. */
#include "codec/h2_guard.h"

#include "support/unit.h"

#include <stdlib.h>

static const struct h2_guard_limits limits = {
    .per_second = {[H2_ABUSE_PING] = 3,
                   [H2_ABUSE_SETTINGS] = 1,
                   [H2_ABUSE_PRIORITY] = 1000000,
                   [H2_ABUSE_WINDOW_UPDATE] = 1,
                   [H2_ABUSE_EMPTY_DATA] = 1,
                   [H2_ABUSE_RESET] = 1,
                   [H2_ABUSE_PROVOKED] = 1},
    .early_percent = 50,
};

static struct h2_guard guard;

static int set_up(void **state) {
    h2_guard_init(&guard, &limits, NS_PER_S);
    return 0;
}

static void use_up(enum h2_abuse kind, unsigned n, int64_t now_ns) {
    for (unsigned i = 0; i < n; i++)
        assert_true(h2_guard_count(&guard, kind, now_ns));
    assert_false(h2_guard_count(&guard, kind, now_ns));
}

static void a_burst_is_ten_seconds_worth(void **state) {
    use_up(H2_ABUSE_PING, 3 * H2_GUARD_BURST_S, NS_PER_S);
    use_up(H2_ABUSE_SETTINGS, 1 * H2_GUARD_BURST_S, NS_PER_S); /* each kind for itself */
}

static void a_bucket_fills_up_again_with_time_and_no_further(void **state) {
    use_up(H2_ABUSE_PING, 30, NS_PER_S);
    use_up(H2_ABUSE_PING, 6, 3 * NS_PER_S);
    use_up(H2_ABUSE_PING, 1, 3 * NS_PER_S + 400 * NS_PER_MS);
    use_up(H2_ABUSE_PING, 30, 1000 * NS_PER_S);
    use_up(H2_ABUSE_PRIORITY, 10000000, 1000 * NS_PER_S);
}

static void work_makes_up_for_some(void **state) {
    use_up(H2_ABUSE_WINDOW_UPDATE, 10, NS_PER_S);
    h2_guard_credit(&guard, H2_ABUSE_WINDOW_UPDATE, 4);
    use_up(H2_ABUSE_WINDOW_UPDATE, 4, NS_PER_S);
    h2_guard_credit(&guard, H2_ABUSE_WINDOW_UPDATE, 1000);
    use_up(H2_ABUSE_WINDOW_UPDATE, 10, NS_PER_S);
}

static void at_most_that_share_of_streams_may_end_early(void **state) {
    for (unsigned i = 0; i < 10 * H2_GUARD_STREAMS; i++)
        assert_true(h2_guard_stream_ended(&guard, i % 2));
    for (unsigned i = 0; i < H2_GUARD_STREAMS; i++)
        if (!h2_guard_stream_ended(&guard, true))
            return;
    fail_msg("all of them early, and nothing was said");
}

static void few_streams_say_nothing(void **state) {
    for (unsigned i = 0; i < H2_GUARD_STREAMS - 1; i++)
        assert_true(h2_guard_stream_ended(&guard, true));
    assert_false(h2_guard_stream_ended(&guard, true));
}

static void each_kind_has_its_text(void **state) {
    for (enum h2_abuse kind = 0; kind < H2_ABUSES; kind++)
        assert_memory_equal(h2_abuse_text(kind), "too many ", 9);
}

#define TEST(promise) cmocka_unit_test_setup(promise, set_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_burst_is_ten_seconds_worth), TEST(a_bucket_fills_up_again_with_time_and_no_further),
        TEST(work_makes_up_for_some),       TEST(at_most_that_share_of_streams_may_end_early),
        TEST(few_streams_say_nothing),      TEST(each_kind_has_its_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
