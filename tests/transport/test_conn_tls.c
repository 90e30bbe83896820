/* What conn.h promises, over TLS: a conn on one end of a pair of sockets, OpenSSL as everybody else
 * uses it on the other. The two defects of libh2o's own TLS (uv_cure.h) are looked for here too:
 * reads that fill a buffer exactly, and resets. */
#include "conn_world.h"

#include "base/alloc.h"
#include "support/certs.h"
#include "transport/conn_parts.h"
#include "transport/tls_server.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define FLOOD_BYTES (8 * 1024 * 1024) /* beyond what the peer's socket may grow to */
#define RESETS 20
#define RECORD_OVERHEAD 22 /* TLS 1.3: header 5, type 1, tag 16 */

static struct certs certs;
static struct config_certificate pair;
static struct config_listener listener;
static struct tls_server *server;
static SSL_CTX *peer_ctx;

static SSL *peer;

static void on_ready(struct conn *conn, int err) {
    struct codec *own = conn->codec;

    own->readies++;
    own->ready_err = err;
    if (!err)
        conn_start(conn, &codec_events, own);
}

/* The peer's side of the handshake, one step; true when it is through. */
static bool peer_shakes(void) {
    int result = SSL_do_handshake(peer);

    if (result != 1 && SSL_get_error(peer, result) != SSL_ERROR_WANT_READ)
        fail_msg("the peer: %s", ERR_reason_error_string(ERR_peek_error()));
    return result == 1;
}

/* Gives the first flight as the handshakes of clients do. */
static void secure(void) {
    struct buffer first = codec.heard;

    codec.heard = (struct buffer){0};
    assert_int_equal(
        conn_secure(codec.conn, tls_server_accept(server), buffer_slice(&first), on_ready), 0);
    buffer_deinit(&first);
}

/* Its first flight is on the way. */
static void start_peer(const int ends[2], bool is_unix) {
    /* So that the kernel does not take a whole flood. */
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int));
    wire = ends[0];
    codec = (struct codec){0};
    open_conn(&codec, &loops[0], ends[1], is_unix);
    peer = SSL_new(peer_ctx);
    SSL_set_fd(peer, wire);
    SSL_set_connect_state(peer);
    assert_false(peer_shakes());
    AWAIT(&loops[0], NULL, codec.heard.len > 0);
}

static void connect_peer(const int ends[2], bool is_unix) {
    start_peer(ends, is_unix);
    secure();
    AWAIT(&loops[0], NULL, peer_shakes() && codec.readies == 1);
    assert_int_equal(codec.ready_err, 0);
    assert_true(conn_is_secure(codec.conn));
}

static int open_world(void **state) {
    open_loops(NULL);
    peer_ctx = certs_context(&certs, TLS_client_method(), NULL);
    return 0;
}

static int set_up_1_3(void **state) {
    int ends[2];

    open_world(NULL);
    tcp_pair(ends);
    connect_peer(ends, false);
    return 0;
}

static int set_up_1_2(void **state) {
    int ends[2];

    open_world(NULL);
    SSL_CTX_set_max_proto_version(peer_ctx, TLS1_2_VERSION);
    stream_pair(ends);
    connect_peer(ends, true);
    return 0;
}

static int end_world(void **state) {
    tear_down(NULL);
    SSL_free(peer);
    peer = NULL;
    SSL_CTX_free(peer_ctx);
    return 0;
}

static int open_group(void **state) {
    char *why = NULL;

    certs_open(&certs);
    CERTS_MAKE(&certs, .file = "a", .name = "a.example");
    pair.cert = xstrdup(certs_path(&certs, "a.crt"));
    pair.key = xstrdup(certs_path(&certs, "a.key"));
    listener = (struct config_listener){.name = (char *)"l",
                                        .tls = {.certificates = &pair, .certificate_count = 1}};
    assert_int_equal(tls_server_open(&server, &listener, &why), 0);
    return 0;
}

