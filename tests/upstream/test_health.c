/* Tests of active checks: one checker on a loop that is run by hand, in front of a server that the
 * test is itself. */
#include "upstream/health.h"

#include "codec/grpc_health.h"
#include "pool_world.h"
#include "support/h2_peer.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct config_pipeline config;
static char path[] = "/healthz?deep=1", service[] = "engine.Engine";
static struct health *health;
static unsigned healthy, unhealthy; /* how often it was found so */
static const char *why;

static void on_found(void *ctx, struct endpoint *endpoint, bool is_healthy, const char *reason) {
    assert_ptr_equal(ctx, &config);
    assert_ptr_equal(endpoint, world.endpoint);
    *(is_healthy ? &healthy : &unhealthy) += 1;
    why = reason;
}

static void begin(void) {
    struct health_options options = {&config, &world.settings, on_found, &config};

    world.loops[0].now_ns = clock_now_ns();
    health = health_new(world.endpoint, &world.shared[0], &options);
}

static void set_up_config(enum config_health_kind kind) {
    config = (struct config_pipeline){
        .health = {.kind = kind,
                   .path = path,
                   .statuses = {{200, 299}, {404, 404}},
                   .status_count = 2,
                   .grpc_service = service,
                   .interval_ns = NS_PER_MS,
                   .timeout_ns = 10 * NS_PER_S,
                   .unhealthy_after = 3,
                   .healthy_after = 2},
        .protocol = kind == HEALTH_GRPC ? PROTOCOL_HTTP2 : PROTOCOL_HTTP1,
    };
    healthy = unhealthy = 0;
    health = NULL;
    signal(SIGPIPE, SIG_IGN);
}

static int open_http1(void **state) {
    set_up_config(HEALTH_HTTP);
    world_open(1, 64);
    return 0;
}

static int open_connect(void **state) {
    set_up_config(HEALTH_CONNECT);
    world_open(1, 64);
    return 0;
}

static int open_refusing(void **state) {
    set_up_config(HEALTH_HTTP);
    world_open(1, -1);
    return 0;
}

static int open_grpc(void **state) {
    set_up_config(HEALTH_GRPC);
    world_open_http2(1, 10);
    return 0;
}

/* world_close() sees to it that no fd, no timer and no connection is left. */
static int tear_down(void **state) {
    if (health)
        health_close(health);
    world_close();
    return 0;
}

