/* The promises of proxy/upstream/resolver.h, against a name server on loopback: the first addresses
 * of a name, the list of servers, and the end. */
#include "resolver_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void watch_gives_both_families_sorted_and_with_the_port(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    dns_server_set(world->dns, "api.test", DNS_A,
                   (struct dns_records){.ttl_s = 60, .addresses = {"10.0.0.2", "10.0.0.1"}});
    dns_server_set(world->dns, "api.test", DNS_AAAA,
                   (struct dns_records){.ttl_s = 60, .addresses = {"fd00::2", "fd00::1"}});
    watch(world, "api.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first),
                        "10.0.0.1:8080 10.0.0.2:8080 [fd00::1]:8080 [fd00::2]:8080");
    assert_int_equal(count_changes(&world->listener), 0);
}

static void watch_needs_one_family_only(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    set_v4(world, "four.test", 60, "10.0.0.1");
    set_v6(world, "six.test", 60, "fd00::1");
    set_v4(world, "half.test", 60, "10.0.0.3");
    set_mode(world, "half.test", DNS_AAAA, DNS_SERVFAIL);
    watch(world, "four.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.1:8080");
    watch(world, "six.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "[fd00::1]:8080");
    watch(world, "half.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.3:8080");
}

static void watch_takes_the_half_that_came_in_time(void **state) {
    struct world *world = *state;
    struct resolver_name name = name_of(world, "api.test", SELDOM_NS);
    struct resolver_addresses first;
    const char *why;

    set_v4(world, "api.test", 60, "10.0.0.1");
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    assert_int_equal(resolver_watch(world->resolver, &name, 300 * NS_PER_MS, &first, &why), 0);
    assert_string_equal(text_of(&first), "10.0.0.1:8080");
}

static void watch_says_why_a_name_does_not_resolve(void **state) {
    struct world *world = *state;

    set_mode(world, "empty.test", DNS_A, DNS_ANSWER);
    set_mode(world, "empty.test", DNS_AAAA, DNS_ANSWER);
    set_mode(world, "broken.test", DNS_A, DNS_SERVFAIL);
    set_mode(world, "broken.test", DNS_AAAA, DNS_SERVFAIL);
    set_mode(world, "private.test", DNS_A, DNS_REFUSED);
    set_mode(world, "private.test", DNS_AAAA, DNS_REFUSED);
    assert_not_watched(world, "missing.test", PATIENCE_NS, -ENOENT, "no such name");
    assert_not_watched(world, "empty.test", PATIENCE_NS, -ENODATA, "the name has no address");
    assert_not_watched(world, "broken.test", PATIENCE_NS, -EIO, "the name server failed");
    assert_not_watched(world, "private.test", PATIENCE_NS, -EACCES, "the name server refused");
    assert_not_watched(world, "mal..formed.test", PATIENCE_NS, -EINVAL, "malformed name");
    dns_server_close(world->dns);
    world->dns = NULL;
    assert_not_watched(world, "api.test", PATIENCE_NS, -ECONNREFUSED, "no name server listens");
}

static void watch_blocks_no_longer_than_its_timeout(void **state) {
    struct world *world = *state;
    int64_t begin_ns = clock_now_ns();

    dns_server_set_all(world->dns, DNS_SILENCE);
    assert_not_watched(world, "api.test", 50 * NS_PER_MS, -ETIMEDOUT, "timed out");
    assert_in_range(clock_now_ns() - begin_ns, 50 * NS_PER_MS, NS_PER_S);
}

static void a_silent_server_is_given_up_after_its_tries(void **state) {
    struct world *world = *state;

    set_mode(world, "api.test", DNS_A, DNS_SILENCE);
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    assert_not_watched(world, "api.test", PATIENCE_NS, -ETIMEDOUT, "timed out");
    assert_int_equal(dns_server_asked(world->dns, "api.test", DNS_A), RESOLVER_TRIES);
}

static void a_name_that_did_not_resolve_is_not_watched_and_needs_no_thread(void **state) {
    struct world *world = *state;
    size_t threads = count_entries("/proc/self/task");

    assert_not_watched(world, "missing.test", PATIENCE_NS, -ENOENT, "no such name");
    assert_int_equal(resolver_start(world->resolver), 0);
    assert_int_equal(count_entries("/proc/self/task"), threads);
}

static void a_name_that_may_come_later_is_watched_until_it_does(void **state) {
    struct world *world = *state;
    struct resolver_name name = name_of(world, "late.test", OFTEN_NS);
    struct resolver_addresses first = {.count = 1};
    const char *why = NULL;

    catch_log(world);
    name.may_come_later = true;
    assert_int_equal(resolver_watch(world->resolver, &name, PATIENCE_NS, &first, &why), 0);
    assert_int_equal(first.count, 0);
    assert_int_equal(count_logged(world, "cannot resolve 'late.test', which has no address"), 1);
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "late.test", DNS_A, 3);
    assert_int_equal(count_changes(&world->listener), 0);
    set_v4(world, "late.test", 60, "10.0.0.1");
    assert_true(await_changes(&world->listener, 1, PATIENCE_NS));
    assert_last(world, "10.0.0.1:8080");
    assert_int_equal(count_logged(world, "resolved 'late.test' again"), 1);
    assert_int_equal(count_logged(world, "cannot resolve"), 1);
}

