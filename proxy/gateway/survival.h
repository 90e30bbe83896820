/* What of the gateway outlives its process, as sections of the state file:
 *
 *     "endpoints": { "PIPELINE": { "ADDRESS": { ... } } }   upstream/endpoint_state.h
 *     "handlers": { "NAME": { ... } }                       handler/quarantine.h
 *
 * Only what the configuration has is taken up, and only the first SURVIVAL_ENDPOINTS_MAX endpoints
 * of which there is something to keep are kept. */
#pragma once

#include "gateway/gateway.h"

#define SURVIVAL_ENDPOINTS_MAX 2048

#define SURVIVAL_LOOK_NS NS_PER_S

/* Adds the sections, and takes up what the file has for them. Before the loops run. */
void survival_open(struct gateway *gateway, struct keeper *keeper);

/* Has the keeper look at once when an endpoint was ejected, has come back, or was taken out of
 * service: that should not be forgotten when the process is killed. At every tick of loop 0. */
void survival_look(struct gateway *gateway, int64_t now_ns);
