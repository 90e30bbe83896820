/* The accept loop; see acceptor.h. */
#include "transport/acceptor.h"

#include "base/alloc.h"
#include "transport/addresses.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct acceptor {
    struct acceptor_options o;
    uv_poll_t poll;
    struct gate_desk desk;
    struct gate_ticket ticket; /* in line while no right is free; other loops write its state */
    bool is_waiting;           /* for a right, with the ticket */
    unsigned batch;            /* how many are accepted per wake */
    unsigned full;             /* wakes in a row in which there were as many */
    bool has_right;            /* one that came from the line, not used yet */
    bool is_held;
    bool is_closed;
    struct task retry; /* a right has come: accept */
    struct timer pause;
    struct accept_pulse own_pulse; /* when nobody watches */
    struct mail farewell; /* the last letter to it: what was posted to its desk comes first */
};

static void on_readable(uv_poll_t *poll, int status, int events);
static void on_granted(struct gate_ticket *ticket, void *gift);
static void on_pause_over(struct timer *timer);
static void on_closed(uv_handle_t *handle);
static void on_farewell(struct loop *loop, struct mail *mail);
static void on_retry(struct task *task);
static void accept_some(struct acceptor *acceptor);
static bool accept_one(struct acceptor *acceptor);
static bool take_right(struct acceptor *acceptor);
static void tell(struct acceptor *acceptor);
static void rest(struct acceptor *acceptor);
static void watch(struct acceptor *acceptor);
static void unwatch(struct acceptor *acceptor);
static bool is_passing(int err);

int acceptor_open(struct acceptor **out, const struct acceptor_options *options) {
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    int err;

    acceptor->o = *options;
    if (!acceptor->o.pulse)
        acceptor->o.pulse = &acceptor->own_pulse;
    acceptor->batch = 1;
    tell(acceptor);
    err = uv_poll_init(&options->loop->uv, &acceptor->poll, options->fd);
    if (err) {
        free(acceptor);
        return err;
    }
    task_init(&acceptor->retry, on_retry);
    timer_init(&acceptor->pause, on_pause_over);
    acceptor->farewell.deliver = on_farewell;
    gate_desk_init(&acceptor->desk, options->connections, options->loop, on_granted);
    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
    *out = acceptor;
    return 0;
}

void acceptor_close(struct acceptor *acceptor) {
    void *gift;

    if (!acceptor || acceptor->is_closed)
        return;
    acceptor->is_held = false;
    /* Who is in the backlog would be reset when the socket closes. */
    while (!acceptor_is_waiting(acceptor) && accept_one(acceptor))
        ;
    acceptor->is_closed = true;
    task_cancel(&acceptor->retry);
    loop_timer_stop(acceptor->o.loop, &acceptor->pause);
    if (gate_cancel(&acceptor->ticket, &gift) == GATE_OWED || acceptor->has_right)
        gate_leave(acceptor->o.connections, NULL, acceptor->o.loop);
    acceptor->is_waiting = false;
    uv_poll_stop(&acceptor->poll);
    uv_close((uv_handle_t *)&acceptor->poll, on_closed);
}

void acceptor_hold(struct acceptor *acceptor, bool is_held) {
    if (acceptor->is_held == is_held)
        return;
    acceptor->is_held = is_held;
    tell(acceptor);
    if (is_held)
        unwatch(acceptor);
    else
        watch(acceptor);
}

bool acceptor_is_waiting(const struct acceptor *acceptor) {
    return acceptor->is_waiting;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct acceptor *acceptor = CONTAINER_OF(poll, struct acceptor, poll);
    struct loop *loop = acceptor->o.loop;

    loop->now_ns = clock_now_ns();
    accept_some(acceptor);
    loop_turn(loop);
}

/* The client that waited may have gone, and there may be one at another loop's acceptor: the right
 * is used or passed on at once, never kept for a client to come. */
static void on_retry(struct task *task) {
    struct acceptor *acceptor = CONTAINER_OF(task, struct acceptor, retry);

    if (acceptor->is_held) {
        acceptor->has_right = false;
        gate_leave(acceptor->o.connections, NULL, acceptor->o.loop);
        return;
    }
    accept_some(acceptor);
    watch(acceptor);
}

/* An accept4() that finds nobody costs half as much as one that does, so no more are tried than
 * came together lately. Who is left in the backlog makes the socket readable again, but all who are
 * connected have their turn before: where many come, twice as many are taken each time. */
