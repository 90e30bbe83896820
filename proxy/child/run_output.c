#include "child/run_output.h"

#include "child/run.h"

#include <sys/wait.h>

/* An empty line becomes eight bytes: this much of them is a window's worth and a bit. */
#define STEP_BYTES (16 * 1024)

static void push_lines(struct run_output *output, struct slice bytes, struct body *to);
static void push_events(struct run_output *output, struct slice bytes, struct body *to);

void run_output_init(struct run_output *output, enum config_output kind) {
    *output = (struct run_output){.kind = kind};
}

void run_output_deinit(struct run_output *output) {
    buffer_deinit(&output->line);
}

struct slice run_output_type(enum config_output kind) {
    switch (kind) {
    case OUTPUT_LINES:
        return SLICE("text/plain; charset=utf-8");
    case OUTPUT_SSE:
        return SLICE("text/event-stream");
    case OUTPUT_RAW:
        break;
    }
    return SLICE("application/octet-stream");
}

size_t run_output_step(enum config_output kind) {
    return kind == OUTPUT_RAW ? LOOP_READ_BYTES : STEP_BYTES;
}

void run_output_push(struct run_output *output, struct slice bytes, struct body *to) {
    if (output->is_dropped)
        return;
    switch (output->kind) {
    case OUTPUT_RAW:
        body_push(to, bytes);
        break;
    case OUTPUT_LINES:
        push_lines(output, bytes, to);
        break;
    case OUTPUT_SSE:
        push_events(output, bytes, to);
        break;
    }
}

void run_output_end(struct run_output *output, int status, struct body *to, struct arena *arena) {
    bool is_signal = WIFSIGNALED(status);
    int number = is_signal ? WTERMSIG(status) : WEXITSTATUS(status);

    if (!output->is_dropped && output->kind == OUTPUT_SSE) {
        if (output->is_in_event)
            body_push_copy(to, SLICE("\n\n"));
        body_push_copy(to, arena_printf(arena, "event: exit\ndata: {\"%s\":%d}\n\n",
                                        is_signal ? "signal" : "status", number));
    } else if (!output->is_dropped) {
        body_push_copy(to, buffer_slice(&output->line));
        fields_add(&to->trailers, arena, FIELD_OTHER, SLICE(RUN_STATUS_FIELD),
                   arena_printf(arena, is_signal ? "signal %d" : "%d", number));
    }
    body_end(to);
}

static void push_lines(struct run_output *output, struct slice bytes, struct body *to) {
    const char *last = memrchr(bytes.base, '\n', bytes.len);
    size_t whole = last ? (size_t)(last - bytes.base) + 1 : 0;

    if (whole > 0 || output->line.len + bytes.len > RUN_LINE_MAX) {
        body_push_copy(to, buffer_slice(&output->line));
        output->line.len = 0;
    }
    body_push(to, slice_of(bytes.base, whole));
    buffer_append(&output->line, slice_skip(bytes, whole));
}

/* A line is an event. What ends a line for the reader of an event stream does so here too (a bare
 * carriage return), or it could be taken for a field. */
static void push_events(struct run_output *output, struct slice bytes, struct body *to) {
    while (bytes.len > 0) {
        size_t n = 0;

        if (output->is_behind_cr && bytes.base[0] == '\n') {
            output->is_behind_cr = false;
            bytes = slice_skip(bytes, 1);
            continue;
        }
        output->is_behind_cr = false;
        while (n < bytes.len && bytes.base[n] != '\n' && bytes.base[n] != '\r')
            n++;
        if (!output->is_in_event)
            body_push_copy(to, SLICE("data: "));
        output->is_in_event = true;
        body_push_copy(to, slice_of(bytes.base, n));
        bytes = slice_skip(bytes, n);
        if (bytes.len == 0)
            return;
        body_push_copy(to, SLICE("\n\n"));
        output->is_in_event = false;
        output->is_behind_cr = bytes.base[0] == '\r';
        bytes = slice_skip(bytes, 1);
    }
}
