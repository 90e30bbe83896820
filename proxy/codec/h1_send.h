/* One direction of content to bytes on a connection, framed as RFC 9112 section 6 asks for, shared
 * by both sides' codecs: a head, what there is of the content and its end go out in one write.
 * Home: loop. */
#pragma once

#include "base/buffer.h"
#include "exchange/body.h"
#include "exchange/head.h"
#include "transport/conn.h"

struct h1_send {
    struct conn *conn;       /* borrowed: the codec's */
    struct buffer *scratch;  /* borrowed: the loop's; heads and last chunks are built in it */
    struct content framing;  /* how this connection delimits the content */
    uint64_t left;           /* CONTENT_LENGTH: bytes that may still be sent */
    bool is_connection_last; /* the connection ends with the message; after h1_send_init() */
};

enum h1_send_outcome {
    H1_SEND_MORE,     /* more will come from the body, or waits for the connection to drain */
    H1_SEND_END,      /* everything is written, the end included */
    H1_SEND_MISMATCH, /* the body holds more than was announced, or has ended with less: nothing was
                         sent of it */
};

/* Starts a message: @length bytes may be sent when @framing is CONTENT_LENGTH. */
static inline void h1_send_init(struct h1_send *send, struct content framing) {
    send->framing = framing;
    send->is_connection_last = false;
    send->left = framing.kind == CONTENT_LENGTH ? framing.length : 0;
}

/* Sends what @body holds. @has_head: behind the head that is in the scratch buffer. An outcome, or
 * -errno: the connection is broken. */
int h1_send_body(struct h1_send *send, struct body *body, bool has_head);
