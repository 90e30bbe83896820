/* An endpoint: one address of a pipeline, with what all loops must agree on about it: how many
 * sockets it has, dials and closing ones included, whether it is worth dialling now, and whether it
 * may be used. Counted: address sets and pools hold references, so an address that a name no longer
 * has goes away with its last connection. Home: shared.
 *
 * Used it may be while nobody has taken it out of service, its active checks succeed (or so few
 * endpoints' do that they are not believed, ENDPOINT_PANIC), and its breaker lets somebody in. */
#pragma once

#include "exchange/fail.h"
#include "loop/gate.h"
#include "upstream/breaker.h"
#include "upstream/peak.h"

#include <stdatomic.h>
#include <sys/socket.h>

/* After a failed dial an endpoint is left alone for a jittered while that doubles. */
#define ENDPOINT_BACKOFF_MIN_NS (20 * NS_PER_MS)
#define ENDPOINT_BACKOFF_MAX_NS (1 * NS_PER_S)

#define ENDPOINT_TEXT_BYTES 128

#define ENDPOINT_WEIGHT_MAX 100
#define ENDPOINT_WEIGHT_MIN 10 /* of one that has just returned */

/* Why an endpoint is not used, beside its breaker: bits. */
enum endpoint_condition {
    ENDPOINT_DRAINED = 1 << 0,   /* by the administrator: only who belongs to it */
    ENDPOINT_DISABLED = 1 << 1,  /* likewise: nobody */
    ENDPOINT_UNHEALTHY = 1 << 2, /* its active checks fail */
    ENDPOINT_PANIC = 1 << 3,     /* too many of its pipeline are unhealthy: that is not believed */
    ENDPOINT_UNCHECKED = 1 << 4, /* not used before its first check */
};

/* Of all endpoints of a pipeline. */
struct endpoint_settings {
    struct breaker_settings breaker;
    int64_t slow_start_ns;      /* 0: one that returns has its whole share at once */
    bool is_checked;            /* are there active checks? */
    bool does_connecting_count; /* are dials that fail failures for the breaker? */
};

enum dial_result { DIAL_OK, DIAL_REFUSED, DIAL_TIMEOUT, DIAL_TLS, DIAL_ERROR, DIAL_RESULTS };

struct pool;
struct endpoint_tally;
struct outlier_record;

struct endpoint {
    _Atomic unsigned refs;
    const struct endpoint_settings *settings; /* borrowed */
    struct sockaddr_storage address;
    char text[ENDPOINT_TEXT_BYTES];         /* "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path" */
    uint64_t id;                            /* a hash of text: the same everywhere; not 0 */
    struct gate connections;                /* one right per socket */
    _Atomic uint32_t inflight;              /* exchanges on it: the balancer's measure */
    _Atomic uint32_t streams;               /* HTTP/2: of these, those that have a stream */
    _Atomic uint32_t dials;                 /* under way */
    _Atomic uint32_t dial_failures;         /* in a row */
    _Atomic int64_t dial_after_ns;          /* CLOCK_MONOTONIC; no dial before */
    _Atomic int dial_fail;                  /* enum fail of the last one */
    _Atomic int64_t dial_failed_ns;         /* when that was */
    _Atomic uint64_t dialled[DIAL_RESULTS]; /* finished dials since start */
    _Atomic uint64_t failures;              /* exchanges that failed on it since start */
    _Atomic unsigned conditions;            /* enum endpoint_condition bits */
    _Atomic int64_t changed_ns;             /* when these last changed, but for PANIC; 0: never */
    _Atomic(const char *) unhealthy_why;    /* static text of the check that decided, or NULL */
    _Atomic uint64_t checks[2];             /* active ones since start: failed, good */
    _Atomic int64_t returned_ns; /* when it was last let in again; 0: it was never kept out */
    struct breaker breaker;
    struct peak answers;             /* only where the balancer goes by it */
    _Atomic int64_t stalls_after_ns; /* a first byte that takes so long is far beyond its peers; 0:
                                        nothing is */
    _Atomic(const char *) last_failure; /* static text of the last verdict that was not good; NULL:
                                           none yet */
    struct endpoint_tally *tallies;     /* by loop index; owned array (trial.h) */
    struct outlier_record *record;      /* owned; home: the loop that judges (outlier.h); or NULL */
    pthread_mutex_t lock;               /* guards pools */
    struct pool **pools; /* by loop index; owned array of borrowed; NULL: none there */
    unsigned loops;
};

/* With one reference. @connections: sockets at once. Until endpoint_set() its breaker never opens.
 */
struct endpoint *endpoint_new(const struct sockaddr_storage *address, unsigned connections,
                              unsigned loops);
/* Before it is used. @settings are borrowed: they outlive it. */
void endpoint_set(struct endpoint *endpoint, const struct endpoint_settings *settings);
struct endpoint *endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint *endpoint);

/* Has nobody and no check taken it out of service? Its breaker is not asked. Any thread. */
bool endpoint_is_in_service(const struct endpoint *endpoint);

/* May a new exchange be sent to it? Whether it can be dialled is another question. Any thread. */
bool endpoint_is_usable(const struct endpoint *endpoint, int64_t now_ns);
/* The same for one that belongs to it: a session that it has begun. */
bool endpoint_is_usable_again(const struct endpoint *endpoint, int64_t now_ns);

/* Its share among its peers, ENDPOINT_WEIGHT_MIN to ENDPOINT_WEIGHT_MAX: less than the whole for a
 * while (slow_start) after it was kept out. Any thread. */
unsigned endpoint_weight(const struct endpoint *endpoint, int64_t now_ns);

/* Sets and clears conditions, and sees to the slow start of one that is usable again. True when
 * that has changed anything. Any thread. */
bool endpoint_change(struct endpoint *endpoint, unsigned set, unsigned clear, int64_t now_ns);

/* Its breaker has just opened: a line in the log. */
void endpoint_tell_ejected(struct endpoint *endpoint, int64_t now_ns);

/* Did the last dial succeed? True before the first. */
static inline bool endpoint_is_up(const struct endpoint *endpoint) {
    return atomic_load_explicit(&endpoint->dial_failures, memory_order_relaxed) == 0;
}

bool endpoint_may_dial(const struct endpoint *endpoint, int64_t now_ns);
/* Ends the backoff, whatever is left of it. */
static inline void endpoint_let_dial(struct endpoint *endpoint) {
    atomic_store(&endpoint->dial_after_ns, 0);
}
void endpoint_dial_failed(struct endpoint *endpoint, enum fail fail, int64_t now_ns);
void endpoint_dial_succeeded(struct endpoint *endpoint);

/* What a dial failed with: -errno, or one of tls.h. */
enum fail endpoint_fail_of(int err);

/* "ok", "refused", "timeout", "tls", "error". */
const char *endpoint_dial_result_name(enum dial_result result);

/* Same address and port? */
bool endpoint_is_at(const struct endpoint *endpoint, const struct sockaddr_storage *address);
