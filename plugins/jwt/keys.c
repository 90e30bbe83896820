#include "keys.h"

#include "../common/json_scan.h"
#include "../common/settings.h"
#include "../common/text.h"
#include "base64url.h"

#include <stdlib.h>

#define P256_BYTES 32
/* Of a SubjectPublicKeyInfo: RSA with a modulus of JWT_RSA_MAX and an exponent of 8. */
#define DER_MAX (JWT_RSA_MAX + 64)
#define EXPONENT_MAX 8

#define DER_INTEGER 0x02
#define DER_BIT_STRING 0x03
#define DER_SEQUENCE 0x30

static int add_jwk(struct jwt_keys *keys, const json_t *jwk, char *why, size_t why_size);
static enum weir_signature kind_of(const json_t *jwk);
static int add(struct jwt_keys *keys, enum weir_signature kind, struct weir_text id,
               struct weir_text material, char *why, size_t why_size);
static int make_rsa(const json_t *jwk, unsigned char *der, size_t *len);
static int make_p256(const json_t *jwk, unsigned char *der, size_t *len);
static bool get_bytes(const json_t *jwk, const char *name, size_t max, unsigned char *to,
                      size_t *len);
static size_t put_head(unsigned char *to, unsigned char tag, size_t len);
static size_t put_integer(unsigned char *to, const unsigned char *number, size_t len);

static bool is_text(const json_t *jwk, const char *name, const char *wanted) {
    const char *value = json_string_value(json_object_get(jwk, name));

    return value && strcmp(value, wanted) == 0;
}

int jwt_keys_from_set(struct jwt_keys *keys, struct weir_text json, char *why, size_t why_size) {
    static const struct json_scan_limits limits = {8, 1000, 10000, 65536};
    json_error_t error = {.text = "too deep or too large"};
    json_t *root = json_scan(json, &limits) == JSON_SCAN_FITS
                       ? json_loadb(json.base, json.len, JSON_REJECT_DUPLICATES, &error)
                       : NULL;
    const json_t *list = json_object_get(root, "keys");
    int err = 0;

    if (!root)
        err = settings_fail(why, why_size, "it is no JSON: %s", error.text);
    else if (!json_is_array(list))
        err = settings_fail(why, why_size, "it is no JWK Set: there is no array \"keys\"");
    for (size_t i = 0; !err && i < json_array_size(list); i++) {
        char what[160];

        if (add_jwk(keys, json_array_get(list, i), what, sizeof what) != 0)
            err = settings_fail(why, why_size, "key %zu: %s", i + 1, what);
    }
    json_decref(root);
    if (!err && keys->count == 0)
        err = settings_fail(why, why_size, "there is no key in it for RS256, ES256 or HS256");
    return err;
}

int jwt_keys_from_secret(struct jwt_keys *keys, struct weir_text secret, char *why,
                         size_t why_size) {
    if (secret.len > 0 && secret.base[secret.len - 1] == '\n')
        secret.len--;
    if (secret.len > 0 && secret.base[secret.len - 1] == '\r')
        secret.len--;
    return add(keys, WEIR_HS256, (struct weir_text){"", 0}, secret, why, why_size);
}

void jwt_keys_free(struct jwt_keys *keys) {
    for (size_t i = 0; i < keys->count; i++) {
        free((char *)keys->list[i].id.base);
        free((char *)keys->list[i].material.base);
    }
    keys->count = 0;
}

static int add_jwk(struct jwt_keys *keys, const json_t *jwk, char *why, size_t why_size) {
    enum weir_signature kind = kind_of(jwk);
    unsigned char material[JWT_SECRET_MAX];
    size_t len;

    _Static_assert(JWT_SECRET_MAX >= DER_MAX, "both are made in one place");
    if (kind == 0)
        return 0;
    if (kind == WEIR_RS256 && make_rsa(jwk, material, &len) != 0)
        return settings_fail(why, why_size,
                             "expected n of %d to %d bits and e of at most 64, in base64url",
                             JWT_RSA_MIN * 8, JWT_RSA_MAX * 8);
    if (kind == WEIR_ES256 && make_p256(jwk, material, &len) != 0)
        return settings_fail(why, why_size, "expected x and y of 32 bytes each, in base64url");
    if (kind == WEIR_HS256 && !get_bytes(jwk, "k", JWT_SECRET_MAX, material, &len))
        return settings_fail(why, why_size, "expected k of at most %d bytes, in base64url",
                             JWT_SECRET_MAX);
    return add(keys, kind, settings_text(json_object_get(jwk, "kid")),
               (struct weir_text){(const char *)material, len}, why, why_size);
}

/* 0: not for us. */
static enum weir_signature kind_of(const json_t *jwk) {
    static const char *const names[] = {
        [WEIR_HS256] = "HS256", [WEIR_RS256] = "RS256", [WEIR_ES256] = "ES256"};
    enum weir_signature kind = (enum weir_signature)0;
    const json_t *operations = json_object_get(jwk, "key_ops");

    if (is_text(jwk, "kty", "RSA"))
        kind = WEIR_RS256;
    else if (is_text(jwk, "kty", "EC") && is_text(jwk, "crv", "P-256"))
        kind = WEIR_ES256;
    else if (is_text(jwk, "kty", "oct"))
        kind = WEIR_HS256;
    if (kind == 0 || (json_object_get(jwk, "alg") && !is_text(jwk, "alg", names[kind])) ||
        (json_object_get(jwk, "use") && !is_text(jwk, "use", "sig")) ||
        (operations && !settings_list_has(operations, WEIR_TEXT("verify"), false)))
        return (enum weir_signature)0;
    return kind;
}

