/* Whether an instance is ready, asked of a server in the test's hand. */
#include "child/ready.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define STEP_NS NS_PER_MS

static struct config_process process;
static struct config_address address;
static struct ready ready;
static int listener, server;
static int64_t now_ns;

static void listen_anew(void) {
    struct sockaddr_in *in = (void *)&address.sockaddr;
    socklen_t len = sizeof *in;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sockaddr_len = len;
    address.text = (char *)"127.0.0.1:1";
    assert_int_equal(bind(listener, (struct sockaddr *)in, len), 0);
    assert_int_equal(listen(listener, 8), 0);
    getsockname(listener, (struct sockaddr *)in, &len);
}

static int begin(void **state) {
    process = (struct config_process){.ready = {.path = (char *)"/ok"}};
    address = (struct config_address){.kind = ADDRESS_INET};
    now_ns = NS_PER_S;
    server = -1;
    listen_anew();
    ready_init(&ready, &process, &address, now_ns);
    return 0;
}

static int end(void **state) {
    ready_stop(&ready);
    close(listener);
    if (server >= 0)
        close(server);
    return 0;
}

static bool look(void) {
    now_ns += STEP_NS;
    return ready_look(&ready, now_ns);
}

/* Reads what is asked, as far as @wanted, and answers; then looks for as long as the try lasts. */
static bool answer(const char *wanted, const char *text, size_t len) {
    char asked[1024] = "";
    size_t got = 0;
    bool is_ready = false;

    while (server < 0) {
        assert_false(look());
        server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    }
    while (!memmem(asked, got, wanted, strlen(wanted))) {
        ssize_t n = read(server, asked + got, sizeof asked - got);

        assert_false(look());
        got += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < len; i++) /* in as many pieces as there can be */
        assert_int_equal(write(server, text + i, 1), 1);
    while (ready.fd >= 0 && !is_ready)
        is_ready = look();
    close(server);
    server = -1;
    return is_ready;
}
#define ANSWER(wanted, text) answer(wanted, text, sizeof(text) - 1)

static void a_connection_will_do(void **state) {
    process.ready.check = READY_TCP;
    while (!look())
        ;
    assert_int_equal(ready.fd, -1);
}

static void who_does_not_listen_yet_is_asked_again(void **state) {
    struct sockaddr_in *in = (void *)&address.sockaddr;
    int64_t began_ns = now_ns;

    process.ready.check = READY_TCP;
    close(listener);
    for (int i = 0; i < 100; i++)
        assert_false(look());
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    assert_int_equal(bind(listener, (struct sockaddr *)in, sizeof *in), 0);
    assert_int_equal(listen(listener, 8), 0);
    while (!look())
        ;
    assert_true(now_ns - began_ns >= READY_AGAIN_NS);
}

static void http_has_to_say_2xx(void **state) {
    process.ready.check = READY_HTTP;
    assert_false(ANSWER("GET /ok HTTP/1.1\r\n", "HTTP/1.1 503 Not yet\r\n\r\n"));
    assert_false(ANSWER("host: 127.0.0.1:1\r\n", "SSH-2.0-OpenSSH_9.2"));
    assert_true(ANSWER("\r\n\r\n", "HTTP/1.0 204 No Content\r\n\r\n"));
}

static void silence_is_given_up(void **state) {
    int64_t began_ns;

    process.ready.check = READY_HTTP;
    began_ns = now_ns;
    while (ready.fd < 0)
        assert_false(look());
    while (ready.fd >= 0)
        assert_false(look());
    assert_in_range(now_ns - began_ns, READY_TRY_NS, READY_TRY_NS + 10 * STEP_NS);
}

#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define HEADERS "\0\0\1\1\4\0\0\0\1\x88"
#define DATA(status) "\0\0\7\0\0\0\0\0\1\0\0\0\0\2\x08" status
#define TRAILERS "\0\0\1\1\5\0\0\0\1\x88"
#define GOAWAY "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\1"

static void grpc_has_to_be_serving(void **state) {
    process.ready.check = READY_GRPC;
    assert_false(ANSWER("/grpc.health.v1.Health/Check", SETTINGS HEADERS DATA("\2") TRAILERS));
    assert_false(ANSWER("PRI * HTTP/2.0", SETTINGS TRAILERS));
    assert_false(ANSWER("application/grpc", SETTINGS GOAWAY));
    assert_true(ANSWER("trailers", SETTINGS HEADERS DATA("\1")));
}

static void of_grpc_a_service_is_asked_for(void **state) {
    process.ready.check = READY_GRPC;
    process.ready.service = (char *)"app.Games";
    assert_true(ANSWER("\x0a\x09"
                       "app.Games",
                       SETTINGS HEADERS DATA("\1")));
}

static void an_answer_without_end_is_given_up(void **state) {
    static char much[READY_ANSWER_MAX];

    process.ready.check = READY_GRPC;
    memset(much, 0, sizeof much);
    much[2] = 1; /* frames of one byte, of no stream's */
    for (size_t i = 0; i + 10 <= sizeof much; i += 10)
        much[i + 2] = 1, much[i + 3] = 9;
    assert_false(answer("PRI", much, sizeof much));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_connection_will_do, begin, end),
        cmocka_unit_test_setup_teardown(who_does_not_listen_yet_is_asked_again, begin, end),
        cmocka_unit_test_setup_teardown(http_has_to_say_2xx, begin, end),
        cmocka_unit_test_setup_teardown(silence_is_given_up, begin, end),
        cmocka_unit_test_setup_teardown(grpc_has_to_be_serving, begin, end),
        cmocka_unit_test_setup_teardown(of_grpc_a_service_is_asked_for, begin, end),
        cmocka_unit_test_setup_teardown(an_answer_without_end_is_given_up, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
