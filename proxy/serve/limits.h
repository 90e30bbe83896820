/* What this process may use. */
#pragma once

#include "config/config.h"

#define LIMITS_FDS_AHEAD 65536 /* fds; a table for so many takes 512 KiB of the kernel's memory */

/* The soft limit of file descriptors becomes the hard one. */
void limits_raise_fds(void);

/* The kernel's table of this process's fds gets room for @count, or for LIMITS_FDS_AHEAD if that is
 * less. Where it has to grow once there are threads, the one that opens the next fd sleeps until
 * every CPU has passed through the scheduler, 5 to 20 ms, and so do all clients of its loop. To be
 * called before there are threads. */
void limits_make_room_for_fds(unsigned count);

/* What there is to be had, after that. */
struct config_options limits_of_process(void);
