/* `weir status`: asks a running weir for /status and prints it for people. */
#pragma once

#include "config/config.h"

#include <stdbool.h>
#include <stdio.h>

/* Prints to @out, as the JSON that came or as tables; what goes wrong is said on standard error.
 * Returns the exit code: 0, or 1 when the status could not be had. Waits a few seconds at most. */
int status_print(const struct config_address *admin, FILE *out, bool as_json);
