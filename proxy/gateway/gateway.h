/* The gateway: loops that carry exchanges from listeners to pipelines. It is given its listening
 * sockets and its counter segment from outside and binds nothing itself, so whatever keeps them (a
 * supervisor) outlives it. Configuration is immutable for its life. */
#pragma once

#include "admission/pressure.h"
#include "base/log.h"
#include "child/board.h"
#include "child/run_loop.h"
#include "codec/h1_server.h"
#include "codec/h2_server.h"
#include "codec/h2_sniff.h"
#include "config/config.h"
#include "gateway/counters.h"
#include "gateway/rest.h"
#include "gateway/security.h"
#include "handler/handlers.h"
#include "loop/gate.h"
#include "pipeline/pipeline.h"
#include "route/route.h"
#include "state/keeper.h"
#include "transport/acceptor.h"
#include "transport/addresses.h"
#include "transport/handshakes.h"

#include <jansson.h>
#include <pthread.h>

struct gateway;
struct gateway_loop;
struct crossing;

/* A listener on one loop. Home: loop. */
struct gateway_listener {
    struct gateway_loop *gl;              /* borrowed */
    size_t index;                         /* in the config */
    const struct config_listener *config; /* borrowed */
    struct h1_server_settings h1_settings;
    struct h2_server_settings h2_settings;
    struct h1_server_loop h1;
    struct h2_server_loop h2;
    struct h2_sniff_loop sniff;   /* protocol = "auto" without TLS */
    struct handshakes handshakes; /* of a listener with TLS */
    struct acceptor *
        *acceptors; /* owned; one per socket that is this loop's; none while draining */
    unsigned acceptor_count;
    struct log_limit errors_logged, abuse_logged, handshakes_logged;
};

/* What a loop has. Home: loop, but where noted. */
struct gateway_loop {
    struct loop loop;
    struct gateway *gateway; /* borrowed */
    struct metrics metrics;
    struct gateway_listener *listeners; /* owned; as in the config */
    struct pool_loop pools;
    struct run_loop programs;
    const struct board_row **child_rows; /* owned array; as in the config; where they were last */
    struct pipeline_loop *parts;         /* owned; as in the config */
    struct list crossings;               /* struct crossing that have started, oldest first */
    struct list watches;                 /* struct crossing that watch weir's health */
    _Atomic int64_t oldest_ns;           /* start of the oldest, 0: none; any thread may read */
    struct spares spare_crossings;       /* of struct crossing */
    uint64_t begun;                      /* crossings, ever */
    struct rest_loop rest;
    struct handler_desk *desk; /* owned; NULL: there are no handlers */
    struct buffer scratch;     /* log lines */
    struct log_limit failures_logged, overload_logged;
    struct pressure pressure;
    _Atomic unsigned actions; /* of pressure, in force; any thread may read */
    int64_t evict_after_ns;
    char date[32]; /* for Date fields */
    size_t date_len;
    int64_t date_until_ns;  /* of the loop's time: when the second of date is over */
    struct timer tick;      /* ten times a second: oldest_ns, loop lag, pressure */
    _Atomic int64_t lag_ns; /* how late the last tick was; any thread may read */
    int64_t tick_due_ns, lag_before_ns;
    struct mail retire_mail, tunnels_mail, drain_mail, abort_mail;
    struct timer share_timer; /* looks after limits that are shared with other gateways */
    struct timer drain_timer; /* looks whether everything is gone */
    bool is_draining;
    pthread_t thread;
    unsigned active_crossings;
    bool are_pools_closed;
    bool are_tunnels_ending; /* WebSockets are told to go, new ones too */
    _Atomic bool are_tunnels_posted, is_drain_posted, is_abort_posted, has_retired, has_ended;
};

/* Content that waits for handlers to look at it. */
struct handling_memory {
    size_t limit; /* bytes */
    _Atomic size_t used;
};

