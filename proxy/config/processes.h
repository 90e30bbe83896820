/* Reading and checking [pipeline.process]. */
#pragma once

#include "config/config.h"
#include "config/reader.h"

read_fn processes_read; /* struct config_pipeline */

/* What the reader cannot see: that what belongs together is there, and nothing that would never
 * apply. Gives each instance an endpoint. */
void processes_check(struct config *config, const struct tomlc_node *root, struct errors *errors);
