/* Handshakes of clients: who waits, for how long, and what is said of each. */
#include "transport/handshakes.h"

#include "base/alloc.h"
#include "support/certs.h"
#include "support/unit.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define CLIENTS 5

static struct loop loops[2];
static struct fds fds;
static struct gate connections, gate;
static struct certs certs;
static struct config_certificate pair;
static struct config_listener listener;
static struct tls_server *server;
static struct handshakes handshakes[2];
static unsigned results[HANDSHAKE_RESULTS], secured;

/* A client, and the conn that it got. */
static struct client {
    int fd;
    SSL *ssl;
    struct conn *conn;
    bool is_through;
} clients[CLIENTS];
static SSL_CTX *ctx;

static void on_data(struct conn *conn, struct slice bytes) {
}

static void on_error(struct conn *conn, int err) {
    conn_close(conn);
}

static void on_eof(struct conn *conn) {
    conn_close(conn);
}

static void on_drained(struct conn *conn) {
}

static void on_closed(struct conn *conn) {
    secured--;
}

static const struct conn_events events = {on_data, on_eof, on_error, on_drained, on_closed};

static void on_plain_closed(struct conn *conn) {
}

static const struct conn_events plain_events = {on_data, on_eof, on_error, on_drained,
                                                on_plain_closed};

static bool was_over;

static void on_secured(void *context, struct conn *conn, bool is_over) {
    was_over = is_over;
    assert_ptr_equal(context, &secured);
    assert_true(conn_is_secure(conn));
    secured++;
    conn_start(conn, &events, NULL);
}

static void on_plain(void *context, struct conn *conn) {
    uv_buf_t said = uv_buf_init((char *)"400", 3);

    assert_ptr_equal(context, &secured);
    conn_start(conn, &plain_events, NULL);
    assert_int_equal(conn_send(conn, &said, 1), CONN_SENT);
    conn_linger(conn, 10 * NS_PER_S, SIZE_MAX);
}

static void on_result(void *context, enum handshake_result result, const struct conn *conn,
                      const char *why) {
    assert_ptr_equal(context, &secured);
    results[result]++;
}

static void open_at(unsigned i, int64_t timeout_ns) {
    assert_int_equal(loop_open(&loops[i], i), 0);
    handshakes_init(&handshakes[i], &(struct handshakes_options){
                                        .loop = &loops[i],
                                        .server = server,
                                        .gate = &gate,
                                        .timeout_ns = timeout_ns,
                                        .on_secured = on_secured,
                                        .on_plain = on_plain,
                                        .on_result = on_result,
                                        .ctx = &secured,
                                    });
}

static void open_world(uint32_t limit, int64_t timeout_ns) {
    gate_init(&connections, 100, 10);
    gate_init(&gate, limit, UINT32_MAX);
    fds = (struct fds){.limit = {100, 100, 100, 100}};
    memset(results, 0, sizeof results);
    memset(clients, 0, sizeof clients);
    secured = 0;
    ctx = certs_context(&certs, TLS_client_method(), NULL);
    open_at(0, timeout_ns);
    open_at(1, timeout_ns);
}

static void leave(struct client *client) {
    SSL_free(client->ssl);
    client->ssl = NULL;
    if (client->fd > 0)
        close(client->fd);
    client->fd = 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < CLIENTS; i++)
        leave(&clients[i]);
    AWAIT(&loops[0], &loops[1], loops[0].conns + loops[1].conns == 0);
    SSL_CTX_free(ctx);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(handshakes[i].count, 0);
        assert_int_equal(loops[i].wheel.running, 0);
        assert_int_equal(finish_loop(&loops[i]), 0);
    }
    assert_int_equal(gate_taken(&gate) + atomic_load(&gate.waiting), 0);
    assert_int_equal(gate_taken(&connections), 0);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    gate_deinit(&gate);
    gate_deinit(&connections);
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

