/* What a slot and its process for a handler share (see process.h). */
#pragma once

#include "handler/handlers_state.h"
#include "handler/process.h"

/*          | told to start | init() is over | calls are there | through with them | it has ended
 * NONE     | STARTING      |                |                 |                   |
 * STARTING |               | READY          |                 |                   | ENDED
 * READY    |               |                | BUSY            |                   | ENDED
 * BUSY     |               |                |                 | READY             | ENDED
 * ENDED    | STARTING      |                |                 |                   |
 * STARTING and ENDED are written by the zygote. */
enum process_state {
    PROCESS_NONE,
    PROCESS_STARTING,
    PROCESS_READY,
    PROCESS_BUSY,
    PROCESS_ENDED,
};

#define PROCESS_LINE_BYTES 1024
#define PROCESS_CUT UINT32_MAX /* nobody may begin another call of the batch */

struct process_area {
    _Atomic uint32_t state; /* enum process_state; what is waited for */
    _Atomic uint32_t next;  /* the call that is begun next; PROCESS_CUT */
    _Atomic uint32_t finished;
    uint32_t count;     /* of calls */
    int32_t status;     /* wait(2) */
    uint32_t has_fault; /* fault says how it ended */
    struct fault fault;
    struct {
        uint32_t frame_at; /* in bytes */
        uint32_t answer_at, answer_bytes;
    } calls[WORKER_BATCH_MAX];
    uint32_t line_count;
    struct {
        uint32_t level, len;
        char text[PROCESS_LINE_BYTES];
    } lines[PROCESS_LINES_MAX];
    size_t in_bytes; /* frames; behind them PROCESS_OUT_BYTES of answers */
    _Alignas(64) char bytes[];
};

/* To the zygote, one a message. */
struct process_message {
    uint32_t order; /* enum process_order */
    uint32_t slot, handler;
};

struct process_area *process_area_of(const struct worker_slot *slot, const struct handler *handler);

/* Waits until *@word is not @value any more, or for @ns. */
void process_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns);
void process_wake(_Atomic uint32_t *word);

/* The zygote's life (process_child.c). @socket: from the gateway; its end ends all. */
_Noreturn void process_zygote(struct handlers *handlers, int socket);
