/* The keys that tokens may be signed with, from a JWK Set (RFC 7517) or a secret. Each key serves
 * one algorithm, which follows from the key and never from a token: RSA RS256, EC on P-256 ES256,
 * oct HS256. What is not for one of these, or not for signatures, is passed over. */
#pragma once

#include <weir/handler.h>

#define JWT_KEYS_MAX 64
#define JWT_KEY_ID_MAX 256  /* bytes */
#define JWT_SECRET_MIN 32   /* bytes (RFC 7518 section 3.2) */
#define JWT_SECRET_MAX 4096 /* bytes */
#define JWT_RSA_MIN 256     /* bytes of the modulus (RFC 7518 section 3.3) */
#define JWT_RSA_MAX 1024    /* bytes of the modulus */

struct jwt_key {
    enum weir_signature kind;
    struct weir_text id;       /* "": for tokens with any kid, or none; owned */
    struct weir_text material; /* as host->verify() wants it; owned */
};

struct jwt_keys {
    struct jwt_key list[JWT_KEYS_MAX];
    size_t count;
};

/* 0; -1: @why says what is wrong; @keys, zeroed before, may hold some then. */
int jwt_keys_from_set(struct jwt_keys *keys, struct weir_text json, char *why, size_t why_size);
/* The whole text but for one line end behind it. */
int jwt_keys_from_secret(struct jwt_keys *keys, struct weir_text secret, char *why,
                         size_t why_size);
void jwt_keys_free(struct jwt_keys *keys);
