/* The promises of proxy/gateway/turns.h. */
#include "gateway/turns.h"

#include "fixture.h"

static struct config_route route = {.priority = PRIORITY_DEFAULT};

static void open_route(struct fixture *f) {
    f->c->route = &route;
    f->pipeline_config.queue.fair = FAIR_CLIENT;
}

static uint64_t client_at(struct fixture *f, int family, const char *address) {
    fixture_client_is(f, family, address);
    return turns_client(f->c);
}

static void a_client_is_its_address(void **state) {
    struct fixture *f = *state;
    uint64_t one;

    open_route(f);
    one = client_at(f, AF_INET, "192.0.2.1");
    assert_int_not_equal(one, 0);
    assert_int_equal(client_at(f, AF_INET, "192.0.2.1"), one);
    assert_int_not_equal(client_at(f, AF_INET, "192.0.2.2"), one);
    assert_int_equal(client_at(f, AF_INET6, "::ffff:192.0.2.1"), one);
}

static void an_ipv6_client_is_its_64(void **state) {
    struct fixture *f = *state;

    open_route(f);
    assert_int_equal(client_at(f, AF_INET6, "2001:db8:1:2::1"),
                     client_at(f, AF_INET6, "2001:db8:1:2:ffff::9"));
    assert_int_not_equal(client_at(f, AF_INET6, "2001:db8:1:2::1"),
                         client_at(f, AF_INET6, "2001:db8:1:3::1"));
}

static void clients_of_a_unix_socket_are_one(void **state) {
    struct fixture *f = *state;

    open_route(f);
    assert_int_equal(client_at(f, AF_UNIX, ""), 1);
}

static void whom_a_trusted_client_forwards_for_is_believed(void **state) {
    struct fixture *f = *state;
    uint64_t own, forwarded;

    open_route(f);
    own = turns_client(f->c);
    fixture_ask(f, "x-forwarded-for", "203.0.113.1, 203.0.113.2");
    assert_int_equal(turns_client(f->c), own);
    f->c->is_trusted = true;
    forwarded = turns_client(f->c);
    assert_int_not_equal(forwarded, own);
    /* The last one is the one that the trusted client has seen itself. */
    fixture_ask(f, "x-forwarded-for", "203.0.113.9,203.0.113.2");
    assert_int_equal(turns_client(f->c), forwarded);
    fixture_ask(f, "x-forwarded-for", "203.0.113.3");
    assert_int_not_equal(turns_client(f->c), forwarded);
}

static void clients_may_be_named_by_a_field_or_be_all_the_same(void **state) {
    struct fixture *f = *state;
    uint64_t own, named;

    open_route(f);
    own = turns_client(f->c);
    f->pipeline_config.queue.fair = FAIR_FIELD;
    f->pipeline_config.queue.fair_field = (char *)"X-Tenant";
    assert_int_equal(turns_client(f->c), own); /* without it: the address */
    fixture_ask(f, "x-tenant", "a");
    named = turns_client(f->c);
    assert_int_not_equal(named, own);
    fixture_client_is(f, AF_INET, "192.0.2.9");
    assert_int_equal(turns_client(f->c), named);
    f->pipeline_config.queue.fair = FAIR_NONE;
    assert_int_equal(turns_client(f->c), 0);
}

static void a_trusted_client_may_say_the_priority(void **state) {
    struct fixture *f = *state;

    open_route(f);
    f->pipeline_config.queue.priority_field = (char *)"X-Priority";
    f->c->is_trusted = true;
    assert_int_equal(turns_priority(f->c), PRIORITY_DEFAULT);
    fixture_ask(f, "x-priority", "Critical");
    assert_int_equal(turns_priority(f->c), PRIORITY_CRITICAL);
    f->c->is_trusted = false;
    assert_int_equal(turns_priority(f->c), PRIORITY_DEFAULT);
    f->c->is_trusted = true;
    f->pipeline_config.queue.priority_field = NULL;
    assert_int_equal(turns_priority(f->c), PRIORITY_DEFAULT);
}

static void what_is_no_priority_is_ignored(void **state) {
    struct fixture *f = *state;

    open_route(f);
    f->pipeline_config.queue.priority_field = (char *)"x-priority";
    f->c->is_trusted = true;
    fixture_ask(f, "x-priority", "critical, please");
    assert_int_equal(turns_priority(f->c), PRIORITY_DEFAULT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_client_is_its_address),
        T(an_ipv6_client_is_its_64),
        T(clients_of_a_unix_socket_are_one),
        T(whom_a_trusted_client_forwards_for_is_believed),
        T(clients_may_be_named_by_a_field_or_be_all_the_same),
        T(a_trusted_client_may_say_the_priority),
        T(what_is_no_priority_is_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
