/* The promises of proxy/codec/h2_sniff.h: whatever the cut, each client gets the codec of what it
 * speaks, and that codec every byte. */
#include "codec/h2_sniff.h"

#include "base/buffer.h"
#include "support/unit.h"

#include <nghttp2/nghttp2.h>

#include <unistd.h>

static struct {
    struct loop loop;
    struct fds fds;
    struct h2_sniff_loop shared;
    int client;
    struct conn *conn; /* once it is known */
    bool is_http2;
    struct buffer got; /* by its codec */
} t;

static void on_data(struct conn *conn, struct slice bytes) {
    assert_false(conn->is_closed);
    buffer_append(&t.got, bytes);
    if (memchr(bytes.base, '!', bytes.len))
        conn_close(conn);
}

static void on_eof(struct conn *conn) {
    conn_close(conn);
}

static void on_error(struct conn *conn, int err) {
    conn_close(conn);
}

static void on_quiet(struct conn *conn) {
}

static const struct conn_events events = {on_data, on_eof, on_error, on_quiet, on_quiet};

static void on_known(struct h2_sniff_loop *shared, struct conn *conn, bool is_http2) {
    assert_null(t.conn);
    t.conn = conn;
    t.is_http2 = is_http2;
    conn_start(conn, &events, NULL);
}

static int set_up(void **state) {
    struct conn_account account = {&t.fds, FD_CLIENT, NULL};
    int pair[2];

    memset(&t, 0, sizeof t);
    t.fds = (struct fds){.limit = {10, 10, 10, 10}};
    assert_int_equal(loop_open(&t.loop, 0), 0);
    t.shared =
        (struct h2_sniff_loop){.loop = &t.loop, .timeout_ns = 5 * NS_PER_S, .on_known = on_known};
    h2_sniff_loop_init(&t.shared);
    stream_pair(pair);
    t.client = pair[0];
    fds_force(&t.fds, FD_CLIENT);
    h2_sniff_open(&t.shared, conn_open(&t.loop, pair[1], true, NULL, &account));
    return 0;
}

static int tear_down(void **state) {
    close(t.client);
    AWAIT(&t.loop, NULL, fds_used(&t.fds, FD_CLIENT) == 0);
    assert_int_equal(atomic_load(&t.shared.count), 0);
    assert_int_equal(t.loop.wheel.running, 0);
    assert_int_equal(finish_loop(&t.loop), 0);
    buffer_deinit(&t.got);
    return 0;
}

static void say_in_two(struct slice text, size_t cut) {
    if (cut > 0)
        say(t.client, slice_of(text.base, cut));
    settle_down(&t.loop, NULL);
    say(t.client, slice_skip(text, cut));
    AWAIT(&t.loop, NULL, t.got.len == text.len);
    assert_memory_equal(t.got.base, text.base, text.len);
}

static void the_preface_makes_it_http2(void **state) {
    static const struct slice text = {NGHTTP2_CLIENT_MAGIC "more", NGHTTP2_CLIENT_MAGIC_LEN + 4};

    for (size_t cut = 0; cut < text.len; cut++) {
        say_in_two(text, cut);
        assert_true(t.is_http2);
        tear_down(state);
        set_up(state);
    }
}

static void anything_else_is_http1(void **state) {
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "PRI / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx",
        "x",
        "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t cut = 0; cut < strlen(texts[i]); cut++) {
            say_in_two(slice_str(texts[i]), cut);
            assert_false(t.is_http2);
            tear_down(state);
            set_up(state);
        }
}

static void a_codec_that_closes_at_the_first_bytes_gets_no_more(void **state) {
    /* '!' is no byte of the preface: the codec has closed before the rest is handed over. */
    SAY(t.client, "PRI");
    settle_down(&t.loop, NULL);
    SAY(t.client, " !");
    AWAIT(&t.loop, NULL, fds_used(&t.fds, FD_CLIENT) == 0);
    assert_int_equal(t.got.len, 5);
}

static void a_silent_client_is_closed_in_time(void **state) {
    SAY(t.client, "PRI");
    settle_down(&t.loop, NULL);
    travel(&t.loop, 5 * NS_PER_S + NS_PER_MS);
    AWAIT(&t.loop, NULL, fds_used(&t.fds, FD_CLIENT) == 0);
    assert_null(t.conn);
}

static void one_that_leaves_is_forgotten(void **state) {
    SAY(t.client, "PRI");
    settle_down(&t.loop, NULL);
    shutdown(t.client, SHUT_WR);
    AWAIT(&t.loop, NULL, fds_used(&t.fds, FD_CLIENT) == 0);
    assert_null(t.conn);
}

static void all_can_be_closed(void **state) {
    assert_int_equal(atomic_load(&t.shared.count), 1);
    h2_sniff_close_all(&t.shared);
    AWAIT(&t.loop, NULL, atomic_load(&t.shared.count) == 0);
}

#define TEST(promise) cmocka_unit_test_setup_teardown(promise, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_preface_makes_it_http2),
        TEST(anything_else_is_http1),
        TEST(a_codec_that_closes_at_the_first_bytes_gets_no_more),
        TEST(a_silent_client_is_closed_in_time),
        TEST(one_that_leaves_is_forgotten),
        TEST(all_can_be_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
