#include "world.h"

#include <arpa/inet.h>

struct world world;

void world_configure(void) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        world.addresses[i] = world_address((uint16_t)(i + 1));
    world.config = (struct config_pipeline){
        .name = (char *)"engine",
        .endpoints = world.addresses,
        .endpoint_count = ENDPOINTS,
        .limits = {.concurrency = 2, .connections = 4, .streams = 1, .dials = 8},
        .queue = {.size = 3},
        .breaker = {.open_for_ns = NS_PER_S, .open_max_ns = NS_PER_S},
        .dial_timeout_ns = NS_PER_S,
    };
}

void world_open(gate_granted_fn *granted, hold_let_go_fn *let_go) {
    world.fds = (struct fds){.limit = {100, 100, 100, 100}};
    world.pipeline = world_open_pipeline(&world.config);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_open(&world.loops[i], i), 0);
        world.shared[i] = (struct pool_loop){.loop = &world.loops[i], .fds = &world.fds};
        pipeline_loop_open(&world.parts[i], world.pipeline, &world.shared[i], granted, let_go);
    }
}

void world_close(void) {
    for (unsigned i = 0; i < 2; i++)
        pipeline_loop_close(&world.parts[i]);
    settle_down(&world.loops[0], &world.loops[1]);
    assert_int_equal(gate_taken(&world.pipeline->concurrency), 0);
    assert_int_equal(gate_taken(&world.pipeline->streams), 0);
    assert_int_equal(atomic_load(&world.pipeline->hold.held), 0);
    assert_int_equal(atomic_load(&world.pipeline->hold.holders), 0);
    for (unsigned i = 0; i < ENDPOINTS && i < world.pipeline->set->count; i++)
        assert_int_equal(atomic_load(&endpoint(i)->refs), 1); /* the pools are gone */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(finish_loop(&world.loops[i]), 0);
    pipeline_close(world.pipeline);
}

struct config_address world_address(uint16_t port) {
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct config_address address = {.kind = ADDRESS_INET, .port = port, .sockaddr_len = sizeof in};

    memcpy(&address.sockaddr, &in, sizeof in);
    return address;
}

struct pipeline *world_open_pipeline(const struct config_pipeline *from) {
    struct pipeline *made = NULL;
    char *why = NULL;

    assert_int_equal(
        pipeline_open(&made, &(struct pipeline_options){.config = from, .loops = 2}, &why), 0);
    return made;
}

struct endpoint *endpoint(unsigned i) {
    return world.pipeline->set->list[i];
}

void fail_dial(unsigned i) {
    endpoint_dial_failed(endpoint(i), FAIL_CONNECT_REFUSED,
                         world.loops[0].now_ns + 3600 * NS_PER_S);
}
