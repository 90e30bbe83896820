/* What the tests of rooms with loops share: cmocka, loops that are run by hand, pairs of sockets,
 * and numbers that look random but are the same each time. Conditions are awaited, never slept for.
 */
#pragma once

#include "base/clock.h"
#include "base/slice.h"
#include "loop/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PATIENCE_NS (20 * NS_PER_S) /* how long a condition is awaited before the test fails */

/* Runs @a, and @b unless it is NULL, once; waits a millisecond at most for something to happen. */
void spin(struct loop *a, struct loop *b);

/* Runs the loops until @condition holds. */
#define AWAIT(a, b, condition)                               \
    do {                                                     \
        int64_t until_ns_ = clock_now_ns() + PATIENCE_NS;    \
        while (!(condition)) {                               \
            if (clock_now_ns() > until_ns_)                  \
                fail_msg("in vain awaited: %s", #condition); \
            spin(a, b);                                      \
        }                                                    \
    } while (0)

/* Runs the loops until nothing is under way any more: everything that was sent to itself, a socket
 * or another loop before has arrived. */
void settle_down(struct loop *a, struct loop *b);

/* Stops, runs out and closes @loop; returns what loop_close() does. */
unsigned finish_loop(struct loop *loop);

/* Moves the loop's time on by @ns and fires what is due then. The loop must not be run by libuv
 * between two such steps: it would set the time back. */
void travel(struct loop *loop, int64_t ns);

/* Two connected sockets, non-blocking. */
void stream_pair(int fds[2]);
void tcp_pair(int fds[2]);

/* Sends all of @s at once, which must fit into the socket's buffer. */
void say(int fd, struct slice s);
#define SAY(fd, text) say(fd, slice_str(text))

/* Reads what is there now into @to and terminates it; at most @max - 1 bytes. Returns how many, 0
 * at the end of the stream, -errno (-EAGAIN: nothing now). */
ssize_t hear(int fd, char *to, size_t max);

/* Sends on the non-blocking @fd until the socket takes no more. */
void fill_socket(int fd);

/* Closes *@fd so that the other side gets a reset, not an end, and makes it -1. TCP only. */
void reset_socket(int *fd);

/* xorshift64*; the seed is not 0. */
uint64_t rnd(uint64_t *seed);
