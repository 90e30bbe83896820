/* Signatures and digests for plugins (weir_host.verify, sha256, equal), by OpenSSL.
 *
 * The kind of signature fixes what the key must be: an RSA key verifies RS256 only, one on P-256
 * ES256 only, so that no token can have a public key taken for a secret. Keys that were used lately
 * are kept decoded. Any thread; nothing here blocks for longer than a table is looked through. */
#pragma once

#include <weir/handler.h>

#define SIGNATURES_KEYS_MAX 64       /* decoded keys that are kept */
#define SIGNATURES_KEY_MAX 4096      /* bytes of a key */
#define SIGNATURES_RSA_BITS_MIN 2048 /* RFC 7518 section 3.3 */
#define SIGNATURES_RSA_BITS_MAX 8192 /* larger ones would cost too much time */

bool signatures_verify(enum weir_signature kind, struct weir_text key, struct weir_text data,
                       struct weir_text signature);
void signatures_sha256(struct weir_text data, unsigned char digest[32]);
/* In a time that depends on the lengths only. */
bool signatures_equal(struct weir_text a, struct weir_text b);
