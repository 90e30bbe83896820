/* The supervisor: one thread that keeps the listening sockets and sees to it that there is always a
 * gateway process behind them. It parses neither traffic nor configuration and allocates nothing
 * while nothing changes, so there is little that could end it.
 *
 * A gateway that dies is replaced (crashes.h says when); meanwhile clients wait in the backlog of
 * sockets that nobody closed. SIGHUP has the file checked (examination.h) and, when it is good,
 * starts a gateway with it; once that is ready the old one retires. Until then nothing of the old
 * one has changed, so a bad file or a gateway that cannot start costs nothing. */
#pragma once

#include "base/clock.h"

#define SUPERVISOR_TAINT_NS                                              \
    (10 * NS_PER_S) /* between two gateways replaced because of handlers \
                     */
#define SUPERVISOR_RETIRING_MAX                                       \
    4 /* gateways that finish at the same time; reloads wait for them \
       */

struct supervisor_options {
    const char *binary; /* weir itself, executed for every gateway and check */
    const char *name;   /* of the configuration file */
    const char *text;   /* what stands in it; NULL: read the file */
    /* The first gateway is ready. May be NULL. */
    void (*on_ready)(void *ctx);
    void *ctx; /* borrowed */
};

/* Serves until SIGTERM or SIGINT. Returns the exit status. Home: main thread, without others. */
int supervisor_run(const struct supervisor_options *options);
