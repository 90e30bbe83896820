/* A loop's desk: where its calls come back. Whoever brings one back puts it there and, if the loop
 * may be asleep in the kernel, wakes it by an eventfd. A loop that is awake looks by itself before
 * it sleeps the next time, so that an answer that is quick costs no system call.
 *
 * Neither can miss the other: the loop says that it is asleep before it looks, the other one puts
 * its call down before it asks whether the loop is asleep, and all four are in one order
 * (memory_order_seq_cst).
 *
 * It says whether it sleeps as long as calls of it are out, and for a while after that; then it
 * counts as asleep.
 *
 * The eventfds are watched edge-triggered and not read: each write is an edge. */
#include "base/alloc.h"
#include "handler/handlers_state.h"
#include "handler/process.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#define RESTS_MAX 256 /* turns without a call, before it stops to look before it sleeps */
#define HANDLES 4

struct desk_wake {
    uv_poll_t poll;
    int fd; /* borrowed: the handlers */
    bool is_edge_triggered;
};

struct desk_watch {
    struct handler_desk *desk; /* borrowed */
    struct desk_wake by_threads, by_processes;
    uv_prepare_t before;
    uv_check_t after;
    bool is_on; /* before and after run */
    unsigned rests;
    unsigned closing; /* handles that are still to be closed */
};

static void open_wake(struct desk_watch *watch, struct desk_wake *wake, int fd);
static void on_wake(uv_poll_t *handle, int status, int events);
static void on_before_poll(uv_prepare_t *handle);
static void on_after_poll(uv_check_t *handle);
static void on_closed(uv_handle_t *handle);
static void fall_asleep(struct handler_desk *desk);
static void wake_up(struct handler_desk *desk);
static bool look(struct handler_desk *desk);
static void make_edge_triggered(struct desk_wake *wake);
static void drain(int fd);

struct handler_desk *handler_desk_open(struct handlers *handlers, struct loop *loop) {
    struct handler_desk *desk = xcalloc(1, sizeof *desk);
    struct desk_watch *watch = xcalloc(1, sizeof *watch);

    desk->handlers = handlers;
    desk->loop = loop;
    desk->watch = watch;
    pthread_mutex_init(&desk->lock, NULL);
    list_init(&desk->pending);
    list_init(&desk->refused);
    task_init(&desk->flush, calls_flush);
    task_init(&desk->refuse, calls_tell_refused);
    atomic_init(&desk->is_asleep, true);
    pthread_mutex_lock(&handlers->lock);
    assert(handlers->desk_count < handlers->desk_max);
    desk->index = handlers->desk_count++;
    handlers->desks =
        xrealloc(handlers->desks, handlers->desk_count * sizeof(struct handler_desk *));
    handlers->desks[desk->index] = desk;
    pthread_mutex_unlock(&handlers->lock);
    watch->desk = desk;
    open_wake(watch, &watch->by_threads, handlers->desk_fds[desk->index].by_threads);
    open_wake(watch, &watch->by_processes, handlers->desk_fds[desk->index].by_processes);
    uv_prepare_init(&loop->uv, &watch->before);
    uv_check_init(&loop->uv, &watch->after);
    watch->before.data = watch->after.data = watch;
    return desk;
}

/* The desk itself stays for workers that still have calls of it. */
void handler_desk_close(struct handler_desk *desk) {
    if (!desk)
        return;
    calls_flush(&desk->flush);
    process_loans_give_up(desk);
    task_cancel(&desk->flush);
    task_cancel(&desk->refuse);
    handler_desk_rest(desk);
    desk->block_count = CALL_BLOCKS_MAX; /* no more of them */
    pthread_mutex_lock(&desk->lock);
    desk->loop = NULL;
    pthread_mutex_unlock(&desk->lock);
    look(desk);
    desk->watch->closing = HANDLES;
    uv_close((uv_handle_t *)&desk->watch->by_threads.poll, on_closed);
    uv_close((uv_handle_t *)&desk->watch->by_processes.poll, on_closed);
    uv_close((uv_handle_t *)&desk->watch->before, on_closed);
    uv_close((uv_handle_t *)&desk->watch->after, on_closed);
    desk->watch = NULL;
}

void handler_desk_rest(struct handler_desk *desk) {
    struct call *call;

    while ((call = desk->blocks)) {
        desk->blocks = call->next;
        free(call);
    }
    desk->block_count = 0;
}

