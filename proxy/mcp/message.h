/* One JSON-RPC 2.0 message, as MCP uses it: what is needed to pass it on, found in its text without
 * making a tree of it. What is passed on is the text itself, with other ids in it: so numbers keep
 * all their digits, and a message of megabytes costs a look, not a parse of everything.
 *
 * The whole text is checked (RFC 8259, UTF-8, nesting); that members are what MCP wants is for
 * those who read it. Any thread. */
#pragma once

#include "base/buffer.h"
#include "config/process.h"

#define MESSAGE_DEPTH_MAX CONFIG_MCP_DEPTH_MAX
#define MESSAGE_ID_MAX 512 /* bytes of an id or a progress token, with its quotes */

enum message_kind {
    MESSAGE_REQUEST,
    MESSAGE_NOTIFICATION,
    MESSAGE_RESPONSE, /* with a result, or an error */
};

/* The error codes of JSON-RPC 2.0 section 5.1, and of MCP's own range. */
enum message_fault {
    MESSAGE_SOUND = 0,
    MESSAGE_PARSE_ERROR = -32700,
    MESSAGE_INVALID_REQUEST = -32600,
    MESSAGE_NO_METHOD = -32601,
    MESSAGE_INTERNAL = -32603,
    MESSAGE_CANCELLED = -32800,
    MESSAGE_SERVER_GONE = -32000, /* the server has ended, or is not there */
    MESSAGE_NO_SESSION = -32001,
    MESSAGE_BUSY = -32002, /* a limit is reached */
};

/* All slices are parts of the text, as they stand there; no base: it has none. */
struct message {
    enum message_kind kind;
    struct slice text;
    struct slice id;         /* a number, or a string with its quotes; of a response maybe null */
    struct slice method;     /* without its quotes */
    struct slice result;     /* of a response; an error has none */
    struct slice meta_token; /* params._meta.progressToken: of a request; as an id */
    struct slice token;      /* params.progressToken: of notifications/progress */
    struct slice request_id; /* params.requestId: of notifications/cancelled */
    struct slice uri;        /* params.uri: a string without its quotes */
    struct slice level;      /* params.level: the same */
};

/* Reads @text into @message; @why is static text otherwise. What is no JSON is MESSAGE_PARSE_ERROR;
 * what is, but no message of those that are taken (as a batch), MESSAGE_INVALID_REQUEST. The id is
 * set, if it was found, also when the message is none. */
enum message_fault message_read(struct message *message, struct slice text, unsigned depth_max,
                                const char **why);

/* A part of the text and what stands there instead. */
struct message_edit {
    struct slice part;    /* no base: nothing is to be done */
    struct slice instead; /* JSON */
};

/* Appends the text, on one line, with @edits (in any order, none in another), and a newline. */
void message_write(struct buffer *to, const struct message *message,
                   const struct message_edit *edits, size_t count);

/* Is @text, inside of quotes, @plain, which has nothing to escape? */
bool message_text_is(struct slice text, const char *plain);
/* Is it that method? */
static inline bool message_is(const struct message *message, const char *method) {
    return message_text_is(message->method, method);
}

/* Appends an error response without a newline; no id: null. @detail: behind the words, or "". */
void message_write_error(struct buffer *to, struct slice id, enum message_fault fault,
                         const char *words, struct slice detail);
