/* An HTTP/2 client codec on one end of a pair of sockets and a server in the test's hand on the
 * other; the test also owns the exchanges and takes their content. */
#pragma once

#include "codec/h2_client.h"
#include "support/h2_peer.h"
#include "support/unit.h"

#define CALLS_MAX 8

struct call {
    struct exchange x;
    struct h2_client_stream *stream; /* NULL: detached */
    unsigned informational;
    struct buffer content; /* what was taken of the response */
    char memory[4096];
};

extern struct loop loop;
extern struct fds fds;
extern struct h2_client *client; /* NULL once it has closed */
extern struct h2_peer peer;
extern struct h2_client_settings settings;
extern struct call calls[CALLS_MAX];
extern unsigned changes; /* on_change() calls */

/* @max_streams, @may_tunnel: the peer's SETTINGS, which have come when this returns. */
void world_open(int max_streams, bool may_tunnel);
/* The same without a word from the peer yet. */
void world_open_silently(int max_streams, bool may_tunnel);
/* Lets go of everything and checks that nothing is left. */
void world_close(void);

/* The exchange of call @i, for what is to be set before it starts; then starts it. */
void make(unsigned i);
void start(unsigned i, enum method method, struct content content);
void get(unsigned i);
void detach(unsigned i);
/* Content of the request. */
void push(unsigned i, struct slice content);
void push_end(unsigned i);
/* Takes what there is of the response's content; is it @text in all? */
void take_content(unsigned i);
bool content_is(unsigned i, const char *text);

#define AWAIT_PEER(condition) AWAIT(&loop, NULL, (h2_peer_turn(&peer), condition))
#define AWAIT_EVENT(i, event) AWAIT_PEER(calls[i].x.events &(event))
