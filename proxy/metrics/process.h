/* The process_* metrics that Prometheus clients agree on, from /proc/self. */
#pragma once

#include "base/buffer.h"

/* Appends them as Prometheus text; what cannot be read is left out. Reads files: never on a loop
 * thread. */
void process_render(struct buffer *out);
