/* Signatures; see signatures.h. */
#include "handler/signatures.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>

#define P256_BYTES 32 /* of r, and of s */
/* SEQUENCE and two INTEGERs, each with a zero in front at most. */
#define P256_DER_MAX (2 + 2 * (2 + 1 + P256_BYTES))

/* A key that was decoded. */
struct decoded_key {
    enum weir_signature kind;
    unsigned char digest[SHA256_DIGEST_LENGTH]; /* of its DER */
    EVP_PKEY *key;                              /* owned; NULL: none */
    uint64_t used;                              /* larger is later */
};

/* Home: shared. A lock because threads of one process use it; never held while a signature is
 * verified. */
static struct {
    pthread_mutex_t lock;
    struct decoded_key keys[SIGNATURES_KEYS_MAX];
    uint64_t uses;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool verify_hmac(struct weir_text key, struct weir_text data, struct weir_text signature);
static EVP_PKEY *key_of(enum weir_signature kind, struct weir_text der);
static EVP_PKEY *find_kept(enum weir_signature kind, const unsigned char *digest);
static void keep(enum weir_signature kind, const unsigned char *digest, EVP_PKEY *key);
static bool is_fit(enum weir_signature kind, EVP_PKEY *key);
static size_t ecdsa_der(const unsigned char *rs, unsigned char *to);

bool signatures_verify(enum weir_signature kind, struct weir_text key, struct weir_text data,
                       struct weir_text signature) {
    unsigned char der[P256_DER_MAX];
    const unsigned char *sig = (const unsigned char *)signature.base;
    size_t sig_len = signature.len;
    bool is_good = false;
    EVP_MD_CTX *context;
    EVP_PKEY *pkey;

    if (kind == WEIR_HS256)
        return verify_hmac(key, data, signature);
    if ((kind != WEIR_RS256 && kind != WEIR_ES256) || key.len == 0 ||
        key.len > SIGNATURES_KEY_MAX || (kind == WEIR_ES256 && sig_len != 2 * P256_BYTES))
        return false;
    pkey = key_of(kind, key);
    if (pkey && kind == WEIR_ES256) {
        sig_len = ecdsa_der(sig, der);
        sig = der;
    }
    context = pkey ? EVP_MD_CTX_new() : NULL;
    if (context && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, pkey) == 1)
        is_good = EVP_DigestVerify(context, sig, sig_len, (const unsigned char *)data.base,
                                   data.len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return is_good;
}

void signatures_sha256(struct weir_text data, unsigned char digest[32]) {
    SHA256((const unsigned char *)data.base, data.len, digest);
}

bool signatures_equal(struct weir_text a, struct weir_text b) {
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.base, b.base, a.len) == 0);
}

/* An empty secret would verify what anybody has signed. */
static bool verify_hmac(struct weir_text key, struct weir_text data, struct weir_text signature) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = sizeof mac;

    if (key.len == 0 || key.len > SIGNATURES_KEY_MAX || signature.len != SHA256_DIGEST_LENGTH ||
        !HMAC(EVP_sha256(), key.base, (int)key.len, (const unsigned char *)data.base, data.len, mac,
              &len))
        return false;
    return len == signature.len && CRYPTO_memcmp(mac, signature.base, len) == 0;
}

/* Counted for the caller; NULL: it is no such key. */
static EVP_PKEY *key_of(enum weir_signature kind, struct weir_text der) {
    const unsigned char *at = (const unsigned char *)der.base;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    EVP_PKEY *key;

    SHA256(at, der.len, digest);
    key = find_kept(kind, digest);
    if (key)
        return key;
    key = d2i_PUBKEY(NULL, &at, (long)der.len);
    if (key && at == (const unsigned char *)der.base + der.len && is_fit(kind, key)) {
        keep(kind, digest, key);
        return key;
    }
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *find_kept(enum weir_signature kind, const unsigned char *digest) {
    EVP_PKEY *found = NULL;

    pthread_mutex_lock(&kept.lock);
    for (unsigned i = 0; i < SIGNATURES_KEYS_MAX && !found; i++) {
        struct decoded_key *decoded = &kept.keys[i];

        if (decoded->key && decoded->kind == kind &&
            memcmp(decoded->digest, digest, sizeof decoded->digest) == 0) {
            decoded->used = ++kept.uses;
            found = decoded->key;
            EVP_PKEY_up_ref(found);
        }
    }
    pthread_mutex_unlock(&kept.lock);
    return found;
}

/* In the place of the one that was not used for longest. */
static void keep(enum weir_signature kind, const unsigned char *digest, EVP_PKEY *key) {
    struct decoded_key *place = &kept.keys[0];
    EVP_PKEY *old;

    EVP_PKEY_up_ref(key);
    pthread_mutex_lock(&kept.lock);
    for (unsigned i = 1; i < SIGNATURES_KEYS_MAX; i++)
        if (kept.keys[i].used < place->used)
            place = &kept.keys[i];
    old = place->key;
    place->kind = kind;
    memcpy(place->digest, digest, sizeof place->digest);
    place->key = key;
    place->used = ++kept.uses;
    pthread_mutex_unlock(&kept.lock);
    EVP_PKEY_free(old);
}

static bool is_fit(enum weir_signature kind, EVP_PKEY *key) {
    char group[32];
    size_t len;

    if (kind == WEIR_RS256)
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
               EVP_PKEY_get_bits(key) >= SIGNATURES_RSA_BITS_MIN &&
               EVP_PKEY_get_bits(key) <= SIGNATURES_RSA_BITS_MAX;
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1 &&
           strcmp(group, SN_X9_62_prime256v1) == 0;
}

/* SEQUENCE { INTEGER r, INTEGER s } (RFC 3279 section 2.2.3) of the two that JWS puts side by side
 * (RFC 7518 section 3.4). */
static size_t ecdsa_der(const unsigned char *rs, unsigned char *to) {
    size_t len = 2;

    for (unsigned i = 0; i < 2; i++) {
        const unsigned char *number = rs + (size_t)i * P256_BYTES;
        size_t skip = 0, size;

        while (skip < P256_BYTES - 1 && number[skip] == 0)
            skip++;
        size = P256_BYTES - skip;
        to[len++] = V_ASN1_INTEGER;
        to[len++] = (unsigned char)(size + (number[skip] >> 7));
        if (number[skip] >> 7)
            to[len++] = 0;
        memcpy(to + len, number + skip, size);
        len += size;
    }
    to[0] = V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED;
    to[1] = (unsigned char)(len - 2);
    return len;
}
