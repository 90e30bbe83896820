/* The gateway process: it is told by the supervisor what to serve and on which sockets, serves, and
 * ends when it is told to, or at once when the supervisor is gone (supervisor/control.h). */
#pragma once

#define EXIT_UNUSABLE 2 /* arguments, configuration or addresses */

/* `weir gateway`; returns the exit status. Home: main thread. */
int serve_command(int argc, char **argv);
