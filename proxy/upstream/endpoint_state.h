/* What of an endpoint outlives the process, each only as long as it is true:
 *
 *     "failures": n, "reason": "...", "dial_after": t     dials to it have failed
 *     "breaker": { "cause": "...", "what": "...", "trips": n, "since": t, "until": t }    it is
 * open "unhealthy": true                                    active checks have failed "service":
 * "drained" | "disabled"                    by the administrator
 *
 * Of failures only what is fresh counts: after a longer pause nothing is known of them. What the
 * administrator has ordered holds until he orders something else. */
#pragma once

#include "state/keeper.h"
#include "upstream/endpoint.h"

#define ENDPOINT_KEPT_NS (10 * NS_PER_S) /* from when it may be dialled or probed again */
#define ENDPOINT_KEPT_FAILURES_MAX 1000

/* A new object; NULL: there is nothing to keep. Any thread. */
json_t *endpoint_save(struct endpoint *endpoint, const struct keeper_now *now);

/* @saved may be anything; what is not as endpoint_save() makes it, or old, or from a clock that has
 * been set back since, is left out. Before the endpoint is dialled. */
void endpoint_take_up(struct endpoint *endpoint, const json_t *saved, const struct keeper_now *now);

/* What is kept of an order for an address without an endpoint. */
json_t *endpoint_save_order(unsigned condition);
/* ENDPOINT_DRAINED, ENDPOINT_DISABLED, or 0: there is no order in @saved, which may be anything. */
unsigned endpoint_saved_order(const json_t *saved);
