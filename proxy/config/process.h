/* The [pipeline.process] of a pipeline: a program that weir starts itself, to be its upstream for
 * as long as weir runs, or (protocol = "exec") once for every request. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_PROCESSES_MAX 64      /* pipelines with one */
#define CONFIG_ARGUMENTS_MAX 64      /* of a command, its program included */
#define CONFIG_VARIABLES_MAX 64      /* of its environment */
#define CONFIG_INSTANCES_MAX 16      /* of a program that stays */
#define CONFIG_DEATHS_MAX 31         /* crash.deaths */
#define CONFIG_MCP_DEPTH_MAX 256     /* mcp.depth */
#define CONFIG_PROGRAM_TEXT_MAX 4096 /* bytes of an argument, a variable, a path */

/* How it is told that an instance is ready for requests. */
enum config_ready {
    READY_TCP,  /* its address can be connected to */
    READY_HTTP, /* it answers a GET of ready.path with 2xx */
    READY_GRPC, /* grpc.health.v1.Health says SERVING, of ready.service */
    READY_LINE, /* it writes a line that has ready.line in it, to standard output or error */
    READY_NONE, /* at once */
};

/* What becomes of standard output. */
enum config_output {
    OUTPUT_RAW,   /* the content, byte by byte */
    OUTPUT_LINES, /* the same, passed on line by line */
    OUTPUT_SSE,   /* an event for each line */
};

/* Which client is asked what an MCP server asks: */
enum config_mcp_ask {
    MCP_ASK_CALLER, /* the only one with a call under way, if it can do that */
    MCP_ASK_ABLE,   /* of those that can do it the only one with a call, or the only one there is */
};

/* Of an MCP server on standard input and output: pipeline.mcp, with protocol = "mcp-stdio". */
struct config_mcp {
    unsigned sessions;                 /* of one instance */
    unsigned calls, calls_per_session; /* requests under way, of one instance */
    unsigned queue;                    /* messages of the server that wait in a session */
    unsigned depth;                    /* of JSON */
    size_t message_bytes;              /* of one, either way */
    int64_t idle_ns;                   /* of a session without a request or a stream */
    int64_t ping_ns; /* that a server may be silent before it is asked; 0: it is never */
    enum config_mcp_ask ask;
};

struct config_process {
    char **command; /* owned; its strings too; NULL behind the last */
    size_t command_count;
    char **variables; /* owned; the same: "NAME=value" */
    size_t variable_count;
    char *dir;  /* where it is started; NULL: where weir was; owned */
    char *user; /* who it runs as when root starts it; NULL: server.user; owned */
    struct {
        /* Of each process. */
        size_t memory_bytes; /* of address space, RLIMIT_AS; 0: no bound */
        int64_t cpu_ns;      /* RLIMIT_CPU; 0: no bound */
        unsigned fds;        /* RLIMIT_NOFILE; 0: what is usual */
        /* Of all together, by a control group. */
        size_t total_memory_bytes; /* resident; 0: no bound */
        unsigned processes;        /* with threads; 0: no bound */
    } limits;
    struct {
        int signal;       /* that asks it to end */
        int64_t grace_ns; /* then it is killed */
    } stop;
    /* Of a program that stays. */
    struct {
        enum config_ready check;
        char *path, *line;  /* owned */
        char *service;      /* owned; NULL: all of the server */
        int64_t timeout_ns; /* then it counts as dead */
    } ready;
    struct {
        unsigned deaths; /* more of them within window_ns: no more starts for hold_ns */
        int64_t window_ns, hold_ns;
    } crash;
    unsigned instances; /* one for each endpoint */
    bool is_mcp;        /* it is started behind a bridge (mcp/bridge.h) */
    struct config_mcp mcp;
    /* Of one that is started for every request. */
    enum config_output output;
    char *content_type; /* of the response; NULL: what the output is; owned */
};

/* Accepts NULL. */
void config_process_free(struct config_process *process);

/* "tcp", "raw" and so on. */
const char *config_ready_name(enum config_ready check);
const char *config_output_name(enum config_output output);
