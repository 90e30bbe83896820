/* What all our TLS has in common, and the parts of an SSL_CTX: versions, ciphers, files. */
#pragma once

#include "config/config.h"

#include <openssl/ssl.h>

/* A new context: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only, no
 * renegotiation, no compression. Never NULL. */
SSL_CTX *tls_context_new(const SSL_METHOD *method, enum config_tls_version min_version);

/* Loads the chain and its key. -errno; *why is a message (the caller frees), *not_after_s is
 * untouched then. */
int tls_context_take_pair(SSL_CTX *ctx, const struct config_certificate *pair, int64_t *not_after_s,
                          char **why);

/* Loads the authorities that the other side is verified by; for a server also their names, which
 * clients are told of. @digest (32 bytes, NULL: not wanted) changes with them. -errno, *why. */
int tls_context_take_authorities(SSL_CTX *ctx, const char *path, bool is_server,
                                 unsigned char *digest, char **why);

/* The protocols of a listener or pipeline, as ALPN has them (RFC 7301 section 3.1), those that are
 * preferred first: a list of names with a length byte each. What is not served is not offered. */
struct tls_protocols {
    unsigned char list[16];
    unsigned len;
};
struct tls_protocols tls_protocols_of(enum config_protocol protocol);

/* For files that are read again: changes when one of @paths (NULL: skipped) was replaced or
 * written. */
uint64_t tls_context_stamp(const char *const *paths, size_t count);
