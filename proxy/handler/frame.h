/* What a handler gets to see of a request, in one flat block of memory: the head that the plugin
 * is called with, its fields, texts and body behind each other. The loop writes it; whoever runs
 * the plugin, a thread or a process, only reads it. The pointers in it are right at the address
 * that it was written at; a copy elsewhere (in memory shared with a process) is put right by
 * frame_move(). Nobody trusts a frame that a worker process could write to: the loop reads its own.
 */
#pragma once

#include "handler/call.h"

#include <weir/handler.h>

struct frame_variable {
    struct weir_text name, value;
};

struct frame {
    size_t bytes;             /* of all, this header included */
    const struct frame *home; /* where the pointers are right */
    enum call_phase phase;
    uint32_t handler; /* index in the config */
    struct weir_request request;
    struct weir_response response; /* CALL_RESPONSE */
    const struct frame_variable *variables;
    uint32_t variable_count;
    /* arrays and texts */
};

/* How much frame_write() needs. */
size_t frame_bytes(const struct call_input *input);

/* Copies @input into @frame, which has frame_bytes() and is aligned for any type. @deadline_ns is
 * of CLOCK_MONOTONIC. */
void frame_write(struct frame *frame, const struct call_input *input, int64_t deadline_ns);

/* Makes the pointers of a copy right where it is now. */
void frame_move(struct frame *frame);

static inline struct slice frame_slice(struct weir_text text) {
    return (struct slice){text.base, text.len};
}
