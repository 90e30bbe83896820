/* weir's plugin interface: request handlers in C, and in whatever can make a C shared library.
 *
 * A plugin is a shared library with one symbol, weir_plugin (at the end of this file). weir loads
 * it for every [[handler]] that names it and calls it for every request of the routes that list the
 * handler, before the request takes a place in its pipeline's queue. It may look at the request,
 * edit what is sent on, answer in the upstream's place, and see and edit the head of the response.
 *
 *     #include <weir/handler.h>
 *
 *     static enum weir_verdict on_request(void *state, struct weir_call *call,
 *                                         const struct weir_request *request) {
 *         const struct weir_host *host = state;
 *
 *         host->set_field(call, WEIR_TEXT("x-seen-by"), WEIR_TEXT("my-plugin"));
 *         return WEIR_CONTINUE;
 *     }
 *
 *     static int init(const struct weir_host *host, struct weir_text config, void **state,
 *                     char *why, size_t why_size) {
 *         *state = (void *)host;
 *         return 0;
 *     }
 *
 *     WEIR_PLUGIN = {
 *         .size = sizeof(struct weir_plugin), .abi = WEIR_ABI, .name = "my-plugin",
 *         .init = init, .request = on_request,
 *     };
 *
 * Built with `cc -shared -fPIC $(pkg-config --cflags weir-handler) my-plugin.c -o my-plugin.so`.
 *
 * Where it runs. Calls run on worker threads or in processes of their own (`isolation`), never on
 * the threads that move bytes. Each worker has its own instance: its own copy of the library's
 * static data, its own heap, its own state from its own init(). One instance handles one call at a
 * time, so nothing in it needs a lock. Instances come and go: a call that faults takes its
 * instance with it, state and all. What is to be remembered from call to call, or counted over all
 * instances, belongs into the host's cells; what is configured, into the config or a watched file.
 *
 * What a fault costs. A crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, a failed
 * assertion, exit()) costs the request, which is answered 500, and the instance; a call longer than
 * `timeout` the same with 504. This is containment of faults, not a sandbox: with
 * isolation = "thread" a plugin shares its address space with weir, and a stray write that does not
 * fault can damage other requests unnoticed. Code that is not trusted belongs into
 * isolation = "process".
 *
 * The rules. Memory comes from malloc() or the host and is freed by the side that allocated it. No
 * dlopen, syslog, getaddrinfo, fork, threads or signal calls; no FILE shared with others; no
 * process-wide settings (locale, umask, environment, working directory). Keep .eh_frame (do not
 * strip unwind tables): without it every fault counts as a dirty one. Do not wait: no network, no
 * locks, no sleeping.
 *
 * Versions. Every struct begins with its size as the side that made it knows it: fields are only
 * ever added at the end, and a reader may use a field only when it lies within that size
 * (WEIR_HAS). WEIR_ABI changes when something else does. Unless said otherwise texts are not
 * NUL-terminated, are valid until the call returns, and may be empty (len 0, base then any
 * pointer). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_ABI 1

/* Does @object, a pointer to a struct of this file, have @member? */
#define WEIR_HAS(object, member) \
    ((object)->size >= (size_t)((const char *)(&(object)->member + 1) - (const char *)(object)))

struct weir_text {
    const char *base;
    size_t len;
};

#define WEIR_TEXT(literal) ((struct weir_text){(literal), sizeof(literal) - 1})

/* One field line (RFC 9110 section 5). Names may have any case; values have no space around them.
 */
struct weir_field {
    struct weir_text name, value;
};

/* A call under way. */
struct weir_call;

/* What the client asked. Read-only. */
struct weir_request {
    size_t size;
    struct weir_text id;             /* X-Request-Id: what logs know the request by */
    struct weir_text method;         /* "GET" */
    struct weir_text scheme;         /* "http" or "https", as the client reached weir */
    struct weir_text authority;      /* host[:port], or "" */
    struct weir_text path;           /* with query, as received or as an earlier handler set it */
    const struct weir_field *fields; /* as received, with the edits of earlier handlers; no Host */
    size_t field_count;
    unsigned version;                 /* 10, 11 or 20: HTTP/1.0, HTTP/1.1, HTTP/2 */
    struct weir_text listener, route; /* names as configured */
    struct weir_text client_address;  /* "192.0.2.7", "2001:db8::7", or "unix" */
    unsigned client_port;             /* 0: none */
    bool is_trusted;                  /* the client is in the listener's `trust` */
    bool is_secure;                   /* it came over TLS */
    struct weir_text
        client_certificate;          /* verified; DER in base64 between colons (RFC 9440); or "" */
    struct weir_text client_subject; /* of that, as RFC 4514 writes names; or "" */
    bool is_grpc;                    /* the path is "/package.Service/Method" */
    /* Only for plugins with WEIR_WANTS_BODY: the content, as it came, whatever its
     * Content-Encoding; of a gRPC call its first message, without the five bytes in front of it
     * (weir refuses a compressed one). There is none of requests without content, and of
     * WebSockets. */
    bool has_body;
    bool is_body_truncated; /* only with WEIR_TAKES_TRUNCATED: there is more than body_max */
    struct weir_text body;
    int64_t deadline_ns; /* of this call, as host->now_ns() counts */
};

