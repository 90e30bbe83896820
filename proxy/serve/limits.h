/* What this process may use. */
#pragma once

#include "config/config.h"

/* The soft limit of file descriptors becomes the hard one. */
void limits_raise_fds(void);

/* What there is to be had, after that. */
struct config_options limits_of_process(void);
