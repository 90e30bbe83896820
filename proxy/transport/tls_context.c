/* Contexts; see tls_context.h. */
#include "transport/tls_context.h"

#include "base/alloc.h"
#include "config/pem.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* TLS 1.2; those of TLS 1.3 are all of this kind (RFC 9325 section 4.2). */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define GROUPS "X25519:P-256:P-384"

static char *name_file(const char *path, char *why);

SSL_CTX *tls_context_new(const SSL_METHOD *method, enum config_tls_version min_version) {
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx)
        abort(); /* out of memory */
    SSL_CTX_set_min_proto_version(ctx, min_version == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ctx, CIPHERS);
    SSL_CTX_set1_groups_list(ctx, GROUPS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

int tls_context_take_pair(SSL_CTX *ctx, const struct config_certificate *pair, int64_t *not_after_s,
                          char **why) {
    struct pem_chain chain = {0};
    EVP_PKEY *key = NULL;
    int err = pem_load_chain(pair->cert, &chain, why);

    if (err) {
        *why = name_file(pair->cert, *why);
        return err;
    }
    err = pem_load_key(pair->key, &key, why);
    if (err) {
        *why = name_file(pair->key, *why);
    } else if (SSL_CTX_use_cert_and_key(ctx, chain.leaf, key, chain.rest, 1) != 1) {
        err = -EINVAL;
        *why = xasprintf("'%s' and '%s' cannot be used: %s", pair->cert, pair->key,
                         ERR_reason_error_string(ERR_peek_error()));
        ERR_clear_error();
    } else {
        *not_after_s = pem_not_after_s(chain.leaf);
    }
    pem_chain_deinit(&chain);
    EVP_PKEY_free(key);
    return err;
}

int tls_context_take_authorities(SSL_CTX *ctx, const char *path, bool is_server,
                                 unsigned char *digest, char **why) {
    struct buffer text = {0};
    STACK_OF(X509_NAME) *names = NULL;
    X509_STORE *store = NULL;
    int err = pem_read_file(path, &text, why);

    if (!err)
        err = pem_take_store(buffer_slice(&text), &store, is_server ? &names : NULL, why);
    if (err) {
        *why = name_file(path, *why);
    } else {
        SSL_CTX_set_cert_store(ctx, store);
        if (is_server)
            SSL_CTX_set_client_CA_list(ctx, names);
        if (digest)
            EVP_Digest(text.base, text.len, digest, NULL, EVP_sha256(), NULL);
    }
    buffer_deinit(&text);
    return err;
}

struct tls_protocols tls_protocols_of(enum config_protocol protocol) {
    struct tls_protocols protocols = {0};

    if (protocol != PROTOCOL_HTTP1) {
        memcpy(protocols.list, "\x02h2", 3);
        protocols.len = 3;
    }
    if (protocol != PROTOCOL_HTTP2) {
        memcpy(protocols.list + protocols.len, "\x08http/1.1", 9);
        protocols.len += 9;
    }
    return protocols;
}

uint64_t tls_context_stamp(const char *const *paths, size_t count) {
    uint64_t stamp = 14695981039346656037u; /* FNV-1a, by words */

    for (size_t i = 0; i < count; i++) {
        struct stat about = {0};

        if (!paths[i])
            continue;
        if (stat(paths[i], &about) < 0)
            about = (struct stat){0};
        const uint64_t parts[] = {(uint64_t)about.st_mtim.tv_sec, (uint64_t)about.st_mtim.tv_nsec,
                                  (uint64_t)about.st_ctim.tv_nsec, (uint64_t)about.st_ino,
                                  (uint64_t)about.st_size};
        for (size_t j = 0; j < sizeof parts / sizeof parts[0]; j++)
            stamp = (stamp ^ parts[j]) * 1099511628211u;
    }
    return stamp;
}

/* "'path': why", in place of @why. */
static char *name_file(const char *path, char *why) {
    char *named = xasprintf("'%s': %s", path, why);

    free(why);
    return named;
}
