#include "conn_world.h"

#include <signal.h>
#include <unistd.h>

struct loop loops[2];
struct fds fds;
struct gate gate;

struct codec codec;
int wire;

static void on_data(struct conn *conn, struct slice bytes) {
    struct codec *own = conn->codec;

    assert_int_equal(own->eofs, 0);
    assert_int_equal(own->closed, 0);
    buffer_append(&own->heard, bytes);
    if (own->is_closing_on_data)
        conn_close(conn);
    if (own->is_pausing_on_data)
        conn_pause(conn);
}

static void on_eof(struct conn *conn) {
    ((struct codec *)conn->codec)->eofs++;
}

static void on_error(struct conn *conn, int err) {
    struct codec *own = conn->codec;

    own->errors++;
    own->err = err;
}

static void on_drained(struct conn *conn) {
    assert_true(conn_is_drained(conn));
    ((struct codec *)conn->codec)->drains++;
}

static void on_closed(struct conn *conn) {
    struct codec *own = conn->codec;

    own->closed++;
    own->conn = NULL;
    own->used_at_close = fds_used(&fds, FD_CLIENT);
}

const struct conn_events codec_events = {on_data, on_eof, on_error, on_drained, on_closed};

struct conn *make_conn(struct codec *own, struct loop *loop, int fd, bool is_unix) {
    struct conn_account account = {&fds, FD_CLIENT, &gate};

    assert_true(gate_try(&gate));
    fds_force(&fds, FD_CLIENT);
    own->conn = conn_open(loop, fd, is_unix, NULL, &account);
    return own->conn;
}

struct conn *open_conn(struct codec *own, struct loop *loop, int fd, bool is_unix) {
    conn_start(make_conn(own, loop, fd, is_unix), &codec_events, own);
    return own->conn;
}

int open_loops(void **state) {
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(loop_open(&loops[i], i), 0);
    gate_init(&gate, 10, 10);
    fds = (struct fds){.limit = {10, 10, 10, 10}};
    codec = (struct codec){0};
    wire = -1;
    return 0;
}

void make_room(unsigned conns) {
    gate_deinit(&gate);
    gate_init(&gate, conns, conns);
    fds = (struct fds){.limit = {conns, conns, conns, conns}};
}

int set_up(void **state) {
    int pair[2];

    open_loops(NULL);
    stream_pair(pair);
    wire = pair[0];
    open_conn(&codec, &loops[0], pair[1], true);
    return 0;
}

int set_up_tcp(void **state) {
    int pair[2];

    open_loops(NULL);
    tcp_pair(pair);
    wire = pair[0];
    open_conn(&codec, &loops[0], pair[1], false);
    return 0;
}

int tear_down(void **state) {
    if (codec.conn)
        conn_close(codec.conn);
    settle_down(&loops[0], &loops[1]);
    assert_null(codec.conn);
    assert_int_equal(gate_taken(&gate), 0);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    assert_int_equal(loops[0].conns + loops[1].conns, 0);
    assert_int_equal(finish_loop(&loops[0]), 0);
    assert_int_equal(finish_loop(&loops[1]), 0);
    gate_deinit(&gate);
    buffer_deinit(&codec.heard);
    if (wire >= 0)
        close(wire);
    return 0;
}

int send_text(struct conn *conn, const char *text) {
    uv_buf_t buf = uv_buf_init((char *)text, (unsigned)strlen(text));

    return conn_send(conn, &buf, 1);
}
