/* Ticket keys; see tls_tickets.h. */
#include "transport/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define IV_BYTES 16 /* of AES-CBC */

static void rotate(struct tls_tickets *tickets, int64_t now_ns);
static bool find(struct tls_tickets *tickets, const unsigned char name[16], unsigned *place,
                 struct tls_ticket_key *key);

void tls_tickets_init(struct tls_tickets *tickets) {
    *tickets = (struct tls_tickets){0};
    pthread_mutex_init(&tickets->lock, NULL);
}

void tls_tickets_deinit(struct tls_tickets *tickets) {
    OPENSSL_cleanse(tickets->keys, sizeof tickets->keys);
    pthread_mutex_destroy(&tickets->lock);
}

int tls_tickets_use(struct tls_tickets *tickets, int64_t now_ns, unsigned char name[16],
                    unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_sealing) {
    struct tls_ticket_key key;
    unsigned place = 0;
    bool is_there = true;
    OSSL_PARAM params[3];
    int outcome;

    pthread_mutex_lock(&tickets->lock);
    if (tickets->count == 0 || now_ns - tickets->made_ns >= TLS_TICKET_ROTATE_NS)
        rotate(tickets, now_ns);
    if (is_sealing)
        key = tickets->keys[0];
    else
        is_there = find(tickets, name, &place, &key);
    pthread_mutex_unlock(&tickets->lock);
    if (!is_there)
        return 0; /* a full handshake, and a new ticket */
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof key.mac);
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
    params[2] = OSSL_PARAM_construct_end();
    if (is_sealing) {
        memcpy(name, key.name, sizeof key.name);
        outcome = RAND_bytes(iv, IV_BYTES) == 1 &&
                          EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1
                      ? 1
                      : -1;
    } else {
        /* 2: open it, and give the client one of the present key. */
        outcome = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) != 1 ? -1
                  : place > 0                                                              ? 2
                                                                                           : 1;
    }
    if (EVP_MAC_CTX_set_params(mac, params) != 1)
        outcome = -1;
    OPENSSL_cleanse(&key, sizeof key);
    return outcome;
}

/* Under the lock. */
static void rotate(struct tls_tickets *tickets, int64_t now_ns) {
    memmove(&tickets->keys[1], &tickets->keys[0], (TLS_TICKET_KEYS - 1) * sizeof tickets->keys[0]);
    if (RAND_bytes((unsigned char *)&tickets->keys[0], sizeof tickets->keys[0]) != 1)
        abort(); /* no randomness: nothing can be kept secret */
    if (tickets->count < TLS_TICKET_KEYS)
        tickets->count++;
    tickets->made_ns = now_ns;
}

/* Under the lock. */
static bool find(struct tls_tickets *tickets, const unsigned char name[16], unsigned *place,
                 struct tls_ticket_key *key) {
    for (unsigned i = 0; i < tickets->count; i++) {
        if (memcmp(tickets->keys[i].name, name, sizeof tickets->keys[i].name) != 0)
            continue;
        *place = i;
        *key = tickets->keys[i];
        return true;
    }
    return false;
}
