/* The process_* metrics that Prometheus clients agree on, from /proc/self. */
#pragma once

#include "base/buffer.h"

struct process_figures {
    uint64_t resident_bytes, threads, open_fds;
};

/* False when they cannot be read. Reads files, too. */
bool process_look(struct process_figures *figures);

/* Appends them as Prometheus text; what cannot be read is left out. Reads files: never on a loop
 * thread. */
void process_render(struct buffer *out);
