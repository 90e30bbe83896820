/* An authority of the test's own and what it signs, as PEM files in a directory that goes away with
 * it. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

struct certs {
    char dir[64];
    EVP_PKEY *key; /* of the authority, in "ca.crt" */
    X509 *authority;
};

struct certs_order {
    const char *file; /* "a": "a.crt" and "a.key" */
    const char *name; /* DNS name, NULL: none; also the subject */
    const char *address;
    long from_s, to_s; /* from now; both 0: an hour around it */
};

void certs_open(struct certs *certs);
void certs_close(struct certs *certs);

/* Makes both files, in place of what was there. */
void certs_make(struct certs *certs, const struct certs_order *order);
#define CERTS_MAKE(certs, ...) certs_make(certs, &(struct certs_order){__VA_ARGS__})

/* Of a file of the directory; valid until the fourth next call. */
const char *certs_path(struct certs *certs, const char *file);

/* Writes @text there. */
void certs_write(struct certs *certs, const char *file, const char *text);

/* A context of a peer that the test plays, which believes the authority. */
SSL_CTX *certs_context(struct certs *certs, const SSL_METHOD *method, const char *file);
