/* The nursery: the process that starts and reaps all programs, so that gateways, which have
 * threads, never fork. It has one thread, listens to the supervisor and to gateways, and outlives
 * both a gateway and, by a new execution, the supervisor's binary. Each program has a minder
 * (minder.h).
 *
 * A gateway has one channel, and one more for each of its loops; what was started over a channel is
 * ended when the channel is. When the supervisor's socket ends, everything is.
 *
 * From the supervisor:
 *     board              fd: the memory to show things in (board.h); first
 *     log LEVEL FILE     where to log
 *     reopen             the log file
 *     gateway N          fds: its channel, and the programs of its configuration (program.h)
 *     serve N            its programs are those that are to be running from now on; no such N: none
 *     end                the end: programs may take their grace
 *
 * From a gateway, over any of its channels:
 *     channel            fd: another one
 *     history NAME TEXT  of an earlier life (respawn.h), where nothing is known of NAME
 *     reset NAME         clears its history, and ends a hold; "reset" alone: of all
 *     spawn ID PIPELINE  fds: standard input and output; behind a NUL the environment,
 * "NAME=value", each with a NUL behind it: starts the program of that pipeline end ID ends it, and
 * all that it has started
 *
 * To a gateway, over the channel that asked:
 *     started ID PID
 *     failed ID WHY            instead, and the last that is said of ID
 *     gone ID STATUS KILLED    nobody is left; STATUS as by wait(2), KILLED: 1 if some had to be
 *
 * Whoever leaves more than NURSERY_UNSENT_MAX of that unread loses his channel. */
#pragma once

#define NURSERY_PACKET_MAX (160 * 1024) /* bytes of a message: an environment */
#define NURSERY_CHILDREN_MAX 4096       /* programs at a time */
#define NURSERY_CHANNELS_MAX 1024
#define NURSERY_UNSENT_MAX \
    (512 * 1024) /* bytes that wait for a gateway, beside what the kernel holds */
#define NURSERY_GATEWAYS_MAX 16

/* Serves at @socket until it ends or says so. Returns the exit status. Home: main thread of a
 * process of its own, without others. */
int nursery_run(int socket);
