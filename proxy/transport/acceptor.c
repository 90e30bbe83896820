/* The accept loop; see acceptor.h. */
#include "transport/acceptor.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct acceptor {
    struct acceptor_options o;
    uv_poll_t poll;
    struct gate_desk desk;
    struct gate_ticket ticket; /* in line while no right is free */
    bool has_right;            /* one that came from the line, not used yet */
    bool is_closed;
    struct timer pause;
};

static void on_readable(uv_poll_t *poll, int status, int events);
static void on_granted(struct gate_ticket *ticket, void *gift);
static void on_pause_over(struct timer *timer);
static void on_closed(uv_handle_t *handle);
static bool accept_one(struct acceptor *acceptor);
static bool is_passing(int err);

int acceptor_open(struct acceptor **out, const struct acceptor_options *options) {
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    int err;

    acceptor->o = *options;
    err = uv_poll_init(&options->loop->uv, &acceptor->poll, options->fd);
    if (err) {
        free(acceptor);
        return err;
    }
    timer_init(&acceptor->pause, on_pause_over);
    gate_desk_init(&acceptor->desk, options->connections, options->loop, on_granted);
    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
    *out = acceptor;
    return 0;
}

void acceptor_close(struct acceptor *acceptor) {
    void *gift;

    if (!acceptor || acceptor->is_closed)
        return;
    /* Who is in the backlog would be reset when the socket closes. */
    while (!acceptor_is_waiting(acceptor) && accept_one(acceptor))
        ;
    acceptor->is_closed = true;
    loop_timer_stop(acceptor->o.loop, &acceptor->pause);
    if (gate_cancel(&acceptor->ticket, &gift) == GATE_OWED || acceptor->has_right)
        gate_leave(acceptor->o.connections, NULL, acceptor->o.loop);
    uv_poll_stop(&acceptor->poll);
    uv_close((uv_handle_t *)&acceptor->poll, on_closed);
}

bool acceptor_is_waiting(const struct acceptor *acceptor) {
    return !uv_is_active((const uv_handle_t *)&acceptor->poll);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct acceptor *acceptor = CONTAINER_OF(poll, struct acceptor, poll);
    struct loop *loop = acceptor->o.loop;

    loop->now_ns = clock_now_ns();
    for (unsigned i = 0; i < ACCEPTOR_BATCH && accept_one(acceptor); i++)
        ;
    loop_turn(loop);
}

/* False: enough for now. */
static bool accept_one(struct acceptor *acceptor) {
    const struct acceptor_options *o = &acceptor->o;
    union conn_address peer = {.any.sa_family = AF_UNSPEC};
    struct conn_account account = {o->fds, FD_CLIENT, o->connections};
    socklen_t len = sizeof peer;
    int fd;

    if (!acceptor->has_right && !gate_try(o->connections)) {
        uv_poll_stop(&acceptor->poll);
        if (gate_enter(&acceptor->desk, &acceptor->ticket) == GATE_WAIT)
            return false;
        on_granted(&acceptor->ticket, NULL);
    }
    acceptor->has_right = true;
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
        uv_poll_stop(&acceptor->poll);
        loop_timer_start(o->loop, &acceptor->pause, ACCEPTOR_PAUSE_NS);
        return false;
    }
    acceptor->has_right = false;
    fds_force(o->fds, FD_CLIENT);
    o->on_accept(o->ctx, conn_open(o->loop, fd, o->is_unix, &peer, &account));
    return true;
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
    acceptor->has_right = true;
    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

static void on_pause_over(struct timer *timer) {
    struct acceptor *acceptor = CONTAINER_OF(timer, struct acceptor, pause);

    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

static void on_closed(uv_handle_t *handle) {
    struct acceptor *acceptor = CONTAINER_OF((uv_poll_t *)handle, struct acceptor, poll);

    close(acceptor->o.fd);
    free(acceptor);
}
