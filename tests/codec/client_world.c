/* See client_world.h. */
#include "client_world.h"

#include <unistd.h>

struct loop loop;
struct fds fds;
struct h1_client *client;
int upstream;
struct buffer heard, content;
unsigned idles;
enum h1_client_end end;
struct exchange x;
unsigned informational, last_informational;

static struct buffer scratch;
static struct h1_client_settings settings;
static char memory[4096];
static bool is_attached; /* x is on the codec */

static void run_nothing(struct task *task) {
}

static void on_idle(void *ctx, enum h1_client_end how) {
    idles++;
    end = how;
}

static void on_closed(void *ctx) {
    client = NULL;
}

static void send_informational(struct exchange *of, const struct response_head *head) {
    informational++;
    last_informational = head->status;
}

static const struct exchange_client owner = {.send_informational = send_informational};

static void begin(void) {
    x = (struct exchange){0};
    exchange_init(&x, &loop, run_nothing, memory, sizeof memory);
    x.client = &owner;
    informational = 0;
}

void world_open(bool is_tcp, bool is_used) {
    struct conn_account account = {&fds, FD_UPSTREAM, NULL};
    struct h1_client_options options = {
        .settings = &settings,
        .head = &scratch,
        .on_idle = on_idle,
        .on_closed = on_closed,
        .is_used = is_used,
    };
    int pair[2];

    settings = (struct h1_client_settings){.limits = {.head_bytes = 2048, .fields = 16},
                                           .max_informational = 2};
    fds = (struct fds){.limit = {10, 10, 10, 10}};
    assert_int_equal(loop_open(&loop, 0), 0);
    if (is_tcp)
        tcp_pair(pair);
    else
        stream_pair(pair);
    upstream = pair[0];
    fds_force(&fds, FD_UPSTREAM);
    client = h1_client_open(conn_open(&loop, pair[1], !is_tcp, NULL, &account), &options);
    idles = 0;
    begin();
}

void world_close(void) {
    if (is_attached)
        detach();
    exchange_deinit(&x);
    if (upstream >= 0)
        close(upstream);
    if (client)
        h1_client_close(client, true);
    AWAIT(&loop, NULL, !client);
    settle_down(&loop, NULL);
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 0);
    assert_int_equal(loop.wheel.running, 0);
    assert_int_equal(finish_loop(&loop), 0);
    buffer_deinit(&scratch);
    buffer_deinit(&heard);
    buffer_deinit(&content);
}

void start(enum method method, struct content framing) {
    x.request_head = (struct request_head){
        .method = method,
        .version = HTTP_1_1,
        .method_text = method == METHOD_POST   ? SLICE("POST")
                       : method == METHOD_HEAD ? SLICE("HEAD")
                                               : SLICE("GET"),
        .authority = SLICE("here"),
        .path = SLICE("/p"),
        .fields = x.request_head.fields,
    };
    if (framing.kind == CONTENT_NONE)
        body_end(&x.request);
    is_attached = true;
    h1_client_start(client, &x, &x.request_head, framing);
    loop_turn(&loop);
}

void start_get(void) {
    start(METHOD_GET, (struct content){CONTENT_NONE, 0});
}

void detach(void) {
    is_attached = false;
    h1_client_detach(client);
    loop_turn(&loop);
}

void begin_again(void) {
    detach();
    exchange_deinit(&x);
    begin();
    upstream_heard("");
    content.len = heard.len = 0;
}

void push(const char *text) {
    body_push_copy(&x.request, slice_str(text));
    body_flush(&x.request);
    loop_turn(&loop);
}

void push_end(void) {
    body_end(&x.request);
    body_flush(&x.request);
    loop_turn(&loop);
}

void take_content(void) {
    uv_buf_t buf;

    while (body_peek(&x.response, &buf, 1)) {
        buffer_append(&content, slice_of(buf.base, buf.len));
        body_drop(&x.response, buf.len);
    }
}

bool upstream_heard(const char *text) {
    char some[4096];
    ssize_t n;

    while (upstream >= 0 && (n = hear(upstream, some, sizeof some)) > 0)
        buffer_append(&heard, slice_of(some, (size_t)n));
    return heard.len == strlen(text) && memcmp(heard.base, text, heard.len) == 0;
}

bool content_is(const char *text) {
    take_content();
    return content.len == strlen(text) && memcmp(content.base, text, content.len) == 0;
}