/* Home: shared; immutable while the loops run, but for atomics. */
struct gateway {
    const struct config *config; /* borrowed */
    struct route_table *routes;
    struct counters *counters;       /* borrowed: the caller */
    struct metrics_segment *segment; /* borrowed: the caller */
    struct fds fds;
    struct gate connections; /* client connections at once */
    struct gate handshakes;  /* TLS handshakes of clients under way */
    struct security security;
    struct addresses addresses;
    uint64_t memory_limit;        /* bytes; 0: not known, no bound */
    _Atomic uint64_t memory_used; /* bytes, at loop 0's last look */
    int memory_fd;                /* owned; of that look */
    struct resolver *resolver;
    struct board *children; /* borrowed: what the nursery shows of programs; NULL: there are none */
    struct share_home shares;
    struct memo *memo;           /* in the shares, or own_memo */
    struct memo *own_memo;       /* owned; NULL: it is shared */
    struct pipeline **pipelines; /* owned; as in the config */
    struct handlers *handlers;   /* borrowed: the caller; NULL: there are none */
    struct handling_memory handling_memory;
    struct gateway_loop *loops; /* owned */
    unsigned loop_count;
    _Atomic int state; /* enum gateway_state */
    int64_t started_ns;
    struct keeper *keeper; /* borrowed; NULL: nothing survives */
    struct rest rest;
    uint64_t survival_sum; /* of endpoints' and handlers' states at the last look; home: loop 0 */
    int64_t survival_looked_ns; /* likewise */
};

enum gateway_state { GATEWAY_STARTING, GATEWAY_LIVE, GATEWAY_DRAINING };

/* A bound, non-blocking socket, listening or not yet: the gateway's once it is open, which listens
 * on it, and closes it when it drains. Whoever wants to keep listening keeps a duplicate. A loop
 * may have several of one listener. */
struct gateway_socket {
    size_t listener; /* index in the config */
    unsigned loop;   /* which loop accepts on it */
    int fd;
    struct accept_pulse *pulse; /* borrowed: its place on the board, or NULL */
};

struct gateway_options {
    const struct config *config;
    struct counters *counters;
    struct metrics_segment *segment;      /* with a row per loop */
    const struct gateway_socket *sockets; /* borrowed until gateway_open() returns */
    size_t socket_count;
    struct pulse_board *board;  /* borrowed: where the loops show that they live, or NULL */
    struct share_table *shares; /* borrowed: where limits are counted with other processes, or NULL:
                                   they are not */
    unsigned share_slot;        /* ours in it */
    struct handlers *handlers;  /* borrowed: started; closed behind the gateway; NULL: none */
    struct keeper *keeper;   /* borrowed: for what is to survive; closed before the gateway; NULL:
                                nothing does */
    struct board *children;  /* borrowed: what the nursery shows; NULL: the configuration has no
                                programs */
    int nursery;             /* borrowed: the channel to it; -1: none */
    bool may_lack_addresses; /* names that do not resolve within GATEWAY_NAMES_NS are no error */
};

#define GATEWAY_NAMES_NS (2 * NS_PER_S) /* for all of them: clients wait meanwhile */

/* The nursery is another one, at the other end of @nursery (borrowed): programs for requests are
 * started there from now on. Any thread but a loop. */
void gateway_take_nursery(struct gateway *gateway, int nursery);

/* Resolves names, makes the loops and starts their threads. -errno; *why is then a whole message
 * (the caller frees). */
int gateway_open(struct gateway **out, const struct gateway_options *options, char **why);

/* Stops accepting and lets exchanges finish; what is left after the drain time is broken off.
 * WebSockets are ended as by gateway_end_tunnels(). Returns at once. Any thread but a loop. */
void gateway_drain(struct gateway *gateway);

/* The same where a successor accepts already: connections without an exchange are not closed but
 * may bring one more request, whose answer says that it was the last. gateway_drain() may follow.
 */
