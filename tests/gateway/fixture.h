/* A crossing made by hand, as the gateway would have it between a codec that has read a request
 * head and a lease: a real loop, a listener, a pipeline and an endpoint, but no socket and no
 * configuration file. */
#pragma once

#include "gateway/crossing.h"
#include "support/unit.h"

struct fixture {
    struct gateway_loop gl;
    struct config_listener listener_config;
    struct gateway_listener listener;
    struct config_pipeline pipeline_config;
    struct pipeline pipeline;
    struct pipeline_loop part;
    union conn_address client; /* 192.0.2.1 at first */
    struct crossing *c;        /* GET / HTTP/1.1, of an untrusted client, with the id "id-1" */
    char text[512];            /* what fixture_values() has returned */
};

/* For cmocka: *state is the one fixture. */
int fixture_open(void **state);
int fixture_close(void **state);

/* The next ones append to the head that was received; @name and @value are static text. */
void fixture_ask(struct fixture *f, const char *name, const char *value);
void fixture_answer(struct fixture *f, const char *name, const char *value);

void fixture_client_is(struct fixture *f, int family, const char *address);
/* The endpoint of the attempt: an address with its port, or a path. */
void fixture_endpoint_is(struct fixture *f, int family, const char *address, uint16_t port);

/* The values of all fields of that name with " | " between them, "-" when there is none; until the
 * next call. */
const char *fixture_values(struct fixture *f, const struct fields *fields, const char *name);

#define EXPECT(f, fields, name, text) \
    assert_string_equal(fixture_values((f), (fields), (name)), (text))
#define ABSENT "-"