void desk_post(struct handler_desk *desk, struct call *first) {
    struct call *call, *last = first;
    bool is_first = false;

    while (last->next)
        last = last->next;
    pthread_mutex_lock(&desk->lock);
    if (desk->loop) {
        is_first = !atomic_load_explicit(&desk->back, memory_order_relaxed);
        if (is_first)
            atomic_store(&desk->back, first);
        else
            desk->back_last->next = first;
        desk->back_last = last;
        first = NULL;
    }
    pthread_mutex_unlock(&desk->lock);
    if (is_first && atomic_load(&desk->is_asleep) && atomic_exchange(&desk->is_asleep, false))
        eventfd_write(desk->handlers->desk_fds[desk->index].by_threads, 1);
    while ((call = first)) { /* their loop has ended: nobody else knows them */
        first = call->next;
        call_destroy(call);
    }
}

void desk_expect(struct handler_desk *desk) {
    struct desk_watch *watch = desk->watch;

    watch->rests = 0;
    if (watch->is_on)
        return;
    watch->is_on = true;
    uv_prepare_start(&watch->before, on_before_poll);
    uv_check_start(&watch->after, on_after_poll);
}

static void open_wake(struct desk_watch *watch, struct desk_wake *wake, int fd) {
    wake->fd = fd;
    wake->poll.data = watch;
    uv_poll_init(&watch->desk->loop->uv, &wake->poll, fd);
    uv_poll_start(&wake->poll, UV_READABLE, on_wake);
}

static void on_wake(uv_poll_t *handle, int status, int events) {
    struct desk_wake *wake = CONTAINER_OF(handle, struct desk_wake, poll);
    struct desk_watch *watch = handle->data;
    struct loop *loop = watch->desk->loop;

    make_edge_triggered(wake);
    if (watch->is_on) /* or nobody would say again that it sleeps */
        wake_up(watch->desk);
    loop->now_ns = clock_now_ns();
    if (!look(watch->desk))
        drain(wake->fd);
    loop_turn(loop);
}

/* Calls that come while others are being looked at are few: new ones are handed over only at the
 * end of a batch of events. */
static void on_before_poll(uv_prepare_t *handle) {
    struct desk_watch *watch = handle->data;
    struct handler_desk *desk = watch->desk;

    fall_asleep(desk);
    if (desk->out == 0 && ++watch->rests > RESTS_MAX) {
        watch->is_on = false;
        uv_prepare_stop(&watch->before);
        uv_check_stop(&watch->after);
    }
    while (atomic_load(&desk->back) || process_loans_are_back(desk)) {
        wake_up(desk);
        look(desk);
        fall_asleep(desk);
    }
    loop_turn(desk->loop);
}

static void on_after_poll(uv_check_t *handle) {
    struct desk_watch *watch = handle->data;

    wake_up(watch->desk);
}

static void on_closed(uv_handle_t *handle) {
    struct desk_watch *watch = handle->data;

    if (--watch->closing == 0)
        free(watch);
}

static void fall_asleep(struct handler_desk *desk) {
    atomic_store(&desk->is_asleep, true);
    process_loans_expect(desk, true);
}

static void wake_up(struct handler_desk *desk) {
    atomic_store_explicit(&desk->is_asleep, false, memory_order_relaxed);
    process_loans_expect(desk, false);
}

/* False: there was nothing. */
static bool look(struct handler_desk *desk) {
    bool were_loans_back = process_loans_take_back(desk);
    struct call *call, *next;

    if (!atomic_load(&desk->back))
        return were_loans_back;
    pthread_mutex_lock(&desk->lock);
    call = atomic_load_explicit(&desk->back, memory_order_relaxed);
    atomic_store_explicit(&desk->back, NULL, memory_order_relaxed);
    pthread_mutex_unlock(&desk->lock);
    for (; call; call = next) {
        next = call->next;
        call_take_back(call);
    }
    return true;
}

/* libuv has no word for it, but leaves a descriptor as it is once it is registered, which it is
 * when it is first heard of. Should another libuv register it anew, drain() keeps things going. */
static void make_edge_triggered(struct desk_wake *wake) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = wake->fd};

    if (wake->is_edge_triggered)
        return;
    wake->is_edge_triggered = true;
    epoll_ctl(uv_backend_fd(wake->poll.loop), EPOLL_CTL_MOD, wake->fd, &event);
}

/* Does not wait whatever somebody else who has this eventfd did to it. */
static void drain(int fd) {
    uint64_t count;
    struct iovec to = {&count, sizeof count};

    while (preadv2(fd, &to, 1, -1, RWF_NOWAIT) > 0)
        continue;
}
