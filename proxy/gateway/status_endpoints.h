/* What the admin plane tells of endpoints; a part of status.c. Any thread; waits for no loop. */
#pragma once

#include "gateway/gateway.h"

/* The list "endpoints" of a pipeline in /status. */
json_t *status_endpoints(struct pipeline *pipeline);

/* The weir_endpoint_* families. */
void status_collect_endpoints(struct gateway *gateway, struct buffer *text);
