/* An HTTP/1 server codec on one end of a pair of sockets and the test, as its client, on the other;
 * exchanges are owned by a small fake that notes what it is told. */
#pragma once

#include "codec/h1_server_state.h"
#include "support/unit.h"

#define REQUESTS_MAX 8

struct request {
    struct exchange x;
    char memory[4096];
    uint32_t events; /* all that were told */
    bool is_over;    /* finished, given back */
};

struct server_world {
    struct loop loop;
    struct fds fds;
    struct h1_server_settings settings;
    struct h1_server_loop shared;
    int client;          /* the test's end; -1 when it is closed */
    struct buffer heard; /* all that the client has read */
    bool is_eof;         /* the client has read to the end */
    int err;             /* -errno of the client's reading */
    struct request requests[REQUESTS_MAX];
    unsigned count;    /* exchanges that were started */
    bool is_answering; /* each with 200 and its path, and for good */
    unsigned refused;  /* heads */
    enum fail refusal; /* the last one */
};

extern struct server_world world;

/* On a unix pair, or over TCP for what only TCP does (resets). */
void world_open(bool is_tcp);
/* Checks that nothing is left: every exchange is over and the connection closed. */
void world_close(void);

/* The client's sending, reading and leaving. */
#define CLIENT_SAYS(text) SAY(world.client, text)
void client_reads(void);
void client_leaves(void);
bool client_heard(const char *text);
#define AWAIT_HEARD(text) AWAIT(&world.loop, NULL, (client_reads(), client_heard(text)))
#define AWAIT_END() AWAIT(&world.loop, NULL, (client_reads(), world.is_eof || world.err))
#define AWAIT_REQUESTS(n) AWAIT(&world.loop, NULL, world.count == (n))
#define AWAIT_THAT(condition) AWAIT(&world.loop, NULL, condition)
/* Forgets what was heard. */
void client_forgets(void);

/* Starts the answer to @request: a head with that status and framing, then @text. */
void answer(struct request *request, unsigned status, struct content content, const char *text);
/* More of its content, and its end. */
void answer_more(struct request *request, const char *text);
void answer_end(struct request *request);
/* A whole answer of known length; the exchange is over once it is sent. */
void answer_whole(struct request *request, unsigned status, const char *text);
/* The owner is done with it. */
void finish(struct request *request);
/* Everything that waits in the request's content, appended to @to and taken. */
void take_content(struct request *request, struct buffer *to);

#define OF_LENGTH(n) ((struct content){CONTENT_LENGTH, (n)})
#define OF_UNKNOWN_LENGTH ((struct content){CONTENT_CHUNKED, 0})
#define OF_NONE ((struct content){CONTENT_NONE, 0})
