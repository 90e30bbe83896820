/* Binding; see listen.h. */
#include "transport/listen.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct target {
    struct sockaddr_storage address;
    socklen_t len;
};

/* How a socket is wanted. */
struct how {
    bool is_any;       /* every address of this host */
    bool may_share;    /* SO_REUSEPORT */
    bool is_listening; /* not only bound */
};

static int open_all(const struct config_address *address, int *fds, unsigned count,
                    const struct how *wanted, bool is_ours, char **why);
static int open_inet(const struct target *target, const struct how *how);
static int open_unix(const struct target *target, bool is_listening);
static bool is_stale(const struct target *target);
static int fail_at(int fd);

int listen_open(const struct config_address *address, int *fds, unsigned count, char **why) {
    return open_all(address, fds, count, &(struct how){.is_listening = true}, false, why);
}

int listen_bind(const struct config_address *address, int *fds, unsigned count, bool is_ours,
                char **why) {
    return open_all(address, fds, count, &(struct how){.is_listening = false}, is_ours, why);
}

static int open_all(const struct config_address *address, int *fds, unsigned count,
                    const struct how *wanted, bool is_ours, char **why) {
    bool is_unix = address->kind == ADDRESS_UNIX;
    struct target target = {address->sockaddr, address->sockaddr_len};
    struct how probe = {address->is_any, is_ours, !is_ours};
    struct how final = {address->is_any, true, wanted->is_listening};
    unsigned made = 0;
    int fd;

    assert(address->kind != ADDRESS_NAME);
    fd = is_unix ? open_unix(&target, wanted->is_listening) : open_inet(&target, &probe);
    if (fd == -EAFNOSUPPORT && address->is_any) {
        /* IPv6 is off: every IPv4 address then. */
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};

        memcpy(&target.address, &in, sizeof in);
        target.len = sizeof in;
        probe.is_any = final.is_any = false;
        fd = open_inet(&target, &probe);
    }
    if (fd >= 0 && !is_unix) {
        close(fd); /* nobody else is there; now for good */
        fd = open_inet(&target, &final);
    }
    while (fd >= 0) {
        fds[made++] = fd;
        if (made == count)
            return 0;
        fd = is_unix ? fcntl(fds[0], F_DUPFD_CLOEXEC, 0) : open_inet(&target, &final);
        if (fd < 0 && is_unix)
            fd = -errno;
    }
    while (made > 0)
        close(fds[--made]);
    *why = xasprintf("cannot listen on '%s': %s%s", address->text, strerror(-fd),
                     fd == -EADDRINUSE ? "; another process has it: stop that one or choose another"
                                         " address"
                     : fd == -EACCES   ? "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
                                       : "");
    return fd;
}

static int open_inet(const struct target *target, const struct how *how) {
    int family = target->address.ss_family, on = 1, off = 0;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (how->may_share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        return fail_at(fd);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, how->is_any ? &off : &on, sizeof on);
    /* Inherited by what is accepted. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){LISTEN_DEFER_S}, sizeof(int));
    if (bind(fd, (const struct sockaddr *)&target->address, target->len) < 0)
        return fail_at(fd);
    if (how->is_listening && listen(fd, LISTEN_BACKLOG) < 0)
        return fail_at(fd);
    return fd;
}

static int open_unix(const struct target *target, bool is_listening) {
    const struct sockaddr_un *un = (const void *)&target->address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)un, target->len) < 0) {
        int err = errno;

        if (err != EADDRINUSE || !is_stale(target)) {
            close(fd);
            return -err;
        }
        unlink(un->sun_path);
        if (bind(fd, (const struct sockaddr *)un, target->len) < 0)
            return fail_at(fd);
    }
    if (is_listening && listen(fd, LISTEN_BACKLOG) < 0)
        return fail_at(fd);
    return fd;
}

/* A socket file that was left behind: nobody answers. */
static bool is_stale(const struct target *target) {
    const struct sockaddr_un *un = (const void *)&target->address;
    struct stat st;
    bool is_refused;
    int fd;

    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    is_refused = connect(fd, (const struct sockaddr *)un, target->len) < 0 && errno == ECONNREFUSED;
    close(fd);
    return is_refused;
}

static int fail_at(int fd) {
    int err = -errno;

    close(fd);
    return err;
}
