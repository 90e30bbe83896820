/* The socket between the supervisor and a gateway process: whole messages of text, with file
 * descriptors. Neither side ever waits for the other to read.
 *
 * To the gateway, at its start, in this order:
 *     config NAME        fd: the text of the configuration
 *     threads N          I/O loops: what "auto" means
 *     substitute         nobody else serves: names that do not resolve are no error; left out else
 *     memory BYTES       fd: the segment for its counters, of BYTES; behind it, on the next page,
 *                        the board for its heartbeats
 *     shares SLOT        fd: the table of the limits that all gateways share; its slot in it
 *     cells              fd: memory for the cells of handlers, which all gateways share; left out
 *                        when there is none
 *     listener I         fds: sockets of the I-th listener of the configuration, bound
 *     admin              fd: the socket of the admin plane, listening; left out when it is off
 *     start
 * and later:
 *     others             fds: segments that /metrics adds to its own; replaces what was told before
 *     live               it is the one that serves now: open the admin plane
 *     retire NS          a successor serves: close the admin plane, finish within NS nanoseconds
 *     drain NS           the end: finish within NS nanoseconds
 *     deaths MS...       gateways that died lately, and how long ago, oldest first; before live
 *     save               look now whether there is something for the state file
 *     reopen             open the log files anew
 *
 * From the gateway:
 *     ready              it accepts
 *     retired            its admin plane is closed
 *     reload             somebody asked for it on the admin plane
 *     drain              likewise
 *     deaths MS...       the same, from the state file, where the supervisor knows of none
 *     tainted            a fault of a handler has left it in doubt: a successor is to take its
 * place stack TEXT         of one thread, when it was asked for or a signal ends it The end of the
 * socket ends the gateway at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CONTROL_FD 3 /* of a gateway process */
#define CONTROL_TEXT_MAX 4096
#define CONTROL_FDS_MAX 64

/* As it was received; whoever takes an fd writes -1 in its place. */
struct control_message {
    char text[CONTROL_TEXT_MAX + 1]; /* terminated */
    int fds[CONTROL_FDS_MAX];        /* closed on exec */
    unsigned fd_count;
};

/* Two ends, non-blocking, closed on exec. -errno. */
int control_pair(int ends[2]);

/* -errno; -EAGAIN: the other side does not read, nothing was sent. */
int control_send(int fd, const char *text, const int *fds, unsigned fd_count);

/* 1: @message is there, and its fds are the caller's; 0: none now; -errno: -EPIPE at the end. */
int control_receive(int fd, struct control_message *message);

/* Closes the fds that nobody took. */
void control_message_deinit(struct control_message *message);

/* Is the first word of @text @verb? *@rest is then what stands behind it and a blank, or "". */
bool control_is(const char *text, const char *verb, const char **rest);
