#include "supervisor/inherited.h"

#include "base/log.h"
#include "config/address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool take(struct kept_list *list, int fd);
static bool describe(int fd, char *to, size_t max);

void inherited_take(struct kept_list *list) {
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    long count = pid && fds && strtol(pid, NULL, 10) == getpid() ? strtol(fds, NULL, 10) : 0;

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    for (long i = 0; i < count && list->count < KEPT_MAX; i++) {
        int fd = INHERITED_FIRST_FD + (int)i;

        if (!take(list, fd)) {
            log_warn("socket %d of LISTEN_FDS is no stream socket that listens: not used", fd);
            close(fd);
        }
    }
}

static bool take(struct kept_list *list, int fd) {
    struct kept *kept = &list->items[list->count];
    char text[RUN_PLAN_ADDRESS_MAX + 1];
    struct buffer guess = {0};
    int on = 1, type = 0, is_listening = 0;
    socklen_t len = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) < 0 || !is_listening ||
        !describe(fd, text, sizeof text))
        return false;
    *kept =
        (struct kept){.fds = {fd}, .count = 1, .sure = 1, .is_shared = true, .is_inherited = true};
    if (address_parse(&kept->address, slice_str(text), ADDRESS_TO_LISTEN, &guess)) {
        buffer_deinit(&guess);
        return false;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    log_info("listening on '%s' by LISTEN_FDS", text);
    list->count++;
    return true;
}

/* Its address as it would stand in a configuration. */
static bool describe(int fd, char *to, size_t max) {
    struct sockaddr_storage address;
    const struct sockaddr_in *in = (const void *)&address;
    const struct sockaddr_in6 *in6 = (const void *)&address;
    const struct sockaddr_un *un = (const void *)&address;
    char host[INET6_ADDRSTRLEN];
    socklen_t len = sizeof address, size = sizeof(int);
    int is_v6only = 0, n;

    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return false;
    switch (address.ss_family) {
    case AF_INET:
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        n = snprintf(to, max, "%s:%u", host, ntohs(in->sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6only, &size);
        if (IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr) && !is_v6only)
            n = snprintf(to, max, ":%u", ntohs(in6->sin6_port));
        else
            n = snprintf(to, max, "[%s]:%u", host, ntohs(in6->sin6_port));
        break;
    case AF_UNIX:
        n = snprintf(to, max, "unix:%s", un->sun_path);
        break;
    default:
        return false;
    }
    return n > 0 && (size_t)n < max;
}
