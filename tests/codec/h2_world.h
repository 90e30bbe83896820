/* An HTTP/2 server codec on one end of a pair of sockets and the test, as its client, on the other;
 * exchanges are owned by a small fake that notes what it is told. */
#pragma once

#include "codec/h2_server_state.h"
#include "h2_wire.h"
#include "support/unit.h"

#define REQUESTS_MAX 256

struct h2_request {
    struct exchange x;
    char memory[2048];
    uint32_t events; /* all that were told */
    bool is_over;    /* finished, given back */
};

struct h2_world {
    struct loop loop;
    struct fds fds;
    struct h2_server_settings settings;
    struct h2_server_loop shared;
    int client;              /* the test's end; -1 when it is closed */
    struct buffer out;       /* what the client is about to say */
    struct h2_reader reader; /* what it has heard */
    bool is_polite;          /* acknowledges settings and pings */
    bool is_eof;             /* the client has read to the end */
    struct h2_request requests[REQUESTS_MAX];
    unsigned count;    /* exchanges that were made */
    unsigned dropped;  /* of these before they started */
    bool is_answering; /* each at once with 200 and nothing else */
    unsigned refused;  /* note_refusal() calls */
    enum fail refusal; /* the last one */
    const char *refused_why;
};

extern struct h2_world world;

/* @settings may be changed in world.settings between the two. */
void world_init(void);
void world_open(void);
/* The client leaves; nothing is left of it. */
void world_close(void);
struct h2_server *world_server(void);

/* Sends world.out. */
void client_sends(void);
void client_greets(void); /* the preface and SETTINGS */
void client_asks(uint32_t stream_id, uint8_t flags, const char *lines);
void client_data(uint32_t stream_id, uint8_t flags, const char *text);
void client_reads(void);
void client_leaves(void);

#define GET(path) ":method: GET\n:scheme: http\n:authority: here\n:path: " path "\n"
#define POST(path) ":method: POST\n:scheme: http\n:authority: here\n:path: " path "\n"
#define END NGHTTP2_FLAG_END_STREAM

#define AWAIT_THAT(condition) AWAIT(&world.loop, NULL, condition)
#define AWAIT_HEARD(text) AWAIT_THAT((client_reads(), h2_reader_has(&world.reader, text)))
#define AWAIT_REQUESTS(n) AWAIT_THAT(world.count == (n))
#define HEARD(text) (client_reads(), h2_reader_has(&world.reader, text))
#define HEARD_TIMES(text) (client_reads(), h2_reader_count(&world.reader, text))
/* GOAWAY ENHANCE_YOUR_CALM, and the end. */
#define AWAIT_CALM()                                                            \
    do {                                                                        \
        AWAIT_THAT((client_reads(), world.is_eof));                             \
        assert_non_null(strstr(world.reader.log.base, " ENHANCE_YOUR_CALM\n")); \
        assert_int_equal(world.refused, 1);                                     \
        assert_int_equal(world.refusal, FAIL_ABUSE);                            \
    } while (0)

/* Starts the answer: a head with that status and framing, then @text; whole when that is all. */
void answer(struct h2_request *request, unsigned status, struct content content, const char *text);
void answer_more(struct h2_request *request, const char *text);
void answer_end(struct h2_request *request);
/* The owner is done with it. */
void finish(struct h2_request *request);
/* Everything that waits in the request's content, appended to @to and taken. */
void take_content(struct h2_request *request, struct buffer *to);

#define OF_LENGTH(n) ((struct content){CONTENT_LENGTH, (n)})
#define OF_UNKNOWN_LENGTH ((struct content){CONTENT_CHUNKED, 0})
#define OF_NONE ((struct content){CONTENT_NONE, 0})