static void accept_some(struct acceptor *acceptor) {
    const struct loop *loop = acceptor->o.loop;
    int64_t until_ns = loop->now_ns + ACCEPTOR_TURN_NS;
    unsigned taken = 0;

    atomic_fetch_add_explicit(&acceptor->o.pulse->looks, 1, memory_order_relaxed);
    while (taken < acceptor->batch && loop->now_ns < until_ns && accept_one(acceptor))
        taken++;
    if (loop->now_ns >= until_ns)
        return; /* nobody knows how many there were */
    if (taken < acceptor->batch) {
        acceptor->batch = taken > 0 ? taken : 1;
        acceptor->full = 0;
    } else if (++acceptor->full >= ACCEPTOR_FULL) {
        acceptor->batch *= 2;
        if (acceptor->batch > ACCEPTOR_BATCH)
            acceptor->batch = ACCEPTOR_BATCH;
        acceptor->full = ACCEPTOR_FULL - 1; /* one more of these is enough */
    }
}

/* False: enough for now. */
static bool accept_one(struct acceptor *acceptor) {
    const struct acceptor_options *o = &acceptor->o;
    union conn_address peer = {.any.sa_family = AF_UNSPEC};
    struct conn_account account = {o->fds, FD_CLIENT, o->connections, NULL};
    struct conn *conn;
    socklen_t len = sizeof peer;
    bool is_over;
    int fd;

    if (!take_right(acceptor))
        return false;
    fd = accept4(o->fd, o->is_unix ? NULL : &peer.any, o->is_unix ? NULL : &len,
                 SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int err = errno;

        acceptor->has_right = false;
        gate_leave(o->connections, NULL, o->loop);
        if (err == EAGAIN)
            return false;
        o->on_error(o->ctx, err);
        if (is_passing(err))
            return true;
        rest(acceptor);
        return false;
    }
    acceptor->has_right = false;
    fds_force(o->fds, FD_CLIENT);
    is_over = o->addresses && !addresses_enter(o->addresses, &peer);
    if (!is_over)
        account.addresses = o->addresses;
    conn = conn_open(o->loop, fd, o->is_unix, &peer, &account);
    conn->is_new = true;
    o->on_accept(o->ctx, conn, is_over);
    conn_look(conn);
    return true;
}

static bool take_right(struct acceptor *acceptor) {
    if (acceptor->has_right || gate_try(acceptor->o.connections)) {
        acceptor->has_right = true;
        return true;
    }
    switch (gate_enter(&acceptor->desk, &acceptor->ticket)) {
    case GATE_IN:
        acceptor->ticket.state = TICKET_OUT;
        acceptor->has_right = true;
        return true;
    case GATE_WAIT:
        acceptor->is_waiting = true;
        unwatch(acceptor);
        tell(acceptor);
        return false;
    case GATE_FULL:
        rest(acceptor);
        return false;
    }
    return false;
}

/* Whether it has a reason to accept nobody, other than a short rest. */
static void tell(struct acceptor *acceptor) {
    atomic_store_explicit(&acceptor->o.pulse->is_held,
                          acceptor->is_held || acceptor_is_waiting(acceptor), memory_order_relaxed);
}

/* For a while. */
static void rest(struct acceptor *acceptor) {
    unwatch(acceptor);
    loop_timer_start(acceptor->o.loop, &acceptor->pause, ACCEPTOR_PAUSE_NS);
}

/* Polls the socket, unless something keeps us from accepting. Starting and stopping cost an
 * epoll_ctl() each even when nothing changes, which would be two for every connection while all
 * rights are in use. */
static void watch(struct acceptor *acceptor) {
    if (!acceptor->is_held && !acceptor_is_waiting(acceptor) &&
        !timer_is_running(&acceptor->pause) && !uv_is_active((uv_handle_t *)&acceptor->poll))
        uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

static void unwatch(struct acceptor *acceptor) {
    if (uv_is_active((uv_handle_t *)&acceptor->poll))
        uv_poll_stop(&acceptor->poll);
}

/* Errors of the connection that was to be accepted, not of accepting (accept(2)). */
static bool is_passing(int err) {
    return err == ECONNABORTED || err == EINTR || err == EPROTO || err == ENETDOWN ||
           err == ENOPROTOOPT || err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH ||
           err == EOPNOTSUPP || err == ENETUNREACH;
}

static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct acceptor *acceptor = CONTAINER_OF(ticket, struct acceptor, ticket);

    /* The right goes on with the next connection, the ticket is free again. */
    ticket->state = TICKET_OUT;
    acceptor->is_waiting = false;
    acceptor->has_right = true;
    tell(acceptor);
    loop_wake(acceptor->o.loop, &acceptor->retry);
}

static void on_pause_over(struct timer *timer) {
    watch(CONTAINER_OF(timer, struct acceptor, pause));
}

static void on_closed(uv_handle_t *handle) {
    struct acceptor *acceptor = CONTAINER_OF((uv_poll_t *)handle, struct acceptor, poll);

    close(acceptor->o.fd);
    loop_post(acceptor->o.loop, &acceptor->farewell);
}

static void on_farewell(struct loop *loop, struct mail *mail) {
    free(CONTAINER_OF(mail, struct acceptor, farewell));
}
