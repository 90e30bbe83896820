/* An I/O loop: one thread's libuv loop with what everything on it shares: the cached time, the
 * ready list, the timer wheel, the mailbox, the read buffer and the chunk pool.
 *
 * The turn. I/O callbacks only record what happened and wake tasks. loop_turn() then runs the tasks
 * that are ready, from the top of the stack, so no callback can free its caller. Whoever owns a
 * libuv callback (transport, timers, mailbox) calls loop_turn() as its last act; what a task leaves
 * behind for the end of the turn (loop_at_turn_end) runs when the ready list is empty. The shared
 * read buffer is not written again before the turn has ended, so bytes may be borrowed from it till
 * then. What a callback puts off, to do it with more of its kind, is done ahead of the next turn
 * (loop_ahead_of_turn), or of the batch's end: so things still happen in the order in which they
 * came.
 *
 * The batch. All callbacks that one poll of the kernel leads to are a batch; what many of them add
 * to (the output of a connection with many streams) is sent at its end (loop_at_batch_end), once.
 * What all of that leads to leaves behind it (loop_behind_batch).
 */
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "base/spares.h"
#include "loop/mailbox.h"
#include "loop/pulse.h"
#include "loop/timer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* 128 KiB: a 64 KiB response costs 28 us of CPU then, 35 with 32 KiB, 47 with 16 KiB. */
#define LOOP_READ_BYTES (128 * 1024)

/* Events of one poll; libuv asks for 1,024. What the kernel has looked up for an event is still in
 * the cache when its turn comes: with 1,000 busy connections a request costs 2% less CPU, and its
 * median time falls by a tenth. With 64, HTTP/2 to HTTP/1 costs 3% more: see the batch. */
#define LOOP_EVENTS_MAX 128

/* With more open connections nothing of one is in the cache when its turn comes. */
#define LOOP_CONNS_CACHED 256
#define LOOP_PREFETCH_STEP_BYTES (4 * 64) /* cache lines */

/* Tasks run in one turn before I/O is looked at again. */
#define LOOP_TURN_TASKS_MAX 4096

struct task;

typedef void task_fn(struct task *task);

/* Part of whatever is to be run; task_init(). */
struct task {
    struct list link;
    task_fn *run;
};

struct chunk;
struct inbox;
struct outbox;

struct loop {
    uv_loop_t uv;
    unsigned index;     /* 0 .. threads - 1 */
    int64_t now_ns;     /* CLOCK_MONOTONIC, read once per batch of events */
    struct list ahead;  /* struct task: before anything that is ready */
    struct list ready;  /* struct task */
    struct list ending; /* struct task: at the end of this turn */
    struct list batch;  /* struct task: at the end of this batch */
    struct list behind; /* struct task: behind those; they wake none */
    bool in_turn;
    struct timer_wheel wheel;
    uv_timer_t wheel_timer;
    int64_t wheel_armed_ms; /* when wheel_timer fires; INT64_MAX: it does not run */
    struct mailbox mailbox;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;             /* runs while a turn was cut short: keeps poll from blocking */
    char *read_buffer;          /* owned; LOOP_READ_BYTES */
    struct chunk *chunks;       /* free ones; owned */
    unsigned chunk_count;       /* of chunks */
    struct chunk *small_chunks; /* the same of small ones */
    unsigned small_chunk_count;
    struct spares spare_conns;     /* of struct conn */
    struct inbox *inbox;           /* owned: transport's, one piece of memory; NULL: none yet */
    struct outbox *outbox;         /* owned: the same */
    _Atomic size_t buffered_bytes; /* held in chunk queues; any thread may read */
    unsigned conns;      /* open connections, closing ones included: for the drain's census */
    struct pulse *pulse; /* borrowed: the heartbeat; own_pulse unless it is to be seen outside */
    struct pulse own_pulse;
};

/* Any thread, before the loop runs. -errno. */
int loop_open(struct loop *loop, unsigned index);

/* Runs until every handle but the loop's own is closed and loop_stop() was called. Home: loop. */
void loop_run(struct loop *loop);

/* Lets loop_run() return once nothing is left on the loop. Home: loop. */
void loop_stop(struct loop *loop);

/* After loop_run(). Returns how many handles were still open: 0 unless something leaked. */
unsigned loop_close(struct loop *loop);

/* Does what was put off till the next turn; called first in a libuv callback that does more than to
 * record what happened, for that belongs behind it. Not within a turn. */
void loop_catch_up(struct loop *loop);

/* Runs what is ready; called last in every libuv callback. Nested calls do nothing. */
void loop_turn(struct loop *loop);

static inline void task_init(struct task *task, task_fn *run) {
    list_init(&task->link);
    task->run = run;
}

/* Puts @task on the ready list; harmless when it is there already. Home: loop. */
static inline void loop_wake(struct loop *loop, struct task *task) {
    if (!list_is_linked(&task->link))
        list_push_back(&loop->ready, &task->link);
}

static inline void loop_ahead_of_turn(struct loop *loop, struct task *task) {
    if (!list_is_linked(&task->link))
        list_push_back(&loop->ahead, &task->link);
}

static inline void loop_at_turn_end(struct loop *loop, struct task *task) {
    if (!list_is_linked(&task->link))
        list_push_back(&loop->ending, &task->link);
}

static inline void loop_at_batch_end(struct loop *loop, struct task *task) {
    if (!list_is_linked(&task->link))
        list_push_back(&loop->batch, &task->link);
}

static inline void loop_behind_batch(struct loop *loop, struct task *task) {
    if (!list_is_linked(&task->link))
        list_push_back(&loop->behind, &task->link);
}

/* @bytes from @at, rounded up to a step, will be needed soon: of a loop with many connections.
 * Lines that are asked for together come together, so that with 1,000 busy ones a small request
 * costs 4 to 8% less CPU. Never an access: any address will do. Home: loop. */
static inline void loop_prefetch(const struct loop *loop, const void *at, size_t bytes) {
    uintptr_t line = (uintptr_t)at, end = line + bytes;

    if (loop->conns <= LOOP_CONNS_CACHED)
        return;
    for (; line < end; line += LOOP_PREFETCH_STEP_BYTES) {
        __builtin_prefetch((const void *)line, 1);
        __builtin_prefetch((const void *)(line + 64), 1);
        __builtin_prefetch((const void *)(line + 128), 1);
        __builtin_prefetch((const void *)(line + 192), 1);
    }
}

static inline void task_cancel(struct task *task) {
    list_remove(&task->link);
}

/* Starts or moves @timer to @delay_ns from now (rounded up to a tick). Home: loop. */
void loop_timer_start(struct loop *loop, struct timer *timer, int64_t delay_ns);
/* Of most timers it is asked more often than they run. */
static inline void loop_timer_stop(struct loop *loop, struct timer *timer) {
    if (timer_is_running(timer))
        timer_wheel_remove(&loop->wheel, timer);
}

/* Sends @mail to @loop. Any thread. */
void loop_post(struct loop *loop, struct mail *mail);
