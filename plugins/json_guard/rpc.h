/* JSON-RPC 2.0 messages, as MCP has them: which may pass. */
#pragma once

#include <weir/handler.h>

#include <jansson.h>

struct rpc_rules {
    json_t *methods;   /* borrowed; NULL: all. An element that ends with '*' is all that begin so */
    json_t *tools;     /* of "tools/call" (MCP), the same way */
    int64_t batch_max; /* messages; 0: no batches */
    bool has_responses; /* answers to what the server has asked may pass */
};

enum rpc_code { RPC_FINE = 0, RPC_INVALID = -32600, RPC_NOT_FOUND = -32601 };

struct rpc_finding {
    enum rpc_code code;
    const char *why;     /* for the client */
    const json_t *id;    /* of the message that may not pass; NULL: none; borrowed: message */
    const char *subject; /* the method or tool that may not be called; NULL: none; the same */
    const char *method;  /* of a single request that may pass; NULL: none; the same */
    const char *tool;    /* that it calls; NULL: none; the same */
};

void rpc_check(const struct rpc_rules *rules, const json_t *root, struct rpc_finding *finding);
