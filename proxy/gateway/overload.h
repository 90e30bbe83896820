/* What a loop does when weir comes close to what it may use: it looks at every tick, evicts, closes
 * and holds, and tells the steps what to refuse. Home: loop. */
#pragma once

#include "gateway/gateway.h"

/* Idle keepalive connections are evicted only after this time: who keeps asking is never cut off.
 */
#define OVERLOAD_IDLE_NS NS_PER_S
/* Evicting goes on until this share of the client connections is in use. */
#define OVERLOAD_EVICT_DOWN_TO 0.80

/* Connections that a loop evicts at once, and HTTP/2 connections that it ends at a look while
 * clients are told to close. */
#define OVERLOAD_EVICT_MAX 256
#define OVERLOAD_RETIRE_MAX 16

/* Takes the readings, and acts on them. */
void overload_look(struct gateway_loop *gl);

/* Why a request of @priority is to be refused now; FAIL_NONE: it is not. */
enum fail overload_shed(const struct gateway_loop *gl, enum config_priority priority);
