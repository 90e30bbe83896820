/* The loop: libuv's handles behind loop.h. */
#include "loop/loop.h"

#include "base/alloc.h"
#include "loop/chunks.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/epoll.h>

static void on_prepare(uv_prepare_t *handle);
static void on_check(uv_check_t *handle);
static void on_idle(uv_idle_t *handle);
static void on_wheel(uv_timer_t *handle);
static void on_mail(uv_async_t *handle);
static void deliver_mail(struct loop *loop);
static void arm_wheel(struct loop *loop);
static void run_ready(struct loop *loop);
static void run_all(struct list *tasks);
static void end_batch(struct loop *loop);
static void count_handle(uv_handle_t *handle, void *count);

int loop_open(struct loop *loop, unsigned index) {
    int err;

    *loop = (struct loop){.index = index, .wheel_armed_ms = INT64_MAX};
    err = uv_loop_init(&loop->uv);
    if (err)
        return err;
    loop->uv.data = loop;
    loop->now_ns = clock_now_ns();
    list_init(&loop->ready);
    list_init(&loop->ending);
    list_init(&loop->batch);
    list_init(&loop->ahead);
    list_init(&loop->behind);
    timer_wheel_init(&loop->wheel, loop->now_ns / NS_PER_MS);
    loop->read_buffer = xmalloc(LOOP_READ_BYTES);
    loop->pulse = &loop->own_pulse;
    atomic_init(&loop->own_pulse.alive_ns, loop->now_ns);
    atomic_init(&loop->mailbox.first, NULL);
    err = uv_async_init(&loop->uv, &loop->mailbox.async, on_mail);
    if (err) {
        free(loop->read_buffer);
        uv_loop_close(&loop->uv);
        return err;
    }
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_timer_init(&loop->uv, &loop->wheel_timer);
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_start(&loop->check, on_check);
    return 0;
}

void loop_run(struct loop *loop) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    /* What came too late to wake anybody, and what that leads to. */
    do {
        deliver_mail(loop);
        end_batch(loop);
    } while (atomic_load(&loop->mailbox.first) || !list_is_empty(&loop->ready) ||
             !list_is_empty(&loop->batch));
}

void loop_stop(struct loop *loop) {
    uv_close((uv_handle_t *)&loop->mailbox.async, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->wheel_timer, NULL);
}

unsigned loop_close(struct loop *loop) {
    unsigned left = 0;

    uv_walk(&loop->uv, count_handle, &left);
    if (left == 0 && uv_loop_close(&loop->uv) != 0)
        left = 1;
    free(loop->read_buffer);
    chunk_pool_drop(loop);
    spares_drop(&loop->spare_conns);
    free(loop->inbox);
    free(loop->outbox);
    return left;
}

void loop_catch_up(struct loop *loop) {
    run_all(&loop->ahead);
}

void loop_turn(struct loop *loop) {
    if (loop->in_turn)
        return;
    loop_catch_up(loop);
    if (list_is_empty(&loop->ready) && list_is_empty(&loop->ending))
        return;
    loop->in_turn = true;
    run_ready(loop);
    run_all(&loop->ending);
    loop->in_turn = false;
    /* After loop_stop() nothing more is started, or the loop would not end: loop_run() sees to it.
     */
    if (!list_is_empty(&loop->ready) && !uv_is_closing((uv_handle_t *)&loop->idle))
        uv_idle_start(&loop->idle, on_idle);
}

void loop_timer_start(struct loop *loop, struct timer *timer, int64_t delay_ns) {
    timer_wheel_remove(&loop->wheel, timer);
    timer_wheel_add(&loop->wheel, timer, (loop->now_ns + delay_ns + NS_PER_MS - 1) / NS_PER_MS);
    if (timer->at_ms < loop->wheel_armed_ms)
        arm_wheel(loop);
}

void loop_post(struct loop *loop, struct mail *mail) {
    struct mail *first = atomic_load_explicit(&loop->mailbox.first, memory_order_relaxed);

    do
        mail->next = first;
    while (!atomic_compare_exchange_weak(&loop->mailbox.first, &first, mail));
    if (!first)
        uv_async_send(&loop->mailbox.async);
}

