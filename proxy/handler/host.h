/* What plugins may call: the functions behind struct weir_host. They run outside the instance's
 * heap, are not interrupted by a kick, and copy what they were given before they take any lock, so
 * that a bad pointer faults while nothing is held. */
#pragma once

#include "handler/guest.h"

/* What is handed to init(). One for all: the functions know their handler by the thread. */
extern const struct weir_host plugin_host;
