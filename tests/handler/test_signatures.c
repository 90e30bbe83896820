/* The promises of proxy/handler/signatures.h, with keys that OpenSSL makes for the test. */
#include "handler/signatures.h"

#include "base/thread.h"
#include "support/unit.h"

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define DATA text("header.payload")

struct pair {
    EVP_PKEY *key;
    unsigned char *der; /* SubjectPublicKeyInfo */
    struct weir_text public_key;
};

static struct pair rsa, p256, p384, small, pss;

static struct weir_text text(const char *s) {
    return (struct weir_text){s, strlen(s)};
}

static struct weir_text bytes(const void *base, size_t len) {
    return (struct weir_text){base, len};
}

static void take(struct pair *pair, EVP_PKEY *key) {
    int len;

    assert_non_null(key);
    pair->key = key;
    pair->der = NULL;
    len = i2d_PUBKEY(key, &pair->der);
    assert_true(len > 0);
    pair->public_key = bytes(pair->der, (size_t)len);
}

static void drop(struct pair *pair) {
    OPENSSL_free(pair->der);
    EVP_PKEY_free(pair->key);
}

static EVP_PKEY *make_pss(void) {
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;

    EVP_PKEY_keygen_init(context);
    EVP_PKEY_generate(context, &key);
    EVP_PKEY_CTX_free(context);
    return key;
}

static int set_up(void **state) {
    take(&rsa, EVP_RSA_gen(2048));
    take(&small, EVP_RSA_gen(1024));
    take(&pss, make_pss());
    take(&p256, EVP_EC_gen("P-256"));
    take(&p384, EVP_EC_gen("P-384"));
    return 0;
}

static int tear_down(void **state) {
    drop(&rsa);
    drop(&small);
    drop(&pss);
    drop(&p256);
    drop(&p384);
    return 0;
}

static size_t sign(EVP_PKEY *key, struct weir_text data, unsigned char *to, size_t max) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(context, to, &max, (const unsigned char *)data.base, data.len),
                     1);
    EVP_MD_CTX_free(context);
    return max;
}

/* r and s side by side, as JWS wants them. */
static void sign_p256(struct weir_text data, unsigned char to[64]) {
    unsigned char der[128];
    const unsigned char *at = der;
    size_t len = sign(p256.key, data, der, sizeof der);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);

    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), to, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), to + 32, 32), 32);
    ECDSA_SIG_free(sig);
}

static void test_hs256_by_the_example_of_rfc_7515(void **state) {
    /* Appendix A.1, k and signature decoded. */
    static const unsigned char key[] = {
        3,   35,  53, 75,  43,  15, 165, 188, 131, 126, 6,   101, 119, 123, 166, 143,
        90,  179, 40, 230, 240, 84, 201, 40,  169, 15,  132, 178, 210, 80,  46,  191,
        211, 251, 90, 146, 210, 6,  71,  239, 150, 138, 180, 195, 119, 98,  61,  34,
        61,  46,  33, 114, 5,   46, 79,  8,   192, 205, 154, 245, 103, 208, 128, 163};
    static const unsigned char signature[] = {116, 24,  223, 180, 151, 153, 224, 37,  79,  250, 96,
                                              125, 216, 173, 187, 186, 22,  212, 37,  77,  105, 214,
                                              191, 240, 91,  88,  5,   88,  83,  132, 141, 121};
    struct weir_text data =
        text("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
             "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290"
             "Ijp0cnVlfQ");

    assert_true(signatures_verify(WEIR_HS256, bytes(key, sizeof key), data,
                                  bytes(signature, sizeof signature)));
    assert_false(signatures_verify(WEIR_HS256, bytes(key, sizeof key - 1), data,
                                   bytes(signature, sizeof signature)));
    assert_false(signatures_verify(WEIR_HS256, bytes(key, sizeof key), data,
                                   bytes(signature, sizeof signature - 1)));
    data.len--;
    assert_false(signatures_verify(WEIR_HS256, bytes(key, sizeof key), data,
                                   bytes(signature, sizeof signature)));
}

static void test_an_empty_secret_verifies_nothing(void **state) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len;

    HMAC(EVP_sha256(), "", 0, (const unsigned char *)DATA.base, DATA.len, mac, &len);
    assert_false(signatures_verify(WEIR_HS256, text(""), DATA, bytes(mac, len)));
}

static void test_rs256(void **state) {
    unsigned char signature[512];
    size_t len = sign(rsa.key, DATA, signature, sizeof signature);

    assert_true(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(signature, len)));
    assert_true(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(signature, len)));
    assert_false(signatures_verify(WEIR_RS256, rsa.public_key, text("x"), bytes(signature, len)));
    assert_false(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(signature, len - 1)));
    assert_false(signatures_verify(WEIR_RS256, rsa.public_key, DATA, text("")));
    signature[0] ^= 1;
    assert_false(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(signature, len)));
}

