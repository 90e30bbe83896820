/* The typed settings: what weir.toml says, checked as a whole, with every default filled in.
 * Nothing in here refers back to the file. Immutable after config_load(); shared by all threads.
 * All durations are nanoseconds (0 = off), all sizes bytes. */
#pragma once

#include "config/process.h"
#include "config/rewrite.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum config_address_kind { ADDRESS_INET, ADDRESS_UNIX, ADDRESS_NAME };

/* Where to listen or what to dial. */
struct config_address {
    enum config_address_kind kind;
    char *text;                       /* as written, for messages; owned */
    char *host;                       /* ADDRESS_NAME: the DNS name; owned, else NULL */
    uint16_t port;                    /* ADDRESS_INET, ADDRESS_NAME */
    bool is_any;                      /* ":8080": every address of this host (listeners only) */
    struct sockaddr_storage sockaddr; /* ADDRESS_INET, ADDRESS_UNIX; port included */
    socklen_t sockaddr_len;
};

/* A block of addresses, "10.0.0.0/8". IPv4 is kept as IPv4. */
struct config_cidr {
    int family;        /* AF_INET or AF_INET6 */
    uint8_t bytes[16]; /* network byte order */
    unsigned prefix;   /* bits */
};

enum config_protocol {
    PROTOCOL_HTTP1,
    PROTOCOL_HTTP2,
    PROTOCOL_AUTO,
    PROTOCOL_EXEC,
    PROTOCOL_MCP_STDIO, /* in the file: HTTP1 then, with process->is_mcp */
};

struct config_server {
    unsigned threads;          /* I/O loops, 1-64; "auto" = cores this process may use */
    unsigned handler_threads;  /* workers that run handlers, 1-64; 0 without any handler */
    size_t handler_memory;     /* content of requests that is collected for handlers at once */
    size_t handler_loss;       /* bytes that faults may lose before the gateway is replaced */
    int64_t drain_shutdown_ns; /* how long SIGTERM lets exchanges finish */
    int64_t drain_reload_ns;
    int64_t wedge_after_ns;      /* a loop without progress for so long is replaced */
    char *user;                  /* who serves when root starts it, or NULL: root itself; owned */
    char *state_file;            /* path, or NULL: nothing survives a restart; owned */
    char *resolver;              /* comma-separated name servers, or NULL: the system's; owned */
    int64_t resolve_interval_ns; /* re-resolve names without a TTL, and never less often */
};

struct config_admission {
    unsigned
        max_connections; /* client connections at once over all loops, > 0 (derived when "auto") */
    unsigned max_handshakes; /* TLS handshakes of clients under way at once over all loops */
    unsigned fd_limit;       /* RLIMIT_NOFILE that the sums were made for */
    unsigned fd_reserve;     /* fds for admin, logs, files, spare */
    unsigned fd_upstream;    /* fds that upstream connections may use, all pipelines together */
    unsigned max_connections_per_address; /* 0: no bound */
    size_t memory;         /* resident bytes to stay below; 0: what cgroup and machine allow */
    double shed_at_fds;    /* share of max_connections at which requests are shed; 0: never */
    double shed_at_memory; /* the same of memory */
    int64_t shed_at_lag_ns;
};

struct config_admin {
    bool is_on;
    struct config_address listen;
    char *token; /* who changes something has to show it; NULL: nobody has to; owned */
};

enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARN, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };

struct config_log {
    enum config_log_level level;
    char *file;   /* path or "stderr"; owned */
    char *access; /* path, "stderr", or NULL when "off"; owned */
};

/* The files of a certificate chain and its key, PEM. */
struct config_certificate {
    char *cert, *key; /* paths; owned */
};

enum config_client_auth { CLIENT_AUTH_REQUIRED, CLIENT_AUTH_OPTIONAL };

enum config_tls_version { TLS_1_2, TLS_1_3 };

struct config_listener_tls {
    bool is_on;
    struct config_certificate own;           /* moved into certificates when all is read */
    struct config_certificate *certificates; /* owned; at least one; the first one serves names that
                                                no other is for */
    size_t certificate_count;
    char *client_ca; /* path; whose clients' certificates are accepted; NULL: none is asked for */
    enum config_client_auth client_auth;
    enum config_tls_version min_version;
};

