/* The messages of grpc.health.v1.Health: one field each way, so no protocol compiler is needed.
 * Behind the prefix of a gRPC message (grpc.h). */
#pragma once

#include "base/arena.h"

/* HealthCheckResponse.ServingStatus. */
enum grpc_serving {
    GRPC_SERVING_UNKNOWN,
    GRPC_SERVING,
    GRPC_NOT_SERVING,
    GRPC_SERVICE_UNKNOWN,
};

#define GRPC_HEALTH_CHECK "/grpc.health.v1.Health/Check"
#define GRPC_HEALTH_WATCH "/grpc.health.v1.Health/Watch"

/* HealthCheckRequest, with its prefix; arena. */
struct slice grpc_health_write_request(struct arena *arena, struct slice service);
/* @content is one message with its prefix; *@service points into it. False: it is none. */
bool grpc_health_read_request(struct slice content, struct slice *service);

/* HealthCheckResponse, with its prefix. */
#define GRPC_HEALTH_RESPONSE_BYTES 7
struct slice grpc_health_write_response(char to[GRPC_HEALTH_RESPONSE_BYTES],
                                        enum grpc_serving serving);
bool grpc_health_read_response(struct slice content, enum grpc_serving *serving);
