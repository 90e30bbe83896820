/* Sequenced packets with SCM_RIGHTS; see control.h. */
#include "base/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union fd_space {
    struct cmsghdr head;
    char space[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
};

int control_pair(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    return 0;
}

int control_send(int fd, const char *text, const int *fds, unsigned fd_count) {
    return control_send_bytes(fd, slice_str(text), fds, fd_count);
}

int control_send_bytes(int fd, struct slice bytes, const int *fds, unsigned fd_count) {
    union fd_space space;
    struct iovec iov = {(void *)bytes.base, bytes.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd_count > CONTROL_FDS_MAX)
        return -E2BIG;
    if (fd_count > 0) {
        size_t size = fd_count * sizeof *fds;

        memset(&space, 0, sizeof space);
        msg.msg_control = &space;
        msg.msg_controllen = CMSG_SPACE(size);
        space.head.cmsg_level = SOL_SOCKET;
        space.head.cmsg_type = SCM_RIGHTS;
        space.head.cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(&space.head), fds, size);
    }
    do
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int control_receive(int fd, struct control_message *message) {
    size_t len = 0;
    int got = control_receive_bytes(fd, message->text, CONTROL_TEXT_MAX, &len, message);

    if (got > 0)
        message->text[len] = '\0';
    return got;
}

int control_receive_bytes(int fd, void *to, size_t max, size_t *len,
                          struct control_message *message) {
    union fd_space space;
    struct iovec iov = {to, max};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &space,
        .msg_controllen = sizeof space,
    };
    ssize_t n;

    message->fd_count = 0;
    do
        n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&msg); at; at = CMSG_NXTHDR(&msg, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        message->fd_count = (unsigned)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(message->fds, CMSG_DATA(at), message->fd_count * sizeof(int));
    }
    *len = (size_t)n;
    return n == 0 ? -EPIPE : 1;
}

void control_message_deinit(struct control_message *message) {
    for (unsigned i = 0; i < message->fd_count; i++)
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    message->fd_count = 0;
}

bool control_is(const char *text, const char *verb, const char **rest) {
    size_t len = strlen(verb);

    if (strncmp(text, verb, len) != 0 || (text[len] != ' ' && text[len] != '\0'))
        return false;
    *rest = text[len] ? text + len + 1 : text + len;
    return true;
}
