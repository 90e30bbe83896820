/* See server_world.h. */
#include "server_world.h"

#include <errno.h>
#include <unistd.h>

struct server_world world;

static void run(struct task *task) {
    struct request *request =
        CONTAINER_OF(CONTAINER_OF(task, struct exchange, task), struct request, x);
    uint32_t events = request->x.events;

    request->events |= events;
    request->x.events = 0;
    if (events & EXCHANGE_STARTED && world.is_answering) {
        char path[64] = {0};

        memcpy(path, request->x.request_head.path.base, request->x.request_head.path.len);
        answer(request, 200, OF_LENGTH(strlen(path)), path);
        answer_end(request);
    }
    if (request->events & EXCHANGE_CLIENT_GONE ||
        (request->events & EXCHANGE_RESPONSE_SENT && !request->x.is_tunnel))
        finish(request);
}

static struct exchange *make_exchange(struct h1_server_loop *shared) {
    struct request *request = &world.requests[world.count % REQUESTS_MAX];

    assert_true(world.count < REQUESTS_MAX || request->is_over);
    *request = (struct request){0};
    exchange_init(&request->x, shared->loop, run, request->memory, sizeof request->memory);
    world.count++;
    return &request->x;
}

static void drop_exchange(struct h1_server_loop *shared, struct exchange *x) {
    exchange_deinit(x);
    CONTAINER_OF(x, struct request, x)->is_over = true;
    world.count--;
}

static void write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                          struct buffer *out) {
    assert_non_null(refusal->why);
    world.refused++;
    world.refusal = refusal->fail;
    buffer_append(out, SLICE("HTTP/1.1 400 Refused\r\nConnection: close\r\n\r\n"));
}

void world_open(bool is_tcp) {
    struct conn_account account = {&world.fds, FD_CLIENT, NULL};
    int pair[2];

    world = (struct server_world){
        .fds = {.limit = {10, 10, 10, 10}},
        .settings = {.limits = {.head_bytes = 2048, .target_bytes = 256, .fields = 16},
                     .header_timeout_ns = 10 * NS_PER_S,
                     .body_timeout_ns = 20 * NS_PER_S,
                     .idle_timeout_ns = 30 * NS_PER_S,
                     .stream_idle_timeout_ns = 40 * NS_PER_S},
    };
    assert_int_equal(loop_open(&world.loop, 0), 0);
    world.shared = (struct h1_server_loop){
        .loop = &world.loop,
        .settings = &world.settings,
        .make_exchange = make_exchange,
        .drop_exchange = drop_exchange,
        .write_refusal = write_refusal,
    };
    h1_server_loop_init(&world.shared);
    if (is_tcp)
        tcp_pair(pair);
    else
        stream_pair(pair);
    world.client = pair[0];
    fds_force(&world.fds, FD_CLIENT);
    h1_server_open(&world.shared, conn_open(&world.loop, pair[1], !is_tcp, NULL, &account));
}

void world_close(void) {
    client_leaves();
    AWAIT_THAT(atomic_load(&world.shared.count) == 0);
    settle_down(&world.loop, NULL);
    for (unsigned i = 0; i < REQUESTS_MAX && i < world.count; i++)
        assert_true(world.requests[i].is_over);
    assert_int_equal(atomic_load(&world.shared.active), 0);
    assert_int_equal(fds_used(&world.fds, FD_CLIENT), 0);
    assert_int_equal(world.loop.wheel.running, 0);
    h1_server_loop_deinit(&world.shared);
    assert_int_equal(finish_loop(&world.loop), 0);
    buffer_deinit(&world.heard);
}

void client_reads(void) {
    char some[4096];
    ssize_t n;

    while (world.client >= 0 && (n = hear(world.client, some, sizeof some)) != -EAGAIN) {
        if (n > 0) {
            buffer_append(&world.heard, slice_of(some, (size_t)n));
            continue;
        }
        world.is_eof = n == 0;
        world.err = (int)n;
        return;
    }
}

void client_leaves(void) {
    if (world.client >= 0)
        close(world.client);
    world.client = -1;
}

bool client_heard(const char *text) {
    return world.heard.len > 0 && memmem(world.heard.base, world.heard.len, text, strlen(text));
}

void client_forgets(void) {
    client_reads();
    world.heard.len = 0;
}

void answer(struct request *request, unsigned status, struct content content, const char *text) {
    struct exchange *x = &request->x;

    x->response_head.status = status;
    x->response_head.version = HTTP_1_1;
    x->response_head.reason = h1_reason(status);
    x->response_content = content;
    x->is_response_begun = true;
    body_push_copy(&x->response, slice_str(text));
    if (content.kind == CONTENT_NONE ||
        (content.kind == CONTENT_LENGTH && content.length == strlen(text)))
        body_end(&x->response);
    x->client->send_response(x, content);
    loop_turn(&world.loop);
}

void answer_more(struct request *request, const char *text) {
    body_push_copy(&request->x.response, slice_str(text));
    body_flush(&request->x.response);
    loop_turn(&world.loop);
}

void answer_end(struct request *request) {
    if (request->is_over)
        return;
    body_end(&request->x.response);
    body_flush(&request->x.response);
    loop_turn(&world.loop);
}

void answer_whole(struct request *request, unsigned status, const char *text) {
    answer(request, status, OF_LENGTH(strlen(text)), text);
}

void finish(struct request *request) {
    struct exchange *x = &request->x;

    assert_false(request->is_over);
    request->is_over = true;
    if (x->client)
        x->client->finished(x);
    exchange_deinit(x);
    loop_turn(&world.loop);
}

void take_content(struct request *request, struct buffer *to) {
    struct body *body = &request->x.request;
    uv_buf_t buf;

    while (body_peek(body, &buf, 1)) {
        buffer_append(to, slice_of(buf.base, buf.len));
        body_drop(body, buf.len);
    }
}
