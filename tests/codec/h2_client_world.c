/* See h2_client_world.h. */
#include "h2_client_world.h"

#include <signal.h>
#include <sys/socket.h>

struct loop loop;
struct fds fds;
struct h2_client *client;
struct h2_peer peer;
struct h2_client_settings settings;
struct call calls[CALLS_MAX];
unsigned changes;

static struct h2_client_loop shared;

static void run_nothing(struct task *task) {
}

static void on_change(void *ctx) {
    changes++;
}

static void on_closed(void *ctx) {
    client = NULL;
}

static void send_informational(struct exchange *x, const struct response_head *head) {
    CONTAINER_OF(x, struct call, x)->informational = head->status;
}

static const struct exchange_client owner = {.send_informational = send_informational};

void world_open_silently(int max_streams, bool may_tunnel) {
    struct conn_account account = {&fds, FD_UPSTREAM, NULL};
    int size = 4 * 1024 * 1024;
    int pair[2];

    settings = (struct h2_client_settings){
        .limits = {.head_bytes = 4096, .fields = 16},
        .max_informational = 2,
        .streams = 100,
        .pong_timeout_ns = NS_PER_S,
    };
    fds = (struct fds){.limit = {10, 10, 10, 10}};
    signal(SIGPIPE, SIG_IGN);
    changes = 0;
    memset(calls, 0, sizeof calls);
    assert_int_equal(loop_open(&loop, 0), 0);
    h2_client_loop_init(&shared);
    stream_pair(pair);
    /* What the peer says at once fits: it does not queue. */
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    fds_force(&fds, FD_UPSTREAM);
    h2_peer_open(&peer, pair[0], max_streams, may_tunnel);
    client = h2_client_open(conn_open(&loop, pair[1], true, NULL, &account),
                            &(struct h2_client_options){.settings = &settings,
                                                        .shared = &shared,
                                                        .on_change = on_change,
                                                        .on_closed = on_closed});
}

void world_open(int max_streams, bool may_tunnel) {
    world_open_silently(max_streams, may_tunnel);
    AWAIT_PEER(h2_client_state(client) == H2_CLIENT_OPEN);
}

void world_close(void) {
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        if (calls[i].stream)
            detach(i);
        if (calls[i].x.loop)
            exchange_deinit(&calls[i].x);
        buffer_deinit(&calls[i].content);
    }
    if (client)
        assert_int_equal(h2_client_used(client), 0);
    if (client)
        h2_client_close(client, true);
    AWAIT(&loop, NULL, !client);
    settle_down(&loop, NULL);
    h2_peer_close(&peer);
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 0);
    assert_int_equal(loop.wheel.running, 0);
    assert_int_equal(atomic_load(&loop.buffered_bytes), 0);
    assert_int_equal(finish_loop(&loop), 0);
    h2_client_loop_deinit(&shared);
}

void make(unsigned i) {
    struct call *call = &calls[i];

    exchange_init(&call->x, &loop, run_nothing, call->memory, sizeof call->memory);
    call->x.client = &owner;
}

void start(unsigned i, enum method method, struct content content) {
    struct call *call = &calls[i];
    struct fields fields = call->x.request_head.fields;

    if (!call->x.loop)
        make(i);
    call->x.request_head = (struct request_head){
        .method = method,
        .version = HTTP_1_1,
        .method_text = method == METHOD_POST   ? SLICE("POST")
                       : method == METHOD_HEAD ? SLICE("HEAD")
                                               : SLICE("GET"),
        .authority = SLICE("here"),
        .path = SLICE("/p"),
        .fields = fields,
    };
    if (content.kind == CONTENT_NONE)
        body_end(&call->x.request);
    call->stream = h2_client_reserve(client);
    h2_client_start(call->stream, &call->x, &call->x.request_head, content);
    loop_turn(&loop);
}

void get(unsigned i) {
    start(i, METHOD_GET, (struct content){CONTENT_NONE, 0});
}

void detach(unsigned i) {
    h2_client_detach(calls[i].stream);
    calls[i].stream = NULL;
    loop_turn(&loop);
}

void push(unsigned i, struct slice content) {
    body_push_copy(&calls[i].x.request, content);
    body_flush(&calls[i].x.request);
    loop_turn(&loop);
}

void push_end(unsigned i) {
    body_end(&calls[i].x.request);
    body_flush(&calls[i].x.request);
    loop_turn(&loop);
}

void take_content(unsigned i) {
    struct body *body = &calls[i].x.response;
    uv_buf_t buf;

    while (body_peek(body, &buf, 1)) {
        buffer_append(&calls[i].content, slice_of(buf.base, buf.len));
        body_drop(body, buf.len);
    }
}

bool content_is(unsigned i, const char *text) {
    take_content(i);
    return calls[i].content.len == strlen(text) &&
           (calls[i].content.len == 0 || memcmp(calls[i].content.base, text, strlen(text)) == 0);
}
