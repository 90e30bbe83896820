/* A conn on one end of a pair of sockets, with a codec that notes what it hears, and the test on
 * the other. */
#pragma once

#include "base/buffer.h"
#include "support/unit.h"
#include "transport/conn.h"

struct codec {
    struct conn *conn;
    struct buffer heard;
    unsigned readies, eofs, errors, drains, closed; /* readies: of handshakes */
    int ready_err, err;
    uint32_t used_at_close; /* of the ledger, as on_closed() was called */
    bool is_closing_on_data, is_pausing_on_data;
};

extern struct loop loops[2];
extern struct fds fds;
extern struct gate gate;
extern struct codec codec;
extern const struct conn_events codec_events;
extern int wire; /* the test's end */

/* Opens a conn on @fd for @own, and does not start it. */
struct conn *make_conn(struct codec *own, struct loop *loop, int fd, bool is_unix);
/* And starts it. */
struct conn *open_conn(struct codec *own, struct loop *loop, int fd, bool is_unix);

/* For so many conns, before the first is made: without it, for ten. */
void make_room(unsigned conns);

/* Of tests: loops alone, a conn on a unix pair, or over TCP. */
int open_loops(void **state);
int set_up(void **state);
int set_up_tcp(void **state);
/* After every test: the conn is closed, and nothing of it is left anywhere. */
int tear_down(void **state);

#define ON_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define ON_TCP(test) cmocka_unit_test_setup_teardown(test, set_up_tcp, tear_down)
#define ON_LOOPS(test) cmocka_unit_test_setup_teardown(test, open_loops, tear_down)

int send_text(struct conn *conn, const char *text);
