/* The promises of proxy/transport/conn.h: a conn on one end of a pair of sockets, the test on the
 * other. */
#include "conn_world.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define FLOOD_BYTES (4 * 1024 * 1024)

/* Queues more than the socket takes: the bytes count up. */
static void flood(struct conn *conn, size_t len) {
    char *bytes = xmalloc(len);
    uv_buf_t buf = uv_buf_init(bytes, (unsigned)len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 31 >> 4);
    assert_int_equal(conn_send(conn, &buf, 1), CONN_QUEUED);
    free(bytes); /* it was copied */
}

/* Reads what there is, slowly; true when all @len bytes have come as flood() sent them. */
static bool drink(size_t *got, size_t len) {
    char some[60000];
    ssize_t n = hear(wire, some, sizeof some);

    assert_true(n > 0 || n == -EAGAIN);
    for (ssize_t i = 0; i < n; i++, ++*got)
        assert_int_equal((uint8_t)some[i], (uint8_t)(*got * 31 >> 4));
    return *got == len;
}

static void bytes_arrive_both_ways(void **state) {
    uv_buf_t bufs[] = {uv_buf_init((char *)"a", 1), uv_buf_init((char *)"bc", 2)};
    char text[16];

    SAY(wire, "hello");
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
    assert_memory_equal(codec.heard.base, "hello", 5);
    assert_int_equal(conn_send(codec.conn, bufs, 2), CONN_SENT);
    assert_int_equal(hear(wire, text, sizeof text), 3);
    assert_string_equal(text, "abc");
    assert_int_equal(codec.drains, 0);
}

static void a_slow_reader_gets_every_byte_in_order(void **state) {
    size_t got = 0;

    flood(codec.conn, FLOOD_BYTES);
    assert_false(conn_is_drained(codec.conn));
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, codec.drains == 1);
    assert_int_equal(codec.errors, 0);
    assert_int_equal(send_text(codec.conn, "x"), CONN_SENT);
}

static void what_is_sent_behind_a_queue_waits_for_its_turn(void **state) {
    size_t got = 0;
    char text[8];

    flood(codec.conn, FLOOD_BYTES);
    assert_int_equal(send_text(codec.conn, "after"), CONN_QUEUED);
    spin(&loops[0], NULL);
    assert_int_equal(send_text(codec.conn, "wards"), CONN_QUEUED);
    while (got < FLOOD_BYTES) {
        char some[1000];
        size_t want = FLOOD_BYTES - got < sizeof some ? FLOOD_BYTES - got : sizeof some - 1;
        ssize_t n = recv(wire, some, want, 0);

        if (n < 0)
            spin(&loops[0], NULL);
        got += n > 0 ? (size_t)n : 0;
    }
    AWAIT(&loops[0], NULL, codec.drains == 1);
    assert_int_equal(hear(wire, text, 6), 5);
    assert_string_equal(text, "after");
    assert_int_equal(hear(wire, text, 6), 5);
    assert_string_equal(text, "wards");
}

static void a_paused_conn_leaves_bytes_with_the_sender(void **state) {
    conn_pause(codec.conn);
    SAY(wire, "later");
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.heard.len, 0);
    conn_resume(codec.conn);
    conn_resume(codec.conn);
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
}

/* As an acceptor opens it: with what the client has said meanwhile. */
static void start_new(const char *said) {
    int pair[2];

    stream_pair(pair);
    wire = pair[0];
    SAY(wire, said);
    make_conn(&codec, &loops[0], pair[1], true)->is_new = true;
    conn_start(codec.conn, &codec_events, &codec);
    assert_int_equal(codec.heard.len, 0); /* not from within the call */
}

static void a_new_conn_is_heard_at_once_and_then_watched(void **state) {
    start_new("hello");
    conn_look(codec.conn);
    assert_int_equal(codec.heard.len, 5);
    SAY(wire, "again");
    AWAIT(&loops[0], NULL, codec.heard.len == 10);
}

static void a_new_conn_that_is_silent_is_watched(void **state) {
    start_new("");
    conn_look(codec.conn);
    SAY(wire, "hello");
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
}

