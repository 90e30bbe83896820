/* A loop's channel to the nursery, and the programs that it has had started for exchanges (run.h).
 * Home: loop. */
#pragma once

#include "base/list.h"
#include "base/log.h"
#include "fds/fds.h"
#include "loop/loop.h"

struct run_channel;

struct run_loop {
    struct loop *loop;           /* borrowed */
    struct fds *fds;             /* borrowed */
    struct run_channel *channel; /* owned; NULL: there is none (now) */
    struct list runs;            /* struct run: all */
    struct list unsent; /* struct run that the nursery was not told of: the channel is full */
    unsigned long last_id;
};

void run_loop_init(struct run_loop *rl, struct loop *loop, struct fds *fds);

/* Another channel, ours from now on: what runs over the one before is lost. -errno: it is closed.
 */
int run_loop_take(struct run_loop *rl, int fd);

/* Closes the channel; no program may be there any more. */
void run_loop_close(struct run_loop *rl);

/* Says something to the nursery. -errno; -EAGAIN: the channel is full, and its owner is told by
 * run_send() of what is in unsent when it is not; -ENOTCONN: there is none. */
int run_loop_send(struct run_loop *rl, struct slice bytes, const int *fds, unsigned fd_count);
