/* See pool_world.h. */
#include "pool_world.h"

#include <arpa/inet.h>
#include <poll.h>
#include <unistd.h>

struct pool_world world;

static void on_ready(struct lease *lease, enum fail fail) {
    struct taker *taker = CONTAINER_OF(lease, struct taker, lease);

    taker->readies++;
    taker->fail = fail;
}

static void run_nothing(struct task *task) {
}

static void open_world(unsigned connections, int backlog, unsigned streams) {
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof world.address;

    world = (struct pool_world){
        .fds = {.limit = {1000, 1000, 1000, 1000}},
        .settings =
            {
                .h1 = {.limits = {.head_bytes = 8192, .fields = 32}, .max_informational = 4},
                .dial_timeout_ns = 10 * NS_PER_S,
                .dials = 8,
                .is_http2 = streams > 0,
                .h2 = {.limits = {.head_bytes = 8192, .fields = 32},
                       .max_informational = 4,
                       .streams = streams},
            },
        .address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
    };
    world.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(world.listener, (struct sockaddr *)&world.address, len), 0);
    assert_int_equal(getsockname(world.listener, (struct sockaddr *)&world.address, &len), 0);
    if (backlog >= 0)
        assert_int_equal(listen(world.listener, backlog), 0);
    memcpy(&storage, &world.address, sizeof world.address);
    world.endpoint = endpoint_new(&storage, connections, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_open(&world.loops[i], i), 0);
        world.shared[i] = (struct pool_loop){.loop = &world.loops[i], .fds = &world.fds};
        world.pools[i] = pool_new(world.endpoint, &world.shared[i], &world.settings);
    }
}

void world_open(unsigned connections, int backlog) {
    open_world(connections, backlog, 0);
}

void world_open_http2(unsigned connections, unsigned streams) {
    open_world(connections, 64, streams);
}

void world_close(void) {
    for (unsigned i = 0; i < 2; i++)
        if (world.pools[i])
            pool_close(world.pools[i]);
    ASK_AWAIT(atomic_load(&world.endpoint->refs) == 1 && OPEN_CONNECTIONS == 0);
    assert_int_equal(atomic_load(&world.endpoint->inflight), 0);
    assert_int_equal(atomic_load(&world.endpoint->streams), 0);
    assert_int_equal(atomic_load(&world.endpoint->dials), 0);
    assert_int_equal(atomic_load(&world.endpoint->connections.waiting), 0);
    assert_int_equal(fds_used(&world.fds, FD_UPSTREAM), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(world.loops[i].conns, 0);
        assert_int_equal(world.loops[i].wheel.running, 0);
        assert_int_equal(finish_loop(&world.loops[i]), 0);
        pool_loop_deinit(&world.shared[i]);
    }
    endpoint_unref(world.endpoint);
    close(world.listener);
}

enum pool_outcome take(struct taker *taker, unsigned at) {
    *taker = (struct taker){.lease.ready = on_ready};
    world.loops[at].now_ns = clock_now_ns();
    return pool_lease(world.pools[at], &taker->lease, false, &taker->fail);
}

void hold(struct taker *taker, unsigned at) {
    if (take(taker, at) == POOL_WAIT)
        ASK_AWAIT(taker->readies == 1);
    assert_int_equal(taker->fail, FAIL_NONE);
    assert_int_equal(taker->lease.state, LEASE_HELD);
}

bool server_has_client(void) {
    struct pollfd fd = {.fd = world.listener, .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

int server_accept(void) {
    ASK_AWAIT(server_has_client());
    return accept4(world.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int server_block(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&world.address, sizeof world.address), 0);
    return fd;
}

static void send_request(struct taker *taker, unsigned at, bool has_content) {
    struct request_head head = {
        .method = has_content ? METHOD_POST : METHOD_GET,
        .version = HTTP_1_1,
        .method_text = has_content ? SLICE("POST") : SLICE("GET"),
        .authority = SLICE("here"),
        .path = SLICE("/"),
    };

    exchange_init(&taker->x, &world.loops[at], run_nothing, taker->memory, sizeof taker->memory);
    taker->x.request_head = head;
    if (!has_content)
        body_end(&taker->x.request);
    lease_start(&taker->lease, &taker->x, &head,
                (struct content){has_content ? CONTENT_CHUNKED : CONTENT_NONE, 0});
}

void exchange_start(struct taker *taker, unsigned at) {
    send_request(taker, at, false);
}

void exchange_start_upload(struct taker *taker, unsigned at) {
    send_request(taker, at, true);
}

void exchange_end(struct taker *taker) {
    lease_end(&taker->lease);
    exchange_deinit(&taker->x);
}

void exchange_whole(struct taker *taker, unsigned at, int server) {
    char text[256];

    exchange_start(taker, at);
    ASK_AWAIT(hear(server, text, sizeof text) > 0);
    assert_non_null(strstr(text, "GET / HTTP/1.1\r\n"));
    SAY(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    ASK_AWAIT(taker->x.events & EXCHANGE_UPSTREAM_DONE);
    assert_int_equal(taker->x.response_head.status, 200);
    assert_int_equal(body_waiting(&taker->x.response), 2);
    exchange_end(taker);
}
