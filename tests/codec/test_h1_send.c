/* What h1_send.h promises of contents in many pieces. */
#include "codec/h1_send.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECES 40 /* more than one write takes */
#define CONTENT_BYTES ((size_t)PIECES * CHUNK_BYTES)

static struct body body;
static struct buffer scratch;
static struct h1_send sending = {.scratch = &scratch};

static void on_drained(struct conn *conn) {
    h1_send_body(&sending, &body, false);
}

static void on_closed(struct conn *conn) {
    loop_stop(conn->loop);
}

static const struct conn_events events = {.on_drained = on_drained, .on_closed = on_closed};

static void content_of_another_length_than_announced_is_not_sent(void **state) {
    struct loop loop;

    assert_int_equal(loop_open(&loop, 0), 0);
    for (uint64_t announced = 4; announced <= 6; announced += 2) {
        sending.conn = NULL; /* it is not even asked */
        body_init(&body, &loop);
        body_push_copy(&body, SLICE("hello"));
        body_end(&body);
        h1_send_init(&sending, (struct content){CONTENT_LENGTH, announced});
        assert_int_equal(h1_send_body(&sending, &body, false), H1_SEND_MISMATCH);
        body_deinit(&body);
    }
    loop_stop(&loop);
    loop_run(&loop);
    assert_int_equal(loop_close(&loop), 0);
}

static void content_in_more_pieces_than_a_write_takes_is_sent_whole(void **state) {
    static char content[CONTENT_BYTES], got[CONTENT_BYTES + 1];
    struct fds fds = {0};
    struct conn_account account = {.fds = &fds, .fd_class = FD_CLIENT};
    int pair[2], size = 4 * CONTENT_BYTES;
    struct loop loop;
    size_t len = 0;
    ssize_t n;

    memset(content, 'x', sizeof content);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    /* So that it takes all at once; not granted, it shows less. */
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    assert_int_equal(loop_open(&loop, 0), 0);
    fds_force(&fds, FD_CLIENT);
    sending.conn = conn_open(&loop, pair[0], true, NULL, &account);
    conn_start(sending.conn, &events, NULL);
    body_init(&body, &loop);
    body_push_copy(&body, slice_of(content, sizeof content));
    body_end(&body);
    h1_send_init(&sending, (struct content){CONTENT_LENGTH, sizeof content});

    assert_true(h1_send_body(&sending, &body, false) >= 0);
    while ((n = read(pair[1], got + len, sizeof got - len)) > 0) {
        len += (size_t)n;
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    assert_true(body_is_done(&body));
    assert_int_equal(len, sizeof content);
    assert_memory_equal(got, content, sizeof content);

    body_deinit(&body);
    conn_close(sending.conn);
    loop_run(&loop);
    assert_int_equal(loop_close(&loop), 0);
    buffer_deinit(&scratch);
    close(pair[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_another_length_than_announced_is_not_sent),
        cmocka_unit_test(content_in_more_pieces_than_a_write_takes_is_sent_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
