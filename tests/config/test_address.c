/* Addresses to listen on and to dial. */
#include "config/address.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct config_address take(const char *text, enum address_use use) {
    struct config_address address = {0};
    struct buffer guess = {0};
    const char *fault = address_parse(&address, slice_str(text), use, &guess);

    if (fault)
        fail_msg("%s: %s", text, fault);
    assert_null(guess.base);
    assert_string_equal(address.text, text);
    return address;
}

static void expect_refused(const char *text, enum address_use use, const char *guessed) {
    struct config_address address = {0};
    struct buffer guess = {0};

    assert_non_null(address_parse(&address, slice_str(text), use, &guess));
    assert_null(address.text);
    assert_true(slice_equal(buffer_slice(&guess), slice_str(guessed)));
    buffer_deinit(&guess);
}

static bool is_in_the_way(const char *a, const char *b) {
    struct config_address left = take(a, ADDRESS_TO_LISTEN);
    struct config_address right = take(b, ADDRESS_TO_LISTEN);
    bool is = address_is_in_the_way(&left, &right);

    assert_int_equal(is, address_is_in_the_way(&right, &left));
    address_deinit(&left);
    address_deinit(&right);
    return is;
}

static void ipv4_is_read(void **state) {
    struct config_address address = take("127.0.0.1:8080", ADDRESS_TO_DIAL);
    struct sockaddr_in *in = (struct sockaddr_in *)&address.sockaddr;

    assert_int_equal(address.kind, ADDRESS_INET);
    assert_int_equal(address.port, 8080);
    assert_false(address.is_any);
    assert_int_equal(address.sockaddr_len, sizeof *in);
    assert_int_equal(in->sin_family, AF_INET);
    assert_int_equal(in->sin_port, htons(8080));
    assert_int_equal(in->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    address_deinit(&address);
}

static void ipv6_is_read(void **state) {
    struct config_address address = take("[::1]:65535", ADDRESS_TO_LISTEN);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address.sockaddr;

    assert_int_equal(address.kind, ADDRESS_INET);
    assert_int_equal(address.sockaddr_len, sizeof *in6);
    assert_int_equal(in6->sin6_family, AF_INET6);
    assert_int_equal(in6->sin6_port, htons(65535));
    assert_memory_equal(&in6->sin6_addr, &in6addr_loopback, 16);
    address_deinit(&address);
}

static void a_bare_port_is_every_address(void **state) {
    struct config_address address = take(":80", ADDRESS_TO_LISTEN);

    assert_true(address.is_any);
    assert_int_equal(address.port, 80);
    assert_int_equal(address.sockaddr.ss_family, AF_INET6);
    address_deinit(&address);
}

static void a_unix_path_is_read_up_to_its_limit(void **state) {
    char text[120] = "unix:/";
    struct config_address address;
    struct sockaddr_un *un = (struct sockaddr_un *)&address.sockaddr;

    memset(text + 6, 'x', 106);
    address = take(text, ADDRESS_TO_DIAL);
    assert_int_equal(address.kind, ADDRESS_UNIX);
    assert_int_equal(address.sockaddr.ss_family, AF_UNIX);
    assert_string_equal(un->sun_path, text + 5);
    assert_int_equal(address.sockaddr_len, sizeof *un);
    address_deinit(&address);
    text[112] = 'x';
    expect_refused(text, ADDRESS_TO_DIAL, "");
    expect_refused("unix:", ADDRESS_TO_DIAL, "");
    expect_refused("unix:relative", ADDRESS_TO_LISTEN, "");
}

static void a_name_is_kept_in_lower_case(void **state) {
    struct config_address address = take("API-2.Example_x.com:443", ADDRESS_TO_DIAL);

    assert_int_equal(address.kind, ADDRESS_NAME);
    assert_string_equal(address.host, "api-2.example_x.com");
    assert_int_equal(address.port, 443);
    address_deinit(&address);
}

static void names_follow_the_rules_of_dns(void **state) {
    static const char *const good[] = {"a",   "a.b", "a.b.", "1a",
                                       "1.a", "a-b", "_x.y", "xn--bcher-kva.de"};
    static const char *const bad[] = {"",     ".",         "a..b", "-a",  "a-",
                                      "a-.b", ".a",        "a b",  "a:b", "\xC3\xA9",
                                      "1.2",  "256.1.1.1", "a.1",  "a/b", "*.a"};
    char label[70];

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(address_is_name(slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(address_is_name(slice_str(bad[i])));
    memset(label, 'a', sizeof label);
    assert_true(address_is_name(slice_of(label, 63)));
    assert_false(address_is_name(slice_of(label, 64)));
}

static void what_is_no_address_is_refused(void **state) {
    static const char *const bad[] = {"",
                                      ":",
                                      "a",
                                      "a:",
                                      "a:x",
                                      "a:65536",
                                      "a:99999999",
                                      "a:-1",
                                      "a: 80",
                                      "a:080",
                                      "::1:80",
                                      "[::1]",
                                      "[::1:80",
                                      "[]:80",
                                      "1.2.3:80",
                                      "a b:80",
                                      "[fe80::1%lo]:80",
                                      "127.0.0.1:8080:80"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_refused(bad[i], ADDRESS_TO_DIAL, "");
        expect_refused(bad[i], ADDRESS_TO_LISTEN, "");
    }
    expect_refused("a:0", ADDRESS_TO_DIAL, "");
    expect_refused("name:80", ADDRESS_TO_LISTEN, "");
}

static void near_misses_are_guessed(void **state) {
    expect_refused("8080", ADDRESS_TO_LISTEN, ":8080");
    expect_refused("*:8080", ADDRESS_TO_LISTEN, ":8080");
    expect_refused("localhost:8080", ADDRESS_TO_LISTEN, "127.0.0.1:8080");
    expect_refused("8080", ADDRESS_TO_DIAL, "127.0.0.1:8080");
    expect_refused(":8080", ADDRESS_TO_DIAL, "127.0.0.1:8080");
    expect_refused("0.0.0.0:8080", ADDRESS_TO_DIAL, "127.0.0.1:8080");
    expect_refused("[::]:8080", ADDRESS_TO_DIAL, "127.0.0.1:8080");
    expect_refused("http://app:8080/", ADDRESS_TO_DIAL, "app:8080");
}

static void wildcards_are_in_the_way_of_addresses(void **state) {
    assert_true(is_in_the_way(":80", ":80"));
    assert_true(is_in_the_way(":80", "127.0.0.1:80"));
    assert_true(is_in_the_way(":80", "[::1]:80"));
    assert_true(is_in_the_way(":80", "0.0.0.0:80"));
    assert_true(is_in_the_way("[::]:80", "127.0.0.1:80"));
    assert_true(is_in_the_way("0.0.0.0:80", "127.0.0.1:80"));
    assert_true(is_in_the_way("127.0.0.1:80", "127.0.0.1:80"));
    assert_true(is_in_the_way("unix:/a", "unix:/a"));
    assert_false(is_in_the_way(":80", ":81"));
    assert_false(is_in_the_way("0.0.0.0:80", "[::1]:80"));
    assert_false(is_in_the_way("127.0.0.1:80", "127.0.0.2:80"));
    assert_false(is_in_the_way("unix:/a", "unix:/b"));
    assert_false(is_in_the_way("unix:/a", ":80"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ipv4_is_read),
        cmocka_unit_test(ipv6_is_read),
        cmocka_unit_test(a_bare_port_is_every_address),
        cmocka_unit_test(a_unix_path_is_read_up_to_its_limit),
        cmocka_unit_test(a_name_is_kept_in_lower_case),
        cmocka_unit_test(names_follow_the_rules_of_dns),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(near_misses_are_guessed),
        cmocka_unit_test(wildcards_are_in_the_way_of_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