static int close_group(void **state) {
    tls_server_close(server);
    free(pair.cert);
    free(pair.key);
    certs_close(&certs);
    return 0;
}

#define PATTERN(i) ((char)((i)*31 >> 4))

static char *make_bytes(size_t len) {
    char *bytes = xmalloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = PATTERN(i);
    return bytes;
}

static ssize_t peer_hears(char *to, size_t max) {
    int n = SSL_read(peer, to, (int)max);

    if (n > 0)
        return n;
    switch (SSL_get_error(peer, n)) {
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return -EIO;
    }
}

/* Queues more than the socket takes. */
static void flood(void) {
    char *bytes = make_bytes(FLOOD_BYTES);
    uv_buf_t buf = uv_buf_init(bytes, FLOOD_BYTES);

    assert_int_equal(conn_send(codec.conn, &buf, 1), CONN_QUEUED);
    free(bytes);
}

static bool drink(size_t *got, size_t len) {
    static char some[60000];
    ssize_t n = peer_hears(some, sizeof some);

    assert_true(n > 0 || n == -EAGAIN);
    for (ssize_t i = 0; i < n; i++, ++*got)
        assert_int_equal(some[i], PATTERN(*got));
    return *got == len;
}

static unsigned count_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

static void bytes_arrive_both_ways(void **state) {
    uv_buf_t bufs[] = {uv_buf_init((char *)"a", 1), uv_buf_init((char *)"bc", 2)};
    char text[16];

    assert_int_equal(SSL_write(peer, "hello", 5), 5);
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
    assert_memory_equal(codec.heard.base, "hello", 5);
    assert_int_equal(conn_send(codec.conn, bufs, 2), CONN_SENT);
    assert_int_equal(peer_hears(text, sizeof text), 3); /* one record */
    assert_memory_equal(text, "abc", 3);
    assert_int_equal(codec.drains, 0);
}

static void a_slow_reader_gets_every_byte_in_order(void **state) {
    size_t got = 0;

    flood();
    assert_int_equal(codec.drains, 0);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, codec.drains == 1);
}

static void pieces_of_any_size_make_the_same_stream(void **state) {
    static const size_t sizes[] = {1, 300, 16383, 16384, 16385, 5, 40000, 70000, 3};
    uv_buf_t bufs[sizeof sizes / sizeof *sizes];
    size_t len = 0, got = 0;
    char *bytes = make_bytes(200000);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bufs[i] = uv_buf_init(bytes + len, (unsigned)sizes[i]);
        len += sizes[i];
    }
    assert_true(conn_send(codec.conn, bufs, sizeof sizes / sizeof *sizes) >= 0);
    free(bytes);
    AWAIT(&loops[0], NULL, drink(&got, len));
}

/* Defect A: what fills the read buffer to its last byte is followed by "nothing more for now". */
static void an_upload_of_any_size_arrives(void **state) {
    static const size_t sizes[] = {4096, 8192, 16384, 32768, 65536, 110592, 131072, 262144};
    size_t max = sizes[sizeof sizes / sizeof *sizes - 1] + 1;
    char *bytes = make_bytes(max);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int more = -1; more <= 1; more++) {
            size_t plain = (size_t)((ssize_t)sizes[i] + more), sent = 0;

            /* Once as much content, once as many bytes on the wire. */
            for (int as_records = 0; as_records < 2; as_records++, sent = 0) {
                size_t want = plain - (as_records ? RECORD_OVERHEAD * (plain / 16406 + 1) : 0);

                codec.heard.len = 0;
                while (sent < want) {
                    int n = SSL_write(peer, bytes + sent, (int)(want - sent));

                    sent += n > 0 ? (size_t)n : 0;
                    if (n <= 0)
                        spin(&loops[0], NULL);
                }
                AWAIT(&loops[0], NULL, codec.heard.len >= want);
                assert_int_equal(codec.heard.len, want);
                assert_memory_equal(codec.heard.base, bytes, want);
                assert_int_equal(codec.errors + codec.eofs, 0);
            }
        }
    }
    free(bytes);
}

