/* An endpoint: one address of a pipeline, with what all loops must agree on about it: how many
 * sockets it has, dials and closing ones included, and whether it is worth dialling now. Counted:
 * address sets and pools hold references, so an address that a name no longer has goes away with
 * its last connection. Home: shared. */
#pragma once

#include "exchange/fail.h"
#include "loop/gate.h"

#include <stdatomic.h>
#include <sys/socket.h>

/* After a failed dial an endpoint is left alone for a jittered while that doubles. */
#define ENDPOINT_BACKOFF_MIN_NS (20 * NS_PER_MS)
#define ENDPOINT_BACKOFF_MAX_NS (1 * NS_PER_S)

enum dial_result { DIAL_OK, DIAL_REFUSED, DIAL_TIMEOUT, DIAL_TLS, DIAL_ERROR, DIAL_RESULTS };

struct pool;

struct endpoint {
    _Atomic unsigned refs;
    struct sockaddr_storage address;
    char text[128];                         /* "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path" */
    struct gate connections;                /* one right per socket */
    _Atomic uint32_t inflight;              /* exchanges on it: the balancer's measure */
    _Atomic uint32_t streams;               /* HTTP/2: of these, those that have a stream */
    _Atomic uint32_t dials;                 /* under way */
    _Atomic uint32_t dial_failures;         /* in a row */
    _Atomic int64_t dial_after_ns;          /* CLOCK_MONOTONIC; no dial before */
    _Atomic int dial_fail;                  /* enum fail of the last one */
    _Atomic uint64_t dialled[DIAL_RESULTS]; /* finished dials since start */
    _Atomic uint64_t failures;              /* exchanges that failed on it since start */
    pthread_mutex_t lock;                   /* guards pools */
    struct pool **pools; /* by loop index; owned array of borrowed; NULL: none there */
    unsigned loops;
};

/* With one reference. @connections: sockets at once. */
struct endpoint *endpoint_new(const struct sockaddr_storage *address, unsigned connections,
                              unsigned loops);
struct endpoint *endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint *endpoint);

/* Did the last dial succeed? True before the first. */
static inline bool endpoint_is_up(const struct endpoint *endpoint) {
    return atomic_load_explicit(&endpoint->dial_failures, memory_order_relaxed) == 0;
}

bool endpoint_may_dial(const struct endpoint *endpoint, int64_t now_ns);
void endpoint_dial_failed(struct endpoint *endpoint, enum fail fail, int64_t now_ns);
void endpoint_dial_succeeded(struct endpoint *endpoint);

/* What a dial failed with: -errno, or one of tls.h. */
enum fail endpoint_fail_of(int err);

/* "ok", "refused", "timeout", "tls", "error". */
const char *endpoint_dial_result_name(enum dial_result result);

/* Same address and port? */
bool endpoint_is_at(const struct endpoint *endpoint, const struct sockaddr_storage *address);