static void a_new_conn_that_has_all_is_not_watched_before_it_takes_long(void **state) {
    start_new("hello");
    conn_has_all(codec.conn);
    conn_look(codec.conn);
    assert_int_equal(codec.heard.len, 5);
    assert_false(uv_is_active(&codec.conn->uv.handle));
    close(wire);
    wire = -1;
    AWAIT(&loops[0], NULL, codec.eofs == 1);
}

static void a_new_conn_that_has_all_is_watched_when_it_is_resumed(void **state) {
    start_new("hello");
    conn_has_all(codec.conn);
    conn_look(codec.conn);
    conn_resume(codec.conn);
    assert_true(uv_is_active(&codec.conn->uv.handle));
}

/* As an answer that ends its connection does it: nothing that libuv could do is needed. */
static void a_new_conn_that_is_never_watched_is_never_libuvs(void **state) {
    char text[4];

    start_new("hello");
    conn_has_all(codec.conn);
    conn_look(codec.conn);
    assert_int_equal(send_text(codec.conn, "you"), CONN_SENT);
    conn_close(codec.conn);
    conn_close(codec.conn);
    assert_null(codec.conn->sock);
    assert_int_equal(codec.closed, 0); /* not from within the call */
    assert_int_equal(loops[0].conns, 1);
    assert_int_equal(hear(wire, text, sizeof text), 3);
    assert_int_equal(hear(wire, text, sizeof text), 0);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.used_at_close, 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    assert_int_equal(gate_taken(&gate), 0);
    assert_int_equal(loops[0].conns, 0);
}

static void what_a_new_conn_cannot_send_at_once_follows(void **state) {
    size_t got = 0;

    start_new("hello");
    conn_has_all(codec.conn);
    conn_look(codec.conn);
    flood(codec.conn, FLOOD_BYTES);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, codec.drains == 1);
}

static void a_new_conn_that_was_not_watched_lingers(void **state) {
    char text[4];

    start_new("hello");
    conn_has_all(codec.conn);
    conn_look(codec.conn);
    conn_linger(codec.conn, 3600 * NS_PER_S, SIZE_MAX);
    assert_int_equal(hear(wire, text, sizeof text), 0);
    SAY(wire, "more");
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.closed, 0);
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.heard.len, 5);
}

static void a_new_conn_that_is_paused_stays_so(void **state) {
    codec.is_pausing_on_data = true;
    start_new("hello");
    conn_look(codec.conn);
    assert_int_equal(codec.heard.len, 5);
    SAY(wire, "again");
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.heard.len, 5);
    codec.is_pausing_on_data = false;
    conn_resume(codec.conn);
    AWAIT(&loops[0], NULL, codec.heard.len == 10);
}

/* What another conn has lent the turn is in the buffer that both are read to. */
static void a_new_conn_is_not_heard_within_a_turn(void **state) {
    start_new("hello");
    loops[0].in_turn = true;
    conn_look(codec.conn);
    loops[0].in_turn = false;
    assert_int_equal(codec.heard.len, 0);
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
}

static void a_half_close_leaves_the_other_direction_open(void **state) {
    char text[16];

    SAY(wire, "last");
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.eofs == 1);
    assert_int_equal(codec.heard.len, 4);
    assert_int_equal(send_text(codec.conn, "answer"), CONN_SENT);
    conn_finish(codec.conn);
    assert_int_equal(hear(wire, text, sizeof text), 6);
    assert_int_equal(hear(wire, text, sizeof text), 0);
    assert_int_equal(codec.closed, 0);
    assert_int_equal(send_text(codec.conn, "more"), -EPIPE);
}

static void the_end_is_told_once(void **state) {
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.eofs == 1);
    conn_resume(codec.conn); /* as a body does whose window has room again */
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.eofs, 1);
    assert_int_equal(codec.errors, 0);
}

static void finish_sends_what_is_queued_first(void **state) {
    size_t got = 0;
    char text[4];

    flood(codec.conn, FLOOD_BYTES);
    conn_finish(codec.conn);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == 0);
    assert_int_equal(codec.closed, 0);
    SAY(wire, "still heard");
    AWAIT(&loops[0], NULL, codec.heard.len == 11);
}

