/* Between the sessions of HTTP clients and one MCP server that knows of a single client: weir.
 *
 * The server is initialized once. Each client's own initialize is answered with what the server has
 * said then, and makes a session with an id that cannot be guessed. From there on every request has
 * an id of the hub's on its way to the server, and so has its progress token; an answer finds its
 * way back by that id alone, and to nobody else. The other way round the server's requests (for
 * sampling, roots, elicitation) get an id of the hub's towards the client.
 *
 * Over stdio a server does not say for whom its own requests and notifications are. They go:
 *
 *     notifications/progress        to the call whose token it is
 *     notifications/cancelled       to the session that was asked
 *     notifications/message         to the one session with a call under way; if there is not
 * exactly one to all; that level and above
 *     .../resources/updated         to those that have subscribed
 *     other notifications           to all sessions
 *     requests                      to the one session with a call under way, or the only one there
 *                                   is, if its client can do that. When it could be one of several
 *                                   nobody is asked, and the server is told so: a guess would show
 *                                   one client's data to another. Where they may see each other's
 *                                   (MCP_ASK_ABLE) only those count that can do it
 *
 * What cannot be delivered at once waits in the session's queue: of bounded length, the oldest
 * gives way and is counted. The hub does no I/O: lines go out through struct hub_server_ops,
 * messages to clients through outlets. Home: loop. */
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "base/list.h"
#include "child/mcp_counts.h"
#include "mcp/lines.h"
#include "mcp/message.h"

#include <jansson.h>

#define HUB_ASKS_MAX 64 /* requests of the server that a session has not answered */
#define HUB_QUEUE_BYTES_MAX (1024 * 1024) /* of messages that wait in one session */
#define HUB_SUBSCRIPTIONS_MAX 256         /* of a session */
#define HUB_URI_MAX 2048                  /* bytes of what is subscribed to */
#define HUB_SESSION_ID_BYTES 32           /* hexadecimal digits: 128 bits of the kernel's */
#define HUB_BUCKETS 256
/* Where there is no room for a session, the one that was not used for the longest gives way if that
 * is so long: few clients say that they leave. */
#define HUB_GIVE_WAY_NS (60 * NS_PER_S)

struct hub;
struct hub_call;
struct outlet;

/* Where messages for a client go: the answer to a request, or a stream. */
struct outlet_ops {
    /* May event() be called: is it, or may it become, a stream, and is it not behind? */
    bool (*has_room)(const struct outlet *outlet);
    /* @message is one line without its end. */
    void (*event)(struct outlet *outlet, struct slice message);
    /* May it end without a message? An answer that is no stream cannot. */
    bool (*may_be_silent)(const struct outlet *outlet);
    /* With a last message, or without (no base). The hub has forgotten the outlet. */
    void (*end)(struct outlet *outlet, struct slice message);
};

struct outlet {
    const struct outlet_ops *ops; /* borrowed: static */
};

struct hub_server_ops {
    /* A line for the server, newline included: copied. False: too much waits for it already. */
    bool (*say)(void *ctx, struct slice line);
    /* It has answered initialize: sessions may come. */
    void (*ready)(void *ctx);
    /* It refuses to be initialized. @why: its answer. */
    void (*refused)(void *ctx, struct slice why);
};

enum hub_capability { HUB_SAMPLING = 1, HUB_ELICITATION = 2, HUB_ROOTS = 4 };

/* A request and its cancellation come over two connections, and either may be first. */
#define HUB_EARLY_MAX 8             /* cancellations of a session that wait for their request */
#define HUB_EARLY_NS (2 * NS_PER_S) /* for how long */

struct hub_early {
    struct slice id; /* as the client has it; owned; no base: none */
    int64_t at_ns;
};