/* A connection on loop @at that has said nothing yet. */
static struct client *arrive(unsigned i, unsigned at) {
    struct conn_account account = {&fds, FD_CLIENT, &connections};
    struct client *client = &clients[i];
    int ends[2];

    tcp_pair(ends);
    client->fd = ends[0];
    client->ssl = SSL_new(ctx);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_connect_state(client->ssl);
    assert_true(gate_try(&connections));
    fds_force(&fds, FD_CLIENT);
    client->conn = conn_open(&loops[at], ends[1], false, NULL, &account);
    handshakes_start(&handshakes[at], client->conn, i == CLIENTS - 1);
    return client;
}

static bool shakes(struct client *client) {
    if (!client->is_through && client->ssl)
        client->is_through = SSL_do_handshake(client->ssl) == 1;
    return client->is_through;
}

static void a_client_that_shakes_hands_is_handed_on(void **state) {
    open_world(10, NS_PER_S * 10);
    arrive(0, 0);
    assert_int_equal(handshakes[0].count, 1);
    AWAIT(&loops[0], &loops[1], shakes(&clients[0]) && secured == 1);
    assert_false(was_over);
    arrive(CLIENTS - 1, 0);
    AWAIT(&loops[0], &loops[1], shakes(&clients[CLIENTS - 1]) && secured == 2);
    assert_true(was_over);
    assert_int_equal(results[HANDSHAKE_OK], 2);
    assert_int_equal(handshakes[0].count, 0);
    assert_int_equal(gate_taken(&gate), 0);
}

/* Two of five at once, on two loops; the others are not refused. */
static void beyond_the_limit_clients_wait_their_turn(void **state) {
    open_world(2, NS_PER_S * 10);
    for (unsigned i = 0; i < CLIENTS; i++) {
        arrive(i, i % 2);
        assert_false(shakes(&clients[i])); /* its hello is out */
        AWAIT(&loops[0], &loops[1], gate_taken(&gate) + atomic_load(&gate.waiting) == i + 1);
    }
    assert_int_equal(gate_taken(&gate), 2);
    assert_int_equal(atomic_load(&gate.waiting), 3);
    settle_down(&loops[0], &loops[1]);
    assert_false(shakes(&clients[4])); /* nobody has answered it */
    /* One goes on, one leaves: two others get in. */
    AWAIT(&loops[0], &loops[1], shakes(&clients[0]) && secured == 1);
    leave(&clients[1]);
    AWAIT(&loops[0], &loops[1], atomic_load(&gate.waiting) == 1);
    assert_int_equal(gate_taken(&gate), 2);
    for (unsigned i = 2; i < CLIENTS; i++)
        AWAIT(&loops[0], &loops[1], shakes(&clients[i]));
    AWAIT(&loops[0], &loops[1], secured == 4);
    assert_int_equal(results[HANDSHAKE_OK], 4);
    assert_int_equal(results[HANDSHAKE_GONE], 1);
}

static void a_silent_client_keeps_nobody_out(void **state) {
    open_world(1, NS_PER_S * 10);
    arrive(0, 0);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(gate_taken(&gate), 0);
    arrive(1, 0);
    AWAIT(&loops[0], &loops[1], shakes(&clients[1]) && secured == 1);
}

static void time_ends_for_the_silent_and_for_the_slow(void **state) {
    open_world(1, 300 * NS_PER_MS);
    arrive(0, 0);
    arrive(1, 1);
    assert_false(shakes(&clients[1])); /* and not a word more */
    AWAIT(&loops[0], &loops[1], results[HANDSHAKE_TIMEOUT] == 2);
    AWAIT(&loops[0], &loops[1], loops[0].conns + loops[1].conns == 0);
    assert_int_equal(gate_taken(&gate), 0);
}

