/* Listening sockets: bound and listening, non-blocking, closed on exec. Any thread; blocks briefly.
 */
#pragma once

#include "config/config.h"

#define LISTEN_BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

/* Clients speak first in every protocol there is here, so one is let in with its first bytes: it
 * costs one wake-up less, a tenth of the CPU of a connection with one request. One that is silent
 * for so long, in seconds, is let in all the same, and is the listener's timeouts' from there. */
#define LISTEN_DEFER_S 1

/* Makes @count sockets on @address (no name) into @fds: with SO_REUSEPORT for TCP, so that each
 * loop has its own queue. A unix socket cannot be shared out like that: its fd is duplicated, and a
 * stale socket file that nobody listens on is removed first. Before binding, the address is tried
 * without SO_REUSEPORT, which would hide another process that holds it. -errno; *why then says what
 * is in the way (the caller frees). */
int listen_open(const struct config_address *address, int *fds, unsigned count, char **why);

/* The same, but TCP and unix sockets are bound only: nobody is let in before listen() is called, so
 * nobody waits for a server that may never come. @is_ours: the address is, or is covered by, one
 * that this process has sockets on already, which would be found in the way. */
int listen_bind(const struct config_address *address, int *fds, unsigned count, bool is_ours,
                char **why);
