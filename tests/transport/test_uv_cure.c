/* Tests of the cure: each fails on plain libh2o over libuv. A TLS server of h2o sockets runs on the
 * test's loop; clients are blocking OpenSSL on a thread. */
#include "transport/uv_cure.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <h2o.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <unistd.h>

#include <cmocka.h>

#define RECORD_OVERHEAD 22 /* TLS 1.3: header 5, type 1, tag 16 */
#define RESETS 20
#define FLOOD_BYTES (1024 * 1024)
#define PATIENCE_MS 5000

enum server_job { SERVER_COUNTS, SERVER_FLOODS };

struct server {
    uv_loop_t loop;
    struct uv_cure *cure;
    uv_tcp_t listener;
    uv_timer_t patience;
    SSL_CTX *tls;
    struct sockaddr_in address;
    enum server_job job;
    unsigned opened, closed, expected; /* connections */
    size_t received, wanted;           /* bytes */
    bool has_failed;
    pthread_t client;
};

static char flood[FLOOD_BYTES];

static void on_read(h2o_socket_t *sock, const char *err);

static SSL_CTX *make_tls(void) {
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();

    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"weir", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    SSL_CTX_use_certificate(tls, cert);
    SSL_CTX_use_PrivateKey(tls, key);
    SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(tls, 0);
    X509_free(cert);
    EVP_PKEY_free(key);
    return tls;
}

static void free_handle(uv_handle_t *handle) {
    free(handle);
}

static void on_closed(void *data) {
    struct server *server = data;

    if (++server->closed == server->expected)
        uv_stop(&server->loop);
}

static void on_flooded(h2o_socket_t *sock, const char *err) {
    h2o_iovec_t vec = h2o_iovec_init(flood, sizeof flood);

    if (err)
        h2o_socket_close(sock);
    else
        h2o_socket_write(sock, &vec, 1, on_flooded);
}

static void on_answered(h2o_socket_t *sock, const char *err) {
    h2o_socket_close(sock);
}

static void on_read(h2o_socket_t *sock, const char *err) {
    struct server *server = sock->data;

    server->received += sock->input->size;
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (err) {
        server->has_failed = true;
        if (!h2o_socket_is_writing(sock))
            h2o_socket_close(sock);
    } else if (server->job == SERVER_COUNTS && server->received == server->wanted) {
        h2o_iovec_t vec = h2o_iovec_init(H2O_STRLIT("ok"));

        /* Reading stays on: libuv now looks once more, and finds nothing. */
        h2o_socket_write(sock, &vec, 1, on_answered);
    }
}

static void on_handshake(h2o_socket_t *sock, const char *err) {
    struct server *server = sock->data;

    if (err) {
        h2o_socket_close(sock);
        return;
    }
    if (server->job == SERVER_FLOODS) {
        h2o_iovec_t vec = h2o_iovec_init(flood, sizeof flood);

        h2o_socket_write(sock, &vec, 1, on_flooded);
    }
    h2o_socket_read_start(sock, on_read);
    if (sock->input->size > 0)
        on_read(sock, NULL);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct server *server = listener->data;
    uv_tcp_t *tcp = xcalloc(1, sizeof *tcp);
    h2o_socket_t *sock;

    assert_int_equal(status, 0);
    uv_tcp_init(listener->loop, tcp);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)tcp), 0);
    sock = h2o_uv_socket_create((uv_stream_t *)tcp, free_handle);
    sock->data = server;
    sock->on_close.cb = on_closed;
    sock->on_close.data = server;
    server->opened++;
    h2o_socket_ssl_handshake(sock, server->tls, NULL, on_handshake);
}

static void on_patience_ended(uv_timer_t *timer) {
    uv_stop(timer->loop);
}

static void open_server(struct server *server, enum server_job job) {
    int len = sizeof server->address;

    *server = (struct server){.job = job, .tls = make_tls(), .expected = 1};
    uv_loop_init(&server->loop);
    server->cure = uv_cure_open(&server->loop);
    uv_tcp_init(&server->loop, &server->listener);
    server->listener.data = server;
    uv_ip4_addr("127.0.0.1", 0, &server->address);
    uv_tcp_bind(&server->listener, (struct sockaddr *)&server->address, 0);
    uv_listen((uv_stream_t *)&server->listener, 64, on_connection);
    uv_tcp_getsockname(&server->listener, (struct sockaddr *)&server->address, &len);
    uv_timer_init(&server->loop, &server->patience);
}

