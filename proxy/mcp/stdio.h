/* The MCP server itself: a process with pipes for standard input and output. Lines go in and come
 * out; what it does not read waits in a bounded buffer. Home: loop. */
#pragma once

#include "base/buffer.h"
#include "config/process.h"
#include "loop/loop.h"
#include "mcp/lines.h"

#define STDIO_UNSENT_MAX (8 * 1024 * 1024) /* bytes that it has not read; one line always fits */
#define STDIO_TURN_BYTES (512 * 1024)      /* read at a time: others want their turn */
/* Behind the end of its output, or of its input, for its exit status to come: launchers such as npx
 * take their time to end. */
#define STDIO_STATUS_NS NS_PER_S

struct stdio;

struct stdio_events {
    void (*line)(struct stdio *server, const struct lines_item *line);
    /* It has ended, or will not be heard of again. @how: "ended with status 3". Once. */
    void (*gone)(struct stdio *server, const char *how);
};

struct stdio {
    const struct stdio_events *events; /* borrowed: static */
    struct loop *loop;                 /* borrowed */
    pid_t pid;                         /* 0: reaped, or never started */
    int in, out;                       /* owned; -1: closed */
    uv_poll_t in_poll, out_poll;
    uv_signal_t sigchld;
    struct timer status_timer;
    struct lines lines;
    struct buffer unsent;
    size_t unsent_begin; /* bytes of it that are gone */
    bool is_open, is_writing;
    bool is_deaf; /* its input is closed: nobody reads what is said to it */
    bool is_gone; /* it was told */
    int status;   /* once reaped: as by wait(2) */
    bool has_status;
};

/* Starts it as @process says, with our own environment. 0, or -errno and what could not be done in
 * @why. */
int stdio_open(struct stdio *server, struct loop *loop, const struct stdio_events *events,
               const struct config_process *process, size_t line_max, char *why, size_t why_max);
/* False: too much waits for it already. Copies. */
bool stdio_say(struct stdio *server, struct slice line);
/* Closes its pipes: its input ends. Nothing more is heard of it. */
void stdio_close(struct stdio *server);