void gateway_retire(struct gateway *gateway);

/* After gateway_retire(): has every loop stopped accepting? Who connects from then on reaches the
 * successor. Any thread. */
bool gateway_has_retired(const struct gateway *gateway);

/* Tells both sides of every WebSocket, between two frames, that it goes away (Close 1001), now or
 * as soon as it is open. Any thread but a loop. */
void gateway_end_tunnels(struct gateway *gateway);

/* Breaks off what is left. Any thread but a loop. */
void gateway_abort(struct gateway *gateway);

/* After gateway_drain(): have all loops ended? */
bool gateway_is_drained(const struct gateway *gateway);

/* What should be 0 when all is over; written to the log. */
struct census {
    unsigned handles, connections, exchanges, timers, fds, permits, children;
};

/* Waits for the loops to end, frees everything and takes the census. True when it reads 0. Accepts
 * NULL. */
bool gateway_close(struct gateway *gateway, struct census *census);

/* An endpoint that is drained gets no new exchanges but of who belongs to it, one that is disabled
 * none at all; what is under way goes on. Enabling it closes its breaker too. */
enum gateway_service {
    GATEWAY_ENDPOINT_ENABLED,
    GATEWAY_ENDPOINT_DRAINED,
    GATEWAY_ENDPOINT_DISABLED,
};

/* @endpoint: its address as in the status. -ENXIO: no such pipeline; -ENOENT: no such endpoint. Any
 * thread. (status_endpoints.c) */
int gateway_serve_endpoint(struct gateway *gateway, struct slice pipeline, struct slice endpoint,
                           enum gateway_service service);

/* Has a loop made no progress for server.wedge_after? Any thread. */
bool gateway_is_wedged(const struct gateway *gateway);

/* Sources for the admin plane (status.c). Any thread. */
json_t *gateway_status(struct gateway *gateway);
void gateway_collect(struct gateway *gateway, struct buffer *text);

/* Of them what concerns programs (children.c); children_of() is NULL for a pipeline without. */
json_t *children_of(struct gateway *gateway, size_t pipeline);
json_t *children_summary(struct gateway *gateway);
void children_collect(struct gateway *gateway, struct buffer *text);
/* Of these what concerns MCP servers (mcp_children.c). */
json_t *mcp_children_of(const struct board_row *row);
void mcp_children_collect(struct gateway *gateway, struct buffer *text);

/* The loop gets a channel to the nursery (programs.c). Before it runs. */
void programs_open(struct gateway_loop *gl, int nursery);

/* The listener's part of the above (listener.c). Home: loop, but listener_connections(): any. */
void listener_init(struct gateway_listener *listener, struct gateway_loop *gl, size_t index);
void listener_deinit(struct gateway_listener *listener);
/* Begins to accept. -errno. */
int listener_open(struct gateway_listener *listener, const struct gateway_options *options);
/* Accepts no more. */
void listener_close(struct gateway_listener *listener);
/* What is connected may finish: HTTP/1 with one more request, HTTP/2 with the streams it has. */
void listener_retire(struct gateway_listener *listener);
void listener_drain(struct gateway_listener *listener);
void listener_abort(struct gateway_listener *listener);
/* Does what @actions (enum pressure_action) ask of connections from now on. */
void listener_heed(struct gateway_listener *listener, unsigned actions);
/* As h1_server_evict(), of either protocol. */
unsigned listener_evict(struct gateway_listener *listener, int64_t idle_ns, unsigned max);
unsigned listener_connections(const struct gateway_listener *listener);
/* Of these with an exchange. */
unsigned listener_active(const struct gateway_listener *listener);

/* Is the client's word about where a request comes from believed? */
bool gateway_trusts(const struct gateway_listener *listener, const struct sockaddr *client);

/* The value of a Date field for now. Home: loop. */
struct slice gateway_date(struct gateway_loop *gl);
