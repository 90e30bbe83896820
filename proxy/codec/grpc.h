/* What a proxy has to read and write of gRPC over HTTP/2 (the protocol's own specification,
 * "gRPC over HTTP2"): timeouts, status, messages' borders. */
#pragma once

#include "base/arena.h"
#include "exchange/head.h"

enum grpc_status {
    GRPC_OK,
    GRPC_CANCELLED,
    GRPC_UNKNOWN,
    GRPC_INVALID_ARGUMENT,
    GRPC_DEADLINE_EXCEEDED,
    GRPC_NOT_FOUND,
    GRPC_ALREADY_EXISTS,
    GRPC_PERMISSION_DENIED,
    GRPC_RESOURCE_EXHAUSTED,
    GRPC_FAILED_PRECONDITION,
    GRPC_ABORTED,
    GRPC_OUT_OF_RANGE,
    GRPC_UNIMPLEMENTED,
    GRPC_INTERNAL,
    GRPC_UNAVAILABLE,
    GRPC_DATA_LOSS,
    GRPC_UNAUTHENTICATED,
    GRPC_STATUSES
};

/* "OK", "DEADLINE_EXCEEDED", ... */
const char *grpc_status_name(enum grpc_status status);

/* The value of a grpc-status field; what is none of them is UNKNOWN. */
enum grpc_status grpc_parse_status(struct slice text);

/* What a response without a grpc-status means to a client. */
enum grpc_status grpc_status_of_http(unsigned status);

/* What a RST_STREAM with that code (RFC 9113 section 7) means to a client. */
enum grpc_status grpc_status_of_reset(uint32_t code);

/* The value of a grpc-timeout field: 1 to 8 digits and a unit; nanoseconds, cut to
 * GRPC_TIMEOUT_MAX_NS.
 */
#define GRPC_TIMEOUT_MAX_NS (INT64_C(1000000000) * 3600 * 24 * 365)
bool grpc_parse_timeout(struct slice text, int64_t *ns);

/* The same as text, rounded down to what 8 digits can say; at least "1n". */
struct slice grpc_write_timeout(struct arena *arena, int64_t ns);

/* The value of a grpc-message field: percent-encoded. */
struct slice grpc_encode_message(struct arena *arena, struct slice text);

/* Adds grpc-status, and grpc-message unless @message, which is plain text, is empty. */
void grpc_add_status(struct fields *to, struct arena *arena, enum grpc_status status,
                     struct slice message);

/* Follows one direction's content from message to message. Zeroed memory is at its start. */
#define GRPC_PREFIX_BYTES 5
#define GRPC_COMPRESSED 1 /* in the first byte of a prefix; the only flag there is */
struct grpc_messages {
    unsigned started, whole; /* messages; a message has started with its first byte */
    uint32_t left;           /* bytes of the message under way */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t have;  /* bytes of prefix */
    uint8_t flags; /* of all messages that have started */
};

void grpc_messages_see(struct grpc_messages *messages, struct slice bytes);

/* Have all messages that have started come whole? */
static inline bool grpc_messages_are_whole(const struct grpc_messages *messages) {
    return messages->started == messages->whole;
}
