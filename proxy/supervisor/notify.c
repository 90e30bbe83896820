#include "supervisor/notify.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void say(struct notify *notify, const char *text);

void notify_open(struct notify *notify) {
    const char *path = getenv("NOTIFY_SOCKET"), *watchdog = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;

    *notify = (struct notify){.fd = -1};
    if (len == 0 || len >= sizeof un.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(un.sun_path, path, len);
    if (path[0] == '@')
        un.sun_path[0] = '\0'; /* an abstract address */
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (notify->fd >= 0 && connect(notify->fd, (const struct sockaddr *)&un,
                                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
        log_warn("cannot reach NOTIFY_SOCKET '%s': %s", path, strerror(errno));
        notify_close(notify);
        return;
    }
    if (watchdog && (!pid || strtol(pid, NULL, 10) == getpid()))
        notify->watchdog_ns = strtoll(watchdog, NULL, 10) * NS_PER_US;
}

void notify_close(struct notify *notify) {
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void notify_ready(struct notify *notify) {
    say(notify, "READY=1");
}

void notify_reloading(struct notify *notify) {
    char text[64];

    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_now_ns() / NS_PER_US);
    say(notify, text);
}

void notify_stopping(struct notify *notify) {
    say(notify, "STOPPING=1");
}

/* Twice as often as it is asked for. */
void notify_alive(struct notify *notify, int64_t now_ns) {
    if (notify->watchdog_ns == 0 || now_ns < notify->next_ns)
        return;
    notify->next_ns = now_ns + notify->watchdog_ns / 2;
    say(notify, "WATCHDOG=1");
}

static void say(struct notify *notify, const char *text) {
    if (notify->fd >= 0 && send(notify->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        errno != EAGAIN)
        log_warn("cannot tell systemd '%s': %s", text, strerror(errno));
}
