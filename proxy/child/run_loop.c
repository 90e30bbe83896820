#include "child/run_loop.h"

#include "base/alloc.h"
#include "base/control.h"
#include "child/run.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run_channel {
    uv_poll_t poll;
    struct run_loop *rl; /* borrowed; NULL: closed */
    int fd;              /* owned */
};

static void watch(struct run_channel *channel, int events);
static void on_ready(uv_poll_t *poll, int status, int events);
static void hear(struct run_loop *rl);
static void tell_run(struct run_loop *rl, char *text);
static void lose(struct run_loop *rl);
static void close_channel(struct run_loop *rl);
static void on_closed(uv_handle_t *handle);

void run_loop_init(struct run_loop *rl, struct loop *loop, struct fds *fds) {
    *rl = (struct run_loop){.loop = loop, .fds = fds};
    list_init(&rl->runs);
    list_init(&rl->unsent);
}

int run_loop_take(struct run_loop *rl, int fd) {
    struct run_channel *channel = xcalloc(1, sizeof *channel);
    int err = uv_poll_init(&rl->loop->uv, &channel->poll, fd);

    if (err) {
        free(channel);
        close(fd);
        return err;
    }
    lose(rl);
    channel->rl = rl;
    channel->fd = fd;
    rl->channel = channel;
    watch(channel, UV_READABLE);
    return 0;
}

void run_loop_close(struct run_loop *rl) {
    assert(list_is_empty(&rl->runs));
    close_channel(rl);
}

int run_loop_send(struct run_loop *rl, struct slice bytes, const int *fds, unsigned fd_count) {
    int err = -ENOTCONN;

    if (rl->channel)
        err = control_send_bytes(rl->channel->fd, bytes, fds, fd_count);
    if (err == -EAGAIN)
        watch(rl->channel, UV_READABLE | UV_WRITABLE);
    return err;
}

static void watch(struct run_channel *channel, int events) {
    uv_poll_start(&channel->poll, events, on_ready);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    struct run_channel *channel = CONTAINER_OF(poll, struct run_channel, poll);
    struct run_loop *rl = channel->rl;
    struct list line, *link;

    hear(rl);
    if (rl->channel == channel && (events & UV_WRITABLE)) {
        watch(channel, UV_READABLE);
        list_init(&line);
        list_splice(&line, &rl->unsent);
        while ((link = list_pop(&line)))
            run_send(run_of_unsent(link));
    }
    loop_turn(rl->loop);
}

static void hear(struct run_loop *rl) {
    struct run_channel *channel = rl->channel;
    struct control_message message;
    int got = 0;

    while (rl->channel == channel && (got = control_receive(channel->fd, &message)) > 0) {
        tell_run(rl, message.text);
        control_message_deinit(&message);
    }
    if (got < 0)
        lose(rl);
}

/* "VERB ID REST" */
static void tell_run(struct run_loop *rl, char *text) {
    char *rest = strchr(text, ' '), *end;
    unsigned long id = rest ? strtoul(rest, &end, 10) : 0;

    if (!rest)
        return;
    *rest = '\0';
    for (struct list *at = rl->runs.next; at != &rl->runs; at = at->next) {
        if (run_id(run_of_link(at)) != id)
            continue;
        run_told(run_of_link(at), text, *end ? end + 1 : end);
        return;
    }
}

/* What runs ends: the nursery sees to that, or is gone and with it everything. */
static void lose(struct run_loop *rl) {
    struct list *at, *next;

    if (!rl->channel)
        return;
    close_channel(rl);
    for (at = rl->runs.next; at != &rl->runs; at = next) {
        next = at->next;
        run_lost(run_of_link(at));
    }
}

static void close_channel(struct run_loop *rl) {
    struct run_channel *channel = rl->channel;

    if (!channel)
        return;
    rl->channel = NULL;
    uv_close((uv_handle_t *)&channel->poll, on_closed);
    close(channel->fd);
}

static void on_closed(uv_handle_t *handle) {
    free(CONTAINER_OF(handle, struct run_channel, poll));
}
