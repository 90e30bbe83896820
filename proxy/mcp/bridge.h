/* `weir mcp-stdio`: a process that runs one MCP server on its standard streams and serves it as MCP
 * Streamable HTTP, on the address that weir forwards to. The nursery starts it as it starts any
 * engine, so the breaker of crashes, the hold and the rolling restart are the same; it lives over
 * reloads and deaths of gateways, and with it its sessions do. What parses JSON is this process,
 * not a loop that others wait for.
 *
 * It begins to listen when the server has answered initialize, so that it is ready says that the
 * server is. When the server ends, what is under way is answered with errors, and it ends too: with
 * the server's exit status, for the nursery to count. Home: main thread, loop. */
#pragma once

#include "config/process.h"
#include "mcp/hub.h"
#include "mcp/stdio.h"
#include "origin/origin.h"

#define BRIDGE_ENDING_NS NS_PER_S /* for the last answers to go out */
/* Between two looks at idle sessions and at the server; and how often it is told what was counted.
 */
#define BRIDGE_LOOK_NS NS_PER_S
#define BRIDGE_KEEPALIVE_NS (15 * NS_PER_S) /* a comment on streams that are silent */

struct bridge {
    struct origin origin;
    struct hub hub;
    struct stdio server;
    struct config_mcp settings;
    struct timer look;
    int fd;           /* that it listens on; owned; -1: none */
    const char *name; /* of the pipeline; borrowed: the environment */
    const char
        *how; /* the server has ended; borrowed, while the origin is told; NULL: it has not */
    int exit_status;
};

/* Is the bridge. @argv: its settings, as child/launch.c has written them, the server's
 * command and its arguments. Returns the exit status. */
int bridge_command(int argc, char **argv);

/* http.c: answers a request. */
void http_visited(struct visit *v);
