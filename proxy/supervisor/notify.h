/* What systemd is told (sd_notify(3)), in datagrams that nobody waits for. Nothing is said where
 * NOTIFY_SOCKET is not set. Home: supervisor. */
#pragma once

#include <stdint.h>

struct notify {
    int fd;              /* owned; -1: nobody listens */
    int64_t watchdog_ns; /* 0: is not asked for */
    int64_t next_ns;     /* when to say that we are alive */
};

void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);

/* Says that we are alive when it is time. */
void notify_alive(struct notify *notify, int64_t now_ns);