/* libuv's calls come here: see LOOP_EVENTS_MAX. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
__attribute__((visibility("default"))) int epoll_wait(int epoll, struct epoll_event *events,
                                                      int max, int timeout_ms) {
    if (max > LOOP_EVENTS_MAX)
        max = LOOP_EVENTS_MAX;
    return epoll_pwait(epoll, events, max, timeout_ms, NULL);
}

static void run_ready(struct loop *loop) {
    struct list *link;

    for (unsigned i = 0; i < LOOP_TURN_TASKS_MAX && (link = list_pop(&loop->ready)); i++) {
        struct task *task = CONTAINER_OF(link, struct task, link);

        task->run(task);
    }
}

static void run_all(struct list *tasks) {
    struct list *link;

    while ((link = list_pop(tasks))) {
        struct task *task = CONTAINER_OF(link, struct task, link);

        task->run(task);
    }
}

/* What the end of the batch leads to belongs to the next one, which is not waited for. */
static void end_batch(struct loop *loop) {
    struct list batch;

    loop_turn(loop);
    list_init(&batch);
    list_splice(&batch, &loop->batch);
    run_all(&batch);
    loop_turn(loop);
    run_all(&loop->behind);
    if (!list_is_empty(&loop->batch) && !uv_is_closing((uv_handle_t *)&loop->idle))
        uv_idle_start(&loop->idle, on_idle);
}

/* Before poll: what timers and closing handles have woken. */
static void on_prepare(uv_prepare_t *handle) {
    struct loop *loop = handle->loop->data;

    end_batch(loop);
    atomic_store_explicit(&loop->pulse->alive_ns, loop->now_ns, memory_order_relaxed);
}

static void on_check(uv_check_t *handle) {
    struct loop *loop = handle->loop->data;

    loop->now_ns = clock_now_ns();
    end_batch(loop);
}

static void on_idle(uv_idle_t *handle) {
    struct loop *loop = handle->loop->data;

    if (list_is_empty(&loop->ready) && list_is_empty(&loop->batch))
        uv_idle_stop(handle);
}

static void on_wheel(uv_timer_t *handle) {
    struct loop *loop = handle->loop->data;

    loop->now_ns = clock_now_ns();
    loop->wheel_armed_ms = INT64_MAX;
    timer_wheel_advance(&loop->wheel, loop->now_ns / NS_PER_MS);
    loop_turn(loop);
    arm_wheel(loop);
}

static void on_mail(uv_async_t *handle) {
    struct loop *loop = handle->loop->data;

    loop->now_ns = clock_now_ns();
    loop_catch_up(loop);
    deliver_mail(loop);
    loop_turn(loop);
}

static void deliver_mail(struct loop *loop) {
    struct mail *mail = atomic_exchange(&loop->mailbox.first, NULL);
    struct mail *ordered = NULL;

    while (mail) {
        struct mail *next = mail->next;

        mail->next = ordered;
        ordered = mail;
        mail = next;
    }
    while (ordered) {
        struct mail *next = ordered->next;

        ordered->deliver(loop, ordered);
        ordered = next;
    }
}

static void arm_wheel(struct loop *loop) {
    int64_t next_ms = timer_wheel_next_ms(&loop->wheel);

    if (next_ms == loop->wheel_armed_ms || uv_is_closing((uv_handle_t *)&loop->wheel_timer))
        return;
    loop->wheel_armed_ms = next_ms;
    if (next_ms == INT64_MAX) {
        uv_timer_stop(&loop->wheel_timer);
        return;
    }
    /* libuv counts from its own cached time, which may be behind ours. */
    uv_update_time(&loop->uv);
    loop->now_ns = clock_now_ns();
    int64_t delay_ms = next_ms - loop->now_ns / NS_PER_MS;
    uv_timer_start(&loop->wheel_timer, on_wheel, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

static void count_handle(uv_handle_t *handle, void *count) {
    ++*(unsigned *)count;
}
