/* What no single key can know. */
#pragma once

#include "config/errors.h"

/* Resolves references between sections, completes names, and checks what must be unique or fit
 * together. @root is the file that @config was read from. */
void check_all(struct config *config, const struct tomlc_node *root, struct errors *errors,
               struct errors *warnings);