/* Everything is there before the conn looks: whole records, and a part of one. */
static void records_are_decrypted_in_place_wherever_reads_cut_them(void **state) {
    char *bytes = make_bytes(1000000);
    size_t sent = 0;
    int n = 1;

    SSL_set_mode(peer, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    while (sent < 1000000) {
        while (sent < 1000000 && (n = SSL_write(peer, bytes + sent, (int)(1000000 - sent))) > 0)
            sent += (size_t)n;
        spin(&loops[0], NULL);
    }
    AWAIT(&loops[0], NULL, codec.heard.len == 1000000);
    assert_memory_equal(codec.heard.base, bytes, 1000000);
    free(bytes);
}

static void a_paused_conn_leaves_bytes_with_the_sender(void **state) {
    char *bytes = make_bytes(FLOOD_BYTES);
    int n;

    conn_pause(codec.conn);
    SSL_set_mode(peer, SSL_MODE_ENABLE_PARTIAL_WRITE);
    while ((n = SSL_write(peer, bytes, FLOOD_BYTES)) > 0)
        spin(&loops[0], NULL);
    assert_int_equal(SSL_get_error(peer, n), SSL_ERROR_WANT_WRITE);
    assert_int_equal(codec.heard.len, 0);
    conn_resume(codec.conn);
    AWAIT(&loops[0], NULL, codec.heard.len > 0);
    free(bytes);
}

static void a_key_update_changes_nothing(void **state) {
    char text[16];

    assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(peer, "after", 5), 5);
    AWAIT(&loops[0], NULL, codec.heard.len == 5);
    assert_int_equal(send_text(codec.conn, "reply"), CONN_SENT);
    AWAIT(&loops[0], NULL, peer_hears(text, sizeof text) == 5);
    assert_int_equal(codec.errors, 0);
}

/* --- Ends ------------------------------------------------------------------------------------- */

static void close_notify_is_an_end_and_leaves_the_other_direction_open(void **state) {
    char text[16];

    assert_int_equal(SSL_write(peer, "last", 4), 4);
    assert_int_equal(SSL_shutdown(peer), 0);
    AWAIT(&loops[0], NULL, codec.eofs == 1);
    assert_int_equal(codec.heard.len, 4);
    assert_int_equal(send_text(codec.conn, "still"), CONN_SENT);
    assert_int_equal(peer_hears(text, sizeof text), 5);
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.eofs, 1);
    assert_int_equal(codec.errors, 0);
}

static void an_end_without_close_notify_is_an_error(void **state) {
    assert_int_equal(SSL_write(peer, "last", 4), 4);
    shutdown(wire, SHUT_WR);
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_int_equal(codec.err, -ECONNRESET);
    assert_int_equal(codec.heard.len, 4);
    assert_int_equal(codec.eofs, 0);
}

static void finish_says_close_notify_behind_what_is_queued(void **state) {
    size_t got = 0;
    char text[16];

    flood();
    conn_finish(codec.conn);
    assert_int_equal(send_text(codec.conn, "late"), -EPIPE);
    AWAIT(&loops[0], NULL, drink(&got, FLOOD_BYTES));
    AWAIT(&loops[0], NULL, peer_hears(text, sizeof text) == 0);
    assert_int_equal(SSL_write(peer, "open", 4), 4); /* the other direction */
    AWAIT(&loops[0], NULL, codec.heard.len == 4);
}

static void close_says_close_notify(void **state) {
    char text[16];

    conn_close(codec.conn);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(peer_hears(text, sizeof text), 0);
}

static void reset_says_nothing(void **state) {
    char text[16];

    conn_reset(codec.conn);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(peer_hears(text, sizeof text), -EIO);
}

