/* Blocks of addresses. */
#include "config/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool has(const char *block, const char *address) {
    struct config_cidr cidr;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    assert_int_equal(cidr_parse(&cidr, slice_str(block)), 0);
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
        return config_cidr_has(&cidr, (struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
    return config_cidr_has(&cidr, (struct sockaddr *)&in6);
}

static void a_block_holds_its_addresses_only(void **state) {
    assert_true(has("10.0.0.0/8", "10.255.0.1"));
    assert_false(has("10.0.0.0/8", "11.0.0.0"));
    assert_true(has("192.168.4.0/22", "192.168.7.255"));
    assert_false(has("192.168.4.0/22", "192.168.8.0"));
    assert_true(has("127.0.0.1", "127.0.0.1"));
    assert_false(has("127.0.0.1/32", "127.0.0.2"));
    assert_true(has("0.0.0.0/0", "8.8.8.8"));
    assert_true(has("::1", "::1"));
    assert_false(has("::1", "::2"));
    assert_true(has("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(has("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(has("::/0", "2001:db8::1"));
}

static void families_do_not_mix(void **state) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct config_cidr cidr;

    assert_false(has("0.0.0.0/0", "::1"));
    assert_false(has("::/0", "127.0.0.1"));
    assert_int_equal(cidr_parse(&cidr, SLICE("0.0.0.0/0")), 0);
    assert_false(config_cidr_has(&cidr, (struct sockaddr *)&un));
}

static void mapped_addresses_count_as_ipv4(void **state) {
    assert_true(has("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert_false(has("10.0.0.0/8", "::ffff:11.1.2.3"));
    assert_false(has("::/0", "::ffff:10.1.2.3"));
    assert_true(has("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert_true(has("::ffff:127.0.0.1", "127.0.0.1"));
}

static void what_is_no_block_is_refused(void **state) {
    static const char *const bad[] = {"",
                                      "10",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/8x",
                                      "10.0.0.0/08",
                                      "::1/129",
                                      "name",
                                      "[::1]",
                                      "10.0.0.0/8/8",
                                      "10.0.0.0 /8",
                                      "/8",
                                      "1111:2222:3333:4444:5555:6666:7777:8888:9999:0"};
    struct config_cidr cidr;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(cidr_parse(&cidr, slice_str(bad[i])), -EINVAL);
    assert_int_equal(cidr_parse(&cidr, slice_of("1.2.3.4\0x", 9)), -EINVAL);
}

static void bits_behind_the_prefix_are_told_and_cleared(void **state) {
    struct config_cidr cidr;

    assert_int_equal(cidr_parse(&cidr, SLICE("10.255.0.1/9")), -EDOM);
    assert_memory_equal(cidr.bytes, ((uint8_t[]){10, 128, 0, 0}), 4);
    assert_int_equal(cidr_parse(&cidr, SLICE("1.2.3.4/0")), -EDOM);
    assert_memory_equal(cidr.bytes, ((uint8_t[]){0, 0, 0, 0}), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_holds_its_addresses_only),
        cmocka_unit_test(families_do_not_mix),
        cmocka_unit_test(mapped_addresses_count_as_ipv4),
        cmocka_unit_test(what_is_no_block_is_refused),
        cmocka_unit_test(bits_behind_the_prefix_are_told_and_cleared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
