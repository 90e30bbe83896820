/* Connects, asks, and reads to the end of the answer, all by one deadline. */
#include "admin/status_fetch.h"

#include "base/alloc.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int dial(const struct config_address *address, int64_t deadline_ns, char **error);
static int dial_name(const char *host, uint16_t port, int64_t deadline_ns, int *fd);
static int dial_address(const struct sockaddr *address, socklen_t len, int64_t deadline_ns,
                        int *fd);
static int wait_for(int fd, short events, int64_t deadline_ns);
static int fetch(const struct config_address *address, const char *path, const char *request,
                 struct buffer *content, bool *is_ok, char **error);
static int ask(int fd, const char *request, int64_t deadline_ns, struct buffer *answer);
static int take_content(struct slice answer, struct buffer *content, bool *is_ok);

int status_fetch(const struct config_address *address, const char *path, struct buffer *content,
                 char **error) {
    char *request = xasprintf("GET %s HTTP/1.0\r\nHost: weir\r\n\r\n", path);
    bool is_ok = false;
    int err = fetch(address, path, request, content, &is_ok, error);

    free(request);
    if (!err && !is_ok) {
        err = -1;
        *error =
            xasprintf("cannot read http://%s%s: the answer is not weir's", address->text, path);
    }
    return err;
}

int status_post(const struct config_address *address, const char *path, const char *token,
                struct buffer *content, char **error) {
    char *request =
        xasprintf("POST %s HTTP/1.0\r\nHost: weir\r\nContent-Length: 0\r\n%s%s%s\r\n", path,
                  token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
    bool is_ok = false;
    int err = fetch(address, path, request, content, &is_ok, error);

    free(request);
    return err || is_ok ? err : -1;
}

/* 0: there is an answer, and *@is_ok says whether it is 200. */
static int fetch(const struct config_address *address, const char *path, const char *request,
                 struct buffer *content, bool *is_ok, char **error) {
    int64_t deadline_ns = clock_now_ns() + STATUS_TIMEOUT_NS;
    struct buffer answer = {0};
    int fd, err;

    fd = dial(address, deadline_ns, error);
    if (fd < 0)
        return -1;
    err = ask(fd, request, deadline_ns, &answer);
    close(fd);
    if (err) {
        *error = xasprintf("cannot read http://%s%s: %s", address->text, path, strerror(-err));
    } else if (take_content(buffer_slice(&answer), content, is_ok) < 0) {
        err = -1;
        *error =
            xasprintf("cannot read http://%s%s: the answer is not weir's", address->text, path);
    }
    buffer_deinit(&answer);
    return err ? -1 : 0;
}

static int dial(const struct config_address *address, int64_t deadline_ns, char **error) {
    const char *hint = "";
    int err, fd = -1;

    if (address->is_any)
        err = dial_name("localhost", address->port, deadline_ns, &fd);
    else if (address->kind == ADDRESS_NAME)
        err = dial_name(address->host, address->port, deadline_ns, &fd);
    else
        err = dial_address((const struct sockaddr *)&address->sockaddr, address->sockaddr_len,
                           deadline_ns, &fd);
    if (!err)
        return fd;
    if (err == -ECONNREFUSED || err == -ENOENT)
        hint = "; is weir running?";
    *error = xasprintf("cannot connect to '%s': %s%s", address->text,
                       err == -EADDRNOTAVAIL ? "no such host" : strerror(-err), hint);
    return err;
}

/* -EADDRNOTAVAIL when the name has no address. */
static int dial_name(const char *host, uint16_t port, int64_t deadline_ns, int *fd) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *all = NULL;
    int err = -EADDRNOTAVAIL;
    char service[8];

    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &hints, &all) != 0)
        return err;
    for (struct addrinfo *at = all; at && err; at = at->ai_next)
        err = dial_address(at->ai_addr, at->ai_addrlen, deadline_ns, fd);
    freeaddrinfo(all);
    return err;
}

static int dial_address(const struct sockaddr *address, socklen_t len, int64_t deadline_ns,
                        int *fd) {
    int sock = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t err_len = sizeof(int);
    int err = 0;

    if (sock < 0)
        return -errno;
    if (connect(sock, address, len) < 0) {
        err = -errno;
        if (err == -EINPROGRESS) {
            err = wait_for(sock, POLLOUT, deadline_ns);
            if (!err) {
                getsockopt(sock, SOL_SOCKET, SO_ERROR, &err, &err_len);
                err = -err;
            }
        }
    }
    if (err) {
        close(sock);
        return err;
    }
    *fd = sock;
    return 0;
}

static int wait_for(int fd, short events, int64_t deadline_ns) {
    struct pollfd pfd = {.fd = fd, .events = events};
    int n;

    do {
        int64_t left_ms = (deadline_ns - clock_now_ns()) / NS_PER_MS;

        n = left_ms > 0 ? poll(&pfd, 1, (int)left_ms) : 0;
    } while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int ask(int fd, const char *request, int64_t deadline_ns, struct buffer *answer) {
    ssize_t n = send(fd, request, strlen(request), MSG_NOSIGNAL); /* fits an empty socket buffer */
    int err = n == (ssize_t)strlen(request) ? 0 : n < 0 ? -errno : -EIO;

    while (!err) {
        err = wait_for(fd, POLLIN, deadline_ns);
        if (err)
            break;
        n = recv(fd, buffer_reserve(answer, 65536), 65536, 0);
        if (n == 0)
            return 0;
        if (n > 0)
            answer->len += (size_t)n;
        else if (errno != EINTR && errno != EAGAIN)
            err = -errno;
        if (answer->len > STATUS_CONTENT_MAX)
            err = -EMSGSIZE;
    }
    return err;
}

static int take_content(struct slice answer, struct buffer *content, bool *is_ok) {
    const char *end = memmem(answer.base, answer.len, "\r\n\r\n", 4);

    if (!end || answer.len < 12 || memcmp(answer.base, "HTTP/1.", 7) != 0)
        return -1;
    *is_ok = memcmp(answer.base + 8, " 200", 4) == 0;
    buffer_append(content, slice_skip(answer, (size_t)(end + 4 - answer.base)));
    return 0;
}
