/* Tests of the admin plane over real connections, by raw sockets: its answers, its bounds, clients
 * that misbehave, and its complete end. */
#include "admin/admin.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define BIG_BYTES (8 * 1024 * 1024) /* more than two socket buffers take */
#define PATIENCE_MS 5000

static struct admin *admin;
static struct sockaddr_in address;
static _Atomic int health;
static _Atomic bool is_big;
static unsigned fds_before;

/* The directory stays open: its fd must not change places with the admin thread's. */
static unsigned count_fds(void) {
    static DIR *dir;
    unsigned n = 0;

    if (!dir)
        dir = opendir("/proc/self/fd");
    rewinddir(dir);
    while (readdir(dir))
        n++;
    return n;
}

static void collect(void *ctx, struct buffer *text) {
    buffer_append(text, SLICE("# HELP weir_oldest_exchange_age_seconds Age.\n"
                              "# TYPE weir_oldest_exchange_age_seconds gauge\n"
                              "weir_oldest_exchange_age_seconds 1.5\n"));
    if (is_big) {
        memset(buffer_reserve(text, BIG_BYTES), '\n', BIG_BYTES);
        text->len += BIG_BYTES;
    }
}

static json_t *status(void *ctx) {
    return json_pack("{s:i, s:i, s:[{s:s}]}", "threads", 2, "exchanges", 7, "listeners", "name",
                     "http");
}

static enum admin_health ask_health(void *ctx) {
    return (enum admin_health)health;
}

static int listen_on(struct sockaddr *to, socklen_t len) {
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, to, len), 0);
    assert_int_equal(listen(fd, 256), 0);
    assert_int_equal(getsockname(fd, to, &len), 0);
    return fd;
}

static void open_admin(int fd, int64_t timeout_ns) {
    struct admin_options options = {
        .fd = fd,
        .version = "1.2.3",
        .timeout_ns = timeout_ns,
        .collect = collect,
        .status = status,
        .health = ask_health,
    };

    assert_int_equal(admin_open(&admin, &options), 0);
}

