/* The promises of plugins/rate_limit.c, on a clock that the test moves. */
#include "plugins/host/host.h"

#include <stdio.h>
#include <string.h>

static int set_up(void **state) {
    host_open("rate_limit");
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

static bool passes(const char *address) {
    return RUN(.client_address = address) == WEIR_CONTINUE;
}

static unsigned how_many_pass(const char *address, unsigned tries) {
    unsigned passed = 0;

    for (unsigned i = 0; i < tries; i++)
        passed += passes(address);
    return passed;
}

static void test_so_many_at_once_and_no_more(void **state) {
    host_init("{\"limit\": 10, \"window\": \"1s\"}");
    assert_int_equal(how_many_pass("192.0.2.1", 25), 10);
    assert_int_equal(host_events[0], 10);
    assert_int_equal(host_events[1], 15);
}

static void test_it_refills_evenly(void **state) {
    host_init("{\"limit\": 10, \"window\": \"1s\"}");
    how_many_pass("192.0.2.1", 20);
    host_now_ns += 99 * NS_PER_MS;
    assert_int_equal(how_many_pass("192.0.2.1", 5), 0);
    host_now_ns += NS_PER_MS;
    assert_int_equal(how_many_pass("192.0.2.1", 5), 1);
    host_now_ns += 500 * NS_PER_MS;
    assert_int_equal(how_many_pass("192.0.2.1", 20), 5);
    host_now_ns += 3600 * NS_PER_S;
    assert_int_equal(how_many_pass("192.0.2.1", 20), 10);
}

static void test_over_a_long_time_it_is_the_limit(void **state) {
    unsigned passed = 0;

    host_init("{\"limit\": 7, \"window\": \"1s\", \"burst\": 2}");
    for (unsigned i = 0; i < 10000; i++) { /* 100 s */
        passed += passes("192.0.2.1");
        host_now_ns += 10 * NS_PER_MS;
    }
    assert_in_range(passed, 700, 702);
}

static void test_a_burst_is_what_may_come_at_once(void **state) {
    host_init("{\"limit\": 10, \"window\": \"1s\", \"burst\": 3}");
    assert_int_equal(how_many_pass("192.0.2.1", 10), 3);
    host_now_ns += 100 * NS_PER_MS;
    assert_int_equal(how_many_pass("192.0.2.1", 10), 1);
    host_init("{\"limit\": 10, \"window\": \"1s\", \"burst\": 30}");
    host_now_ns += 10 * NS_PER_S;
    assert_int_equal(how_many_pass("192.0.2.1", 50), 30);
}

static void test_each_address_has_its_own(void **state) {
    host_init("{\"limit\": 2, \"window\": \"1s\"}");
    assert_int_equal(how_many_pass("192.0.2.1", 5), 2);
    assert_int_equal(how_many_pass("192.0.2.2", 5), 2);
    assert_int_equal(how_many_pass("unix", 5), 2);
    assert_int_equal(how_many_pass("::ffff:192.0.2.1", 5), 0); /* the same in other words */
}

static void test_an_ipv6_network_is_one_client(void **state) {
    host_init("{\"limit\": 2, \"window\": \"1s\"}");
    assert_int_equal(how_many_pass("2001:db8::1", 1), 1);
    assert_int_equal(how_many_pass("2001:db8:0:0:ffff::2", 5), 1);
    assert_int_equal(how_many_pass("2001:db8:0:1::1", 5), 2);
    host_init("{\"limit\": 2, \"window\": \"1s\", \"ipv6_bits\": 128, \"name\": \"exact\"}");
    assert_int_equal(how_many_pass("2001:db8::1", 5), 2);
    assert_int_equal(how_many_pass("2001:db8::2", 5), 2);
    host_init("{\"limit\": 2, \"window\": \"1s\", \"ipv4_bits\": 25, \"name\": \"nets\"}");
    assert_int_equal(how_many_pass("192.0.2.1", 5), 2);
    assert_int_equal(how_many_pass("192.0.2.127", 5), 0);
    assert_int_equal(how_many_pass("192.0.2.128", 5), 2);
}

static enum weir_verdict run_forwarded(const char *forwarded, const char *more, bool is_trusted) {
    return RUN(.fields = {{"x-forwarded-for", forwarded}, {more ? "X-Forwarded-For" : NULL, more}},
               .is_trusted = is_trusted);
}

static void test_behind_a_trusted_proxy_it_is_whom_that_names(void **state) {
    host_init("{\"limit\": 1, \"window\": \"1s\"}");
    assert_int_equal(run_forwarded("192.0.2.1", NULL, true), WEIR_CONTINUE);
    assert_int_equal(run_forwarded("10.9.9.9, 192.0.2.1", NULL, true), WEIR_RESPOND);
    assert_int_equal(run_forwarded("192.0.2.2", "192.0.2.1", true), WEIR_RESPOND);
    assert_int_equal(run_forwarded("192.0.2.1,192.0.2.3 ", NULL, true), WEIR_CONTINUE);
    assert_int_equal(run_forwarded("192.0.2.8", NULL, false), WEIR_CONTINUE); /* 192.0.2.7 */
    assert_int_equal(run_forwarded("192.0.2.9", NULL, false), WEIR_RESPOND);
    assert_int_equal(run_forwarded("192.0.2.9,", NULL, true), WEIR_RESPOND);
    host_init("{\"limit\": 1, \"window\": \"1s\", \"forwarded\": false}");
    assert_int_equal(run_forwarded("192.0.2.10", NULL, true), WEIR_RESPOND);
}

static void test_a_field_is_the_key(void **state) {
    char value[300];

    host_init("{\"limit\": 1, \"window\": \"1s\", \"key\": \"field:X-Tenant\"}");
    assert_int_equal(RUN(.fields = {{"x-tenant", "a"}}), WEIR_CONTINUE);
    assert_int_equal(RUN(.fields = {{"x-tenant", "b"}}), WEIR_CONTINUE);
    assert_int_equal(RUN(.fields = {{"X-TENANT", "a"}}, .client_address = "192.0.2.9"),
                     WEIR_RESPOND);
    for (unsigned end = 62; end < 66; end++) { /* around what a key can hold */
        memset(value, 'v', sizeof value);
        value[end] = '\0';
        assert_int_equal(RUN(.fields = {{"x-tenant", value}}), WEIR_CONTINUE);
        assert_int_equal(RUN(.fields = {{"x-tenant", value}}), WEIR_RESPOND);
    }
}

static void test_without_the_field_it_is_the_client(void **state) {
    host_init("{\"limit\": 1, \"window\": \"1s\", \"key\": \"field:x-tenant\"}");
    assert_int_equal(RUN(.client_address = "192.0.2.1"), WEIR_CONTINUE);
    assert_int_equal(RUN(.client_address = "192.0.2.1"), WEIR_RESPOND);
    assert_int_equal(RUN(.client_address = "192.0.2.2"), WEIR_CONTINUE);
    /* No value of a field is another's address. */
    assert_int_equal(RUN(.fields = {{"x-tenant", "192.0.2.1"}}), WEIR_CONTINUE);
}

static void test_a_variable_is_the_key(void **state) {
    host_init("{\"limit\": 1, \"window\": \"1s\", \"key\": \"variable:api_key\"}");
    assert_int_equal(RUN(.variables = {{"api_key", "alice"}}), WEIR_CONTINUE);
    assert_int_equal(RUN(.variables = {{"api_key", "bob"}}), WEIR_CONTINUE);
    assert_int_equal(RUN(.variables = {{"api_key", "alice"}}), WEIR_RESPOND);
}

static void test_a_route_is_the_key(void **state) {
    host_init("{\"limit\": 1, \"window\": \"1s\", \"key\": \"route\"}");
    assert_int_equal(RUN(.route = "a", .client_address = "192.0.2.1"), WEIR_CONTINUE);
    assert_int_equal(RUN(.route = "a", .client_address = "192.0.2.2"), WEIR_RESPOND);
    assert_int_equal(RUN(.route = "b", .client_address = "192.0.2.1"), WEIR_CONTINUE);
}

static void test_who_is_limited_is_told_for_how_long(void **state) {
    host_init("{\"limit\": 4, \"window\": \"10s\"}");
    how_many_pass("192.0.2.1", 4);
    assert_false(passes("192.0.2.1"));
    assert_int_equal(host_status(), 429);
    assert_true(host_is_refusal());
    assert_string_equal(host_answer_field("retry-after"), "3"); /* 2.5 s */
    assert_string_equal(host_answer_field("ratelimit-policy"), "\"default\";q=4;w=10");
    assert_string_equal(host_answer_field("ratelimit"), "\"default\";r=0;t=3");
    host_now_ns += 3 * NS_PER_S; /* its word is good */
    assert_true(passes("192.0.2.1"));
}

static void test_who_passes_is_told_what_is_left(void **state) {
    static const struct host_field fields[] = {{"ratelimit", "\"upstream\";r=1"}, {NULL, NULL}};

    host_init("{\"limit\": 4, \"window\": \"10s\", \"name\": \"api\"}");
    passes("192.0.2.1");
    assert_string_equal(host_variable("rate_api"), "\"api\";r=3;t=3");
    assert_true(host_wants_response());
    host_respond(200, fields);
    assert_string_equal(host_sent("ratelimit-policy"), "\"api\";q=4;w=10");
    assert_string_equal(host_sent("ratelimit"), "\"upstream\";r=1, \"api\";r=3;t=3");
    how_many_pass("192.0.2.1", 3);
    assert_string_equal(host_variable("rate_api"), "\"api\";r=0;t=3");
}

static void test_fields_can_be_left_out(void **state) {
    host_init("{\"limit\": 1, \"window\": \"10s\", \"fields\": false}");
    passes("192.0.2.1");
    assert_false(host_wants_response()); /* it has nothing to say there */
    host_respond(200, (struct host_field[]){{NULL, NULL}});
    assert_null(host_sent("ratelimit"));
    passes("192.0.2.1");
    assert_null(host_answer_field("ratelimit"));
    assert_string_equal(host_answer_field("retry-after"), "10");
}

static void test_the_table_is_bounded_and_who_comes_often_is_kept(void **state) {
    char address[32];
    unsigned refused = 0;

    host_init("{\"limit\": 1, \"window\": \"1h\", \"max_keys\": 100}");
    assert_true(passes("192.0.2.1"));
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(address, sizeof address, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        assert_true(passes(address));
        refused += i % 10 == 0 && !passes("192.0.2.1");
    }
    assert_int_equal(refused, 2000);
    assert_true(passes("10.0.0.0")); /* long forgotten */
}

static void test_instances_share_one_rate(void **state) {
    static const char config[] = "{\"limit\": 10, \"window\": \"1s\"}";
    void *other;
    char why[256];

    host_init(config);
    assert_int_equal(how_many_pass("192.0.2.1", 6), 6);
    assert_int_equal(host_plugin()->init(host_table(),
                                         (struct weir_text){config, sizeof config - 1}, &other, why,
                                         sizeof why),
                     0);
    host_init(config); /* the first is thrown away */
    assert_int_equal(how_many_pass("192.0.2.1", 10), 4);
    host_plugin()->end(other);
}

static void test_other_settings_hold_at_once(void **state) {
    host_init("{\"limit\": 1, \"window\": \"24h\"}");
    assert_int_equal(how_many_pass("192.0.2.1", 2), 1);
    host_init("{\"limit\": 10, \"window\": \"1s\"}");
    assert_int_equal(how_many_pass("192.0.2.1", 2), 0);
    host_now_ns += NS_PER_S; /* not a day */
    assert_int_equal(how_many_pass("192.0.2.1", 20), 10);
}

static void test_settings_are_checked(void **state) {
    static const char *const cases[][2] = {
        {"{}", "limit: is missing"},
        {"{\"limit\": 0}", "limit: found 0, expected an integer from 1 to 1000000000"},
        {"{\"limit\": 1.5}", "limit: found 1.5"},
        {"{\"limit\": 1, \"window\": \"10\"}", "window: found \"10\", expected a duration"},
        {"{\"limit\": 1, \"window\": \"0s\"}", "window: found \"0s\""},
        {"{\"limit\": 1, \"window\": \"99999999999999d\"}", "window: found"},
        {"{\"limit\": 1, \"window\": 10}", "window: found 10"},
        {"{\"limit\": 1000000000, \"window\": \"1s\"}", "limit, window, burst: "},
        {"{\"limit\": 1, \"window\": \"360d\", \"burst\": 1000}", "limit, window, burst: "},
        {"{\"limit\": 1, \"key\": \"user\"}", "key: found \"user\", expected \"client\""},
        {"{\"limit\": 1, \"key\": \"field:\"}", "key: found"},
        {"{\"limit\": 1, \"key\": \"variable:A\"}", "key: found"},
        {"{\"limit\": 1, \"name\": \"A\"}", "name: found \"A\""},
        {"{\"limit\": 1, \"name\": \"\"}", "name: expected 1 to 24"},
        {"{\"limit\": 1, \"name\": \"aaaaaaaaaaaaaaaaaaaaaaaaa\"}", "name: expected 1 to 24"},
        {"{\"limit\": 1, \"max_keys\": 0}", "max_keys: found 0"},
        {"{\"limit\": 1, \"rate\": 0}", "rate: is not a setting"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        host_init_fails(cases[i][0], cases[i][1]);
}

static void test_a_table_too_many_is_an_error(void **state) {
    host_init("{\"limit\": 1, \"name\": \"a\", \"max_keys\": 262144}");
    host_init_fails("{\"limit\": 1, \"name\": \"b\", \"max_keys\": 262144}",
                    "max_keys: there is no room for a table of 262144 keys");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_so_many_at_once_and_no_more),
        TEST(test_it_refills_evenly),
        TEST(test_over_a_long_time_it_is_the_limit),
        TEST(test_a_burst_is_what_may_come_at_once),
        TEST(test_each_address_has_its_own),
        TEST(test_an_ipv6_network_is_one_client),
        TEST(test_behind_a_trusted_proxy_it_is_whom_that_names),
        TEST(test_a_field_is_the_key),
        TEST(test_without_the_field_it_is_the_client),
        TEST(test_a_variable_is_the_key),
        TEST(test_a_route_is_the_key),
        TEST(test_who_is_limited_is_told_for_how_long),
        TEST(test_who_passes_is_told_what_is_left),
        TEST(test_fields_can_be_left_out),
        TEST(test_the_table_is_bounded_and_who_comes_often_is_kept),
        TEST(test_instances_share_one_rate),
        TEST(test_other_settings_hold_at_once),
        TEST(test_settings_are_checked),
        TEST(test_a_table_too_many_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
