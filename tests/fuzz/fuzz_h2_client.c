/* Frames of an upstream to an HTTP/2 client session on which a few exchanges are: a GET, a HEAD,
 * two with content and a WebSocket. The first byte says how the frames are given: as they are, or
 * as records of which frames are made whose lengths are right (type, flags, stream, length,
 * content), in pieces of which size, and whether exchanges leave when they have a head. Invariants:
 * an exchange hears of one end only, heads hold only what HTTP/1.1 can carry, there is no content
 * where none may be, what is held stays within its bounds, and nothing is left behind. */
#include "base/alloc.h"
#include "codec/h1_chars.h"
#include "codec/h2_client.h"
#include "h2_fuzz.h"

#include <assert.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS 5

struct call {
    struct exchange x;
    struct h2_client_stream *stream; /* NULL: it has left, or has not begun */
    uint32_t told;                   /* all events so far */
    char memory[2048];
};

static const struct h2_client_settings settings = {
    .limits = {.head_bytes = 1024, .target_bytes = 64, .fields = 8},
    .max_informational = 2,
    .streams = CALLS,
};

static struct loop loop;
static struct fds fds = {.limit = {10, 10, 10, 10}};
static struct h2_client *client;
static struct call calls[CALLS];
static bool is_started, leaves_early;

static void leave(struct call *call) {
    if (call->stream)
        h2_client_detach(call->stream);
    call->stream = NULL;
}

static void check_head(const struct exchange *x) {
    const struct response_head *head = &x->response_head;

    assert(head->status >= 200 || (head->status == 101 && h2_is_upgrade(&x->request_head)));
    assert(head->status <= 999);
    for (uint32_t i = 0; i < head->fields.count; i++) {
        const struct field *field = &head->fields.list[i];

        assert(field->name.len > 0 && h1_chars_are(field->name, H1_CHAR_TOKEN));
        assert(h1_chars_are(field->value, H1_CHAR_TEXT));
        assert(field->id != FIELD_TRANSFER_ENCODING && field->id != FIELD_CONNECTION);
    }
}

static void run(struct task *task) {
    struct call *call = CONTAINER_OF(CONTAINER_OF(task, struct exchange, task), struct call, x);
    struct exchange *x = &call->x;
    uv_buf_t buf;

    assert(!(call->told & x->events & (EXCHANGE_RESPONSE_HEAD | EXCHANGE_UPSTREAM_FAIL)));
    call->told |= x->events;
    x->events = 0;
    if (call->told & EXCHANGE_RESPONSE_HEAD)
        check_head(x);
    assert(x->response_content.kind != CONTENT_NONE || x->response.pushed == 0);
    assert(body_waiting(&x->response) <= H2_STREAM_WINDOW);
    assert(x->arena.extra_bytes <= 16 * settings.limits.head_bytes);
    while (body_peek(&x->response, &buf, 1))
        body_drop(&x->response, buf.len);
    if (x->response_head.status == 101 && !x->is_tunnel) {
        x->is_tunnel = true;
        x->request.state = BODY_OPEN;
        body_push_copy(&x->request, SLICE("tunnel"));
        body_flush(&x->request);
    }
    if (call->told & EXCHANGE_UPSTREAM_FAIL)
        assert(x->upstream_fail != FAIL_NONE &&
               (x->response_head.status == 0 || x->response.state == BODY_RESET));
    if (call->told & (EXCHANGE_UPSTREAM_FAIL | EXCHANGE_UPSTREAM_DONE) ||
        (leaves_early && call->told & EXCHANGE_RESPONSE_HEAD))
        leave(call);
}

static void send_informational(struct exchange *x, const struct response_head *head) {
    assert(head->status >= 100 && head->status < 200 && head->status != 101);
}

static const struct exchange_client owner = {.send_informational = send_informational};

static void start(unsigned i) {
    static char much[100000];
    struct exchange *x = &calls[i].x;
    bool has_content = i == 2 || i == 3;

    exchange_init(x, &loop, run, calls[i].memory, sizeof calls[i].memory);
    x->client = &owner;
    x->request_head = (struct request_head){
        .method = i == 1        ? METHOD_HEAD
                  : has_content ? METHOD_POST
                                : METHOD_GET,
        .version = HTTP_1_1,
        .method_text = i == 1        ? SLICE("HEAD")
                       : has_content ? SLICE("POST")
                                     : SLICE("GET"),
        .authority = SLICE("here"),
        .path = SLICE("/"),
    };
    if (i == 4)
        fields_add(&x->request_head.fields, &x->arena, FIELD_UPGRADE, SLICE("upgrade"),
                   SLICE("websocket"));
    if (i == 3)
        body_push_copy(&x->request, slice_of(much, sizeof much));
    if (i != 2)
        body_end(&x->request);
    calls[i].stream = h2_client_reserve(client);
    h2_client_start(calls[i].stream, x, &x->request_head,
                    (struct content){has_content ? CONTENT_CHUNKED : CONTENT_NONE, 0});
}

static void on_change(void *ctx) {
    for (unsigned i = 0; !is_started && i < CALLS && h2_client_room(client) > 0; i++)
        start(i);
    is_started |= h2_client_state(client) == H2_CLIENT_OPEN;
}

static void on_closed(void *ctx) {
    client = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct conn_account account = {&fds, FD_UPSTREAM, NULL};
    struct h2_client_loop shared;
    struct buffer bytes = {0};
    struct conn *conn;
    int pair[2];

    if (size < 1)
        return 0;
    h2_fuzz_open(&loop, pair);
    memset(calls, 0, sizeof calls);
    is_started = false;
    leaves_early = data[0] & 4;
    h2_client_loop_init(&shared);
    fds_force(&fds, FD_UPSTREAM);
    conn = conn_open(&loop, pair[1], true, NULL, &account);
    client = h2_client_open(conn, &(struct h2_client_options){.settings = &settings,
                                                              .shared = &shared,
                                                              .on_change = on_change,
                                                              .on_closed = on_closed});
    /* SETTINGS with ENABLE_CONNECT_PROTOCOL, which must come first. */
    h2_fuzz_feed(conn, pair[0], SLICE("\0\0\6\4\0\0\0\0\0\0\10\0\0\0\1"), 64);
    if (data[0] & 1)
        buffer_append(&bytes, slice_of((const char *)data + 1, size - 1));
    else
        h2_fuzz_frames(&bytes, slice_of((const char *)data + 1, size - 1), 16);
    h2_fuzz_feed(conn, pair[0], buffer_slice(&bytes),
                 data[0] & 2 ? (data[0] >> 3) + 1u : bytes.len);
    h2_fuzz_turn(&loop, pair[0]);
    close(pair[0]);
    if (!(data[0] & 8))
        conn->events->on_eof(conn);
    loop_turn(&loop);
    for (unsigned i = 0; i < CALLS; i++)
        leave(&calls[i]);
    assert(h2_client_used(client) == 0);
    h2_client_close(client, true);
    while (client)
        uv_run(&loop.uv, UV_RUN_ONCE);
    loop_turn(&loop);
    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i].x.loop)
            exchange_deinit(&calls[i].x);
    assert(atomic_load(&loop.buffered_bytes) == 0);
    assert(loop.wheel.running == 0 && loop.conns == 0);
    h2_client_loop_deinit(&shared);
    buffer_deinit(&bytes);
    return 0;
}
