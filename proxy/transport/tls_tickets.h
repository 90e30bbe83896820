/* The keys that seal session tickets (RFC 5077, RFC 8446 section 4.6.1): the server keeps nothing,
 * so any loop resumes what any other began, across certificates that were read again. A key seals
 * for TLS_TICKET_ROTATE_NS and opens until it has been replaced TLS_TICKET_KEYS - 1 times. They
 * live and die with the process. Home: shared. */
#pragma once

#include "base/clock.h"

#include <openssl/ssl.h>
#include <pthread.h>

#define TLS_TICKET_KEYS 3
#define TLS_TICKET_ROTATE_NS (3600 * NS_PER_S)

struct tls_ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};

struct tls_tickets {
    pthread_mutex_t lock;                        /* guards all */
    struct tls_ticket_key keys[TLS_TICKET_KEYS]; /* the first one seals */
    unsigned count;
    int64_t made_ns; /* the first one */
};

void tls_tickets_init(struct tls_tickets *tickets);
void tls_tickets_deinit(struct tls_tickets *tickets);

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb(), whose callback it is but for the first two. */
int tls_tickets_use(struct tls_tickets *tickets, int64_t now_ns, unsigned char name[16],
                    unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_sealing);
