/* What decides where a request goes, and whether it goes again: balance, affinity and retry. */
#pragma once

#include "config/config.h"
#include "config/reader.h"

read_fn balance_hash;   /* struct config_hash: "client", "path", "header:NAME", "cookie:NAME" */
read_fn balance_header; /* char *: a field name, lower case */
read_fn balance_cookie; /* char *: a cookie's name (RFC 6265 section 4.1.1) */

/* Adds what contradicts itself, or would never apply, to @errors. */
void balance_check(const struct config *config, const struct tomlc_node *root,
                   struct errors *errors);
