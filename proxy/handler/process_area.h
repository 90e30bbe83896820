/* What a slot and its process for a handler share (see process.h). */
#pragma once

#include "handler/handlers_state.h"
#include "handler/process.h"

/*          | told to start | init() is over | calls are there | through with them | it has ended
 * NONE     | STARTING      |                |                 |                   |
 * STARTING |               | READY          |                 |                   | ENDED
 * READY    |               |                | BUSY            |                   | ENDED
 * BUSY     |               |                |                 | READY             | ENDED
 * SPENT    |               |                |                 |                   | ENDED
 * ENDED    | STARTING      |                |                 |                   |
 * STARTING and ENDED are written by the zygote; SPENT, over READY, by the watchdog: it is about to
 * be killed, and gets no calls any more. */
enum process_state {
    PROCESS_NONE,
    PROCESS_STARTING,
    PROCESS_READY,
    PROCESS_BUSY,
    PROCESS_SPENT,
    PROCESS_ENDED,
};

/* Whom a process tells that it is through with its calls: */
enum process_waiter {
    PROCESS_TELL_THREAD, /* by the futex of its state */
    PROCESS_TELL_LOOP,   /* by the eventfd of a desk */
    PROCESS_TELL_NOBODY, /* a loop that is awake: it looks before it sleeps */
};

#define PROCESS_LINE_BYTES 1024
#define PROCESS_CUT UINT32_MAX /* nobody may begin another call of the batch */

struct process_area {
    _Atomic uint32_t state; /* enum process_state; what is waited for */
    _Atomic uint32_t next;  /* the call that is begun next; PROCESS_CUT */
    _Atomic uint32_t finished;
    _Atomic uint32_t waiter; /* enum process_waiter */
    _Atomic uint32_t desk;   /* of PROCESS_TELL_LOOP: its index */
    uint32_t count;          /* of calls */
    int32_t status;          /* wait(2) */
    uint32_t has_fault;      /* fault says how it ended */
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

/* Calls on their way through a process. Home: whoever has them: the slot's thread, or a loop. */
struct process_batch {
    struct worker_slot *slot;
    struct handler *handler;
    struct process_area *area;
    struct call *calls[WORKER_BATCH_MAX];
    unsigned taken;    /* calls that began here; those given back count elsewhere */
    unsigned count;    /* calls in it */
    unsigned first;    /* of them in the area: from here, */
    unsigned sent;     /* up to here */
    unsigned answered; /* those before are seen to */
    int64_t since_ns;  /* when it was sent off, or last got on */
    bool is_cut;       /* what it had not begun of what was sent was taken from it again */
    bool is_lent;      /* sent off by a loop: the thread that has it now goes on with it */
};

/* To the zygote, one a message. */
struct process_message {
    uint32_t order; /* enum process_order */
    uint32_t slot, handler;
};

struct process_area *process_area_of(const struct worker_slot *slot, const struct handler *handler);

/* Waits until *@word is not @value any more, or for @ns. */
/* process.c */

/* What the slot has taken becomes its batch. */
void process_collect(struct worker_slot *slot, struct handler *handler);
/* Puts calls into the area: as many as there is room for. */
void process_fill(struct process_batch *batch);
/* Lets the process begin. False: it has just ended. */
bool process_send_off(struct process_batch *batch, enum process_waiter waiter);
/* Takes the answers of what it has finished. False: there are none. */
bool process_take_answers(struct process_batch *batch);
/* Logs what the plugin said. */
void process_tell_lines(struct process_batch *batch);
/* Its calls are through with their process: the time that they had counts for it (process_cpu.c).
 */
void process_has_served(struct process_batch *batch, int64_t now_ns);

/* Tells whoever waits for @area that its state has changed. Home: the process, the zygote. */
void process_tell(const struct handlers *handlers, struct process_area *area);

void process_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns);
void process_wake(_Atomic uint32_t *word);

/* The zygote's life (process_child.c). @socket: from the gateway; its end ends all. */
_Noreturn void process_zygote(struct handlers *handlers, int socket);
