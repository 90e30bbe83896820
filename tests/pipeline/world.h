/* A pipeline of three endpoints on two loops that are run by hand. Nobody needs to listen on the
 * addresses, except where a dial must not fail. */
#pragma once

#include "pipeline/balancer.h"
#include "pipeline/pipeline.h"
#include "support/unit.h"

#define ENDPOINTS 3

struct world {
    struct loop loops[2];
    struct fds fds;
    struct pool_loop shared[2];
    struct config_address addresses[ENDPOINTS];
    struct config_pipeline config;
    struct pipeline *pipeline;
    struct pipeline_loop parts[2];
};

extern struct world world;

/* concurrency 2, connections 4, streams 1, dials 8, queue.size 3. */
void world_configure(void);
void world_open(gate_granted_fn *granted, hold_let_go_fn *let_go);
/* All permits are back, and the pools gone. */
void world_close(void);

struct config_address world_address(uint16_t port);
struct pipeline *world_open_pipeline(const struct config_pipeline *from);
struct endpoint *endpoint(unsigned i);
/* Not to be dialled again for an hour. */
void fail_dial(unsigned i);
