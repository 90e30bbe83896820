/* Names to addresses, on a thread of its own, by c-ares: no loop ever blocks on DNS, and libuv's
 * thread pool stays unborn.
 *
 * A watched name is resolved again when its TTL has passed (at least RESOLVER_TTL_MIN_NS, at most
 * its interval), with A and AAAA together; /etc/hosts is honoured. A name that stops resolving
 * keeps its last addresses, is tried again with backoff, and is logged once when it fails and once
 * when it recovers. Home: the resolver thread; open, watch and close are the caller's, before and
 * after it runs. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define RESOLVER_TTL_MIN_NS INT64_C(1000000000)
#define RESOLVER_ADDRESSES_MAX 16 /* of one name; further ones are left out and logged */

struct resolver;

struct resolver_addresses {
    size_t count; /* 1 to RESOLVER_ADDRESSES_MAX; sorted, so that equal sets compare equal */
    struct sockaddr_storage list[RESOLVER_ADDRESSES_MAX]; /* port included */
};

/* Called on the resolver's thread when the set of addresses has changed; @addresses is borrowed for
 * the call. */
typedef void resolver_changed_fn(void *ctx, const struct resolver_addresses *addresses);

struct resolver_name {
    const char *host; /* borrowed: must outlive the resolver (the config) */
    uint16_t port;
    int64_t interval_ns; /* resolve again at least this often; also when there is no TTL */
    resolver_changed_fn *changed;
    void *ctx; /* borrowed: must outlive the resolver */
};

/* @servers: "ip[:port],[v6]:port", or NULL for the system's (/etc/resolv.conf). -errno, -EINVAL for
 * a malformed list. Starts no thread yet. */
int resolver_open(struct resolver **out, const char *servers);

/* Adds a name and resolves it at once, blocking for at most @timeout_ns (before the thread runs:
 * used at start, where a name that does not resolve is an error). *@why is then a static text ("no
 * such name", "timed out", ...). @first gets the addresses; changed() is not called for them. 0 or
 * -errno. */
int resolver_watch(struct resolver *resolver, const struct resolver_name *name, int64_t timeout_ns,
                   struct resolver_addresses *first, const char **why);

/* Starts the thread; nothing to do and no thread when nothing is watched. -errno. */
int resolver_start(struct resolver *resolver);

/* Ends the thread (cancelling what is under way), frees everything. Accepts NULL. No changed() call
 * after it returns. */
void resolver_close(struct resolver *resolver);