/* What the upstream answered, before the client sees it; answers of weir itself and of handlers are
 * not shown. Read-only. */
struct weir_response {
    size_t size;
    unsigned status;
    const struct weir_field *fields;
    size_t field_count;
};

enum weir_verdict {
    WEIR_CONTINUE = 0, /* on to the next handler, and to the upstream */
    WEIR_RESPOND = 1,  /* the answer given to host->respond() is sent; the upstream is not asked */
};

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARN, WEIR_LOG_INFO, WEIR_LOG_DEBUG };

enum weir_signature {
    WEIR_HS256 = 1, /* HMAC with SHA-256; the key is the secret's bytes */
    WEIR_RS256 = 2, /* RSASSA-PKCS1-v1_5 with SHA-256; SubjectPublicKeyInfo, DER */
    WEIR_ES256 =
        3, /* ECDSA on P-256 with SHA-256; SubjectPublicKeyInfo, DER; r and s, 32 bytes each */
};

/* Files that weir looks after (host->watch), and tables of cells (host->table). */
struct weir_file;
struct weir_table;

/* A cell: two numbers under a key. */
struct weir_cell {
    int64_t a, b; /* 0 when nobody has written the key */
};

#define WEIR_KEY_MAX 64 /* bytes of a cell's key; of longer ones pass a digest (host->sha256) */

/* What weir does for plugins. Valid as long as the plugin's state is. Functions with a @call may be
 * used while that call runs; those marked "init" only in init(). Nothing here blocks. */
struct weir_host {
    size_t size;

    /* Memory that is gone when the call returns. NULL: the call has had too much (1 MiB). */
    void *(*alloc)(struct weir_call *call, size_t bytes);

    /* Into weir's log, with the handler's name and the request's id; @call may be NULL in init().
     * At most ten lines a second of a handler. */
    void (*log)(struct weir_call *call, enum weir_log_level level, struct weir_text text);

    /* Adds to weir_handler_events_total{handler,event}. @event is one of the plugin's `events`. */
    void (*count)(struct weir_call *call, unsigned event, uint64_t n);

    int64_t (*now_ns)(void);  /* monotonic, nanoseconds */
    int64_t (*unix_ns)(void); /* wall clock, nanoseconds since 1970 */

    /* Edits of the request as it is sent on (in request()), or of the response as the client gets
     * it (in response()). Names of fields that frame a message or belong to one connection cannot
     * be edited (Content-Length, Transfer-Encoding, Connection, TE, Upgrade, Host, ...), nor can a
     * name that is no token or a value with CR, LF or NUL: false then, and the field stays. What
     * weir makes itself (Via, Forwarded, X-Forwarded-For, X-Request-Id, Client-Cert, ...) it makes
     * behind the handlers. */
    bool (*set_field)(struct weir_call *call, struct weir_text name,
                      struct weir_text value); /* in place of all of that name */
    bool (*add_field)(struct weir_call *call, struct weir_text name, struct weir_text value);
    bool (*remove_field)(struct weir_call *call, struct weir_text name); /* all of that name */
    /* The path with query that the upstream is asked for; begins with '/'. The route stays.
     * request() only. */
    bool (*set_path)(struct weir_call *call, struct weir_text path);
    /* A variable of the request, for handlers behind this one, for the response call and the access
     * log: up to 16, names of [a-z0-9_], 32 bytes, values up to 256. */
    bool (*set_variable)(struct weir_call *call, struct weir_text name, struct weir_text value);
    /* "" when nobody has set it. */
    struct weir_text (*variable)(struct weir_call *call, struct weir_text name);