struct config_listener {
    char *name; /* owned; unique */
    struct config_address listen;
    enum config_protocol protocol;
    struct config_listener_tls tls;
    int64_t handshake_timeout_ns; /* TLS: first byte to the end of the handshake */
    int64_t header_timeout_ns;    /* first byte of a head to its end */
    int64_t body_timeout_ns;      /* between two reads of content, or two writes, of an exchange */
    int64_t idle_timeout_ns;      /* keepalive connection without a request */
    int64_t stream_idle_timeout_ns; /* tunnel or stream without a byte in either direction */
    size_t max_head_bytes;          /* a request head, request line included */
    size_t max_target_bytes;        /* a request target (414) */
    unsigned max_fields;            /* fields of a head or trailer section (431) */
    unsigned max_requests;          /* requests on one connection, 0 = no bound */
    bool health_service;            /* weir answers grpc.health.v1.Health itself */
    bool half_close;                /* true: a client may close its sending side and still read */
    struct {
        unsigned max_concurrent_streams; /* of a connection, >= 1 */
        size_t header_table_bytes;       /* of the HPACK tables */
        unsigned continuations;          /* CONTINUATION frames of one header section */
        /* How many of a connection in a second, in the long run; then it is ended. */
        unsigned pings, settings, priorities, window_updates, empty_data, resets, stream_errors;
        unsigned early_percent; /* share of streams that may end early; 100: any */
    } http2;
    struct config_cidr *trust; /* owned; whose forwarding fields are believed */
    size_t trust_count;
};

enum config_retry_on {
    RETRY_ON_CONNECT = 1 << 0,
    RETRY_ON_REFUSED = 1 << 1,
    RETRY_ON_RESET = 1 << 2,
    RETRY_ON_TIMEOUT = 1 << 3,
    RETRY_ON_502 = 1 << 4,
    RETRY_ON_503 = 1 << 5,
    RETRY_ON_504 = 1 << 6,
};

/* queue.target without a word: this part of queue.max_wait, 10 ms of the usual 2 s. Who lets
 * exchanges wait for longer does not mean them to be dropped for 20 ms. */
#define CONFIG_TARGET_SHARE 200
#define CONFIG_WAIT_NS (INT64_C(2) * 1000000000) /* where max_wait is off */

/* Who takes turns in a queue. */
enum config_fair { FAIR_CLIENT, FAIR_NONE, FAIR_FIELD };
enum config_balance { BALANCE_LEAST, BALANCE_LATENCY, BALANCE_HASH };

/* What of a request tells where it belongs. */
enum config_hash_of { HASH_CLIENT, HASH_PATH, HASH_HEADER, HASH_COOKIE };

struct config_hash {
    enum config_hash_of of;
    char *name; /* HASH_HEADER (lower case), HASH_COOKIE; owned */
};

/* What counts as a failure in a row of an endpoint. */
enum config_breaker_on {
    BREAKER_ON_CONNECT = 1 << 0,
    BREAKER_ON_RESET = 1 << 1,
    BREAKER_ON_TIMEOUT = 1 << 2,
    BREAKER_ON_502 = 1 << 3,
    BREAKER_ON_503 = 1 << 4, /* and gRPC's UNAVAILABLE */
    BREAKER_ON_504 = 1 << 5,
    BREAKER_ON_500 = 1 << 6,
};

enum config_health_kind { HEALTH_OFF, HEALTH_HTTP, HEALTH_GRPC, HEALTH_CONNECT };

#define CONFIG_STATUS_RANGES_MAX 8

struct config_status_range {
    unsigned first, last; /* 100-599, both included */
};

/* Active checks of a pipeline's endpoints. */
struct config_health {
    enum config_health_kind kind;
    char *path;         /* HEALTH_HTTP: what is asked for with GET; owned, else NULL */
    char *host;         /* HEALTH_HTTP: NULL: the pipeline's, else the endpoint; owned */
    char *grpc_service; /* HEALTH_GRPC: of grpc.health.v1; owned, else NULL */
    bool is_connect;
    struct config_status_range statuses[CONFIG_STATUS_RANGES_MAX]; /* HEALTH_HTTP: of a good one */
    size_t status_count;
    int64_t interval_ns;                     /* from the end of one to the next */
    int64_t timeout_ns;                      /* connecting included */
    unsigned unhealthy_after, healthy_after; /* checks in a row */
    int initial;                             /* enum config_health_initial */
    double panic; /* share of the endpoints; while fewer are healthy, all are used; 0: never */
};

enum config_health_initial { INITIAL_HEALTHY, INITIAL_UNHEALTHY };

struct config_pipeline_tls {
    bool is_on;
    char *ca;                      /* path of the authorities; NULL: the system's; owned */
    bool verify;                   /* the chain and the name */
    char *server_name;             /* DNS name or address; owned; may be NULL without verify */
    struct config_certificate own; /* shown when asked for one; both NULL: none */
    enum config_tls_version min_version;
};

