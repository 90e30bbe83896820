/* What the commands of the executable share. */
#pragma once

#include "config/config.h"

#define EXIT_UNUSABLE 2 /* arguments, configuration or addresses */

/* `weir gateway`: a gateway process, started by the supervisor (serve.c). */
int serve_command(int argc, char **argv);

/* The soft limit of file descriptors becomes the hard one. */
void main_raise_fd_limit(void);

/* What there is to be had, after that. */
struct config_options main_limits(void);