/* Serves until the expected connections are closed, or patience ends. */
static void run_server(struct server *server, void *client(void *)) {
    pthread_create(&server->client, NULL, client, server);
    uv_timer_start(&server->patience, on_patience_ended, PATIENCE_MS, 0);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&server->patience);
}

static void close_server(struct server *server) {
    pthread_join(server->client, NULL);
    uv_close((uv_handle_t *)&server->listener, NULL);
    uv_close((uv_handle_t *)&server->patience, NULL);
    uv_cure_close(server->cure);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&server->loop), 0);
    SSL_CTX_free(server->tls);
}

/* A connected, handshaken client. */
static SSL *dial(struct server *server, SSL_CTX **tls, int *fd) {
    SSL *ssl;

    *tls = SSL_CTX_new(TLS_client_method());
    ssl = SSL_new(*tls);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(*fd, (struct sockaddr *)&server->address, sizeof server->address) < 0)
        abort();
    SSL_set_fd(ssl, *fd);
    if (SSL_connect(ssl) != 1)
        abort();
    return ssl;
}

/* One record whose encrypted form has the wanted size, written at once. */
static void *upload(void *arg) {
    struct server *server = arg;
    SSL_CTX *tls;
    char reply[8];
    int fd;
    SSL *ssl = dial(server, &tls, &fd);

    usleep(20000); /* so that the server sleeps in its read */
    SSL_write(ssl, flood, (int)server->wanted);
    SSL_read(ssl, reply, sizeof reply);
    SSL_free(ssl);
    SSL_CTX_free(tls);
    close(fd);
    return NULL;
}

static void *reset(void *arg) {
    struct server *server = arg;

    for (unsigned i = 0; i < RESETS; i++) {
        struct linger linger = {1, 0};
        SSL_CTX *tls;
        int fd;
        SSL *ssl = dial(server, &tls, &fd);

        usleep(5000);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
        SSL_free(ssl);
        SSL_CTX_free(tls);
    }
    return NULL;
}

static unsigned count_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void an_upload_of_any_size_arrives(void **state) {
    static const size_t sizes[] = {4096, 8191, 8192, 8193, 12288, 16384};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct server server;

        open_server(&server, SERVER_COUNTS);
        server.wanted = sizes[i] - RECORD_OVERHEAD;
        run_server(&server, upload);
        assert_false(server.has_failed);
        assert_int_equal(server.received, server.wanted);
        assert_int_equal(server.closed, 1);
        close_server(&server);
    }
}

static void resets_leak_no_fds(enum server_job job) {
    unsigned before = count_fds();
    struct server server;

    open_server(&server, job);
    server.expected = RESETS;
    run_server(&server, reset);
    assert_int_equal(server.opened, RESETS);
    assert_int_equal(server.closed, RESETS);
    close_server(&server);
    assert_int_equal(count_fds(), before);
}

static void a_reset_of_an_idle_connection_leaks_nothing(void **state) {
    resets_leak_no_fds(SERVER_COUNTS);
}

static void a_reset_while_we_write_leaks_nothing(void **state) {
    resets_leak_no_fds(SERVER_FLOODS);
}

/* Somebody else's use of libuv: nothing is kept back from it. */
static unsigned empty_reads, full_reads;

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    *buf = uv_buf_init(malloc(16), 16);
}

static void on_other_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    if (nread == 0)
        empty_reads++;
    else if (nread > 0)
        full_reads++;
    else
        uv_close((uv_handle_t *)stream, NULL);
    free(buf->base);
}

static void other_users_of_libuv_are_left_alone(void **state) {
    uv_buf_t none = uv_buf_init(flood, 1);
    struct uv_cure *cure;
    uv_tcp_t reader;
    uv_write_t req;
    uv_loop_t loop;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    uv_loop_init(&loop);
    cure = uv_cure_open(&loop);
    uv_tcp_init(&loop, &reader);
    assert_int_equal(uv_write(&req, (uv_stream_t *)&reader, &none, 1, NULL), UV_EBADF);
    uv_tcp_open(&reader, fds[0]);
    uv_read_start((uv_stream_t *)&reader, on_alloc, on_other_read);
    assert_int_equal(write(fds[1], flood, 16), 16);
    uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(full_reads, 1);
    assert_int_equal(empty_reads, 1);
    close(fds[1]);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_cure_close(cure);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_of_any_size_arrives),
        cmocka_unit_test(a_reset_of_an_idle_connection_leaks_nothing),
        cmocka_unit_test(a_reset_while_we_write_leaks_nothing),
        cmocka_unit_test(other_users_of_libuv_are_left_alone),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
