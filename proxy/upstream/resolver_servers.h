/* Which name servers a c-ares channel asks. A part of the resolver. Home: the caller's. */
#pragma once

struct ares_channeldata;

/* @servers as resolver_open(); NULL keeps the first RESOLVER_SERVERS_MAX of the system's. -errno,
 * -EINVAL for a malformed list or too long a one. */
int resolver_servers_set(struct ares_channeldata *ares, const char *servers);
