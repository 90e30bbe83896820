/* An origin's life; see origin.h. */
#include "origin/origin.h"

#include "base/log.h"
#include "codec/h1_write.h"
#include "origin/visit.h"
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

static unsigned connections_max(void);
static void on_accept(void *ctx, struct conn *conn, bool is_over);
static void on_accept_error(void *ctx, int err);
static void write_refusal(struct h1_server_loop *shared, const struct h1_refusal *refusal,
                          struct buffer *out);
static void on_sigterm(uv_signal_t *handle, int number);
static void on_drain_timer(struct timer *timer);

int origin_open(struct origin *origin, const struct origin_options *options) {
    int err = loop_open(&origin->loop, 0);

    if (err)
        return err;
    origin->o = *options;
    list_init(&origin->visits);
    timer_init(&origin->drain_timer, on_drain_timer);
    gate_init(&origin->connections, connections_max(), UINT32_MAX);
    origin->settings = (struct h1_server_settings){
        .limits = {HEAD_BYTES_MAX, TARGET_BYTES_MAX, FIELDS_MAX},
        .header_timeout_ns = HEADER_TIMEOUT_NS,
        .body_timeout_ns = BODY_TIMEOUT_NS,
        .idle_timeout_ns = IDLE_TIMEOUT_NS,
    };
    origin->h1 = (struct h1_server_loop){
        .loop = &origin->loop,
        .settings = &origin->settings,
        .make_exchange = visit_make_exchange,
        .drop_exchange = visit_drop_exchange,
        .write_refusal = write_refusal,
    };
    h1_server_loop_init(&origin->h1);
    err = uv_signal_init(&origin->loop.uv, &origin->sigterm);
    return err ? err : uv_signal_start(&origin->sigterm, on_sigterm, SIGTERM);
}

int origin_listen(struct origin *origin, int fd) {
    return acceptor_open(&origin->acceptor, &(struct acceptor_options){
                                                .loop = &origin->loop,
                                                .fd = fd,
                                                .fds = &origin->fds,
                                                .connections = &origin->connections,
                                                .on_accept = on_accept,
                                                .on_error = on_accept_error,
                                                .ctx = origin,
                                            });
}

unsigned origin_run(struct origin *origin) {
    loop_run(&origin->loop);
    h2o_thread_deinit();
    h1_server_loop_deinit(&origin->h1);
    gate_deinit(&origin->connections);
    return loop_close(&origin->loop);
}

void origin_end(struct origin *origin, int64_t within_ns) {
    if (origin->drain_until_ns)
        return;
    uv_close((uv_handle_t *)&origin->sigterm, NULL);
    if (origin->acceptor)
        acceptor_close(origin->acceptor);
    origin->acceptor = NULL;
    h1_server_drain(&origin->h1);
    if (origin->o.ending)
        origin->o.ending(origin);
    for (struct list *at = origin->visits.next; at != &origin->visits; at = at->next)
        exchange_wake(&CONTAINER_OF(at, struct visit, link)->x, VISIT_ENDING);
    origin->drain_until_ns = origin->loop.now_ns + within_ns;
    loop_timer_start(&origin->loop, &origin->drain_timer, DRAIN_LOOK_NS);
}

static unsigned connections_max(void) {
    struct rlimit fds = {.rlim_cur = 1024};

    getrlimit(RLIMIT_NOFILE, &fds);
    if (fds.rlim_cur >= CONNECTIONS_MAX + FDS_KEPT)
        return CONNECTIONS_MAX;
    return fds.rlim_cur > FDS_KEPT ? (unsigned)(fds.rlim_cur - FDS_KEPT) : 1;
}

static void on_accept(void *ctx, struct conn *conn, bool is_over) {
    struct origin *origin = ctx;

    h1_server_open(&origin->h1, conn);
}

static void on_accept_error(void *ctx, int err) {
    const struct origin *origin = ctx;
    static struct log_limit limit = LOG_LIMIT(1);

    log_limited(&limit, LOG_ERROR, "cannot accept in %s: %s", origin->o.name, strerror(err));
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
    struct origin *origin = CONTAINER_OF(handle, struct origin, sigterm);

    origin->loop.now_ns = clock_now_ns();
    origin_end(origin, DRAIN_MAX_NS);
    loop_turn(&origin->loop);
}

static void on_drain_timer(struct timer *timer) {
    struct origin *origin = CONTAINER_OF(timer, struct origin, drain_timer);

    if (origin->loop.conns == 0 && list_is_empty(&origin->visits)) {
        loop_stop(&origin->loop);
        return;
    }
    if (origin->loop.now_ns >= origin->drain_until_ns) {
        origin->drain_until_ns = INT64_MAX;
        h1_server_abort_all(&origin->h1);
    }
    loop_timer_start(&origin->loop, timer, DRAIN_LOOK_NS);
}
