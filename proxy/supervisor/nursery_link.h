/* The supervisor's side of the nursery (child/nursery.h), which is there from the first
 * configuration on that starts programs. It lasts over gateways and over an upgrade of the
 * supervisor; one that dies is replaced, and its board stays. Home: supervisor. */
#pragma once

#include "base/clock.h"
#include "supervisor/run_plan.h"

#include <sys/types.h>

#define NURSERY_AGAIN_NS (1 * NS_PER_S) /* behind its death: what it had is gone by then */

struct nursery_link {
    pid_t pid;           /* 0: there is none */
    int socket;          /* owned; -1: none */
    int board_fd;        /* owned; -1: not made yet */
    int64_t start_at_ns; /* when to start another one; 0: not */
    bool is_ending;      /* it was told so */
};

#define NURSERY_LINK_NONE \
    { .socket = -1, .board_fd = -1 }

/* Starts it, to log as @plan says. -errno. */
int nursery_link_start(struct nursery_link *link, const char *binary, const struct run_plan *plan);

void nursery_link_tell(struct nursery_link *link, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A channel for the gateway with @number, whose programs are in @programs_fd. *@channel is the
 * caller's. -errno. */
int nursery_link_channel(struct nursery_link *link, unsigned number, int programs_fd, int *channel);

/* How to log, from now on. */
void nursery_link_log(struct nursery_link *link, const struct run_plan *plan);

/* Its process was reaped. */
void nursery_link_ended(struct nursery_link *link);

/* Ends it with all that it has, and waits for that: a second, or a little more. */
void nursery_link_close(struct nursery_link *link);