struct hub_session {
    struct list link;   /* in the hub's */
    struct list bucket; /* of its id */
    char id[HUB_SESSION_ID_BYTES + 1];
    unsigned capabilities;     /* enum hub_capability, of its client */
    int level;                 /* of log messages; -1: as the server sends them */
    struct list calls;         /* struct hub_call, oldest first */
    struct list asks;          /* struct hub_ask, oldest first */
    struct list queue;         /* struct hub_waiting, oldest first */
    struct list subscriptions; /* struct hub_subscription */
    unsigned call_count, ask_count, queue_count, subscription_count;
    size_t queue_bytes;
    struct hub_early early[HUB_EARLY_MAX];
    unsigned early_next;   /* the oldest of these */
    struct outlet *stream; /* borrowed; NULL: none is open */
    int64_t used_ns;       /* when it last had a request or a stream */
};

struct hub {
    struct config_mcp limits;
    const struct hub_server_ops *ops; /* borrowed: static */
    void *ctx;                        /* borrowed: theirs */
    const char *name;                 /* of the pipeline, for log lines; borrowed */
    bool is_ready, is_over;
    int64_t silent_ns; /* since the server was last heard, or had a call under way */
    uint64_t ping_id;  /* of the last ping; 0: there was none */
    json_t *greeting;  /* owned: the result of initialize */
    uint64_t last_id;
    struct list sessions; /* struct hub_session */
    struct list by_session_id[HUB_BUCKETS];
    struct list calls[HUB_BUCKETS]; /* struct hub_call, by id */
    struct list asks[HUB_BUCKETS];  /* struct hub_ask, by id */
    struct mcp_counts counts;
    struct buffer scratch;
};

struct hub_options {
    struct config_mcp limits;
    const struct hub_server_ops *ops;
    void *ctx;
    const char *name;
};

void hub_init(struct hub *hub, const struct hub_options *options);
/* After hub_end(). */
void hub_deinit(struct hub *hub);

/* Says initialize to the server. */
void hub_start(struct hub *hub);
/* A line of the server. */
void hub_hear(struct hub *hub, const struct lines_item *line, int64_t now_ns);

/* For @ns more nothing may have come. A server that has no call under way and is silent for
 * ping_ns is asked for a sign of life (MCP: "Ping"); false: for as long again it has given none.
 * While it has calls it may be busy: their deadlines tell. @ns is not read off a clock, so that a
 * process that was stopped hears first what has been said meanwhile. */
bool hub_is_alive(struct hub *hub, int64_t ns);

/* Is @version one that a client may speak (MCP-Protocol-Version)? */
bool hub_speaks(const struct hub *hub, struct slice version);

/* What becomes of a client's message. */
enum hub_outcome {
    HUB_DONE,     /* *answer has the response, if one is due */
    HUB_UNDERWAY, /* the outlet will be told */
    HUB_REFUSED,  /* a limit: *answer has an error response */
    HUB_BAD,      /* it makes no sense: the same */
};

/* initialize: makes a session. */
enum hub_outcome hub_greet(struct hub *hub, const struct message *message, int64_t now_ns,
                           struct hub_session **session, struct buffer *answer);
/* NULL: there is none, or no more. */
struct hub_session *hub_find(struct hub *hub, struct slice id);
/* A request: @outlet is told of what belongs to it, until end() or hub_leave(). */
enum hub_outcome hub_call(struct hub *hub, struct hub_session *session,
                          const struct message *message, struct outlet *outlet, int64_t now_ns,
                          struct hub_call **call, struct buffer *answer);
/* Its client is there no more. */
void hub_leave(struct hub *hub, struct hub_call *call, int64_t now_ns);
/* A notification, or the response to a request of the server. */
void hub_note(struct hub *hub, struct hub_session *session, const struct message *message,
              int64_t now_ns);

/* The session's stream for what belongs to no call; one that it has already is ended. What waits is
 * sent. */
void hub_attach(struct hub *hub, struct hub_session *session, struct outlet *stream);
/* It has room again. */
void hub_flush(struct hub *hub, struct hub_session *session);
void hub_detach(struct hub *hub, struct hub_session *session, int64_t now_ns);

/* Ends the session: its calls and its stream are told @words. */
void hub_close(struct hub *hub, struct hub_session *session, enum message_fault fault,
               const char *words);
/* Ends those that have been idle for too long. */
void hub_expire(struct hub *hub, int64_t now_ns);
/* Ends all of them; the server is told nothing more. @detail: behind @words. */
void hub_end(struct hub *hub, const char *words, struct slice detail);
