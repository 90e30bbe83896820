/* Sockets that systemd has opened for us (socket activation, sd_listen_fds(3)). */
#pragma once

#include "supervisor/kept.h"

#define INHERITED_FIRST_FD 3

/* Keeps those that LISTEN_FDS tells of, if LISTEN_PID means us. They serve the listener with the
 * same address; one that no listener has is closed with the first plan. All loops accept on the
 * same socket. */
void inherited_take(struct kept_list *list);
