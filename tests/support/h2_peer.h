/* An HTTP/2 server in the test's hand: an nghttp2 session over a socket that does only what it is
 * told, but for acknowledging SETTINGS and PINGs and giving credit for content. */
#pragma once

#include "base/buffer.h"

#include <nghttp2/nghttp2.h>
#include <stdbool.h>

#define PEER_STREAMS 256 /* whose fate is remembered, by (id - 1) / 2 */

struct peer_stream {
    struct buffer head, content, trailers; /* heads as "name: value\n" */
    bool is_ended;                         /* by END_STREAM */
    bool is_reset;
    uint32_t code;
};

struct h2_peer {
    nghttp2_session *ng;
    int fd; /* -1: closed */
    struct peer_stream streams[PEER_STREAMS];
    unsigned requests;
    int32_t newest; /* id of the last request */
    unsigned pings, goaways;
    int32_t goaway_id;
    bool is_eof;
    bool is_silent; /* answers no PINGs */
    bool is_stingy; /* gives no credit */
};

#define PEER_SAYS_NOTHING (-1)

/* @max_streams and @may_tunnel go into its SETTINGS, which are sent first; PEER_SAYS_NOTHING: no
 * such limit. The socket is the peer's. */
void h2_peer_open(struct h2_peer *peer, int fd, int max_streams, bool may_tunnel);
void h2_peer_close(struct h2_peer *peer);

/* Reads and writes what can be. True, so that it can stand in a condition. */
bool h2_peer_turn(struct h2_peer *peer);

struct peer_stream *h2_peer_stream(struct h2_peer *peer, int32_t id);

/* A head with that status and one field "x: y"; content follows unless @is_end. */
void h2_peer_answer(struct h2_peer *peer, int32_t id, const char *status, bool is_end);
void h2_peer_interim(struct h2_peer *peer, int32_t id, const char *status);
/* Content behind the head; @trailers ends it with a section of "grpc-status: 0". Once per stream.
 */
void h2_peer_content(struct h2_peer *peer, int32_t id, struct slice content, bool trailers);
/* As h2_peer_content(), but the stream stays open. */
void h2_peer_some(struct h2_peer *peer, int32_t id, struct slice content);
void h2_peer_reset(struct h2_peer *peer, int32_t id, uint32_t code);
void h2_peer_goaway(struct h2_peer *peer, int32_t last_id, uint32_t code);
void h2_peer_set_max(struct h2_peer *peer, uint32_t max_streams);

/* Does the head of that request hold the line "name: value"? */
bool h2_peer_has(struct h2_peer *peer, int32_t id, const char *line);
