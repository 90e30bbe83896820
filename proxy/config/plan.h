/* How the file descriptors are spent. */
#pragma once

#include "config/errors.h"

#define PLAN_RESERVE 32           /* fds: 12 admin connections, logs, files, resolver, spare */
#define PLAN_RESERVE_PER_THREAD 8 /* fds of a loop: epoll, wake-ups, timers */
#define PLAN_RESERVE_PER_HANDLER_THREAD 4 /* fds of a worker: wake-ups, its images of plugins */
#define PLAN_HANDLER_THREADS_MIN                                                            \
    4                         /* workers at least: one that hangs must not be all there are \
                               */
#define PLAN_NAME_ADDRESSES 4 /* a DNS name counts as so many endpoints */

/* Replaces every "auto" (0) in the settings and fills in config_admission; what cannot be met at
 * this fd limit is an error that prints the sum. */
void plan_all(struct config *config, const struct tomlc_node *root,
              const struct config_options *options, struct errors *errors);

#define PLAN_EXEC_FDS 2 /* of a program that runs for a request: its two pipes */

/* Endpoints of a pipeline, names multiplied; of one that runs programs PLAN_EXEC_FDS: what each of
 * its limits.connections costs. */
unsigned plan_addresses(const struct config_pipeline *pipeline);
