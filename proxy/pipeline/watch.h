/* Who watches over the endpoints of a pipeline. Each loop gives up on its own exchanges that stall;
 * one loop compares the endpoints with each other, and each endpoint is checked by one. Which one
 * follows from names, so that it stays the same when others come and go. */
#pragma once

#include "pipeline/pipeline.h"

#define WATCH_PASSES 5 /* of probes that let an endpoint return to its peers; alone: 1 */

/* What the configuration says of breakers and outliers. */
void watch_set_up(struct pipeline *pipeline);

/* The part has another set: begins and ends checks. Home: loop. */
void watch_take(struct pipeline_loop *part);
/* Ends all checks. Home: loop. */
void watch_close(struct pipeline_loop *part);

/* Enters what was found of @endpoint (NULL: nothing), as health_mark() does. With the pipeline's
 * lock held. */
void watch_mark(struct pipeline *pipeline, struct endpoint *endpoint, bool is_healthy);

/* The order for an address; 0: none. With the pipeline's lock held, or before it is shared. */
unsigned watch_order_for(const struct pipeline *pipeline, const char *address);
