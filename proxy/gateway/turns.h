/* Whose turn an exchange takes in a pipeline's queue, and how soon: queue.fair_by and the route's
 * priority, or queue.priority_field. Home: loop. */
#pragma once

#include "gateway/crossing.h"

/* The route's priority, or what a trusted client says. The route is known. */
enum config_priority turns_priority(const struct crossing *c);

/* One number for each client, by the pipeline's queue.fair_by; 0: everybody shares one. */
uint64_t turns_client(const struct crossing *c);