static void close_drops_what_is_unsent_and_is_idempotent(void **state) {
    struct conn *conn = codec.conn;

    flood(conn, FLOOD_BYTES);
    conn_close(conn);
    conn_close(conn);
    assert_int_equal(send_text(conn, "x"), -EPIPE);
    conn_pause(conn);
    conn_resume(conn);
    conn_linger(conn, NS_PER_S, 1000);
    assert_int_equal(codec.closed, 0); /* not from within the call */
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.drains + codec.errors + codec.eofs, 0);
}

static void a_conn_may_be_closed_as_its_data_is_read(void **state) {
    codec.is_closing_on_data = true;
    SAY(wire, "x");
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.heard.len, 1);
}

static void fd_and_right_are_given_back_only_when_the_close_is_complete(void **state) {
    conn_close(codec.conn);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 1);
    assert_int_equal(gate_taken(&gate), 1);
    assert_int_equal(loops[0].conns, 1);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.used_at_close, 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    assert_int_equal(gate_taken(&gate), 0);
}

/* --- The end of a connection ----------------------------------------------------------------- */

static void reset_gives_the_other_side_econnreset(void **state) {
    char text[4];

    assert_int_equal(send_text(codec.conn, "half of"), CONN_SENT);
    conn_reset(codec.conn);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == -ECONNRESET);
}

/* With the last bytes, not behind them: they wait for it. */
static void an_end_that_follows_goes_with_the_last_bytes(void **state) {
    char text[16];

    conn_end_follows(codec.conn);
    assert_int_equal(send_text(codec.conn, "farewell"), CONN_SENT);
    assert_int_equal(hear(wire, text, sizeof text), -EAGAIN);
    conn_close(codec.conn);
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == 8);
    assert_string_equal(text, "farewell");
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == 0);
}

static void a_reset_by_the_other_side_is_an_error(void **state) {
    reset_socket(&wire);
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_int_equal(codec.err, -ECONNRESET);
    assert_int_equal(codec.closed, 0); /* closing is the codec's */
}

static void a_queue_to_a_reset_connection_is_an_error(void **state) {
    conn_pause(codec.conn);
    flood(codec.conn, FLOOD_BYTES);
    reset_socket(&wire);
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_true(codec.err == -ECONNRESET || codec.err == -EPIPE);
    assert_int_equal(codec.drains, 0);
}

static void linger_lets_the_last_message_be_read_by_one_who_still_sends(void **state) {
    char some[64 * 1024] = {0}, text[16];

    assert_int_equal(send_text(codec.conn, "go away"), CONN_SENT);
    conn_linger(codec.conn, 5 * NS_PER_S, SIZE_MAX);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(send(wire, some, sizeof some, MSG_NOSIGNAL) > 0 || errno == EAGAIN);
        spin(&loops[0], NULL);
    }
    assert_int_equal(hear(wire, text, sizeof text), 7);
    assert_string_equal(text, "go away");
    assert_int_equal(hear(wire, text, sizeof text), 0); /* our side is closed */
    assert_int_equal(codec.heard.len, 0);               /* thrown away */
    assert_int_equal(codec.closed, 0);
    close(wire);
    wire = -1;
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.eofs + codec.errors, 0);
}

static void linger_sends_what_is_queued_first(void **state) {
    size_t got = 0;
    char text[4];

    flood(codec.conn, FLOOD_BYTES);
    conn_linger(codec.conn, 20 * NS_PER_S, SIZE_MAX);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == 0);
    assert_int_equal(codec.closed, 0);
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.drains, 0);
}

static void linger_ends_by_time(void **state) {
    int64_t before_ns = clock_now_ns();

    loops[0].now_ns = before_ns;
    conn_linger(codec.conn, 20 * NS_PER_MS, SIZE_MAX);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_true(clock_now_ns() - before_ns >= 20 * NS_PER_MS);
}

static void linger_ends_by_bytes(void **state) {
    conn_linger(codec.conn, 3600 * NS_PER_S, 10);
    SAY(wire, "0123456789");
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.closed, 0);
    SAY(wire, "x");
    AWAIT(&loops[0], NULL, codec.closed == 1);
}

static void linger_after_the_other_sides_end_closes_at_once(void **state) {
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.eofs == 1);
    conn_linger(codec.conn, 3600 * NS_PER_S, SIZE_MAX);
    AWAIT(&loops[0], NULL, codec.closed == 1);
}