/* Answers the next check; @answer NULL: breaks off. */
static void serve(const char *answer) {
    char head[1024] = "";
    int fd;

    ASK_AWAIT(server_has_client());
    fd = server_accept();
    ASK_AWAIT(hear(fd, head, sizeof head) > 0);
    assert_non_null(strstr(head, "GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_non_null(strcasestr(head, "\r\nconnection: close\r\n"));
    assert_non_null(strcasestr(head, "\r\nuser-agent: weir-health\r\n"));
    if (answer)
        SAY(fd, answer);
    close(fd);
}

static void serve_status(const char *status) {
    char answer[128];

    snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nok\n", status);
    serve(answer);
}

#define CHECKS(good) world.endpoint->checks[good]

static void the_first_check_decides_alone(void **state) {
    begin();
    serve_status("200 OK");
    ASK_AWAIT(healthy == 1);
    assert_int_equal(unhealthy, 0);
}

static void also_for_the_worse(void **state) {
    begin();
    serve_status("503 Service Unavailable");
    ASK_AWAIT(unhealthy == 1);
    assert_string_equal(why, "an unexpected status");
}

static void from_then_on_it_takes_some_in_a_row(void **state) {
    begin();
    serve_status("200 OK");
    for (unsigned i = 0; i < 2; i++) {
        serve_status("500 Oops");
        serve_status("500 Oops");
        serve_status("204 No Content");
    }
    ASK_AWAIT(CHECKS(true) == 3);
    assert_int_equal(unhealthy, 0);
    for (unsigned i = 0; i < 3; i++)
        serve_status("500 Oops");
    ASK_AWAIT(unhealthy == 1);
    serve_status("200 OK");
    serve_status("500 Oops");
    serve_status("200 OK");
    ASK_AWAIT(CHECKS(true) == 5);
    assert_int_equal(healthy, 1);
    serve_status("404 Not Found"); /* is among what is expected */
    ASK_AWAIT(healthy == 2);
    assert_int_equal(unhealthy, 1);
}

static void what_breaks_off_has_failed(void **state) {
    begin();
    serve(NULL);
    ASK_AWAIT(unhealthy == 1);
    serve("HTTP/1.1 200 OK\r\nCont"); /* not a head */
    ASK_AWAIT(CHECKS(false) == 2);
    serve("SMTP ready\r\n\r\n");
    ASK_AWAIT(CHECKS(false) == 3);
    assert_int_equal(unhealthy, 1);
}

static void so_has_what_takes_too_long(void **state) {
    int fd;

    config.health.timeout_ns = 20 * NS_PER_MS;
    begin();
    ASK_AWAIT(server_has_client());
    fd = server_accept();
    ASK_AWAIT(unhealthy == 1);
    assert_string_equal(why, "no answer in time");
    close(fd);
}

static void and_a_refused_connection(void **state) {
    begin();
    ASK_AWAIT(unhealthy == 1);
    assert_string_equal(why, "the upstream refused the connection");
    ASK_AWAIT(CHECKS(false) == 5);
    assert_int_equal(unhealthy, 1);
}

static void a_connection_may_be_enough(void **state) {
    begin();
    ASK_AWAIT(healthy == 1 && CHECKS(true) >= 3);
}

static void a_busy_endpoint_is_checked_all_the_same(void **state) {
    struct taker taker;
    int fd;

    hold(&taker, 0); /* its only connection */
    fd = server_accept();
    begin();
    serve_status("200 OK");
    ASK_AWAIT(healthy == 1);
    lease_end(&taker.lease);
    close(fd);
}

static void without_an_fd_nothing_is_known(void **state) {
    world.fds.limit[FD_UPSTREAM] = 0;
    begin();
    for (unsigned i = 0; i < 100; i++)
        travel(&world.loops[0], 10 * NS_PER_MS);
    assert_int_equal(CHECKS(true) + CHECKS(false), 0);
    world.fds.limit[FD_UPSTREAM] = 10;
    travel(&world.loops[0], 10 * NS_PER_MS);
    ASK_AWAIT(server_has_client());
}

static void it_ends_in_the_middle_of_a_check(void **state) {
    int fd;

    begin();
    ASK_AWAIT(server_has_client());
    fd = server_accept();
    health_close(health);
    health = NULL;
    ASK_AWAIT(world.loops[0].conns == 0);
    close(fd);
}

static void and_while_it_dials(void **state) {
    begin();
    travel(&world.loops[0], HEALTH_FIRST_NS * 2);
    health_close(health);
    health = NULL;
}

/* Answers one Check with @content and, in the trailers, status 0; or refuses it by its head. */
static void serve_grpc(struct slice content, bool is_refused) {
    struct h2_peer *peer = calloc(1, sizeof *peer);
    uint64_t before = CHECKS(false) + CHECKS(true);
    struct peer_stream *stream;

    ASK_AWAIT(server_has_client());
    h2_peer_open(peer, server_accept(), PEER_SAYS_NOTHING, false);
    ASK_AWAIT(h2_peer_turn(peer) && peer->requests == 1 && h2_peer_stream(peer, 1)->is_ended);
    stream = h2_peer_stream(peer, 1);
    assert_true(h2_peer_has(peer, 1, ":path: /grpc.health.v1.Health/Check"));
    assert_true(h2_peer_has(peer, 1, "content-type: application/grpc"));
    assert_true(h2_peer_has(peer, 1, "te: trailers"));
    assert_int_equal(stream->content.len, 5 + 2 + strlen("engine.Engine"));
    assert_memory_equal(stream->content.base,
                        "\0\0\0\0\x0f\x0a\x0d"
                        "engine.Engine",
                        20);
    h2_peer_answer(peer, 1, is_refused ? "503" : "200", is_refused);
    if (!is_refused)
        h2_peer_content(peer, 1, content, true);
    ASK_AWAIT(h2_peer_turn(peer) && CHECKS(false) + CHECKS(true) > before);
    h2_peer_close(peer);
    free(peer);
}

static void serve_serving(enum grpc_serving serving) {
    char message[GRPC_HEALTH_RESPONSE_BYTES];

    serve_grpc(grpc_health_write_response(message, serving), false);
}

static void grpc_says_how_it_is(void **state) {
    begin();
    serve_serving(GRPC_SERVING);
    assert_int_equal(healthy, 1);
    for (unsigned i = 0; i < 3; i++)
        serve_serving(GRPC_NOT_SERVING);
    assert_int_equal(unhealthy, 1);
    assert_string_equal(why, "it says that it is not serving");
    serve_serving(GRPC_SERVING);
    serve_serving(GRPC_SERVING);
    assert_int_equal(healthy, 2);
}

static void what_is_no_answer_of_grpc_has_failed(void **state) {
    begin();
    serve_grpc(SLICE("\0\0\0\0\x02"), false);
    assert_int_equal(unhealthy, 1);
    assert_string_equal(why, "an answer that is no HealthCheckResponse");
    serve_grpc(SLICE(""), true);
    assert_int_equal(CHECKS(false), 2);
}

#define TEST(f, open) cmocka_unit_test_setup_teardown(f, open, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_first_check_decides_alone, open_http1),
        TEST(also_for_the_worse, open_http1),
        TEST(from_then_on_it_takes_some_in_a_row, open_http1),
        TEST(what_breaks_off_has_failed, open_http1),
        TEST(so_has_what_takes_too_long, open_http1),
        TEST(and_a_refused_connection, open_refusing),
        TEST(a_connection_may_be_enough, open_connect),
        TEST(a_busy_endpoint_is_checked_all_the_same, open_http1),
        TEST(without_an_fd_nothing_is_known, open_http1),
        TEST(it_ends_in_the_middle_of_a_check, open_http1),
        TEST(and_while_it_dials, open_http1),
        TEST(grpc_says_how_it_is, open_grpc),
        TEST(what_is_no_answer_of_grpc_has_failed, open_grpc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