static void test_es256(void **state) {
    unsigned char signature[64], zero[64] = {0};

    for (unsigned i = 0; i < 64; i++) { /* r and s of any size, with and without leading zeros */
        unsigned char data[1] = {(unsigned char)i};

        sign_p256(bytes(data, 1), signature);
        assert_true(
            signatures_verify(WEIR_ES256, p256.public_key, bytes(data, 1), bytes(signature, 64)));
        assert_false(signatures_verify(WEIR_ES256, p256.public_key, DATA, bytes(signature, 64)));
        assert_false(
            signatures_verify(WEIR_ES256, p256.public_key, bytes(data, 1), bytes(signature, 63)));
    }
    assert_false(signatures_verify(WEIR_ES256, p256.public_key, DATA, bytes(zero, 64)));
    memset(zero, 0xff, sizeof zero);
    assert_false(signatures_verify(WEIR_ES256, p256.public_key, DATA, bytes(zero, 64)));
}

/* The classic confusion: the public key, which everybody knows, as the secret of an HMAC. */
static void test_a_key_serves_one_algorithm(void **state) {
    unsigned char signature[512], mac[EVP_MAX_MD_SIZE], raw[64];
    size_t len = sign(rsa.key, DATA, signature, sizeof signature);
    unsigned mac_len;

    HMAC(EVP_sha256(), rsa.public_key.base, (int)rsa.public_key.len,
         (const unsigned char *)DATA.base, DATA.len, mac, &mac_len);
    sign_p256(DATA, raw);
    assert_false(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(mac, mac_len)));
    assert_false(signatures_verify(WEIR_ES256, rsa.public_key, DATA, bytes(raw, 64)));
    assert_false(signatures_verify(WEIR_ES256, rsa.public_key, DATA, bytes(signature, 64)));
    assert_false(signatures_verify(WEIR_RS256, p256.public_key, DATA, bytes(raw, 64)));
    assert_false(
        signatures_verify((enum weir_signature)0, rsa.public_key, DATA, bytes(signature, len)));
    assert_false(
        signatures_verify((enum weir_signature)4, rsa.public_key, DATA, bytes(signature, len)));
}

static void test_keys_that_do_not_fit_are_refused(void **state) {
    unsigned char signature[512], padded[4096 + 1] = {0};
    size_t len = sign(small.key, DATA, signature, sizeof signature);

    assert_false(signatures_verify(WEIR_RS256, small.public_key, DATA, bytes(signature, len)));
    len = sign(pss.key, DATA, signature, sizeof signature);
    assert_false(signatures_verify(WEIR_RS256, pss.public_key, DATA, bytes(signature, len)));
    len = sign(p384.key, DATA, signature, sizeof signature);
    assert_false(signatures_verify(WEIR_ES256, p384.public_key, DATA, bytes(signature, 64)));
    len = sign(rsa.key, DATA, signature, sizeof signature);
    assert_false(signatures_verify(WEIR_RS256, text("no key"), DATA, bytes(signature, len)));
    assert_false(signatures_verify(WEIR_RS256, text(""), DATA, bytes(signature, len)));
    memcpy(padded, rsa.public_key.base, rsa.public_key.len);
    assert_false(signatures_verify(WEIR_RS256, bytes(padded, rsa.public_key.len + 1), DATA,
                                   bytes(signature, len)));
    assert_false(
        signatures_verify(WEIR_RS256, bytes(padded, sizeof padded), DATA, bytes(signature, len)));
}

static void test_more_keys_than_are_kept_still_verify(void **state) {
    unsigned char signature[512], raw[64];
    size_t len = sign(rsa.key, DATA, signature, sizeof signature);

    sign_p256(DATA, raw);
    for (unsigned i = 0; i < SIGNATURES_KEYS_MAX + 8; i++) {
        struct pair pair;

        take(&pair, EVP_EC_gen("P-256"));
        assert_false(signatures_verify(WEIR_ES256, pair.public_key, DATA, bytes(raw, 64)));
        drop(&pair);
    }
    assert_true(signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(signature, len)));
    assert_true(signatures_verify(WEIR_ES256, p256.public_key, DATA, bytes(raw, 64)));
}

static void *verify_often(void *arg) {
    unsigned char *raw = arg;

    for (unsigned i = 0; i < 50; i++) {
        if (!signatures_verify(WEIR_ES256, p256.public_key, DATA, bytes(raw, 64)) ||
            signatures_verify(WEIR_RS256, rsa.public_key, DATA, bytes(raw, 64)))
            return raw;
    }
    return NULL;
}

static void test_threads_verify_at_once(void **state) {
    pthread_t threads[4];
    unsigned char raw[64];

    sign_p256(DATA, raw);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(thread_start(&threads[i], verify_often, raw), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

static void test_digests_and_comparison(void **state) {
    static const unsigned char abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                          0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                          0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                          0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    unsigned char digest[32];

    signatures_sha256(text("abc"), digest);
    assert_memory_equal(digest, abc, sizeof abc);
    assert_true(signatures_equal(text("same"), text("same")));
    assert_false(signatures_equal(text("same"), text("samf")));
    assert_false(signatures_equal(text("same"), text("sam")));
    assert_true(signatures_equal(text(""), (struct weir_text){NULL, 0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hs256_by_the_example_of_rfc_7515),
        cmocka_unit_test(test_an_empty_secret_verifies_nothing),
        cmocka_unit_test(test_rs256),
        cmocka_unit_test(test_es256),
        cmocka_unit_test(test_a_key_serves_one_algorithm),
        cmocka_unit_test(test_keys_that_do_not_fit_are_refused),
        cmocka_unit_test(test_more_keys_than_are_kept_still_verify),
        cmocka_unit_test(test_threads_verify_at_once),
        cmocka_unit_test(test_digests_and_comparison),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
