/* A pipeline: a group of endpoints with one queue and one set of limits in front of it. The shared
 * part holds what all loops must agree on; each loop has its part with the pools. */
#pragma once

#include "config/config.h"
#include "pipeline/hold.h"
#include "pipeline/retry.h"
#include "upstream/health.h"
#include "upstream/outlier.h"
#include "upstream/pool.h"
#include "upstream/resolver.h"

#include <stdatomic.h>

#define PIPELINE_ORDERS_MAX 64                      /* addresses that are out of service by order */
#define PIPELINE_RESOLVE_TIMEOUT_NS (10 * NS_PER_S) /* of a name at start */

/* The addresses that a pipeline has at a moment. Immutable, counted. Home: shared. */
struct endpoint_set {
    _Atomic unsigned refs;
    size_t count;
    struct endpoint *list[]; /* counted */
};

struct pipeline_source;
struct pipeline_loop;

/* That an address is out of service, whether there is such an endpoint now or not: those of names
 * come and go. */
struct pipeline_order {
    char address[ENDPOINT_TEXT_BYTES];
    unsigned condition; /* ENDPOINT_DRAINED or ENDPOINT_DISABLED */
};

/* Home: shared. */
struct pipeline {
    const struct config_pipeline *config; /* borrowed: outlives the gateway */
    struct gate concurrency;              /* exchanges in flight, no streams; queue.size may wait */
    struct gate streams;                  /* live streams; nobody waits for one */
    struct hold_shared hold;
    struct retry_budget retries;
    struct pool_settings pool;
    struct endpoint_settings endpoint;
    struct outlier_settings outlier;
    struct share_home *shares;       /* borrowed: outlives it; where its limits are counted */
    pthread_mutex_t lock;            /* guards set, sources' addresses, parts, is_panic, orders */
    struct endpoint_set *set;        /* counted */
    struct pipeline_source *sources; /* one per configured endpoint; owned */
    struct pipeline_loop **parts;    /* by loop index; owned array, borrowed parts */
    unsigned loops;
    struct pipeline_order *orders; /* owned; as they came */
    size_t order_count;
    bool is_panic; /* so few endpoints are healthy that all are used */
};

/* Home: loop. */
struct pipeline_loop {
    struct pipeline *shared;        /* borrowed */
    struct pool_loop *pools_shared; /* borrowed */
    struct gate_desk desk;          /* at shared->concurrency */
    struct hold hold;
    struct retry_tally retries;
    struct endpoint_set *set; /* counted */
    struct pool **pools;      /* in the order of the set; owned array */
    struct health **checks;   /* of the endpoints that this loop checks; owned */
    size_t check_count;
    bool is_closed;
};

struct pipeline_options {
    const struct config_pipeline *config; /* borrowed: outlives the gateway */
    struct share_home *shares; /* borrowed: its limits are shared with other processes as far as
                                  there is room; NULL: they are not */
    struct resolver *resolver; /* borrowed; NULL: there are no names */
    unsigned loops;
    int64_t names_by_ns; /* names that do not resolve until then (clock_now_ns()) are no error but
                            go without addresses until they do; 0: each has to, within
                            PIPELINE_RESOLVE_TIMEOUT_NS */
};

/* Takes the literal addresses, resolves the names (blocking) and has the resolver watch them.
 * -errno; *why is then for a message: "cannot resolve 'api.example': no such name" (the caller
 * frees). */
int pipeline_open(struct pipeline **out, const struct pipeline_options *options, char **why);
/* After the resolver and all loops have ended. Accepts NULL. */
void pipeline_close(struct pipeline *pipeline);

/* The set as it is now, with a reference. Any thread. */
struct endpoint_set *pipeline_endpoints(struct pipeline *pipeline);
void endpoint_set_unref(struct endpoint_set *set);

/* Gives the endpoint with that address one of ENDPOINT_DRAINED, ENDPOINT_DISABLED and neither (0),
 * which closes its breaker too. With a reference; NULL: there is no such endpoint. It stays so if
 * the address goes and comes back, as far as PIPELINE_ORDERS_MAX goes. Any thread. */
struct endpoint *pipeline_set_service(struct pipeline *pipeline, struct slice address,
                                      unsigned condition);
/* The same, but for one that may come later. */
void pipeline_remember_service(struct pipeline *pipeline, struct slice address, unsigned condition);

/* Endpoints' conditions were taken up from elsewhere: sees whether enough are healthy. Any thread.
 */
void pipeline_mark(struct pipeline *pipeline);

/* Home: loop. Opening is done before the resolver is started. */
void pipeline_loop_open(struct pipeline_loop *part, struct pipeline *pipeline,
                        struct pool_loop *shared, gate_granted_fn *granted, hold_let_go_fn *let_go);
/* Closes all pools: dials are cancelled, idle connections closed. */
void pipeline_loop_close(struct pipeline_loop *part);

/* Takes over another set of addresses (and its reference): pools of addresses that are in both
 * stay.
 */
void pipeline_loop_take(struct pipeline_loop *part, struct endpoint_set *set);

/* Looks after the lines that wait for other processes, and gives back what is idle here and awaited
 * there. */
void pipeline_loop_look(struct pipeline_loop *part);

/* At every tick: gives up on exchanges that stall, and finds outliers. Until the drain. */
void pipeline_loop_tick(struct pipeline_loop *part);

/* A right to be in flight. Zeroed memory is one that was not asked for. */
enum permit_kind { PERMIT_NONE, PERMIT_WAITING, PERMIT_CONCURRENCY, PERMIT_STREAM };

struct permit {
    struct gate_ticket ticket; /* of the concurrency gate */
    enum permit_kind kind;
};

/* GATE_IN, GATE_WAIT (the part's granted() follows; then permit_granted()) or GATE_FULL. */
enum gate_outcome permit_acquire(struct pipeline_loop *part, struct permit *permit);
void permit_granted(struct permit *permit);

/* Acquires one if it is free and nobody waits for it. */
bool permit_try(struct pipeline_loop *part, struct permit *permit);

/* The exchange has become a stream: trades the permit for a stream's, if one is free. */
void permit_to_stream(struct pipeline_loop *part, struct permit *permit);

/* Gives back what it is, in any state. */
void permit_release(struct pipeline_loop *part, struct permit *permit);