    /* The answer for WEIR_RESPOND (request() only): a status of 200 to 599 and a content of up to
     * 1 MiB; fields by respond_field(). Of a gRPC call the status becomes the grpc-status that
     * corresponds (401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 429: RESOURCE_EXHAUSTED, ...) and
     * the content, if it is text, its message. False: too large, or no such status.
     *
     * Fields beside WEIR_CONTINUE, without respond(), are of the answer that weir itself, or a
     * handler behind this one, may have to give in the upstream's place; response() does not see
     * those. */
    bool (*respond)(struct weir_call *call, unsigned status, struct weir_text content);
    bool (*respond_field)(struct weir_call *call, struct weir_text name, struct weir_text value);
    /* The same with weir's own form (application/problem+json, or trailers of gRPC): @title says
     * what happened, @remedy what to do. */
    bool (*refuse)(struct weir_call *call, unsigned status, struct weir_text title,
                   struct weir_text remedy);
    /* The status in the response call becomes @status; but one that says how the content is framed
     * (101, 204, 304) stays, none becomes one of these, and that of a gRPC call stays. */
    bool (*set_status)(struct weir_call *call, unsigned status);

    /* Cells: a bounded table of numbers by key that all instances share, and that outlives
     * instances, reloads and gateways; it is found again by its name and size. When it is full, the
     * key that was not used for longest makes room (or one of those). init: NULL when there is no
     * room for another table, or for one of so many cells (262,144 at most). */
    struct weir_table *(*table)(const struct weir_host *host, struct weir_text name,
                                unsigned cells);
    /* Reads @key's cell. False: there can be no such key (empty, or longer than WEIR_KEY_MAX). */
    bool (*cell_get)(struct weir_table *table, struct weir_text key, struct weir_cell *cell);
    /* Makes it @to if it is still @from; false with @from as it is now: try again, but not for
     * ever. {0, 0} gives its place back. */
    bool (*cell_swap)(struct weir_table *table, struct weir_text key, struct weir_cell *from,
                      struct weir_cell to);

    /* A file of the configuration, read again when it changes. @path: relative to the
     * configuration's folder. init, and the same paths for all instances: NULL when it cannot be
     * read, or is larger than 1 MiB, or weir looks after 32 files already. */
    struct weir_file *(*watch)(const struct weir_host *host, struct weir_text path);
    /* What it holds now, until the call returns. *@version changes when it does: what was made from
     * an older version is to be made again. A file that went away keeps its last content. */
    struct weir_text (*content)(struct weir_file *file, uint64_t *version);

    /* Signatures, digests and comparison in constant time. */
    bool (*verify)(enum weir_signature kind, struct weir_text key, struct weir_text data,
                   struct weir_text signature);
    void (*sha256)(struct weir_text data, unsigned char digest[32]);
    bool (*equal)(struct weir_text a, struct weir_text b); /* lengths may show */

    /* What @file holds as @version is of no use (a mistake in it, say): what it held before is its
     * content again, as another version, for all instances, those to come included, until the file
     * changes. Nothing happens if there was none before. */
    void (*reject)(struct weir_file *file, uint64_t version);
};

enum weir_plugin_flag {
    WEIR_WANTS_BODY = 1 << 0,      /* content up to `body_max` of the handler is collected first */
    WEIR_TAKES_TRUNCATED = 1 << 1, /* of more its beginning; otherwise more is refused with 413 */
    WEIR_SKIPPABLE = 1 << 2,   /* requests may pass without it when it is broken: bypass allowed */
    WEIR_HAS_STATICS = 1 << 3, /* keeps static data that calls write: each instance needs a copy */
};

struct weir_plugin {
    size_t size;    /* sizeof(struct weir_plugin) */
    unsigned abi;   /* WEIR_ABI */
    unsigned flags; /* enum weir_plugin_flag */
    const char *name, *version;
    const char *const *events; /* names for host->count, [a-z0-9_], ended by NULL; or NULL */

    /* Makes an instance. @config is the handler's `config` as JSON text, "{}" without one, and
     * stays as long as the state. 0; anything else: *@why says what is wrong and what is expected,
     * and weir does not start, or keeps its old configuration. Called for each instance, and by
     * `weir check`; must be quick. May be NULL: the state is NULL then. */
    int (*init)(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size);
    /* A request; may be NULL. */
    enum weir_verdict (*request)(void *state, struct weir_call *call,
                                 const struct weir_request *request);
    /* The head of a response; may be NULL. @request is as it was sent on, without a body. */
    enum weir_verdict (*response)(void *state, struct weir_call *call,
                                  const struct weir_request *request,
                                  const struct weir_response *response);
    /* Ends an instance in good order; not called behind a fault. May be NULL. */
    void (*end)(void *state);
};

#define WEIR_PLUGIN                                                                     \
    __attribute__((visibility("default"))) extern const struct weir_plugin weir_plugin; \
    __attribute__((visibility("default"))) const struct weir_plugin weir_plugin

#ifdef __cplusplus
}
#endif
