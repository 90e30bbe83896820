/* A token in JWS compact form (RFC 7515 section 7.1): taken apart, and verified. */
#pragma once

#include "keys.h"

#include <jansson.h>

#define JWT_TOKEN_MAX 8192   /* bytes */
#define JWT_KEYS_TRIED_MAX 8 /* for a token that names none */

/* NULL: the claims of a token whose signature one of @keys verifies, which the caller
 * json_decref()s. Otherwise *@why says why not, for the client to read; nothing of the payload was
 * looked at unless the signature is good. */
json_t *jwt_token_verify(const struct weir_host *host, struct weir_call *call,
                         const struct jwt_keys *keys, struct weir_text token, const char **why);