static int set_up(void **state) {
    fds_before = count_fds();
    health = ADMIN_LIVE;
    is_big = false;
    address = (struct sockaddr_in){.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_admin(listen_on((struct sockaddr *)&address, sizeof address), 0);
    return 0;
}

/* Whatever a test did: nothing is left. */
static int tear_down(void **state) {
    admin_close(admin);
    return count_fds() == fds_before ? 0 : -1;
}

static int dial(void) {
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void say(int fd, const char *text) {
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
        abort();
}

/* Everything up to the end of the connection. */
static char *hear(int fd) {
    struct buffer all = {0};
    ssize_t n;

    while ((n = recv(fd, buffer_reserve(&all, 65536), 65536, 0)) > 0)
        all.len += (size_t)n;
    buffer_append_char(&all, '\0');
    return all.base;
}

/* A request on a connection of its own; the caller frees. */
static char *ask(const char *request) {
    int fd = dial();
    char *answer;

    say(fd, request);
    answer = hear(fd);
    close(fd);
    return answer;
}

static void answers(const char *request, const char *status_line, const char *content) {
    char *answer = ask(request);

    if (strncmp(answer, status_line, strlen(status_line)) != 0 || !strstr(answer, content))
        fail_msg("%s -> %s", request, answer);
    free(answer);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void every_page_answers(void **state) {
    answers(GET("/metrics"), "HTTP/1.1 200 OK\r\n", "\nweir_build_info{version=\"1.2.3\"} 1\n");
    answers(GET("/metrics"), "HTTP/1.1 200 OK\r\n", "text/plain; version=0.0.4; charset=utf-8\r\n");
    answers(GET("/metrics?x=1"), "HTTP/1.1 200 OK\r\n", "\nweir_log_dropped_total 0\n");
    answers(GET("/metrics"), "HTTP/1.1 200 OK\r\n", "\nprocess_open_fds ");
    answers(GET("/metrics"), "HTTP/1.1 200 OK\r\n", "\nweir_oldest_exchange_age_seconds 1.5\n");
    answers(GET("/status"), "HTTP/1.1 200 OK\r\n", "\"listeners\": [");
    answers(GET("/status"), "HTTP/1.1 200 OK\r\n", "\"state\": \"live\"");
    answers(GET("/"), "HTTP/1.1 200 OK\r\n", "/healthz");
    answers("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\"exchanges\": 7");
    answers(GET("/nothing"), "HTTP/1.1 404 Not Found\r\n", "");
    answers("POST /metrics HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 405 ",
            "\r\nallow: GET, HEAD\r\n");
}

static void head_has_no_content(void **state) {
    char *answer = ask("HEAD /healthz HTTP/1.0\r\n\r\n");

    assert_non_null(strstr(answer, "\r\ncontent-type: application/json\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    free(answer);
}

static void health_and_readiness_follow_the_state(void **state) {
    health = ADMIN_STARTING;
    answers(GET("/healthz"), "HTTP/1.1 503 ", "\"state\": \"starting\"");
    answers(GET("/readyz"), "HTTP/1.1 503 ", "starting\n");
    health = ADMIN_LIVE;
    answers(GET("/healthz"), "HTTP/1.1 200 ", "\"state\": \"live\"");
    answers(GET("/readyz"), "HTTP/1.1 200 ", "live\n");
    health = ADMIN_DRAINING;
    answers(GET("/healthz"), "HTTP/1.1 200 ", "\"state\": \"draining\"");
    answers(GET("/readyz"), "HTTP/1.1 503 ", "draining\n");
}

static void too_much_content_is_refused(void **state) {
    answers("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 413 ",
            "");
}

static void *ask_often(void *arg) {
    for (unsigned i = 0; i < 50; i++) {
        char *answer = ask(i % 2 ? GET("/metrics") : GET("/status"));

        if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
            abort();
        free(answer);
    }
    return NULL;
}

static void many_may_ask_at_once(void **state) {
    pthread_t threads[8];

    for (unsigned i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, ask_often, NULL);
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

static void a_slow_client_gets_its_answer_and_holds_up_nobody(void **state) {
    const char *request = GET("/readyz");
    int fd = dial();
    char *answer;

    for (const char *at = request; *at; at++) {
        char one[2] = {*at, '\0'};

        say(fd, one);
        if (at == request + 10)
            answers(GET("/readyz"), "HTTP/1.1 200 ", "live");
    }
    answer = hear(fd);
    assert_non_null(strstr(answer, "live\n"));
    free(answer);
    close(fd);
}

/* More connections than the bound wait in the backlog, and are served when one goes. */
static void connections_are_bounded(void **state) {
    int fds[ADMIN_CONNECTIONS_MAX], late;
    struct pollfd pfd = {.events = POLLIN};
    char *answer;

    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        char first[256];

        fds[i] = dial();
        say(fds[i], "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(recv(fds[i], first, sizeof first, 0) >
                    0); /* so it is accepted; it stays open */
    }
    late = dial();
    say(late, GET("/readyz"));
    pfd.fd = late;
    assert_int_equal(poll(&pfd, 1, 100), 0);
    close(fds[0]);
    answer = hear(late);
    assert_non_null(strstr(answer, "live\n"));
    free(answer);
    close(late);
    for (unsigned i = 1; i < ADMIN_CONNECTIONS_MAX; i++)
        close(fds[i]);
}

static void a_reset_in_mid_response_costs_nothing(void **state) {
    unsigned before;

    answers(GET("/readyz"), "HTTP/1.1 200 ", "live"); /* so the thread is all there */
    before = count_fds();
    is_big = true;
    for (unsigned i = 0; i < 20; i++) {
        struct linger linger = {1, 0};
        char some[4096];
        int fd = dial();

        say(fd, GET("/metrics"));
        assert_true(recv(fd, some, sizeof some, 0) > 0);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
    }
    is_big = false;
    answers(GET("/readyz"), "HTTP/1.1 200 ", "live");
    for (unsigned i = 0; i < PATIENCE_MS && count_fds() > before; i++)
        usleep(1000);
    assert_int_equal(count_fds(), before);
}

/* Idle ones, half-sent requests, and answers that nobody reads. */
static void close_ends_every_connection(void **state) {
    enum { COUNT = ADMIN_CONNECTIONS_MAX - 1 }; /* and one that asks */
    int64_t start_ns;
    int fds[COUNT];

    is_big = true;
    for (unsigned i = 0; i < COUNT; i++) {
        fds[i] = dial();
        if (i % 3 == 1)
            say(fds[i], "GET /readyz HT");
        else if (i % 3 == 2)
            say(fds[i], GET("/metrics"));
    }
    answers(GET("/readyz"), "HTTP/1.1 200 ", "live"); /* so they are all accepted */
    start_ns = clock_now_ns();
    admin_close(admin);
    admin = NULL;
    assert_true(clock_now_ns() - start_ns < 4 * NS_PER_S);
    for (unsigned i = 0; i < COUNT; i++)
        close(fds[i]);
}

static void close_of_idle_connections_is_quick(void **state) {
    int fd = dial();
    int64_t start_ns;

    say(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(20000);
    start_ns = clock_now_ns();
    admin_close(admin);
    admin = NULL;
    assert_true(clock_now_ns() - start_ns < 500 * NS_PER_MS);
    close(fd);
}

static void a_silent_client_is_sent_away(void **state) {
    char byte;
    int fd;

    admin_close(admin);
    address.sin_port = 0;
    open_admin(listen_on((struct sockaddr *)&address, sizeof address), 200 * NS_PER_MS);
    fd = dial();
    say(fd, "GET /read");
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

static void a_reader_that_stands_still_is_sent_away(void **state) {
    unsigned before, i = 0;
    int fd;

    admin_close(admin);
    address.sin_port = 0;
    open_admin(listen_on((struct sockaddr *)&address, sizeof address), 200 * NS_PER_MS);
    answers(GET("/readyz"), "HTTP/1.1 200 ", "live");
    before = count_fds();
    is_big = true;
    fd = dial();
    say(fd, GET("/metrics"));
    usleep(100000);
    assert_int_equal(count_fds(), before + 2);
    while (count_fds() > before + 1 && i++ < PATIENCE_MS)
        usleep(1000);
    assert_int_equal(count_fds(), before + 1);
    close(fd);
}

static void a_unix_socket_serves_too(void **state) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    char *answer;
    int fd;

    admin_close(admin);
    path.sun_path[0] = '\0'; /* abstract, chosen by the kernel */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&path, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(fd, 16), 0);
    {
        socklen_t len = sizeof path;

        getsockname(fd, (struct sockaddr *)&path, &len);
        open_admin(fd, 0);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&path, len), 0);
    }
    say(fd, GET("/readyz"));
    answer = hear(fd);
    assert_non_null(strstr(answer, "live\n"));
    free(answer);
    close(fd);
}

/* libuv and libh2o each open something once per process. */
static int warm_up(void **state) {
    set_up(state);
    answers(GET("/readyz"), "HTTP/1.1 200 ", "live");
    tear_down(state);
    return 0;
}

#define ADMIN_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        ADMIN_TEST(every_page_answers),
        ADMIN_TEST(head_has_no_content),
        ADMIN_TEST(health_and_readiness_follow_the_state),
        ADMIN_TEST(too_much_content_is_refused),
        ADMIN_TEST(many_may_ask_at_once),
        ADMIN_TEST(a_slow_client_gets_its_answer_and_holds_up_nobody),
        ADMIN_TEST(connections_are_bounded),
        ADMIN_TEST(a_reset_in_mid_response_costs_nothing),
        ADMIN_TEST(close_ends_every_connection),
        ADMIN_TEST(close_of_idle_connections_is_quick),
        ADMIN_TEST(a_silent_client_is_sent_away),
        ADMIN_TEST(a_reader_that_stands_still_is_sent_away),
        ADMIN_TEST(a_unix_socket_serves_too),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
