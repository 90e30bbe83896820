/* See h2_world.h. */
#include "h2_world.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct h2_world world;

static void run(struct task *task) {
    struct h2_request *request =
        CONTAINER_OF(CONTAINER_OF(task, struct exchange, task), struct h2_request, x);
    struct exchange *x = &request->x;
    uint32_t events = x->events;

    request->events |= events;
    x->events = 0;
    if (events & EXCHANGE_STARTED && !(events & EXCHANGE_CLIENT_GONE) && world.is_answering)
        answer(request, 200, OF_NONE, "");
    if (request->events & EXCHANGE_CLIENT_GONE ||
        (request->events & EXCHANGE_RESPONSE_SENT && !x->is_tunnel))
        finish(request);
    else if (x->response.state == BODY_RESET && x->client) {
        x->client->abort(x);
        finish(request);
    }
}

static struct exchange *make_exchange(struct h2_server_loop *shared) {
    struct h2_request *request = &world.requests[world.count++ % REQUESTS_MAX];

    assert_true(world.count <= REQUESTS_MAX || request->is_over);
    *request = (struct h2_request){0};
    exchange_init(&request->x, shared->loop, run, request->memory, sizeof request->memory);
    return &request->x;
}

static void drop_exchange(struct h2_server_loop *shared, struct exchange *x) {
    exchange_deinit(x);
    CONTAINER_OF(x, struct h2_request, x)->is_over = true;
    world.dropped++;
}

static void note_refusal(struct h2_server_loop *shared, const struct h1_refusal *refusal) {
    world.refused++;
    world.refusal = refusal->fail;
    world.refused_why = refusal->why;
}

void world_init(void) {
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    world = (struct h2_world){
        .fds = {.limit = {10, 10, 10, 10}},
        .settings = {.limits = {.head_bytes = 2048, .target_bytes = 256, .fields = 16},
                     .header_timeout_ns = 10 * NS_PER_S,
                     .body_timeout_ns = 20 * NS_PER_S,
                     .idle_timeout_ns = 30 * NS_PER_S,
                     .stream_idle_timeout_ns = 40 * NS_PER_S,
                     .max_concurrent_streams = 20,
                     .header_table_bytes = 4096,
                     .max_continuations = 4,
                     .guard = {.early_percent = 90}},
        .is_polite = true,
    };
    for (unsigned kind = 0; kind < H2_ABUSES; kind++)
        world.settings.guard.per_second[kind] = 10;
}

void world_open(void) {
    struct conn_account account = {&world.fds, FD_CLIENT, NULL};
    int pair[2];

    assert_int_equal(loop_open(&world.loop, 0), 0);
    world.shared = (struct h2_server_loop){
        .loop = &world.loop,
        .settings = &world.settings,
        .make_exchange = make_exchange,
        .drop_exchange = drop_exchange,
        .note_refusal = note_refusal,
    };
    h2_server_loop_init(&world.shared);
    h2_reader_open(&world.reader);
    stream_pair(pair);
    world.client = pair[0];
    fds_force(&world.fds, FD_CLIENT);
    h2_server_open(&world.shared, conn_open(&world.loop, pair[1], true, NULL, &account));
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
    assert_int_equal(atomic_load(&world.loop.buffered_bytes), 0);
    h2_server_loop_deinit(&world.shared);
    assert_int_equal(finish_loop(&world.loop), 0);
    buffer_deinit(&world.out);
    h2_reader_close(&world.reader);
}

struct h2_server *world_server(void) {
    return CONTAINER_OF(world.shared.all.next, struct h2_server, link);
}

/* All of it, however long the server takes; stops when it does not want it any more. */
void client_sends(void) {
    struct slice rest = buffer_slice(&world.out);

    while (rest.len > 0 && world.client >= 0 && !world.is_eof) {
        ssize_t n = send(world.client, rest.base, rest.len, MSG_NOSIGNAL);

        if (n > 0)
            rest = slice_skip(rest, (size_t)n);
        else if (errno != EAGAIN)
            break;
        spin(&world.loop, NULL);
        client_reads();
    }
    world.out.len = 0;
}

void client_greets(void) {
    buffer_append(&world.out, SLICE(NGHTTP2_CLIENT_MAGIC));
    h2_settings(&world.out, 0, 0);
    client_sends();
    AWAIT_HEARD("SETTINGS ACK");
}

void client_asks(uint32_t stream_id, uint8_t flags, const char *lines) {
    h2_head(&world.out, stream_id, flags, lines);
    client_sends();
}

void client_data(uint32_t stream_id, uint8_t flags, const char *text) {
    h2_data(&world.out, stream_id, flags, slice_str(text));
    client_sends();
}

void client_reads(void) {
    static char some[65536];
    struct buffer acks = {0};
    ssize_t n;

    while (world.client >= 0 && !world.is_eof &&
           (n = hear(world.client, some, sizeof some)) != -EAGAIN) {
        if (n <= 0)
            world.is_eof = true;
        else
            h2_reader_feed(&world.reader, slice_of(some, (size_t)n));
    }
    for (; world.is_polite && world.reader.settings > 0; world.reader.settings--)
        h2_settings_ack(&acks);
    for (; world.is_polite && world.reader.pings > 0; world.reader.pings--)
        h2_frame(&acks, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0,
                 slice_of((const char *)&world.reader.ping, 8));
    if (acks.len > 0 && !world.is_eof)
        say(world.client, buffer_slice(&acks));
    buffer_deinit(&acks);
}

void client_leaves(void) {
    if (world.client >= 0)
        close(world.client);
    world.client = -1;
}

void answer(struct h2_request *request, unsigned status, struct content content, const char *text) {
    struct exchange *x = &request->x;

    x->response_head.status = status;
    x->response_head.version = HTTP_1_1;
    x->response_content = content;
    x->is_response_begun = true;
    body_push_copy(&x->response, slice_str(text));
    if (content.kind == CONTENT_NONE ||
        (content.kind == CONTENT_LENGTH && content.length == strlen(text)))
        body_end(&x->response);
    x->client->send_response(x, content);
    loop_turn(&world.loop);
}

void answer_more(struct h2_request *request, const char *text) {
    body_push_copy(&request->x.response, slice_str(text));
    body_flush(&request->x.response);
    loop_turn(&world.loop);
}

void answer_end(struct h2_request *request) {
    if (request->is_over)
        return;
    body_end(&request->x.response);
    body_flush(&request->x.response);
    loop_turn(&world.loop);
}

void finish(struct h2_request *request) {
    struct exchange *x = &request->x;

    assert_false(request->is_over);
    request->is_over = true;
    if (x->client)
        x->client->finished(x);
    exchange_deinit(x);
    loop_turn(&world.loop);
}

void take_content(struct h2_request *request, struct buffer *to) {
    struct body *body = &request->x.request;
    uv_buf_t buf;

    while (body_peek(body, &buf, 1)) {
        buffer_append(to, slice_of(buf.base, buf.len));
        body_drop(body, buf.len);
    }
}