static void one_that_may_come_later_is_not_waited_for_longer_than_allowed(void **state) {
    struct world *world = *state;
    struct resolver_name name = name_of(world, "late.test", SELDOM_NS);
    struct resolver_addresses first;
    int64_t begin_ns = clock_now_ns();
    const char *why = NULL;

    dns_server_set_all(world->dns, DNS_SILENCE);
    name.may_come_later = true;
    assert_int_equal(resolver_watch(world->resolver, &name, 50 * NS_PER_MS, &first, &why), 0);
    assert_int_equal(resolver_watch(world->resolver, &name, -NS_PER_S, &first, &why), 0);
    assert_int_equal(first.count, 0);
    assert_in_range(clock_now_ns() - begin_ns, 50 * NS_PER_MS, NS_PER_S);
}

static void names_beyond_the_limit_are_refused(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    for (int i = 0; i < RESOLVER_NAMES_MAX; i++)
        watch(world, "api.test", SELDOM_NS, NULL);
    assert_not_watched(world, "api.test", PATIENCE_NS, -ENOSPC, "too many names");
}

static void cnames_are_followed(void **state) {
    struct world *world = *state;
    struct resolver_addresses first;

    dns_server_alias(world->dns, "www.test", "edge.test", 60);
    dns_server_alias(world->dns, "edge.test", "origin.test", 60);
    set_v4(world, "origin.test", 60, "10.0.0.1");
    set_v6(world, "origin.test", 60, "fd00::1");
    watch(world, "www.test", SELDOM_NS, &first);
    assert_string_equal(text_of(&first), "10.0.0.1:8080 [fd00::1]:8080");
}

static void a_truncated_answer_is_fetched_over_tcp(void **state) {
    static char texts[DNS_RECORDS_MAX][16];
    struct world *world = *state;
    struct dns_records records = {.ttl_s = 60};
    struct resolver_addresses first;

    catch_log(world); /* too many addresses, too */
    for (int i = 0; i < DNS_RECORDS_MAX; i++) {
        snprintf(texts[i], sizeof texts[i], "10.0.0.%d", DNS_RECORDS_MAX - i);
        records.addresses[i] = texts[i];
    }
    dns_server_set(world->dns, "api.test", DNS_A, records);
    watch(world, "api.test", SELDOM_NS, &first);
    assert_true(dns_server_spoke_tcp(world->dns));
    assert_int_equal(first.count, RESOLVER_ADDRESSES_MAX);
}

static void addresses_beyond_the_limit_are_left_out_and_logged_once(void **state) {
    static char texts[20][16];
    struct world *world = *state;
    struct dns_records records = {.ttl_s = 60};
    struct resolver_addresses first;

    catch_log(world);
    for (int i = 0; i < 20; i++) {
        snprintf(texts[i], sizeof texts[i], "10.0.0.%d", i + 1);
        records.addresses[i] = texts[i];
    }
    dns_server_rotate(world->dns); /* the same ones, whatever the order */
    dns_server_set(world->dns, "api.test", DNS_A, records);
    watch(world, "api.test", OFTEN_NS, &first);
    assert_int_equal(first.count, RESOLVER_ADDRESSES_MAX);
    assert_string_equal(text_of(&first) + strlen(text_of(&first)) - strlen(" 10.0.0.16:8080"),
                        " 10.0.0.16:8080");
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_A, 5);
    assert_int_equal(count_changes(&world->listener), 0);
    assert_int_equal(count_logged(world, "'api.test', leaving out 4"), 1);
}

static void etc_hosts_is_honoured(void **state) {
    struct world *world = *state;
    static char line[1024], host[256];
    struct resolver_addresses first;
    FILE *hosts = fopen("/etc/hosts", "re");
    char address[64] = "";

    host[0] = '\0';
    while (hosts != NULL && fgets(line, sizeof line, hosts))
        if (sscanf(line, "%63[0-9.] %255s", address, host) == 2 && strcmp(host, "localhost") != 0)
            break;
        else
            host[0] = '\0';
    if (hosts != NULL)
        fclose(hosts);
    if (host[0] == '\0')
        skip();
    set_v4(world, host, 60, "10.0.0.1");
    watch(world, host, OFTEN_NS, &first);
    assert_true(first.count >= 1);
    assert_null(strstr(text_of(&first), "10.0.0.1:8080"));
    assert_int_equal(dns_server_asked(world->dns, NULL, DNS_A), 0);
}