struct config_pipeline {
    char *name;                       /* owned; unique */
    struct config_address *endpoints; /* owned; at least one, but for PROTOCOL_EXEC */
    size_t endpoint_count;
    enum config_protocol protocol;
    struct config_process *process; /* owned; NULL: weir starts no program for it */
    struct config_mcp mcp;          /* in process->mcp, if it is one */
    struct config_pipeline_tls tls;
    char *host;              /* Host sent upstream, or NULL: the client's; owned */
    int64_t deadline_ns;     /* whole exchange, streams excepted */
    int64_t hold_ns;         /* how long one may wait while no endpoint is usable */
    int64_t dial_timeout_ns; /* one connect */
    int64_t idle_timeout_ns; /* an unused upstream connection is closed after this */
    int64_t ping_ns;         /* HTTP/2: with calls on it and silent for this: asked with a PING */
    int64_t pong_timeout_ns; /* HTTP/2: no byte for this after a PING: dead */
    int64_t resolve_interval_ns;
    size_t max_head_bytes; /* a response head */
    unsigned max_fields;
    unsigned max_informational; /* 1xx responses before a final one */
    struct {
        unsigned concurrency; /* exchanges in flight at once, no streams; 0: found out by the time
                                 that answers take, between the next two; else >= 1 */
        unsigned concurrency_min, concurrency_max; /* >= 1 */
        unsigned connections;            /* per endpoint, dials and closing ones included; >= 1;
                                            PROTOCOL_EXEC: programs, as many as there are fds for */
        unsigned streams;                /* live streams and tunnels; >= 1 */
        unsigned streams_per_connection; /* HTTP/2: exchanges at once on one; >= 1 */
        unsigned dials;                  /* connects under way per endpoint; >= 1 */
    } limits;
    struct {
        unsigned size;       /* exchanges that may wait; 0 = refuse at once */
        int64_t max_wait_ns; /* longest wait of one */
        int64_t target_ns;   /* a wait that is longer all the time is overload; 0: never */
        enum config_fair fair;
        char *fair_field;     /* FAIR_FIELD: of which each value is a client; owned */
        char *priority_field; /* where trusted clients say the priority; NULL: nowhere; owned */
    } queue;
    struct {
        unsigned in_a_row;   /* failures that open it; 0: no number does */
        unsigned on;         /* enum config_breaker_on bits: what is one */
        int64_t open_for_ns; /* times how often it has opened */
        int64_t open_max_ns;
        double share; /* of failures that ejects an endpoint, beside its peers; 0: none does */
        unsigned calls_min;
        int64_t window_ns;
        int64_t stall_ns; /* a first byte that takes less is none; 0: nothing is */
        double eject_max; /* share of the endpoints; 0: none, else one at least */
    } breaker;
    int64_t slow_start_ns; /* of an endpoint that is used again; 0: its whole share at once */
    struct config_health health;
    struct {
        unsigned attempts;  /* tries in all, 1 = never again */
        unsigned on;        /* enum config_retry_on bits */
        double budget;      /* further tries as a share of the requests */
        int64_t timeout_ns; /* of one try, until its response head */
    } retry;
    struct {
        enum config_balance by;
        struct config_hash hash; /* BALANCE_HASH */
    } balance;
};

enum config_isolation { ISOLATION_THREAD, ISOLATION_PROCESS };

enum config_on_quarantine { QUARANTINE_REFUSE, QUARANTINE_BYPASS };

#define CONFIG_HANDLERS_MAX 64
#define CONFIG_ROUTE_HANDLERS_MAX 16

/* A plugin, and how it is run. */
struct config_handler {
    char *name;         /* owned; unique */
    char *plugin;       /* path of the shared library; owned */
    int64_t timeout_ns; /* of a call, its time in the queue included; > 0 */
    enum config_isolation isolation;
    struct {
        double quarantine_share; /* of the calls within the window; 0: never */
        unsigned min_calls;      /* fewer say nothing */
        int64_t window_ns;
        bool demote; /* a fault in libc moves it to a process */
    } fault;
    struct {            /* of one, where it runs in processes: */
        size_t memory;  /* bytes that it may have beyond what it begins with */
        int64_t cpu_ns; /* CPU time beyond that of its calls, in one go; 0: as much as it likes */
    } process;
    enum config_on_quarantine on_quarantine;
    int64_t hold_ns; /* how long it is not called then, before it is tried again */
    unsigned queue;  /* calls that may wait; further ones are refused */
    size_t body_max; /* of content that is collected for it */
    char *config;    /* its own table as JSON text; owned */
};

struct config_field_match {
    char *name;  /* owned; lower case */
    char *value; /* owned; NULL: any value will do */
};

