/* Reading blocks of addresses; config_cidr_has() is in the same file. */
#pragma once

#include "base/slice.h"
#include "config/config.h"

/* "10.0.0.0/8", "::1"; without a prefix it is one address. IPv4-mapped blocks become IPv4. 0, or
 * -EINVAL, or -EDOM where bits are set behind the prefix: *@out is then the block without them. */
int cidr_parse(struct config_cidr *out, struct slice text);
