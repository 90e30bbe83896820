/* Tests proxy/transport/addresses.c. */
#include "transport/addresses.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define CAPACITY 1000

static struct addresses addresses;

static int set_up(void **state) {
    addresses_init(&addresses, 2, CAPACITY);
    return 0;
}

static int tear_down(void **state) {
    addresses_deinit(&addresses);
    return 0;
}

static union conn_address address(const char *text) {
    union conn_address a = {0};

    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1)
        a.in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1)
        a.in6.sin6_family = AF_INET6;
    else
        fail();
    return a;
}

static union conn_address numbered(unsigned n) {
    union conn_address a = {.in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(n)}};

    return a;
}

/* Of whatever was counted nothing is left: each of as many addresses as there can be has its whole
 * share. */
static void expect_empty(void) {
    for (unsigned i = 1; i <= CAPACITY; i++) {
        union conn_address a = numbered(i);

        assert_true(addresses_enter(&addresses, &a));
        assert_true(addresses_enter(&addresses, &a));
        assert_false(addresses_enter(&addresses, &a));
    }
    for (unsigned i = 1; i <= CAPACITY; i++) {
        union conn_address a = numbered(i);

        addresses_leave(&addresses, &a);
        addresses_leave(&addresses, &a);
    }
}

static bool enters(const char *text) {
    union conn_address a = address(text);

    return addresses_enter(&addresses, &a);
}

static void leaves(const char *text) {
    union conn_address a = address(text);

    addresses_leave(&addresses, &a);
}

static void each_address_has_so_many_and_no_more(void **state) {
    assert_true(enters("192.0.2.1"));
    assert_true(enters("192.0.2.1"));
    assert_false(enters("192.0.2.1"));
    assert_true(enters("192.0.2.2"));
    leaves("192.0.2.1");
    assert_true(enters("192.0.2.1"));
    assert_false(enters("192.0.2.1"));
    leaves("192.0.2.1");
    leaves("192.0.2.1");
    leaves("192.0.2.2");
    assert_true(enters("192.0.2.1"));
    assert_true(enters("192.0.2.1"));
    leaves("192.0.2.1");
    leaves("192.0.2.1");
    expect_empty();
}

static void ipv6_clients_count_by_their_half(void **state) {
    assert_true(enters("2001:db8::1"));
    assert_true(enters("2001:db8::2"));
    assert_false(enters("2001:db8::3"));
    assert_true(enters("2001:db8:0:1::1"));
}

static void a_mapped_address_is_the_ipv4_one(void **state) {
    assert_true(enters("::ffff:192.0.2.1"));
    assert_true(enters("192.0.2.1"));
    assert_false(enters("192.0.2.1"));
    /* And nothing of IPv6 that looks like it. */
    assert_true(enters("c000:201::"));
}

static void unix_clients_do_not_count(void **state) {
    union conn_address unix_client = {.any.sa_family = AF_UNSPEC};

    for (unsigned i = 0; i < 10; i++)
        assert_true(addresses_enter(&addresses, &unix_client));
    addresses_leave(&addresses, &unix_client);
    expect_empty();
}

static void without_a_limit_nothing_is_kept(void **state) {
    struct addresses none;
    union conn_address a = address("192.0.2.1");

    addresses_init(&none, 0, CAPACITY);
    for (unsigned i = 0; i < 10; i++)
        assert_true(addresses_enter(&none, &a));
    addresses_leave(&none, &a);
    addresses_deinit(&none);
}

/* As many as there can be, leaving in another order than they came: the table must find each one
 * past the holes that others left. */
static void a_full_table_loses_nobody(void **state) {
    unsigned held[CAPACITY];
    unsigned next = 1;

    for (unsigned i = 0; i < CAPACITY; i++) {
        union conn_address a = numbered(held[i] = next++);

        assert_true(addresses_enter(&addresses, &a));
    }
    srand(1);
    for (unsigned round = 0; round < 100000; round++) {
        unsigned i = (unsigned)rand() % CAPACITY;
        union conn_address old = numbered(held[i]), new;

        addresses_leave(&addresses, &old);
        new = numbered(held[i] = next++);
        assert_true(addresses_enter(&addresses, &new));
    }
    for (unsigned i = 0; i < CAPACITY; i++) {
        union conn_address a = numbered(held[i]);

        assert_true(addresses_enter(&addresses, &a));
        assert_false(addresses_enter(&addresses, &a));
        addresses_leave(&addresses, &a);
        addresses_leave(&addresses, &a);
    }
    expect_empty();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_address_has_so_many_and_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ipv6_clients_count_by_their_half, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_mapped_address_is_the_ipv4_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_clients_do_not_count, set_up, tear_down),
        cmocka_unit_test(without_a_limit_nothing_is_kept),
        cmocka_unit_test_setup_teardown(a_full_table_loses_nobody, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
