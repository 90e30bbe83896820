/* Names to addresses, on a thread of its own, by c-ares: no loop ever blocks on DNS, and libuv's
 * thread pool stays unborn.
 *
 * A watched name is resolved again when its TTL has passed (at least RESOLVER_TTL_MIN_NS, at most
 * its interval), with A and AAAA together; /etc/hosts is honoured. A name that stops resolving
 * keeps its last addresses, is tried again with backoff and jitter, and is logged once when it
 * fails and once when it recovers. So does one half of it: an answer without the IPv4 or the IPv6
 * addresses that the name had is followed by a question for these alone, and only a name server
 * that says there are none removes them. What the system says (/etc/resolv.conf, search domains,
 * but neither its timeouts nor its tries) is read once, at open. Home: the resolver thread; open,
 * watch and close are the caller's, before and after it runs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define RESOLVER_TTL_MIN_NS INT64_C(1000000000)
#define RESOLVER_ADDRESSES_MAX 16 /* of one name; the highest ones are left out, logged once */
#define RESOLVER_NAMES_MAX 4096   /* watched by one resolver */
#define RESOLVER_SERVERS_MAX 8    /* further ones of /etc/resolv.conf are not asked */
#define RESOLVER_LOOKUPS_MAX 64   /* names under way at once; the others wait their turn */

/* One question to one server waits this long, twice as long in the second and last round over the
 * servers. */
#define RESOLVER_TRY_NS INT64_C(1000000000)
#define RESOLVER_TRIES 2

/* Between two tries of a failing name: half to all of MIN, doubling up to MAX or to the name's
 * interval, whichever is shorter. */
#define RESOLVER_BACKOFF_MIN_NS INT64_C(1000000000)
#define RESOLVER_BACKOFF_MAX_NS INT64_C(30000000000)

/* A shorter or longer interval counts as these: 10 ms, a day. */
#define RESOLVER_INTERVAL_MIN_NS INT64_C(10000000)
#define RESOLVER_INTERVAL_MAX_NS INT64_C(86400000000000)

struct resolver;

struct resolver_addresses {
    size_t count; /* 1 to RESOLVER_ADDRESSES_MAX (0: has not resolved yet); sorted (IPv4 first) and
                     without doubles, so that equal sets are equal as bytes */
    struct sockaddr_storage list[RESOLVER_ADDRESSES_MAX]; /* port included; unused bytes are zero */
};

/* Called on the resolver's thread when the set of addresses has changed; @addresses is borrowed for
 * the call. Must not block and must not call the resolver. */
typedef void resolver_changed_fn(void *ctx, const struct resolver_addresses *addresses);

struct resolver_name {
    const char *host; /* borrowed: must outlive the resolver (the config) */
    uint16_t port;
    int64_t interval_ns; /* resolve again at least this often, even if that is less than
                            RESOLVER_TTL_MIN_NS; also when there is no TTL (/etc/hosts) */
    resolver_changed_fn *changed;
    void *ctx;           /* borrowed: must outlive the resolver */
    bool may_come_later; /* that it does not resolve at first is logged, and no error: it is watched
                            without addresses */
};

/* @servers: "ip[:port],[v6]:port", or NULL for the system's (/etc/resolv.conf). -errno, -EINVAL for
 * a malformed list or one of more than RESOLVER_SERVERS_MAX. Starts no thread yet. */
int resolver_open(struct resolver **out, const char *servers);

/* Adds a name and resolves it at once, blocking for at most @timeout_ns (before the thread runs:
 * used at start, where a name that does not resolve is an error and is not watched). @first gets
 * the addresses, none of one that may come later; changed() is not called for them. 0, or -errno
 * with *@why a static text: -ENOENT        "no such name"                 -ENODATA  "the name has
 * no address" -ETIMEDOUT     "timed out"                    -EIO      "the name server failed"
 *   -ECONNREFUSED  "no name server listens"       -EACCES   "the name server refused"
 *   -EINVAL        "malformed name"               -ENOSPC   "too many names"
 * and another -errno with c-ares's own text for what is rarer. */
int resolver_watch(struct resolver *resolver, const struct resolver_name *name, int64_t timeout_ns,
                   struct resolver_addresses *first, const char **why);

/* Starts the thread, with every signal blocked; nothing to do and no thread when nothing is
 * watched. -errno. */
int resolver_start(struct resolver *resolver);

/* Ends the thread (cancelling what is under way, waiting only for a changed() that runs), frees
 * everything. Accepts NULL. No changed() call after it returns. */
void resolver_close(struct resolver *resolver);
