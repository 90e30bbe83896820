/* [[route]] rewrite_urls: between which base URLs content and fields are rewritten. */
#pragma once

#include "config/reader.h"

#define REWRITES_INNER_MAX 16
#define REWRITES_BODIES_MAX 16
#define REWRITES_URL_MAX 256 /* bytes */

read_fn rewrites_read; /* struct config_route: rewrite */

/* What must be true of a route's settings together; and the inner URLs of those that name none,
 * from the endpoints of their pipelines. */
void rewrites_check(struct config *config, const struct tomlc_node *root, struct errors *errors);
