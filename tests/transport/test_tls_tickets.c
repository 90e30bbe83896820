/* Ticket keys over time, with a clock of the test's own. */
#include "transport/tls_tickets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

static struct tls_tickets tickets;

static int set_up(void **state) {
    tls_tickets_init(&tickets);
    return 0;
}

static int tear_down(void **state) {
    tls_tickets_deinit(&tickets);
    return 0;
}

static int use(int64_t now_ns, unsigned char name[16], unsigned char *iv, int is_sealing) {
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    int outcome = tls_tickets_use(&tickets, now_ns, name, iv, cipher, mac, is_sealing);

    EVP_CIPHER_CTX_free(cipher);
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    return outcome;
}

static void a_ticket_opens_with_the_key_that_sealed_it(void **state) {
    unsigned char name[16], iv[16], unknown[16] = "not one of ours";

    assert_int_equal(use(1, name, iv, 1), 1);
    assert_int_equal(use(2, name, iv, 0), 1);
    assert_int_equal(use(2, unknown, iv, 0), 0);
}

static void keys_are_replaced_and_the_old_ones_open_for_a_while(void **state) {
    unsigned char first[16], now[16], iv[16];

    assert_int_equal(use(1, first, iv, 1), 1);
    assert_int_equal(use(TLS_TICKET_ROTATE_NS, now, iv, 1), 1);
    assert_memory_equal(now, first, 16);
    for (unsigned i = 1; i < TLS_TICKET_KEYS; i++) {
        assert_int_equal(use(1 + i * TLS_TICKET_ROTATE_NS, now, iv, 1), 1);
        assert_memory_not_equal(now, first, 16);
        assert_int_equal(use(1 + i * TLS_TICKET_ROTATE_NS, first, iv, 0), 2); /* and a new one */
    }
    assert_int_equal(tickets.count, TLS_TICKET_KEYS);
    assert_int_equal(use(1 + TLS_TICKET_KEYS * TLS_TICKET_ROTATE_NS, first, iv, 0), 0);
    assert_int_equal(tickets.count, TLS_TICKET_KEYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_ticket_opens_with_the_key_that_sealed_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(keys_are_replaced_and_the_old_ones_open_for_a_while, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
