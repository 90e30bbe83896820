#include "child/ready.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void begin(struct ready *ready, int64_t now_ns);
static bool is_connected(int fd, bool *is_over);
static void ask(struct ready *ready);
static bool hear(struct ready *ready, bool *is_over);

void ready_init(struct ready *ready, const struct config_process *process,
                const struct config_address *address, int64_t now_ns) {
    *ready = (struct ready){.process = process, .address = address, .fd = -1, .next_ns = now_ns};
}

void ready_stop(struct ready *ready) {
    if (ready->fd >= 0)
        close(ready->fd);
    ready->fd = -1;
}

bool ready_look(struct ready *ready, int64_t now_ns) {
    bool is_over = false, is_ready = false;

    if (ready->fd < 0 && now_ns >= ready->next_ns)
        begin(ready, now_ns);
    if (ready->fd < 0)
        return false;
    if (!ready->is_connected && is_connected(ready->fd, &is_over)) {
        ready->is_connected = true;
        if (ready->process->ready.check == READY_TCP)
            is_ready = true;
        else
            ask(ready);
    }
    if (ready->is_connected && !is_ready && !is_over)
        is_ready = hear(ready, &is_over);
    if (is_ready || is_over || now_ns >= ready->next_ns) {
        ready_stop(ready);
        ready->next_ns = now_ns + READY_AGAIN_NS;
    }
    return is_ready;
}

static void begin(struct ready *ready, int64_t now_ns) {
    const struct sockaddr *address = (const void *)&ready->address->sockaddr;

    ready->is_connected = false;
    ready->len = 0;
    ready->next_ns = now_ns + READY_TRY_NS;
    ready->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (ready->fd >= 0 && connect(ready->fd, address, ready->address->sockaddr_len) < 0 &&
        errno != EINPROGRESS) {
        ready_stop(ready);
        ready->next_ns = now_ns + READY_AGAIN_NS;
    }
}

static bool is_connected(int fd, bool *is_over) {
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&polled, 1, 0) <= 0)
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    *is_over = err != 0;
    return err == 0;
}

static void ask(struct ready *ready) {
    char text[CONFIG_PROGRAM_TEXT_MAX + 256];
    const char *host = ready->address->kind == ADDRESS_UNIX ? "localhost" : ready->address->text;
    int len =
        snprintf(text, sizeof text,
                 "GET %s HTTP/1.1\r\nhost: %s\r\nuser-agent: weir\r\nconnection: close\r\n\r\n",
                 ready->process->ready.path, host);

    /* It fits the buffer of a new connection; if it does not, the try is given up in time. */
    send(ready->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Only as far as the status code. */
static bool hear(struct ready *ready, bool *is_over) {
    const size_t wanted = sizeof "HTTP/1.1 200" - 1;
    ssize_t n = recv(ready->fd, ready->answer + ready->len, wanted - ready->len, MSG_DONTWAIT);

    if (n <= 0) {
        *is_over = n == 0 || errno != EAGAIN;
        return false;
    }
    ready->len += (size_t)n;
    if (ready->len < wanted)
        return false;
    *is_over = true;
    return memcmp(ready->answer, "HTTP/1.", 7) == 0 && ready->answer[8] == ' ' &&
           ready->answer[9] == '2';
}