static void linger_lets_the_last_message_be_read_by_one_who_still_sends(void **state) {
    static char junk[4096];
    char text[16];

    assert_int_equal(send_text(codec.conn, "bye"), CONN_SENT);
    conn_linger(codec.conn, 10 * NS_PER_S, CONN_LINGER_BYTES_MAX);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(SSL_write(peer, junk, sizeof junk), sizeof junk);
        spin(&loops[0], NULL);
    }
    assert_int_equal(codec.closed, 0);
    assert_int_equal(codec.heard.len, 0);
    assert_int_equal(peer_hears(text, sizeof text), 3);
    assert_int_equal(peer_hears(text, sizeof text), 0);
    close(wire);
    wire = -1;
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(codec.errors + codec.eofs, 0);
}

static void garbage_instead_of_a_record_is_an_error_with_an_alert(void **state) {
    char text[16];

    SAY(wire, "this is no record at all");
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_int_equal(codec.err, TLS_ERR_PROTOCOL);
    assert_int_equal(peer_hears(text, sizeof text), -EIO);
    assert_true(ERR_GET_REASON(ERR_get_error()) > 1000); /* an alert */
}

/* Defect B: nobody calls back about a write that failed at once. */
static void resets_leak_nothing_at_any_time(void **state) {
    enum { SHAKING, IDLE, PAUSED_AND_SENDING, QUEUED, TIMES };
    unsigned before = 0;

    for (unsigned i = 0; i < (RESETS + 1) * TIMES; i++) {
        struct linger linger = {1, 0};
        int ends[2];

        if (i == TIMES)
            before = count_fds(); /* what libraries open once is open */
        tcp_pair(ends);
        if (i % TIMES == SHAKING)
            start_peer(ends, false);
        else
            connect_peer(ends, false);
        if (i % TIMES == PAUSED_AND_SENDING)
            conn_pause(codec.conn);
        if (i % TIMES == QUEUED)
            flood();
        setsockopt(wire, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(wire);
        wire = -1;
        if (i % TIMES == SHAKING) {
            struct buffer first = codec.heard;
            int err;

            codec.heard = (struct buffer){0};
            /* The server's flight goes to a connection that is gone. */
            err =
                conn_secure(codec.conn, tls_server_accept(server), buffer_slice(&first), on_ready);
            buffer_deinit(&first);
            AWAIT(&loops[0], NULL, err || codec.readies == 1 || codec.errors == 1);
            assert_true(err < 0 || codec.ready_err < 0 || codec.err < 0);
        } else if (i % TIMES == PAUSED_AND_SENDING) {
            int64_t until_ns = clock_now_ns() + PATIENCE_NS;

            while (send_text(codec.conn, "x") >= 0 && clock_now_ns() < until_ns)
                spin(&loops[0], NULL);
            assert_true(send_text(codec.conn, "x") < 0);
        } else {
            AWAIT(&loops[0], NULL, codec.errors >= 1);
        }
        conn_close(codec.conn);
        AWAIT(&loops[0], NULL, codec.closed == 1);
        SSL_free(peer);
        peer = NULL;
        buffer_deinit(&codec.heard);
    }
    assert_int_equal(count_fds(), before);
}

/* --- Handshakes ------------------------------------------------------------------------------- */

static void what_is_no_tls_fails_with_a_reason(void **state) {
    int ends[2];

    tcp_pair(ends);
    wire = ends[0];
    open_conn(&codec, &loops[0], ends[1], false);
    SAY(wire, "GET / HTTP/1.1\r\n\r\n");
    AWAIT(&loops[0], NULL, codec.heard.len > 0);
    assert_int_equal(
        conn_secure(codec.conn, tls_server_accept(server), buffer_slice(&codec.heard), on_ready),
        TLS_ERR_PROTOCOL);
    assert_string_equal(tls_why(codec.conn->tls), "http request");
    assert_int_equal(codec.readies, 0);
}

/* RFC 7301 section 3.2. */
static void a_client_that_wants_another_protocol_gets_an_alert(void **state) {
    int ends[2], result;

    tcp_pair(ends);
    SSL_CTX_set_alpn_protos(peer_ctx, (const unsigned char *)"\x04nntp", 5);
    start_peer(ends, false);
    assert_int_equal(
        conn_secure(codec.conn, tls_server_accept(server), buffer_slice(&codec.heard), on_ready),
        TLS_ERR_PROTOCOL);
    result = SSL_do_handshake(peer);
    assert_int_equal(SSL_get_error(peer, result), SSL_ERROR_SSL);
    assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
}

/* --- From loop to loop ------------------------------------------------------------------------ */

static void an_exported_connection_goes_on_elsewhere(void **state) {
    struct conn_account account = {&fds, FD_CLIENT, &gate};
    struct codec other = {0};
    struct conn_parcel parcel;
    char text[16];

    conn_pause(codec.conn);
    assert_int_equal(SSL_write(peer, "unread", 6), 6);
    codec.conn->account.right = NULL;
    assert_int_equal(conn_export(codec.conn, &parcel), 0);
    assert_non_null(parcel.tls);
    other.conn = conn_open(&loops[1], parcel.fd, false, NULL, &account);
    conn_adopt_tls(other.conn, parcel.tls);
    conn_start(other.conn, &codec_events, &other);
    AWAIT(&loops[0], &loops[1], other.heard.len == 6 && codec.closed == 1);
    assert_int_equal(send_text(other.conn, "back"), CONN_SENT);
    assert_int_equal(peer_hears(text, sizeof text), 4);
    conn_close(other.conn);
    AWAIT(&loops[0], &loops[1], other.closed == 1);
    assert_int_equal(peer_hears(text, sizeof text), 0);
    buffer_deinit(&other.heard);
}

#define ON_TLS(test) cmocka_unit_test_setup_teardown(test, set_up_1_3, end_world)
#define ON_TLS_1_2(test) \
    { #test " (TLS 1.2)", test, set_up_1_2, end_world, NULL }
#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, end_world)

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_TLS(bytes_arrive_both_ways),
        ON_TLS(a_slow_reader_gets_every_byte_in_order),
        ON_TLS(pieces_of_any_size_make_the_same_stream),
        ON_TLS(an_upload_of_any_size_arrives),
        ON_TLS(records_are_decrypted_in_place_wherever_reads_cut_them),
        ON_TLS(a_paused_conn_leaves_bytes_with_the_sender),
        ON_TLS(a_key_update_changes_nothing),
        ON_TLS(close_notify_is_an_end_and_leaves_the_other_direction_open),
        ON_TLS(an_end_without_close_notify_is_an_error),
        ON_TLS(finish_says_close_notify_behind_what_is_queued),
        ON_TLS(close_says_close_notify),
        ON_TLS(reset_says_nothing),
        ON_TLS(linger_lets_the_last_message_be_read_by_one_who_still_sends),
        ON_TLS(garbage_instead_of_a_record_is_an_error_with_an_alert),
        ON_TLS(an_exported_connection_goes_on_elsewhere),
        ON_TLS_1_2(bytes_arrive_both_ways),
        ON_TLS_1_2(a_slow_reader_gets_every_byte_in_order),
        ON_TLS_1_2(records_are_decrypted_in_place_wherever_reads_cut_them),
        ON_TLS_1_2(close_notify_is_an_end_and_leaves_the_other_direction_open),
        ON_TLS_1_2(finish_says_close_notify_behind_what_is_queued),
        ON_WORLD(resets_leak_nothing_at_any_time),
        ON_WORLD(what_is_no_tls_fails_with_a_reason),
        ON_WORLD(a_client_that_wants_another_protocol_gets_an_alert),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, open_group, close_group);
}
