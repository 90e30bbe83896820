/* Frames of a client to an HTTP/2 server session. The first byte says how they are given: as they
 * are, or as records of which frames are made whose lengths are right (type, flags, stream, length,
 * content), and in pieces of which size. Each exchange does what its path asks for. Invariants: no
 * exchange is left behind, none is told anything when it is gone, heads hold only what HTTP/1.1 can
 * carry, what is held stays within its bounds. */
#include "base/alloc.h"
#include "codec/h1_chars.h"
#include "codec/h2_server_state.h"
#include "h2_fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owned {
    struct exchange x;
    struct list link;
    char memory[1024];
};

static struct loop loop;
static struct fds fds = {.limit = {10, 10, 10, 10}};
static struct list exchanges;
static unsigned live;

static const struct h2_server_settings settings = {
    .limits = {.head_bytes = 1024, .target_bytes = 64, .fields = 8},
    .header_timeout_ns = NS_PER_S,
    .body_timeout_ns = NS_PER_S,
    .idle_timeout_ns = NS_PER_S,
    .stream_idle_timeout_ns = NS_PER_S,
    .max_requests = 100,
    .max_concurrent_streams = 10,
    .header_table_bytes = 256,
    .max_continuations = 4,
    .guard = {.per_second = {20, 20, 20, 20, 20, 20, 20}, .early_percent = 90},
};

static void drop(struct owned *owned) {
    if (owned->x.client)
        owned->x.client->finished(&owned->x);
    list_remove(&owned->link);
    exchange_deinit(&owned->x);
    free(owned);
    live--;
}

static void check_head(const struct request_head *head) {
    assert(head->version == HTTP_2);
    assert(head->method_text.len > 0 && h1_chars_are(head->method_text, H1_CHAR_TOKEN));
    assert(h1_is_authority(head->authority));
    assert(head->form == TARGET_AUTHORITY || h1_chars_are(head->path, H1_CHAR_TARGET));
    assert(head->form != TARGET_ORIGIN || head->path.base[0] == '/');
    for (uint32_t i = 0; i < head->fields.count; i++) {
        const struct field *field = &head->fields.list[i];

        assert(field->name.len > 0 && h1_chars_are(field->name, H1_CHAR_TOKEN));
        assert(h1_chars_are(field->value, H1_CHAR_TEXT));
        assert(slice_trim(field->value).len == field->value.len);
        assert(field->id != FIELD_HOST && field->id != FIELD_TRANSFER_ENCODING);
    }
}

static void respond(struct exchange *x) {
    struct slice path = x->request_head.path;
    char wish = path.len > 1 ? path.base[1] : 0;
    struct content content = {CONTENT_CHUNKED, 0};
    static char large[100000];

    x->response_head.status = 200;
    x->response_head.version = HTTP_1_1;
    if (h2_is_upgrade(&x->request_head)) {
        x->response_head.status = 101;
        content.kind = CONTENT_TUNNEL;
        x->is_tunnel = x->is_stream = true;
    }
    if (wish == 'L')
        body_push_copy(&x->response, slice_of(large, sizeof large));
    if (wish == 'T')
        fields_add(&x->response.trailers, &x->arena, FIELD_OTHER, SLICE("t"), SLICE("1"));
    if (wish != 'O')
        body_end(&x->response);
    x->is_response_begun = true;
    x->client->send_response(x, content);
    if (wish == 'R')
        body_reset(&x->response, FAIL_UPSTREAM_RESET);
}

static void run(struct task *task) {
    struct owned *owned = CONTAINER_OF(CONTAINER_OF(task, struct exchange, task), struct owned, x);
    struct exchange *x = &owned->x;
    uint32_t events = x->events;
    uv_buf_t buf;

    x->events = 0;
    if (events & EXCHANGE_STARTED && !(events & EXCHANGE_CLIENT_FAIL))
        check_head(&x->request_head);
    assert(body_waiting(&x->request) <= H2_STREAM_WINDOW);
    assert(x->arena.extra_bytes <= 16 * settings.limits.head_bytes);
    if (events & (EXCHANGE_CLIENT_GONE | EXCHANGE_RESPONSE_SENT)) {
        drop(owned);
        return;
    }
    if (x->response.state == BODY_RESET) {
        x->client->abort(x);
        drop(owned);
        return;
    }
    while (body_peek(&x->request, &buf, 1))
        body_drop(&x->request, buf.len);
    /* 'W': none, for ever. */
    if (!x->is_response_begun &&
        !(x->request_head.path.len > 1 && x->request_head.path.base[1] == 'W'))
        respond(x);
}

static struct exchange *make_exchange(struct h2_server_loop *shared) {
    struct owned *owned = xcalloc(1, sizeof *owned);

    exchange_init(&owned->x, &loop, run, owned->memory, sizeof owned->memory);
    list_push_back(&exchanges, &owned->link);
    live++;
    /* The one whose head is read, and one for each stream. */
    assert(live <= settings.max_concurrent_streams + 1);
    return &owned->x;
}

static void drop_exchange(struct h2_server_loop *shared, struct exchange *x) {
    drop(CONTAINER_OF(x, struct owned, x));
}

static void note_refusal(struct h2_server_loop *shared, const struct h1_refusal *refusal) {
    assert(refusal->why && refusal->fail != FAIL_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct h2_server_loop shared = {
        .loop = &loop,
        .settings = &settings,
        .make_exchange = make_exchange,
        .drop_exchange = drop_exchange,
        .note_refusal = note_refusal,
    };
    struct conn_account account = {&fds, FD_CLIENT, NULL};
    struct buffer bytes = {0};
    struct conn *conn;
    int pair[2];

    if (size < 1)
        return 0;
    list_init(&exchanges);
    h2_fuzz_open(&loop, pair);
    h2_server_loop_init(&shared);
    fds_force(&fds, FD_CLIENT);
    conn = conn_open(&loop, pair[1], true, NULL, &account);
    h2_server_open(&shared, conn);
    /* 's' for SETTINGS of nothing, which must come first. */
    buffer_append(&bytes, SLICE(NGHTTP2_CLIENT_MAGIC "\0\0\0\4\0\0\0\0\0"));
    if (data[0] & 1)
        buffer_append(&bytes, slice_of((const char *)data + 1, size - 1));
    else
        h2_fuzz_frames(&bytes, slice_of((const char *)data + 1, size - 1), 32);
    h2_fuzz_feed(conn, pair[0], buffer_slice(&bytes),
                 data[0] & 2 ? (data[0] >> 2) + 1u : bytes.len);
    if (data[0] & 4)
        h2_server_drain(&shared);
    h2_fuzz_turn(&loop, pair[0]);
    close(pair[0]);
    while (atomic_load(&shared.count) > 0)
        uv_run(&loop.uv, UV_RUN_ONCE);
    loop_turn(&loop);
    /* Those that were through and go on by themselves. */
    while (!list_is_empty(&exchanges)) {
        struct owned *owned = CONTAINER_OF(exchanges.next, struct owned, link);

        assert(!owned->x.client);
        drop(owned);
    }
    assert(live == 0 && atomic_load(&shared.active) == 0);
    assert(atomic_load(&loop.buffered_bytes) == 0);
    h2_server_loop_deinit(&shared);
    buffer_deinit(&bytes);
    return 0;
}
