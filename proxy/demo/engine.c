/* The engine's life; see engine.h. */
#include "demo/engine.h"

#include "base/log.h"
#include "codec/h1_write.h"
#include "demo/visit.h"
#include "transport/h2o_thread.h"

#include <signal.h>
#include <sys/resource.h>

#define CONNECTIONS_MAX 16384
#define FDS_KEPT 32 /* for the loop and standard streams */
#define HEAD_BYTES_MAX (128 * 1024)
#define TARGET_BYTES_MAX (64 * 1024)
#define FIELDS_MAX 256 /* weir adds to the 100 that it takes */
#define HEADER_TIMEOUT_NS (30 * NS_PER_S)
#define BODY_TIMEOUT_NS (120 * NS_PER_S)
/* Longer than weir keeps an idle connection, so that weir is the one that closes it. */
#define IDLE_TIMEOUT_NS (300 * NS_PER_S)
#define DRAIN_MAX_NS (10 * NS_PER_S)
#define DRAIN_LOOK_NS (10 * NS_PER_MS)

static int open_all(struct engine *engine, int fd);
static unsigned connections_max(void);
static void on_accept(void *ctx, struct conn *conn, bool is_over);
static void on_accept_error(void *ctx, int err);
static void write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                          struct buffer *out);
static void on_sigterm(uv_signal_t *handle, int number);
static void on_drain_timer(struct timer *timer);

int engine_run(int fd) {
    static struct engine engine; /* half a page of timer wheel: not for the stack */
    unsigned left;
    int err = open_all(&engine, fd);

    if (err) {
        log_error("cannot start the demo engine: %s", strerror(-err));
        return 1;
    }
    loop_run(&engine.loop);
    h2o_thread_deinit();
    h1_server_loop_deinit(&engine.h1);
    gate_deinit(&engine.connections);
    left = loop_close(&engine.loop);
    if (left > 0)
        log_error("the demo engine has left %u handles open", left);
    return left > 0;
}

static int open_all(struct engine *engine, int fd) {
    int err = loop_open(&engine->loop, 0);

    if (err)
        return err;
    list_init(&engine->visits);
    timer_init(&engine->drain_timer, on_drain_timer);
    gate_init(&engine->connections, connections_max(), UINT32_MAX);
    engine->settings = (struct h1_server_settings){
        .limits = {HEAD_BYTES_MAX, TARGET_BYTES_MAX, FIELDS_MAX},
        .header_timeout_ns = HEADER_TIMEOUT_NS,
        .body_timeout_ns = BODY_TIMEOUT_NS,
        .idle_timeout_ns = IDLE_TIMEOUT_NS,
    };
    engine->h1 = (struct h1_server_loop){
        .loop = &engine->loop,
        .settings = &engine->settings,
        .make_exchange = visit_make_exchange,
        .drop_exchange = visit_drop_exchange,
        .write_refusal = write_refusal,
    };
    h1_server_loop_init(&engine->h1);
    err = uv_signal_init(&engine->loop.uv, &engine->sigterm);
    if (!err)
        err = uv_signal_start(&engine->sigterm, on_sigterm, SIGTERM);
    if (!err)
        err = acceptor_open(&engine->acceptor, &(struct acceptor_options){
                                                   .loop = &engine->loop,
                                                   .fd = fd,
                                                   .fds = &engine->fds,
                                                   .connections = &engine->connections,
                                                   .on_accept = on_accept,
                                                   .on_error = on_accept_error,
                                                   .ctx = engine,
                                               });
    return err;
}

static unsigned connections_max(void) {
    struct rlimit fds = {.rlim_cur = 1024};

    getrlimit(RLIMIT_NOFILE, &fds);
    if (fds.rlim_cur >= CONNECTIONS_MAX + FDS_KEPT)
        return CONNECTIONS_MAX;
    return fds.rlim_cur > FDS_KEPT ? (unsigned)(fds.rlim_cur - FDS_KEPT) : 1;
}

static void on_accept(void *ctx, struct conn *conn, bool is_over) {
    struct engine *engine = ctx;

    h1_server_open(&engine->h1, conn);
}

static void on_accept_error(void *ctx, int err) {
    static struct log_limit limit = LOG_LIMIT(1);

    log_limited(&limit, LOG_ERROR, "cannot accept in the demo engine: %s", strerror(err));
}

static void write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                          struct buffer *out) {
    unsigned status = fail_row(refusal->fail)->http;
    size_t len = strlen(refusal->why) + 1;

    buffer_printf(out,
                  "HTTP/1.1 %u %.*s\r\ncontent-type: text/plain; charset=utf-8\r\n"
                  "content-length: %zu\r\nconnection: close\r\n\r\n%s\n",
                  status, SLICE_ARG(h1_reason(status)), len, refusal->why);
}

static void on_sigterm(uv_signal_t *handle, int number) {
    struct engine *engine = CONTAINER_OF(handle, struct engine, sigterm);

    engine->loop.now_ns = clock_now_ns();
    uv_close((uv_handle_t *)handle, NULL);
    acceptor_close(engine->acceptor);
    engine->acceptor = NULL;
    h1_server_drain(&engine->h1);
    for (struct list *at = engine->visits.next; at != &engine->visits; at = at->next)
        exchange_wake(&CONTAINER_OF(at, struct visit, link)->x, VISIT_ENDING);
    engine->drain_until_ns = engine->loop.now_ns + DRAIN_MAX_NS;
    loop_timer_start(&engine->loop, &engine->drain_timer, DRAIN_LOOK_NS);
    loop_turn(&engine->loop);
}

static void on_drain_timer(struct timer *timer) {
    struct engine *engine = CONTAINER_OF(timer, struct engine, drain_timer);

    if (engine->loop.conns == 0 && list_is_empty(&engine->visits)) {
        loop_stop(&engine->loop);
        return;
    }
    if (engine->loop.now_ns >= engine->drain_until_ns) {
        engine->drain_until_ns = INT64_MAX;
        h1_server_abort_all(&engine->h1);
    }
    loop_timer_start(&engine->loop, timer, DRAIN_LOOK_NS);
}
