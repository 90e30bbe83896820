/* Certificates, keys and authorities from PEM files (RFC 7468), into OpenSSL's objects: for the
 * check of a configuration and for whoever serves with them. A file must be a regular one of at
 * most PEM_FILE_MAX bytes. On failure *why is a phrase that follows "expected ...: " in a message;
 * the caller frees it. Blocks on the disk: not for loops. */
#pragma once

#include "base/buffer.h"

#include <openssl/x509.h>
#include <stdbool.h>

#define PEM_FILE_MAX (4 * 1024 * 1024)
#define PEM_CHAIN_MAX 16 /* certificates behind the first one of a chain */

/* What a server or a client shows: its own certificate first, then those that lead to the root. */
struct pem_chain {
    X509 *leaf;            /* owned */
    STACK_OF(X509) * rest; /* owned; may be empty */
};

/* Reads all of the file into @to. -errno. */
int pem_read_file(const char *path, struct buffer *to, char **why);

/* -errno: the file cannot be read, -EINVAL: it does not hold that. */
int pem_load_chain(const char *path, struct pem_chain *out, char **why);
int pem_load_key(const char *path, EVP_PKEY **out, char **why);

/* The authorities as a store that verifies, and their names for those who are asked for a
 * certificate (NULL: not wanted). @text is what pem_read_file() gave. */
int pem_take_store(struct slice text, X509_STORE **out, STACK_OF(X509_NAME) * *names, char **why);

void pem_chain_deinit(struct pem_chain *chain);

/* Do @key and the chain's first certificate belong together? */
bool pem_is_pair(const struct pem_chain *chain, EVP_PKEY *key);

/* Seconds since 1970. */
int64_t pem_not_before_s(const X509 *cert);
int64_t pem_not_after_s(const X509 *cert);
