/* What of an endpoint outlives the process: that dials to it have failed, how often in a row, and
 * until when it is left alone. Only what is fresh counts: after a longer pause nothing is known of
 * it. */
#pragma once

#include "state/keeper.h"
#include "upstream/endpoint.h"

#define ENDPOINT_KEPT_NS (10 * NS_PER_S) /* from when it may be dialled again */
#define ENDPOINT_KEPT_FAILURES_MAX 1000

/* A new object; NULL: there is nothing to keep. Any thread. */
json_t *endpoint_save(const struct endpoint *endpoint, const struct keeper_now *now);

/* @saved may be anything; what is not as endpoint_save() makes it, or old, or from a clock that has
 * been set back since, is left out. Before the endpoint is dialled. */
void endpoint_take_up(struct endpoint *endpoint, const json_t *saved, const struct keeper_now *now);