/* The time in line is not the handshake's. */
static void waiting_takes_no_time_away(void **state) {
    int64_t start_ns = clock_now_ns();

    open_world(1, 400 * NS_PER_MS);
    arrive(0, 0);
    assert_false(shakes(&clients[0]));
    AWAIT(&loops[0], &loops[1], gate_taken(&gate) == 1);
    for (unsigned i = 1; i < 3; i++) {
        arrive(i, 0);
        assert_false(shakes(&clients[i]));
    }
    AWAIT(&loops[0], &loops[1], atomic_load(&gate.waiting) == 2);
    AWAIT(&loops[0], &loops[1], results[HANDSHAKE_TIMEOUT] == 2); /* one after the other */
    assert_true(clock_now_ns() - start_ns >= 790 * NS_PER_MS);
    AWAIT(&loops[0], &loops[1], shakes(&clients[2]) && secured == 1);
}

static void what_went_wrong_is_told(void **state) {
    open_world(10, NS_PER_S * 10);
    arrive(0, 0);
    SAY(clients[0].fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    AWAIT(&loops[0], &loops[1], results[HANDSHAKE_PROTOCOL] == 1);
    arrive(1, 0);
    assert_false(shakes(&clients[1]));
    leave(&clients[1]);
    AWAIT(&loops[0], &loops[1], results[HANDSHAKE_GONE] == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    arrive(2, 0);
    SSL_set1_host(clients[2].ssl, "other.example"); /* it will not like ours */
    AWAIT(&loops[0], &loops[1], !shakes(&clients[2]) && results[HANDSHAKE_ALERT] == 1);
    assert_int_equal(secured, 0);
}

static void plain_http_can_be_answered(void **state) {
    char text[4];

    open_world(10, NS_PER_S * 10);
    arrive(0, 0);
    SAY(clients[0].fd, "GET / HTTP/1.1\r\n\r\n");
    AWAIT(&loops[0], &loops[1], recv(clients[0].fd, text, sizeof text, MSG_DONTWAIT) == 3);
    assert_memory_equal(text, "400", 3);
    assert_int_equal(results[HANDSHAKE_PROTOCOL], 1);
    assert_int_equal(atomic_load(&handshakes[0].count), 0);
    assert_int_equal(gate_taken(&gate), 0);
}

static void who_leaves_without_a_byte_began_none(void **state) {
    open_world(10, NS_PER_S * 10);
    arrive(0, 0);
    leave(&clients[0]);
    AWAIT(&loops[0], &loops[1],
          atomic_load(&handshakes[0].count) + atomic_load(&handshakes[1].count) == 0);
    for (unsigned i = 0; i < HANDSHAKE_RESULTS; i++)
        assert_int_equal(results[i], 0);
}

static void abort_ends_those_in_every_state(void **state) {
    open_world(1, NS_PER_S * 10);
    arrive(0, 0);
    assert_false(shakes(&clients[0]));
    AWAIT(&loops[0], &loops[1], gate_taken(&gate) == 1);
    arrive(1, 0);
    assert_false(shakes(&clients[1]));
    AWAIT(&loops[0], &loops[1], atomic_load(&gate.waiting) == 1);
    arrive(2, 0);
    handshakes_abort_all(&handshakes[0]);
    AWAIT(&loops[0], &loops[1], loops[0].conns == 0);
    assert_int_equal(gate_taken(&gate) + atomic_load(&gate.waiting), 0);
}

#define TEST(test) cmocka_unit_test_teardown(test, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_client_that_shakes_hands_is_handed_on),
        TEST(beyond_the_limit_clients_wait_their_turn),
        TEST(a_silent_client_keeps_nobody_out),
        TEST(time_ends_for_the_silent_and_for_the_slow),
        TEST(waiting_takes_no_time_away),
        TEST(what_went_wrong_is_told),
        TEST(plain_http_can_be_answered),
        TEST(who_leaves_without_a_byte_began_none),
        TEST(abort_ends_those_in_every_state),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, open_group, close_group);
}
