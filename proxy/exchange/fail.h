/* The failures of fail.def as an enum and a table. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum fail {
    FAIL_NONE,
#define X(id, reason, error, http, grpc, retry, title, remedy) FAIL_##id,
#include "exchange/fail.def"
#undef X
    FAILS
};

enum fail_retry { FAIL_RETRY_NEVER, FAIL_RETRY_UNSENT, FAIL_RETRY_REFUSED, FAIL_RETRY_IDEMPOTENT };

struct fail_row {
    const char *reason; /* metric label and log word */
    const char *error;  /* Proxy-Status error type, RFC 9209 section 2.3 */
    uint16_t http;      /* status code */
    uint8_t grpc;       /* status code */
    enum fail_retry retry;
    const char *title; /* problem+json, RFC 9457 section 3.1.3 */
    const char *remedy;
};

/* A connection that got no further than its TLS handshake. */
static inline bool fail_is_tls(enum fail fail) {
    return fail == FAIL_TLS_PROTOCOL || fail == FAIL_TLS_CERTIFICATE || fail == FAIL_TLS_ALERT;
}

/* @fail must not be FAIL_NONE. */
const struct fail_row *fail_row(enum fail fail);
