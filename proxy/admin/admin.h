/* The admin plane: /metrics, /healthz, /readyz and /status on a thread, a loop and a listener of
 * their own, served by libh2o's HTTP/1 server. It touches nothing of the data loops but what its
 * sources read (atomics, the counter segment), so it answers while every data loop is blocked.
 *
 * Bounded: ADMIN_CONNECTIONS_MAX at once (more wait in the backlog), ADMIN_CONTENT_MAX of request
 * content, one time limit for a head, for an idle connection, and for a reader that stands still.
 *
 *     /metrics   Prometheus text 0.0.4
 *     /healthz   JSON; 200 live or draining, 503 starting or wedged
 *     /readyz    text; 200 live, 503 otherwise
 *     /reload    POST, from this host only: 202, and the file is read again
 *     /drain     likewise: 202, and weir ends as on SIGTERM
 *     /reset     likewise: 202, and programs that keep dying are started again; with
 *                ?pipeline=NAME that one only
 *     /endpoint  likewise, with ?pipeline=NAME&endpoint=ADDRESS&do=drain|disable|enable: 200
 *     /handler/reset?name=NAME
 *                likewise: 200, and that handler is no longer in quarantine; 404: there is none
 *     /status    JSON, what `weir status` prints:
 *
 *     { "version": "...", "pid": n, "uptime_s": n, "state": "starting|live|draining|wedged",
 *       "process": { "resident_bytes": n, "threads": n, "fds": n },
 *       "threads": n, "exchanges": n, "oldest_exchange_s": x,
 *       "loops": [ { "loop": n, "state": "live|wedged|ended", "progress_s": x, "lag_s": x } ],
 *       "fds": { "limit": n, "client": n, "upstream": n, "file": n, "reserve": n },
 *       "listeners": [ { "name", "address", "protocol", "state", "connections", "connections_max",
 *                        "accepted_total", "requests_total" } ],
 *       "pipelines": [ { "name", "inflight", "concurrency", "queued", "queue_size", "streams",
 *                        "streams_limit",
 *                        "endpoints": [ { "address", "state", "connections", "connections_max",
 *                                         "inflight", "dials", "failures_total", "breaker",
 *                                         "weight", and where there is one: "reason", "since_s",
 *                                         "again_s" } ],
 *                        "process": { "command", "kind": "supervised|per request|mcp-stdio",
 *                                     "starts_total", "failed_starts_total", "killed_total",
 *                                     "state": "ready|partly ready|starting|waiting|held",
 *                                     "deaths_total", "deaths_lately", "held_s",
 *                                     "instances": [ { "instance", "state", "pid", "since_s",
 *                                                      "resident_bytes" } ],
 *                                     of mcp-stdio "mcp": { "sessions", "calls", and totals },
 *                                     or "running", "ending" } } ],
 *       "children": { "running", "ending", "instances", "ready", "held", "resident_bytes" },
 *       "handlers": [ { "name", "state": "ok|quarantine|probing", "isolation", "calls_total",
 *                       "faults_total", "queued", "queue_size" } ] }
 *
 * The first five are filled in here, the rest comes from the status source; /healthz shows all of
 * it but listeners and pipelines. */
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "metrics/metrics.h"

#include <jansson.h>

#define ADMIN_CONNECTIONS_MAX 12         /* their fds are in the reserve (config/plan.h) */
#define ADMIN_CONTENT_MAX 1024           /* bytes of a request's content; more is 413 */
#define ADMIN_TIMEOUT_NS (10 * NS_PER_S) /* unless the options say otherwise */

enum admin_health { ADMIN_STARTING, ADMIN_LIVE, ADMIN_DRAINING, ADMIN_WEDGED };

/* What may be asked for. */
enum admin_order { ADMIN_RELOAD, ADMIN_DRAIN, ADMIN_RESET };

/* What may be done with an endpoint: no new exchanges but of who belongs to it; none; all again. */
enum admin_service { ADMIN_ENDPOINT_DRAIN, ADMIN_ENDPOINT_DISABLE, ADMIN_ENDPOINT_ENABLE };

struct admin_change {
    struct slice pipeline, endpoint; /* borrowed: a name, and an address as in /status */
    enum admin_service service;
};

enum admin_found { ADMIN_CHANGED, ADMIN_CHANGED_UNKEPT, ADMIN_NO_PIPELINE, ADMIN_NO_ENDPOINT };

struct admin;

/* The sources are called on the admin thread, one at a time, and must not wait for a data loop.
 * Each may be NULL. */
struct admin_options {
    int fd;              /* bound and listening, TCP or unix; the admin plane's once it is open */
    const char *version; /* borrowed: static */
    int64_t timeout_ns;  /* 0: ADMIN_TIMEOUT_NS */
    const struct metrics_segment *segment; /* borrowed: the caller */
    void *ctx;                             /* borrowed: the caller; for the functions below */
    /* Appends what is not in the segment (live gauges), HELP and TYPE included. */
    void (*collect)(void *ctx, struct buffer *text);
    /* A new object, see above; the admin plane frees it. */
    json_t *(*status)(void *ctx);
    enum admin_health (*health)(void *ctx); /* NULL: always live */
    /* Passes on what a client of this host has asked for; @subject: of what, "": all. False when
     * that cannot be done now. NULL: there are no such pages. */
    bool (*order)(void *ctx, enum admin_order order, struct slice subject);
    /* Takes an endpoint out of service, or back; UNKEPT: no file keeps that over a restart. NULL:
     * there is no such page. */
    enum admin_found (*change)(void *ctx, const struct admin_change *change);
    /* Lets the handler @name out of quarantine. False: there is none of that name. NULL likewise.
     */
    bool (*reset)(void *ctx, const char *name);
    const char *token; /* borrowed; NULL: none is asked for */
};

/* Serves from here on. -errno when it cannot; the fd is then still the caller's. */
int admin_open(struct admin **out, const struct admin_options *options);

/* Stops accepting, lets answers under way go out (for a second at most), ends every connection and
 * the thread. Nothing is left afterwards. Accepts NULL. */
void admin_close(struct admin *admin);
