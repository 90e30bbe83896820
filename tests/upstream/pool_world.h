/* An endpoint with a pool on each of two loops that are run by hand, and its server: a listening
 * socket on loopback that the test accepts from itself. */
#pragma once

#include "support/unit.h"
#include "upstream/pool.h"

/* Who takes a lease, and what came of it. */
struct taker {
    struct lease lease;
    struct exchange x;
    char memory[2048];
    unsigned readies;
    enum fail fail; /* of the last ready() */
};

struct pool_world {
    struct loop loops[2];
    struct fds fds;
    struct pool_loop shared[2];
    struct pool_settings settings;
    struct endpoint *endpoint;
    struct pool *pools[2]; /* NULL once a test has closed it */
    int listener;
    struct sockaddr_in address;
};

extern struct pool_world world;

/* The server listens with @backlog (-1: its port is bound, but refuses), the endpoint may have
 * @connections. */
void world_open(unsigned connections, int backlog);
/* The same over HTTP/2, with that many streams on a connection; the server listens. */
void world_open_http2(unsigned connections, unsigned streams);
/* Closes the pools and checks that nothing is left. */
void world_close(void);

/* Zeroes @taker and asks for a lease on loop @at. */
enum pool_outcome take(struct taker *taker, unsigned at);
/* The same until it is held. */
void hold(struct taker *taker, unsigned at);

/* The next connection that has come to the server; awaited. */
int server_accept(void);
/* Has one come? */
bool server_has_client(void);
/* Fills the backlog of a server that was opened with 0, so that further dials hang. */
int server_block(void);

/* Sends a GET over a held lease and lets @server answer it; the connection can be used again. */
void exchange_whole(struct taker *taker, unsigned at, int server);
/* Only the first half of that. */
void exchange_start(struct taker *taker, unsigned at);
/* The same with content that is still to come: a chunked POST. */
void exchange_start_upload(struct taker *taker, unsigned at);
void exchange_end(struct taker *taker);

/* Connections of the endpoint, dials and closing ones included. */
#define OPEN_CONNECTIONS gate_taken(&world.endpoint->connections)
#define ASK_AWAIT(condition) AWAIT(&world.loops[0], &world.loops[1], condition)
