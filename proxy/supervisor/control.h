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
 *     nursery            fds: its channel to the nursery, and the nursery's board; left out when
 *                        the configuration starts no programs
 *     listener I         fds: sockets of the I-th listener of the configuration, bound
 *     admin              fd: the socket of the admin plane, listening; left out when it is off
 *     start
 * and later:
 *     nursery            the same: the nursery is another one now
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
#include "base/control.h"

#define CONTROL_FD 3 /* of a gateway process, and of the nursery */
