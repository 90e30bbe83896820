/* Keys and tokens for tests of jwt. Texts live as long as the test's world. */
#pragma once

#include <openssl/evp.h>
#include <stddef.h>

struct token_keys {
    EVP_PKEY *rsa, *other_rsa, *p256;
    const char *secret; /* 32 bytes and more */
};

void tokens_open(struct token_keys *keys);
void tokens_close(struct token_keys *keys);

/* All texts below live until tokens_close(). */
const char *tokens_base64url(const void *bytes, size_t len);
/* Members of a JWK, without braces: kty and the public key. */
const char *tokens_jwk(EVP_PKEY *key);
/* The public key in PEM. */
const char *tokens_pem(EVP_PKEY *key);

/* A token of @header and @payload in JSON, signed by @key, or with HMAC by @secret. */
const char *tokens_sign(EVP_PKEY *key, const char *header, const char *payload);
const char *tokens_sign_hmac(const char *secret, const char *header, const char *payload);
/* As text formats. */
const char *tokens_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
