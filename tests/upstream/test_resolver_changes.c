/* The promises of proxy/upstream/resolver.h, against a name server on loopback: when a watched name
 * is resolved again, and what counts as a change. */
#include "resolver_fixture.h"

#include <stdio.h>

static void changed_is_called_on_the_resolver_thread_with_signals_blocked(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_v4(world, "api.test", 60, "10.0.0.2");
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.2:8080");
    assert_string_equal(world->listener.thread, "weir-resolver");
    assert_true(world->listener.are_signals_blocked);
}

static void an_equal_set_in_another_order_is_no_change(void **state) {
    struct world *world = *state;

    dns_server_set(
        world->dns, "api.test", DNS_A,
        (struct dns_records){.ttl_s = 60, .addresses = {"10.0.0.1", "10.0.0.2", "10.0.0.2"}});
    dns_server_rotate(world->dns);
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_A, 6);
    assert_int_equal(count_changes(&world->listener), 0);
}

/* How long after the first question the second came. */
static int64_t second_question_ns(struct world *world, const char *host) {
    int64_t second_ns = dns_server_await(world->dns, host, DNS_A, 2, PATIENCE_NS);

    assert_true(second_ns >= 0);
    return second_ns - dns_server_await(world->dns, host, DNS_A, 1, PATIENCE_NS);
}

static void names_are_resolved_again_when_the_ttl_has_passed(void **state) {
    struct world *world = *state;

    set_v4(world, "zero.test", 0, "10.0.0.1");
    set_v4(world, "one.test", 1, "10.0.0.1");
    set_v6(world, "six.test", 1, "fd00::1"); /* the lower one counts */
    set_v4(world, "six.test", 3600, "10.0.0.1");
    dns_server_alias(world->dns, "www.test", "origin.test", 1); /* and so does the alias's */
    set_v4(world, "origin.test", 3600, "10.0.0.1");
    set_v4(world, "odd.test", UINT32_MAX, "10.0.0.1"); /* RFC 2181: zero */
    set_v4(world, "long.test", INT32_MAX, "10.0.0.1");
    watch(world, "zero.test", SELDOM_NS, NULL);
    watch(world, "one.test", SELDOM_NS, NULL);
    watch(world, "six.test", SELDOM_NS, NULL);
    watch(world, "www.test", SELDOM_NS, NULL);
    watch(world, "odd.test", SELDOM_NS, NULL);
    watch(world, "long.test", SELDOM_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "zero.test"), RESOLVER_TTL_MIN_NS, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "one.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "six.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "www.test"), NS_PER_S, 3 * NS_PER_S);
    assert_in_range(second_question_ns(world, "odd.test"), NS_PER_S, 3 * NS_PER_S);
    assert_int_equal(dns_server_asked(world->dns, "long.test", DNS_A), 1);
}

static void names_are_resolved_again_after_their_interval_at_the_latest(void **state) {
    struct world *world = *state;

    set_v4(world, "long.test", INT32_MAX, "10.0.0.1");
    set_v4(world, "zero.test", 0, "10.0.0.1");
    watch(world, "long.test", 100 * NS_PER_MS, NULL);
    watch(world, "zero.test", 100 * NS_PER_MS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "long.test"), 100 * NS_PER_MS, NS_PER_S);
    assert_in_range(second_question_ns(world, "zero.test"), 100 * NS_PER_MS, NS_PER_S);
}

static void the_shortest_interval_is_bounded(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", 0, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_in_range(second_question_ns(world, "api.test"), RESOLVER_INTERVAL_MIN_NS, NS_PER_S);
}

static void a_name_that_stops_resolving_keeps_its_addresses_and_is_logged_once(void **state) {
    static const enum dns_mode modes[] = {DNS_SERVFAIL, DNS_NXDOMAIN, DNS_REFUSED};
    struct world *world = *state;

    catch_log(world);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        dns_server_set_all(world->dns, modes[i]);
        await_rounds(world, "api.test", DNS_AAAA, 4);
    }
    assert_int_equal(count_changes(&world->listener), 0);
    set_v4(world, "api.test", 60, "10.0.0.2");
    dns_server_set_all(world->dns, DNS_ANSWER);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.2:8080");
    await_rounds(world, "api.test", DNS_A, 3);
    assert_int_equal(count_changes(&world->listener), 1);
    assert_int_equal(count_logged(world, "cannot resolve 'api.test'"), 1);
    assert_int_equal(count_logged(world, "keeping its 1 addresses: the name server failed"), 1);
    assert_int_equal(count_logged(world, "resolved 'api.test' again"), 1);
}