enum config_learn { LEARN_NOTHING, LEARN_RESPONSE };

/* Who is refused first when there is too much of everything. */
enum config_priority { PRIORITY_CRITICAL, PRIORITY_DEFAULT, PRIORITY_BACKGROUND };

struct config_route {
    char *name;          /* owned; unique; "listener:host/path" ("*": any) without one */
    size_t listener;     /* index, or CONFIG_ANY_LISTENER */
    size_t pipeline;     /* index */
    char *host;          /* lower case, without port; "*.example.com" matches one or more labels in
                            front; NULL: any; owned */
    char *path;          /* prefix on segment borders, normalised; NULL: any; owned */
    char *exact;         /* whole path, normalised; NULL: any; owned; never together with path */
    bool is_grpc;        /* gRPC calls only; their service and method are in path or exact */
    char **methods;      /* owned; upper case as written */
    size_t method_count; /* 0: any */
    struct config_field_match *fields; /* owned; all must match */
    size_t field_count;
    bool is_stream;      /* every exchange of this route is a stream from the start */
    bool is_grpc_web;    /* gRPC-Web calls become gRPC calls; the pipeline's protocol is HTTP/2 */
    int64_t deadline_ns; /* -1: the pipeline's */
    enum config_priority priority;
    bool is_idempotent; /* its requests may be processed twice, whatever their method */
    struct {
        char *header;            /* lower case; owned; NULL: none */
        char *cookie;            /* owned; that weir sets; NULL: none; never with header */
        enum config_learn learn; /* where from the header's values are known */
        bool is_strict;          /* refused when its endpoint is not there */
    } affinity;
    struct config_rewrite *rewrite; /* owned; NULL: URLs pass as they are */
    size_t *handlers;               /* owned; indexes, in the order in which they are called */
    size_t handler_count;
};

#define CONFIG_ANY_LISTENER SIZE_MAX

struct config {
    struct config_server server;
    struct config_admission admission;
    struct config_admin admin;
    struct config_log log;
    struct config_listener *listeners; /* owned; at least one */
    size_t listener_count;
    struct config_pipeline *pipelines; /* owned; at least one */
    size_t pipeline_count;
    struct config_handler *handlers; /* owned; NULL: none */
    size_t handler_count;
    struct config_route *routes; /* owned; at least one */
    size_t route_count;
    char *folder;   /* of the file: where relative paths of handlers begin; owned */
    char *warnings; /* owned; lines like those of config_errors, about what will do but should be
                       known of; NULL: none */
};

/* What is wrong with a file: every fault found, in the order of the file, each on its own line(s)
 * as "weir.toml:12:9: pipeline.queue.size: found \"lots\" (string), expected an integer from 0 to
 * 1000000; did you mean ...". */
struct config_errors {
    char *text; /* owned; NULL when count is 0 */
    size_t count;
};

struct config_options {
    unsigned fd_limit; /* RLIMIT_NOFILE to plan for */
    unsigned cores;    /* what threads = "auto" means */
};

/* Reads, checks and completes the file at @path. 0 and *@out, or -EINVAL with at least one error in
 * *@errors (also for a file that cannot be read). Opens the certificates that it names, but no
 * socket, and resolves no names. Any thread. */
int config_load(struct config **out, const char *path, const struct config_options *options,
                struct config_errors *errors);

/* The same from @fd, all of it; @name stands for the file in errors. @fd may be a -errno: why there
 * is none. */
int config_load_fd(struct config **out, int fd, const char *name,
                   const struct config_options *options, struct config_errors *errors);

/* The same from memory; @name stands for the file in errors. */
int config_parse(struct config **out, const char *name, const char *text, size_t len,
                 const struct config_options *options, struct config_errors *errors);

void config_free(struct config *config);
void config_errors_deinit(struct config_errors *errors);

/* A human-readable sum for `weir check`: listeners, pipelines and their limits, and how the fd
 * limit is spent. The caller frees. */
char *config_summary(const struct config *config);

/* How many exchanges there may ever be in flight. */
static inline unsigned config_concurrency_max(const struct config_pipeline *pipeline) {
    return pipeline->limits.concurrency ? pipeline->limits.concurrency
                                        : pipeline->limits.concurrency_max;
}

/* "critical", "default", "background". */
const char *config_priority_name(enum config_priority priority);

/* "http1", "http2", "auto". */
const char *config_protocol_name(enum config_protocol protocol);

/* Does @cidr hold the address @addr (IPv4-mapped IPv6 counts as IPv4)? AF_UNIX: never. */
bool config_cidr_has(const struct config_cidr *cidr, const struct sockaddr *addr);
