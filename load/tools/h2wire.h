/* What the HTTP/2 load generator and the HTTP/2 engine share: an nghttp2 session on a socket that
 * is drained by one send per turn, and gRPC messages, which are all the same: 13 bytes of text
 * behind their prefix of 5. For test traffic only. */
#ifndef LOAD_H2WIRE_H
#define LOAD_H2WIRE_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H2_TEXT "Hello, world\n"

enum {
    H2_TEXT_BYTES = 13,
    H2_MESSAGE_BYTES = 5 + H2_TEXT_BYTES,
    H2_WINDOW_BYTES = 16 * 1024 * 1024, /* of a connection and of each stream: never what limits */
    H2_STREAMS_MAX = 1000,
};

#define H2_NV(NAME, VALUE) h2_nv((NAME), sizeof(NAME) - 1, (VALUE), sizeof(VALUE) - 1)

static inline nghttp2_nv h2_nv(const char *name, size_t name_len, const char *value, size_t len) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, name_len, len, NGHTTP2_NV_FLAG_NONE};
}

/* The message; it ends with H2_TEXT. */
extern const char h2_message[H2_MESSAGE_BYTES + 1];

/* What is still to be sent of a connection. A zeroed one is ready to use. */
struct h2_out {
    char *bytes; /* owned */
    size_t len, sent;
};

void h2_out_free(struct h2_out *out);

/* Submits the settings that both sides send. */
void h2_submit_settings(nghttp2_session *ng);

/* Sends what @ng has to say. 0: all of it; 1: the socket takes no more; -1: it is broken. */
int h2_send(int fd, nghttp2_session *ng, struct h2_out *out);

/* How many whole messages @bytes of content are, or -1 when they are not made of whole messages:
 * @seen is what has come before and grows by @len. */
long h2_messages(uint64_t *seen, const uint8_t *bytes, size_t len);

#endif
