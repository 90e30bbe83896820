/* The active checks of one endpoint: every so often a connection of its own is made, over the
 * pipeline's TLS, and asked: by GET, by grpc.health.v1.Health/Check, or not at all (that it was
 * made is enough). What the checks find is told; whether it is believed is decided for all
 * endpoints of a pipeline together (health_mark()).
 *
 * One loop of a gateway checks an endpoint; its connection is in the fd ledger, but takes none of
 * the endpoint's connections: a busy endpoint is not an ill one. The first check decides alone, and
 * comes within HEALTH_FIRST_NS; from then on it takes some in a row. Each goes off an interval
 * after the last one was over, give or take a tenth. Home: loop. */
#pragma once

#include "config/config.h"
#include "upstream/pool.h"

#define HEALTH_FIRST_NS (500 * NS_PER_MS)
#define HEALTH_CONTENT_MAX 1024 /* bytes of a gRPC answer that are looked at */

struct health;

struct health_options {
    const struct config_pipeline *config; /* borrowed: outlives it */
    const struct pool_settings *pool;     /* borrowed: likewise */
    /* It is healthy from now on, or it is not and @why says so: static text. */
    void (*found)(void *ctx, struct endpoint *endpoint, bool is_healthy, const char *why);
    void *ctx; /* borrowed: outlives it */
};

struct health *health_new(struct endpoint *endpoint, struct pool_loop *shared,
                          const struct health_options *options);

/* Asks no more, and is freed when its connection is gone, if it has one. */
void health_close(struct health *health);

const struct endpoint *health_endpoint(const struct health *health);

/* Enters what was found of @endpoint (NULL: nothing; others have come or gone), and whether so few
 * of @list, the endpoints that are in service, are healthy that none is kept out for that: fewer
 * than @panic. Returns whether that is so. One thread at a time. */
bool health_mark(struct endpoint *const *list, size_t count, struct endpoint *endpoint,
                 bool is_healthy, double panic, int64_t now_ns);