static void a_failing_name_is_tried_again_with_backoff(void **state) {
    struct world *world = *state;
    int64_t first_ns, second_ns, third_ns;

    catch_log(world);
    set_v4(world, "api.test", 0, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    dns_server_set_all(world->dns, DNS_NXDOMAIN);
    assert_int_equal(resolver_start(world->resolver), 0);
    first_ns = dns_server_await(world->dns, "api.test", DNS_A, 2, PATIENCE_NS);
    second_ns = dns_server_await(world->dns, "api.test", DNS_A, 3, PATIENCE_NS);
    third_ns = dns_server_await(world->dns, "api.test", DNS_A, 4, PATIENCE_NS);
    assert_in_range(second_ns - first_ns, RESOLVER_BACKOFF_MIN_NS / 2, 2 * RESOLVER_BACKOFF_MIN_NS);
    assert_in_range(third_ns - second_ns, RESOLVER_BACKOFF_MIN_NS, 4 * RESOLVER_BACKOFF_MIN_NS);
}

static void a_family_that_fails_keeps_its_addresses(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_mode(world, "api.test", DNS_A, DNS_SERVFAIL);
    await_rounds(world, "api.test", DNS_A, 8);
    assert_int_equal(count_changes(&world->listener), 0);
    set_v6(world, "api.test", 60, "fd00::2"); /* the other one goes on */
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080 [fd00::2]:8080");
}

static void a_family_that_is_gone_is_removed(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    set_mode(world, "api.test", DNS_AAAA, DNS_ANSWER);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080");
    set_v6(world, "api.test", 60, "fd00::1");
    assert_true(await_changes(&world->listener, 2, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080 [fd00::1]:8080");
}

static void a_family_lost_for_a_moment_stays(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", 100 * NS_PER_MS, NULL);
    assert_int_equal(resolver_start(world->resolver), 0);
    for (int i = 0; i < 3; i++) {
        size_t asked = dns_server_asked(world->dns, "api.test", DNS_AAAA);

        dns_server_set(world->dns, "api.test", DNS_AAAA,
                       (struct dns_records){.mode = DNS_EVERY_OTHER, .addresses = {"fd00::1"}});
        assert_true(dns_server_await(world->dns, "api.test", DNS_AAAA, asked + 2, PATIENCE_NS) > 0);
        set_v6(world, "api.test", 60, "fd00::1"); /* in time for the third */
        await_rounds(world, "api.test", DNS_AAAA, 2);
    }
    assert_int_equal(count_changes(&world->listener), 0);
}

/* As with search domains, or a name that was moved into /etc/hosts: the two never agree. */
static void a_family_that_only_its_own_question_finds_is_removed_at_last(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_v6(world, "api.test", 60, "fd00::1");
    watch(world, "api.test", OFTEN_NS, NULL);
    dns_server_set(world->dns, "api.test", DNS_AAAA,
                   (struct dns_records){.mode = DNS_EVERY_OTHER, .addresses = {"fd00::1"}});
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080");
    assert_in_range(dns_server_asked(world->dns, "api.test", DNS_AAAA), 5, 6);
}

static void only_so_many_names_are_under_way_at_once(void **state) {
    static char hosts[RESOLVER_LOOKUPS_MAX + 6][16];
    struct world *world = *state;

    for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX + 6; i++) {
        snprintf(hosts[i], sizeof hosts[i], "n%zu.test", i);
        set_v4(world, hosts[i], 60, "10.0.0.1");
        watch(world, hosts[i], 500 * NS_PER_MS, NULL);
    }
    dns_server_set_all(world->dns, DNS_SILENCE);
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_true(dns_server_await(world->dns, NULL, DNS_AAAA, 2 * RESOLVER_LOOKUPS_MAX + 6,
                                 PATIENCE_NS) >= 0);
    /* Well before c-ares asks again. */
    assert_int_equal(
        dns_server_await(world->dns, NULL, DNS_AAAA, 2 * RESOLVER_LOOKUPS_MAX + 7, 200 * NS_PER_MS),
        -1);
    dns_server_set_all(world->dns, DNS_ANSWER);
    for (size_t i = 0; i < RESOLVER_LOOKUPS_MAX + 6; i++)
        assert_true(dns_server_await(world->dns, hosts[i], DNS_A, 3, PATIENCE_NS) >= 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    static const struct CMUnitTest tests[] = {
        TEST(changed_is_called_on_the_resolver_thread_with_signals_blocked),
        TEST(an_equal_set_in_another_order_is_no_change),
        TEST(names_are_resolved_again_when_the_ttl_has_passed),
        TEST(names_are_resolved_again_after_their_interval_at_the_latest),
        TEST(the_shortest_interval_is_bounded),
        TEST(a_name_that_stops_resolving_keeps_its_addresses_and_is_logged_once),
        TEST(a_failing_name_is_tried_again_with_backoff),
        TEST(a_family_that_fails_keeps_its_addresses),
        TEST(a_family_that_is_gone_is_removed),
        TEST(a_family_lost_for_a_moment_stays),
        TEST(a_family_that_only_its_own_question_finds_is_removed_at_last),
        TEST(only_so_many_names_are_under_way_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
