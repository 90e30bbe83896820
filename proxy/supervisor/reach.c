/* Can clients reach what is configured? What they do the supervisor does itself on a listener that
 * nobody has come to for a while: it connects, and sees that the gateway looks for who has come. A
 * gateway that does not is watch.c's to replace: the one that waits in the backlog then is ours. A
 * socket that has stopped to listen (shutdown(2) by any process that has it does that) is made to
 * listen again. */
#include "base/log.h"
#include "supervisor/state.h"
#include "transport/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void relisten(struct supervisor *s, unsigned listener);
static void look_at(struct supervisor *s, unsigned listener, int64_t now_ns);
static void start(struct supervisor *s, unsigned listener, int64_t now_ns);
static void end(struct supervisor *s, unsigned listener, int err, int64_t now_ns);
static int error_of(int fd);
static socklen_t own_address(int fd, struct sockaddr_storage *address);

void supervisor_reach(struct supervisor *s, int64_t now_ns) {
    for (unsigned i = 0; i < s->current.plan.listener_count; i++) {
        if (!s->listeners[i])
            continue;
        relisten(s, i);
        look_at(s, i, now_ns);
    }
}

void supervisor_reach_end(struct supervisor *s) {
    for (unsigned i = 0; i < RUN_PLAN_LISTENERS_MAX; i++) {
        if (s->reaches[i].is_under_way)
            close(s->reaches[i].fd);
        s->reaches[i] = (struct reach){0};
    }
}

static void relisten(struct supervisor *s, unsigned listener) {
    const struct kept *kept = s->listeners[listener];

    for (unsigned i = 0; i < kept->sure; i++) {
        int is_listening = 1;
        socklen_t len = sizeof is_listening;

        if (getsockopt(kept->fds[i], SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) < 0 ||
            is_listening)
            continue;
        if (listen(kept->fds[i], LISTEN_BACKLOG) < 0)
            log_error("listener '%s' has stopped to listen, and cannot again: %s; restart weir",
                      s->current.plan.listeners[listener].name, strerror(errno));
        else
            log_error("listener '%s' had stopped to listen, which somebody who has its socket must "
                      "have asked for: it listens again",
                      s->current.plan.listeners[listener].name);
    }
}

static void look_at(struct supervisor *s, unsigned listener, int64_t now_ns) {
    const struct accept_pulse *pulses = s->serving->board->sockets[listener];
    struct reach *reach = &s->reaches[listener];
    bool is_held = false;
    uint32_t looks = 0;

    for (unsigned i = 0; i < PULSE_SOCKETS_MAX; i++) {
        looks += atomic_load_explicit(&pulses[i].looks, memory_order_relaxed);
        is_held |= atomic_load_explicit(&pulses[i].is_held, memory_order_relaxed) != 0;
    }
    if (is_held || looks != reach->looks || reach->since_ns == 0 ||
        reach->since_ns < s->trusted_ns) {
        reach->looks = looks;
        end(s, listener, 0, now_ns);
    } else if (reach->is_under_way) {
        int err = error_of(reach->fd);

        if (err || now_ns - reach->since_ns >= 2 * s->current.plan.wedge_after_ns)
            end(s, listener, err ? err : ETIMEDOUT, now_ns);
    } else if (now_ns - reach->since_ns >= SUPERVISOR_QUIET_NS) {
        start(s, listener, now_ns);
    }
}

static void start(struct supervisor *s, unsigned listener, int64_t now_ns) {
    struct reach *reach = &s->reaches[listener];
    struct sockaddr_storage to;
    socklen_t len = own_address(s->listeners[listener]->fds[0], &to);

    reach->since_ns = now_ns;
    reach->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (reach->fd < 0)
        return; /* tells nothing about the listener */
    reach->is_under_way = true;
    if (connect(reach->fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS)
        end(s, listener, errno, now_ns);
}

/* Of one under way, or of the quiet. @err: 0, or why the listener could not be reached. */
static void end(struct supervisor *s, unsigned listener, int err, int64_t now_ns) {
    struct reach *reach = &s->reaches[listener];
    const char *name = s->current.plan.listeners[listener].name;

    if (reach->is_under_way)
        close(reach->fd);
    reach->is_under_way = false;
    reach->since_ns = now_ns;
    if (err && !reach->is_lost)
        log_error("listener '%s' cannot be reached from this host: %s; see what keeps connections "
                  "from it (a packet filter, a full backlog)",
                  name, strerror(err));
    else if (!err && reach->is_lost)
        log_info("listener '%s' can be reached again", name);
    reach->is_lost = err != 0;
}

static int error_of(int fd) {
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&polled, 1, 0) > 0 && (polled.revents & POLLERR))
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    return err;
}

/* Where to connect to: of one that listens on all addresses, this host. */
static socklen_t own_address(int fd, struct sockaddr_storage *address) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    socklen_t len = sizeof *address;

    *address = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    getsockname(fd, (struct sockaddr *)address, &len);
    if (address->ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY))
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (address->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
        v6->sin6_addr = in6addr_loopback;
    return len;
}
