/* Standard output on its way to the client: as it is, line by line, or as Server-Sent Events.
 * Home: loop. */
#pragma once

#include "base/buffer.h"
#include "config/process.h"
#include "exchange/body.h"

#define RUN_STATUS_FIELD "weir-exit-status" /* "0", "3", "signal 15" */

struct run_output {
    enum config_output kind;
    struct buffer line; /* lines: what has no end yet */
    bool is_in_event;   /* sse: of which something was sent */
    bool is_behind_cr;  /* sse: the line feed behind it is the same end */
    bool is_dropped;    /* nobody wants it: a HEAD */
};

void run_output_init(struct run_output *output, enum config_output kind);
void run_output_deinit(struct run_output *output);

/* The media type that goes with it. */
struct slice run_output_type(enum config_output kind);

/* How many bytes to read at a time. */
size_t run_output_step(enum config_output kind);

/* Pushes what is made of @bytes, which stay where they are until the end of the turn. */
void run_output_push(struct run_output *output, struct slice bytes, struct body *to);

/* The program has ended with @status (wait(2)): pushes what is left, says so, ends the body. */
void run_output_end(struct run_output *output, int status, struct body *to, struct arena *arena);