static void linger_after_the_other_sides_end_still_sends_what_is_queued(void **state) {
    size_t got = 0;

    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.eofs == 1);
    flood(codec.conn, FLOOD_BYTES);
    conn_linger(codec.conn, 3600 * NS_PER_S, SIZE_MAX);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, codec.closed == 1);
}

static void a_lingering_conn_hears_no_more_of_a_reset(void **state) {
    conn_linger(codec.conn, 3600 * NS_PER_S, SIZE_MAX);
    reset_socket(&wire);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.errors, 0);
}

/* --- From loop to loop ----------------------------------------------------------------------- */

static void an_exported_connection_goes_on_elsewhere_with_its_bytes(void **state) {
    struct conn_account account = {&fds, FD_CLIENT, &gate};
    struct codec other = {0};
    struct conn_parcel parcel;
    char text[16];

    conn_pause(codec.conn);
    SAY(wire, "unread");
    codec.conn->account.right = NULL; /* it travels */
    assert_int_equal(conn_export(codec.conn, &parcel), 0);
    assert_null(parcel.tls);
    assert_true(fcntl(parcel.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 2); /* the old one is not closed yet */
    other.conn = conn_open(&loops[1], parcel.fd, true, NULL, &account);
    conn_start(other.conn, &codec_events, &other);
    AWAIT(&loops[0], &loops[1], other.heard.len == 6 && codec.closed == 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 1);
    assert_int_equal(gate_taken(&gate), 1);
    assert_int_equal(send_text(other.conn, "back"), CONN_SENT);
    assert_int_equal(hear(wire, text, sizeof text), 4);
    assert_int_equal(codec.heard.len + codec.eofs + codec.errors, 0);
    conn_close(other.conn);
    AWAIT(&loops[0], &loops[1], other.closed == 1);
    buffer_deinit(&other.heard);
}

/* --- Dialling -------------------------------------------------------------------------------- */

static unsigned dialled;
static int dial_err;

static void on_dialled(struct conn *conn, int err) {
    assert_ptr_equal(conn->codec, &codec);
    dialled++;
    dial_err = err;
}

static int listen_on(struct sockaddr_in *address, int backlog) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *address;

    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static void dial_to(const void *address) {
    struct conn_account account = {&fds, FD_CLIENT, NULL};

    dialled = 0;
    dial_err = 1;
    fds_force(&fds, FD_CLIENT);
    assert_int_equal(conn_dial(&codec.conn, &loops[0], address, &account, NULL, on_dialled, &codec),
                     0);
}

static void a_dialled_conn_is_like_any_other(void **state) {
    struct sockaddr_in address;
    int listener = listen_on(&address, 1);

    dial_to(&address);
    AWAIT(&loops[0], NULL, dialled == 1);
    assert_int_equal(dial_err, 0);
    conn_start(codec.conn, &codec_events, &codec);
    wire = accept(listener, NULL, NULL);
    SAY(wire, "hi");
    AWAIT(&loops[0], NULL, codec.heard.len == 2);
    close(listener);
}

static void a_refused_dial_says_so_once(void **state) {
    struct sockaddr_in address;
    int listener = listen_on(&address, -1); /* bound, but nobody listens */

    dial_to(&address);
    AWAIT(&loops[0], NULL, dialled == 1);
    assert_int_equal(dial_err, -ECONNREFUSED);
    conn_close(codec.conn);
    settle_down(&loops[0], NULL);
    assert_int_equal(dialled, 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    codec.conn = NULL;
    close(listener);
}

static void a_dial_to_a_socket_file_that_is_not_there_says_so(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/nowhere/socket"};

    dial_to(&address);
    AWAIT(&loops[0], NULL, dialled == 1);
    assert_int_equal(dial_err, -ENOENT);
    conn_close(codec.conn);
    settle_down(&loops[0], NULL);
    codec.conn = NULL;
}

static void a_dial_that_is_closed_says_nothing(void **state) {
    struct sockaddr_in address;
    int listener = listen_on(&address, 1);

    dial_to(&address);
    conn_close(codec.conn);
    settle_down(&loops[0], NULL);
    assert_int_equal(dialled, 0);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    codec.conn = NULL;
    close(listener);
}

static void an_address_reads_as_text(void **state) {
    union conn_address address = {.in = {.sin_family = AF_INET}};
    char text[INET6_ADDRSTRLEN];

    address.in.sin_addr.s_addr = htonl(0xc0000201);
    assert_true(slice_equal(conn_address_text(&address, text), SLICE("192.0.2.1")));
    for (unsigned octet = 0; octet < 256; octet++) {
        char expected[INET6_ADDRSTRLEN];
        unsigned char *octets = (unsigned char *)&address.in.sin_addr;

        octets[0] = octets[3] = (unsigned char)octet;
        inet_ntop(AF_INET, octets, expected, sizeof expected);
        assert_true(slice_equal(conn_address_text(&address, text), slice_str(expected)));
    }
    address = (union conn_address){.in6 = {.sin6_family = AF_INET6}};
    address.in6.sin6_addr.s6_addr[0] = 0x20;
    address.in6.sin6_addr.s6_addr[15] = 1;
    assert_true(slice_equal(conn_address_text(&address, text), SLICE("2000::1")));
    address.in6.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 255, [11] = 255, 192, 0, 2, 7}};
    assert_true(slice_equal(conn_address_text(&address, text), SLICE("192.0.2.7")));
    address = (union conn_address){.any = {.sa_family = AF_UNSPEC}};
    assert_true(slice_equal(conn_address_text(&address, text), SLICE("unix")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_PAIR(bytes_arrive_both_ways),
        ON_PAIR(a_slow_reader_gets_every_byte_in_order),
        ON_PAIR(what_is_sent_behind_a_queue_waits_for_its_turn),
        ON_PAIR(a_paused_conn_leaves_bytes_with_the_sender),
        ON_PAIR(a_half_close_leaves_the_other_direction_open),
        ON_PAIR(the_end_is_told_once),
        ON_PAIR(finish_sends_what_is_queued_first),
        ON_PAIR(close_drops_what_is_unsent_and_is_idempotent),
        ON_PAIR(a_conn_may_be_closed_as_its_data_is_read),
        ON_PAIR(fd_and_right_are_given_back_only_when_the_close_is_complete),
        ON_TCP(bytes_arrive_both_ways),
        ON_TCP(a_slow_reader_gets_every_byte_in_order),
        ON_TCP(reset_gives_the_other_side_econnreset),
        ON_TCP(an_end_that_follows_goes_with_the_last_bytes),
        ON_TCP(a_reset_by_the_other_side_is_an_error),
        ON_TCP(a_queue_to_a_reset_connection_is_an_error),
        ON_TCP(linger_lets_the_last_message_be_read_by_one_who_still_sends),
        ON_TCP(linger_sends_what_is_queued_first),
        ON_TCP(linger_ends_by_time),
        ON_TCP(linger_ends_by_bytes),
        ON_TCP(linger_after_the_other_sides_end_closes_at_once),
        ON_TCP(linger_after_the_other_sides_end_still_sends_what_is_queued),
        ON_TCP(a_lingering_conn_hears_no_more_of_a_reset),
        ON_PAIR(an_exported_connection_goes_on_elsewhere_with_its_bytes),
        ON_LOOPS(a_new_conn_is_heard_at_once_and_then_watched),
        ON_LOOPS(a_new_conn_that_is_silent_is_watched),
        ON_LOOPS(a_new_conn_that_has_all_is_not_watched_before_it_takes_long),
        ON_LOOPS(a_new_conn_that_has_all_is_watched_when_it_is_resumed),
        ON_LOOPS(a_new_conn_that_is_never_watched_is_never_libuvs),
        ON_LOOPS(what_a_new_conn_cannot_send_at_once_follows),
        ON_LOOPS(a_new_conn_that_was_not_watched_lingers),
        ON_LOOPS(a_new_conn_that_is_paused_stays_so),
        ON_LOOPS(a_new_conn_is_not_heard_within_a_turn),
        ON_LOOPS(a_dialled_conn_is_like_any_other),
        ON_LOOPS(a_refused_dial_says_so_once),
        ON_LOOPS(a_dial_to_a_socket_file_that_is_not_there_says_so),
        ON_LOOPS(a_dial_that_is_closed_says_nothing),
        cmocka_unit_test(an_address_reads_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