static void close_with_a_question_under_way_is_fast_and_the_last_word(void **state) {
    struct world *world = *state;
    int64_t begin_ns;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", OFTEN_NS, NULL);
    set_mode(world, "api.test", DNS_AAAA, DNS_SILENCE);
    set_v4(world, "api.test", 60, "10.0.0.2"); /* half the answer is here */
    assert_int_equal(resolver_start(world->resolver), 0);
    await_rounds(world, "api.test", DNS_AAAA, 1);
    begin_ns = clock_now_ns();
    resolver_close(world->resolver);
    world->resolver = NULL;
    assert_in_range(clock_now_ns() - begin_ns, 0, 100 * NS_PER_MS);
    assert_int_equal(count_changes(&world->listener), 0);
}

static void close_accepts_null_and_what_was_never_started(void **state) {
    struct world *world = *state;

    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    resolver_close(world->resolver);
    world->resolver = NULL;
    resolver_close(NULL);
}

static void malformed_lists_of_servers_are_refused(void **state) {
    static const char *const lists[] = {
        "",
        ",",
        "1.2.3.4,",
        "ns.example.com",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:x",
        "1.2.3",
        "1.2.3.4:65536",
        "1.2.3.4 5",
        "[::1",
        "[::1]53",
        "[::1]:",
        "[]:53",
        "[1.2.3.4]:53",
        ":53",
        "1.2.3.4:-53",
        "1.2.3.4:053x",
        "1,2,3",
        "1.2.3.4:00000000000000000000000000000000000000000000000000000000000000053",
        "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9",
    };
    static const char *const good[] = {
        "1.2.3.4",
        "1.2.3.4:53, [::1]:5353",
        "::1",
        "[::1]",
        "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8",
    };

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct resolver *resolver = NULL;

        if (resolver_open(&resolver, lists[i]) != -EINVAL || resolver != NULL)
            fail_msg("'%s' was taken", lists[i]);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct resolver *resolver;

        if (resolver_open(&resolver, good[i]))
            fail_msg("'%s' was refused", good[i]);
        resolver_close(resolver);
    }
}

static void without_a_list_the_servers_are_the_systems(void **state) {
    struct resolver *resolver;

    assert_int_equal(resolver_open(&resolver, NULL), 0);
    resolver_close(resolver);
}

static void a_server_that_fails_hands_over_to_the_next(void **state) {
    struct world *world = *state;
    struct dns_server *broken = dns_server_open(AF_INET);
    char servers[64];

    dns_server_set_all(broken, DNS_SERVFAIL);
    resolver_close(world->resolver);
    snprintf(servers, sizeof servers, "127.0.0.1:%u,127.0.0.1:%u", dns_server_port(broken),
             dns_server_port(world->dns));
    assert_int_equal(resolver_open(&world->resolver, servers), 0);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
    assert_true(dns_server_asked(broken, "api.test", DNS_A) <= 1);
    dns_server_close(broken);
}

static void a_server_may_be_ipv6(void **state) {
    struct world *world = *state;
    char servers[64];

    dns_server_close(world->dns);
    world->dns = dns_server_open(AF_INET6);
    if (world->dns == NULL)
        skip(); /* no IPv6 here */
    resolver_close(world->resolver);
    snprintf(servers, sizeof servers, "[::1]:%u", dns_server_port(world->dns));
    assert_int_equal(resolver_open(&world->resolver, servers), 0);
    set_v4(world, "api.test", 60, "10.0.0.1");
    watch(world, "api.test", SELDOM_NS, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    static const struct CMUnitTest tests[] = {
        TEST(watch_gives_both_families_sorted_and_with_the_port),
        TEST(watch_needs_one_family_only),
        TEST(watch_takes_the_half_that_came_in_time),
        TEST(watch_says_why_a_name_does_not_resolve),
        TEST(watch_blocks_no_longer_than_its_timeout),
        TEST(a_silent_server_is_given_up_after_its_tries),
        TEST(a_name_that_did_not_resolve_is_not_watched_and_needs_no_thread),
        TEST(a_name_that_may_come_later_is_watched_until_it_does),
        TEST(one_that_may_come_later_is_not_waited_for_longer_than_allowed),
        TEST(names_beyond_the_limit_are_refused),
        TEST(cnames_are_followed),
        TEST(a_truncated_answer_is_fetched_over_tcp),
        TEST(addresses_beyond_the_limit_are_left_out_and_logged_once),
        TEST(etc_hosts_is_honoured),
        TEST(close_with_a_question_under_way_is_fast_and_the_last_word),
        TEST(close_accepts_null_and_what_was_never_started),
        TEST(malformed_lists_of_servers_are_refused),
        TEST(without_a_list_the_servers_are_the_systems),
        TEST(a_server_that_fails_hands_over_to_the_next),
        TEST(a_server_may_be_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