/* Copies. */
static int add(struct jwt_keys *keys, enum weir_signature kind, struct weir_text id,
               struct weir_text material, char *why, size_t why_size) {
    struct jwt_key *key = &keys->list[keys->count];
    char *bytes, *name;

    if (kind == WEIR_HS256 && (material.len < JWT_SECRET_MIN || material.len > JWT_SECRET_MAX))
        return settings_fail(why, why_size, "found a secret of %zu bytes, expected %d to %d",
                             material.len, JWT_SECRET_MIN, JWT_SECRET_MAX);
    if (keys->count == JWT_KEYS_MAX)
        return settings_fail(why, why_size, "there are more than %d keys", JWT_KEYS_MAX);
    if (id.len > JWT_KEY_ID_MAX)
        return settings_fail(why, why_size, "its kid is longer than %d bytes", JWT_KEY_ID_MAX);
    bytes = malloc(material.len + 1);
    name = malloc(id.len + 1);
    if (!bytes || !name) {
        free(bytes);
        free(name);
        return settings_fail(why, why_size, "there is no memory");
    }
    memcpy(bytes, material.base, material.len);
    if (id.len > 0)
        memcpy(name, id.base, id.len);
    *key = (struct jwt_key){kind, {name, id.len}, {bytes, material.len}};
    keys->count++;
    return 0;
}

/* SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { n, e } } } (RFC 3279
 * section 2.3.1). */
static int make_rsa(const json_t *jwk, unsigned char *der, size_t *len) {
    static const unsigned char algorithm[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                              0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    unsigned char n[JWT_RSA_MAX], e[EXPONENT_MAX], numbers[DER_MAX], head[8], bits[8];
    size_t n_len, e_len, numbers_len, head_len, bits_len;

    if (!get_bytes(jwk, "n", sizeof n, n, &n_len) || !get_bytes(jwk, "e", sizeof e, e, &e_len) ||
        n_len < JWT_RSA_MIN || n[0] == 0)
        return -1;
    numbers_len = put_integer(numbers, n, n_len);
    numbers_len += put_integer(numbers + numbers_len, e, e_len);
    head_len = put_head(head, DER_SEQUENCE, numbers_len);
    bits_len = put_head(bits, DER_BIT_STRING, 1 + head_len + numbers_len);
    bits[bits_len++] = 0; /* no bits are unused */
    *len = put_head(der, DER_SEQUENCE, sizeof algorithm + bits_len + head_len + numbers_len);
    memcpy(der + *len, algorithm, sizeof algorithm);
    *len += sizeof algorithm;
    memcpy(der + *len, bits, bits_len);
    *len += bits_len;
    memcpy(der + *len, head, head_len);
    *len += head_len;
    memcpy(der + *len, numbers, numbers_len);
    *len += numbers_len;
    return 0;
}

/* SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING { 4, x, y } } (RFC 5480 section 2).
 */
static int make_p256(const json_t *jwk, unsigned char *der, size_t *len) {
    static const unsigned char head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                         0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                         0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
    size_t x_len, y_len;

    memcpy(der, head, sizeof head);
    *len = sizeof head + (size_t)2 * P256_BYTES;
    if (!get_bytes(jwk, "x", P256_BYTES, der + sizeof head, &x_len) ||
        !get_bytes(jwk, "y", P256_BYTES, der + sizeof head + P256_BYTES, &y_len) ||
        x_len != P256_BYTES || y_len != P256_BYTES)
        return -1;
    return 0;
}

/* The decoded member @name, of 1 to @max bytes. */
static bool get_bytes(const json_t *jwk, const char *name, size_t max, unsigned char *to,
                      size_t *len) {
    const json_t *member = json_object_get(jwk, name);
    unsigned char decoded[BASE64URL_DECODED_MAX((JWT_SECRET_MAX + 2) / 3 * 4)];
    struct weir_text text = settings_text(member);

    if (!json_is_string(member) || BASE64URL_DECODED_MAX(text.len) > sizeof decoded ||
        !base64url_decode(text, decoded, len) || *len == 0 || *len > max)
        return false;
    memcpy(to, decoded, *len);
    return true;
}

/* Tag and length (X.690 section 8.1.3), of less than 64 KiB. */
static size_t put_head(unsigned char *to, unsigned char tag, size_t len) {
    size_t at = 0;

    to[at++] = tag;
    if (len >= 256)
        to[at++] = 0x82;
    else if (len >= 128)
        to[at++] = 0x81;
    if (len >= 256)
        to[at++] = (unsigned char)(len >> 8);
    to[at++] = (unsigned char)len;
    return at;
}

/* A positive one, with as few bytes as can be. */
static size_t put_integer(unsigned char *to, const unsigned char *number, size_t len) {
    size_t at;

    while (len > 1 && number[0] == 0) {
        number++;
        len--;
    }
    at = put_head(to, DER_INTEGER, len + (number[0] >> 7));
    if (number[0] >> 7)
        to[at++] = 0;
    memcpy(to + at, number, len);
    return at + len;
}
