/* An HTTP/1 client codec on one end of a pair of sockets and the test, as its upstream, on the
 * other; the test also owns the exchange and takes its content. */
#pragma once

#include "codec/h1_client.h"
#include "support/unit.h"

extern struct loop loop;
extern struct fds fds;
extern struct h1_client *client; /* NULL once it has closed */
extern int upstream;             /* the test's end; -1: closed */
extern struct buffer heard;      /* what the upstream has read */
extern struct buffer content;    /* what the sink has taken */
extern unsigned idles;           /* on_idle() calls */
extern enum h1_client_end end;   /* the last one's */

extern struct exchange x;
extern unsigned informational;      /* interim responses passed on */
extern unsigned last_informational; /* status */

/* @is_used: the connection has carried an exchange before. */
void world_open(bool is_tcp, bool is_used);
/* Checks that nothing is left. */
void world_close(void);

/* Starts x with that framing of its content. */
void start(enum method method, struct content framing);
void start_get(void);
/* x lets go of the codec. */
void detach(void);
/* And another one takes its place, not started yet. */
void begin_again(void);

/* Content of the request. */
void push(const char *text);
void push_end(void);
/* Takes the content of the response that is there. */
void take_content(void);

/* Reads what is there: is all that was heard, or taken, @text? */
bool upstream_heard(const char *text);
bool content_is(const char *text);

#define UPSTREAM_SAYS(text) SAY(upstream, text)
#define AWAIT_EVENT(event) AWAIT(&loop, NULL, x.events &(event))
#define OF_LENGTH(n) ((struct content){CONTENT_LENGTH, (n)})
#define CHUNKED ((struct content){CONTENT_CHUNKED, 0})
