#include "plugins/host/tokens.h"

#include "base/arena.h"
#include "support/unit.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

static struct arena arena;

void tokens_open(struct token_keys *keys) {
    static char first[4096];

    arena_init(&arena, first, sizeof first);
    *keys = (struct token_keys){EVP_RSA_gen(2048), EVP_RSA_gen(2048), EVP_EC_gen("P-256"),
                                "a secret that is long enough for it"};
    assert_non_null(keys->rsa);
    assert_non_null(keys->p256);
}

void tokens_close(struct token_keys *keys) {
    EVP_PKEY_free(keys->rsa);
    EVP_PKEY_free(keys->other_rsa);
    EVP_PKEY_free(keys->p256);
    arena_deinit(&arena);
}

const char *tokens_text(const char *format, ...) {
    char text[16384];
    va_list args;

    va_start(args, format);
    assert_in_range(vsnprintf(text, sizeof text, format, args), 0, sizeof text - 1);
    va_end(args);
    return arena_printf(&arena, "%s", text).base;
}

const char *tokens_base64url(const void *bytes, size_t len) {
    size_t size = (len + 2) / 3 * 4 + 1;
    char *to = arena_alloc(&arena, size);
    size_t made = (size_t)EVP_EncodeBlock((unsigned char *)to, bytes, (int)len);

    while (made > 0 && to[made - 1] == '=')
        made--;
    to[made] = '\0';
    for (size_t i = 0; i < made; i++)
        to[i] = to[i] == '+' ? '-' : to[i] == '/' ? '_' : to[i];
    return to;
}

static const char *number(EVP_PKEY *key, const char *name, int size) {
    unsigned char bytes[1024];
    BIGNUM *bn = NULL;

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &bn), 1);
    size = size ? size : BN_num_bytes(bn);
    assert_int_equal(BN_bn2binpad(bn, bytes, size), size);
    BN_free(bn);
    return tokens_base64url(bytes, (size_t)size);
}

const char *tokens_jwk(EVP_PKEY *key) {
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        return tokens_text("\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"",
                           number(key, OSSL_PKEY_PARAM_RSA_N, 0),
                           number(key, OSSL_PKEY_PARAM_RSA_E, 0));
    return tokens_text("\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"",
                       number(key, OSSL_PKEY_PARAM_EC_PUB_X, 32),
                       number(key, OSSL_PKEY_PARAM_EC_PUB_Y, 32));
}

const char *tokens_pem(EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text;
    char *data;
    long len;

    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    len = BIO_get_mem_data(bio, &data);
    text = tokens_text("%.*s", (int)len, data);
    BIO_free(bio);
    return text;
}

static const char *input_of(const char *header, const char *payload) {
    return tokens_text("%s.%s", tokens_base64url(header, strlen(header)),
                       tokens_base64url(payload, strlen(payload)));
}

const char *tokens_sign(EVP_PKEY *key, const char *header, const char *payload) {
    const char *input = input_of(header, payload);
    unsigned char signature[1024], raw[64];
    const unsigned char *at = signature;
    size_t len = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    ECDSA_SIG *ecdsa;

    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(
        EVP_DigestSign(context, signature, &len, (const unsigned char *)input, strlen(input)), 1);
    EVP_MD_CTX_free(context);
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        return tokens_text("%s.%s", input, tokens_base64url(signature, len));
    ecdsa = d2i_ECDSA_SIG(NULL, &at, (long)len);
    BN_bn2binpad(ECDSA_SIG_get0_r(ecdsa), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(ecdsa), raw + 32, 32);
    ECDSA_SIG_free(ecdsa);
    return tokens_text("%s.%s", input, tokens_base64url(raw, sizeof raw));
}

const char *tokens_sign_hmac(const char *secret, const char *header, const char *payload) {
    const char *input = input_of(header, payload);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len;

    HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)input, strlen(input),
         mac, &len);
    return tokens_text("%s.%s", input, tokens_base64url(mac, len));
}
