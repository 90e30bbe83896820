/* What a bridge to an MCP server (mcp/bridge.h) has counted, as it tells the nursery over its
 * standard input, one struct a packet. */
#pragma once

#include <stdint.h>

struct mcp_counts {
    uint64_t sessions, calls; /* now; the others: so far */
    uint64_t sessions_all, calls_all;
    uint64_t asks_all;  /* requests of the server that a session was asked */
    uint64_t unowned;   /* those that were for nobody in particular */
    uint64_t cancelled; /* calls whose client has left, or has cancelled them */
    uint64_t refused;   /* sessions and calls beyond a limit */
    uint64_t dropped;   /* messages that gave way */
    uint64_t late;      /* answers to nothing that was asked (any more) */
    uint64_t garbage;   /* lines of the server that are no messages */
    uint64_t lost;      /* messages of the server that are too long */
};

#define MCP_GAUGES 2 /* of these, at the beginning */
#define MCP_COUNTS (sizeof(struct mcp_counts) / sizeof(uint64_t))
