/* Loops by hand; see unit.h. */
#include "support/unit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUIET_SPINS 5

void spin(struct loop *a, struct loop *b) {
    struct pollfd fds[2] = {
        {.fd = uv_backend_fd(&a->uv), .events = POLLIN},
        {.fd = b ? uv_backend_fd(&b->uv) : -1, .events = POLLIN},
    };

    poll(fds, b ? 2 : 1, 1);
    uv_run(&a->uv, UV_RUN_NOWAIT);
    if (b)
        uv_run(&b->uv, UV_RUN_NOWAIT);
}

void settle_down(struct loop *a, struct loop *b) {
    for (unsigned i = 0; i < QUIET_SPINS; i++)
        spin(a, b);
}

unsigned finish_loop(struct loop *loop) {
    loop_stop(loop);
    loop_run(loop);
    return loop_close(loop);
}

void travel(struct loop *loop, int64_t ns) {
    int64_t armed_ms = loop->wheel_armed_ms;

    loop->wheel_armed_ms = INT64_MIN; /* keeps the loop from reading the clock */
    loop->now_ns += ns;
    timer_wheel_advance(&loop->wheel, loop->now_ns / NS_PER_MS);
    loop_turn(loop);
    loop->wheel_armed_ms = armed_ms;
}

void stream_pair(int fds[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

void tcp_pair(int fds[2]) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(fds[0], (struct sockaddr *)&address, sizeof address) < 0)
        assert_int_equal(errno, EINPROGRESS);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
}

void say(int fd, struct slice s) {
    assert_int_equal(send(fd, s.base, s.len, MSG_NOSIGNAL), s.len);
}

ssize_t hear(int fd, char *to, size_t max) {
    ssize_t n = recv(fd, to, max - 1, MSG_DONTWAIT);

    if (n < 0)
        return -errno;
    to[n] = '\0';
    return n;
}

void fill_socket(int fd) {
    static const char some[4096];

    while (send(fd, some, sizeof some, MSG_NOSIGNAL) > 0)
        ;
    assert(errno == EAGAIN);
}

void reset_socket(int *fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(*fd);
    *fd = -1;
}

uint64_t rnd(uint64_t *seed) {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * UINT64_C(0x2545f4914f6cdd1d);
}
