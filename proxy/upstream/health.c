/* A check, from the dial to what it says; see health.h.
 *
 *   RESTING -> DIALLING -> ASKING -> CLOSING -> RESTING */
#include "upstream/health.h"

#include "base/alloc.h"
#include "base/random.h"
#include "codec/grpc.h"
#include "codec/grpc_health.h"

#include <assert.h>
#include <stdlib.h>

#define ARENA_BYTES 4096

enum stage { RESTING, DIALLING, ASKING, CLOSING };

struct health {
    struct endpoint *endpoint; /* counted */
    struct pool_loop *shared;  /* borrowed */
    struct health_options o;
    struct timer timer; /* RESTING: till the next; else until it takes too long */
    enum stage stage;
    bool is_closed;

    struct conn *conn;    /* DIALLING: owned; then the codec's */
    struct h1_client *h1; /* of a check under way; NULL: none */
    struct h2_client *h2;
    struct h2_client_stream *stream; /* HTTP/2: ASKING */
    struct exchange x;               /* ASKING */
    max_align_t memory[ARENA_BYTES / sizeof(max_align_t)];

    bool is_known;         /* a check has decided before */
    bool is_healthy;       /* as was last told */
    unsigned good, failed; /* in a row */
};

static void on_timer(struct timer *timer);
static void begin(struct health *health);
static void on_dialled(struct conn *conn, int err);
static void on_codec_idle(void *ctx, enum h1_client_end end);
static void on_h2_change(void *ctx);
static void on_codec_closed(void *ctx);
static void ask(struct health *health);
static struct slice host_of(const struct health *health);
static void on_exchange(struct task *task);
static void on_content(struct body *body);
static void read_head(struct health *health);
static void read_grpc(struct health *health);
static bool is_expected(const struct config_health *config, unsigned status);
static void over(struct health *health, bool is_good, const char *why);
static void let_go(struct health *health);
static void rest(struct health *health, int64_t ns);
static void take_result(struct health *health, bool is_good, const char *why);
static void free_it(struct health *health);

static const struct body_sink_ops content_sink = {.ready = on_content};

struct health *health_new(struct endpoint *endpoint, struct pool_loop *shared,
                          const struct health_options *options) {
    struct health *health = xcalloc(1, sizeof *health);

    health->endpoint = endpoint_ref(endpoint);
    health->shared = shared;
    health->o = *options;
    health->is_healthy = !(atomic_load(&endpoint->conditions) & ENDPOINT_UNHEALTHY);
    timer_init(&health->timer, on_timer);
    if (options->config->protocol == PROTOCOL_HTTP2)
        pool_loop_use_h2(shared);
    rest(health, (int64_t)random_below((uint64_t)HEALTH_FIRST_NS));
    return health;
}

void health_close(struct health *health) {
    health->is_closed = true;
    if (health->stage == RESTING)
        free_it(health);
    else if (health->stage != CLOSING)
        let_go(health);
}

const struct endpoint *health_endpoint(const struct health *health) {
    return health->endpoint;
}

bool health_mark(struct endpoint *const *list, size_t count, struct endpoint *endpoint,
                 bool is_healthy, double panic, int64_t now_ns) {
    unsigned all = 0, healthy = 0;
    bool is_panic;

    if (endpoint && is_healthy)
        endpoint_change(endpoint, 0, ENDPOINT_UNHEALTHY | ENDPOINT_UNCHECKED, now_ns);
    for (size_t i = 0; i < count; i++) {
        unsigned conditions = atomic_load(&list[i]->conditions);

        if (list[i] == endpoint)
            conditions = is_healthy ? 0 : ENDPOINT_UNHEALTHY;
        if (conditions & (ENDPOINT_DRAINED | ENDPOINT_DISABLED | ENDPOINT_UNCHECKED))
            continue;
        all++;
        healthy += !(conditions & ENDPOINT_UNHEALTHY);
    }
    is_panic = healthy < panic * all;
    /* First all others may be used, then one no longer: there is no moment without any. */
    for (size_t i = 0; is_panic && i < count; i++)
        endpoint_change(list[i], ENDPOINT_PANIC, 0, now_ns);
    if (endpoint && !is_healthy)
        endpoint_change(endpoint, ENDPOINT_UNHEALTHY, ENDPOINT_UNCHECKED, now_ns);
    for (size_t i = 0; !is_panic && i < count; i++)
        endpoint_change(list[i], 0, ENDPOINT_PANIC, now_ns);
    return is_panic;
}

static void on_timer(struct timer *timer) {
    struct health *health = CONTAINER_OF(timer, struct health, timer);

    if (health->stage == RESTING)
        begin(health);
    else
        over(health, false,
             health->stage == DIALLING ? "no connection in time" : "no answer in time");
}

static void begin(struct health *health) {
    const struct sockaddr *address = (const struct sockaddr *)&health->endpoint->address;
    struct conn_account account = {health->shared->fds, FD_UPSTREAM, NULL};
    struct loop *loop = health->shared->loop;
    struct tls *tls = NULL;
    int err;

    if (!fds_acquire(health->shared->fds, FD_UPSTREAM)) {
        rest(health, health->o.config->health.interval_ns); /* that says nothing of the endpoint */
        return;
    }
    if (health->o.pool->tls)
        tls = tls_client_dial(health->o.pool->tls, address);
    health->stage = DIALLING;
    loop_timer_start(loop, &health->timer, health->o.config->health.timeout_ns);
    err = conn_dial(&health->conn, loop, address, &account, tls, on_dialled, health);
    if (err) {
        health->conn = NULL; /* conn_dial() has closed what it had */
        over(health, false, fail_row(endpoint_fail_of(err))->title);
    }
}

static void on_dialled(struct conn *conn, int err) {
    struct health *health = conn->codec;
    bool is_http2 = health->o.config->protocol == PROTOCOL_HTTP2;

    if (err) {
        over(health, false, fail_row(endpoint_fail_of(err))->title);
    } else if (health->o.config->health.kind == HEALTH_CONNECT) {
        over(health, true, NULL);
    } else if (is_http2 && conn_is_secure(conn) && !slice_equal(conn_protocol(conn), SLICE("h2"))) {
        over(health, false, "no HTTP/2 by ALPN");
    } else if (is_http2) {
        health->conn = NULL;
        health->h2 = h2_client_open(conn, &(struct h2_client_options){
                                              .settings = &health->o.pool->h2,
                                              .shared = health->shared->h2,
                                              .on_change = on_h2_change,
                                              .on_closed = on_codec_closed,
                                              .ctx = health,
                                          });
    } else {
        health->conn = NULL;
        health->h1 = h1_client_open(conn, &(struct h1_client_options){
                                              .settings = &health->o.pool->h1,
                                              .head = &health->shared->head,
                                              .on_idle = on_codec_idle,
                                              .on_closed = on_codec_closed,
                                              .ctx = health,
                                          });
        ask(health);
    }
}

/* let_go() closes it. */
static void on_codec_idle(void *ctx, enum h1_client_end end) {
}

static void on_h2_change(void *ctx) {
    struct health *health = ctx;

    if (health->stage == DIALLING && h2_client_state(health->h2) == H2_CLIENT_OPEN &&
        h2_client_room(health->h2) > 0)
        ask(health);
    else if (health->stage == DIALLING && h2_client_state(health->h2) >= H2_CLIENT_ENDING)
        over(health, false, "the connection ended before SETTINGS");
}

/* The conn is gone, and the codec with it. */
static void on_codec_closed(void *ctx) {
    struct health *health = ctx;

    health->h1 = NULL;
    health->h2 = NULL;
    if (health->is_closed)
        free_it(health);
    else
        rest(health, health->o.config->health.interval_ns);
}

static void ask(struct health *health) {
    const struct config_health *config = &health->o.config->health;
    bool is_grpc = config->kind == HEALTH_GRPC;
    struct exchange *x = &health->x;
    struct arena *arena = &x->arena;
    struct content content = {is_grpc ? CONTENT_CHUNKED : CONTENT_NONE, 0};
    struct request_head head = {
        .method = is_grpc ? METHOD_POST : METHOD_GET,
        .method_text = is_grpc ? SLICE("POST") : SLICE("GET"),
        .version = is_grpc ? HTTP_2 : HTTP_1_1,
        .scheme = health->o.pool->tls ? SLICE("https") : SLICE("http"),
        .authority = host_of(health),
        .path = is_grpc ? SLICE(GRPC_HEALTH_CHECK) : slice_str(config->path),
    };

    health->stage = ASKING;
    exchange_init(x, health->shared->loop, on_exchange, health->memory, sizeof health->memory);
    fields_add_known(&head.fields, arena, FIELD_USER_AGENT, SLICE("weir-health"));
    if (is_grpc) {
        fields_add_known(&head.fields, arena, FIELD_CONTENT_TYPE, SLICE("application/grpc"));
        fields_add_known(&head.fields, arena, FIELD_TE, SLICE("trailers"));
        body_push_copy(&x->request,
                       grpc_health_write_request(arena, slice_str(config->grpc_service)));
    } else if (!health->h2) {
        fields_add_known(&head.fields, arena, FIELD_CONNECTION, SLICE("close"));
    }
    body_end(&x->request);
    if (health->h2) {
        health->stream = h2_client_reserve(health->h2);
        h2_client_start(health->stream, x, &head, content);
    } else {
        h1_client_start(health->h1, x, &head, content);
    }
    body_attach_sink(&x->response, &content_sink, health);
}

static struct slice host_of(const struct health *health) {
    const struct config_pipeline *config = health->o.config;

    if (config->health.host || config->host)
        return slice_str(config->health.host ? config->health.host : config->host);
    return slice_str(health->endpoint->address.ss_family == AF_UNIX ? "localhost"
                                                                    : health->endpoint->text);
}

static void on_content(struct body *body) {
    exchange_wake(&((struct health *)body->sink_ctx)->x, 0);
}

static void on_exchange(struct task *task) {
    struct exchange *x = CONTAINER_OF(task, struct exchange, task);
    struct health *health = CONTAINER_OF(x, struct health, x);

    if (health->stage != ASKING)
        return;
    if (x->events & EXCHANGE_UPSTREAM_FAIL)
        over(health, false, fail_row(x->upstream_fail)->title);
    else if (x->events & EXCHANGE_RESPONSE_HEAD)
        read_head(health);
}

static void read_head(struct health *health) {
    const struct config_health *config = &health->o.config->health;
    const struct response_head *head = &health->x.response_head;

    if (config->kind == HEALTH_GRPC && head->status == 200)
        read_grpc(health);
    else if (config->kind == HEALTH_HTTP && is_expected(config, head->status))
        over(health, true, NULL);
    else
        over(health, false, "an unexpected status");
}

/* The message, and then the status that says whether it is to be heeded. */
static void read_grpc(struct health *health) {
    struct body *body = &health->x.response;
    struct fields *said = &body->trailers;
    const struct field *status;
    uv_buf_t bufs[BODY_BUFS_MAX];
    unsigned count = body_peek(body, bufs, BODY_BUFS_MAX);
    struct slice all = SLICE("");
    enum grpc_serving serving;

    if (body->state == BODY_RESET) {
        over(health, false, fail_row(body->fail)->title);
        return;
    }
    if (body_waiting(body) > HEALTH_CONTENT_MAX) {
        over(health, false, "an answer that is no HealthCheckResponse");
        return;
    }
    if (body->state == BODY_OPEN)
        return;
    status = fields_find(said, FIELD_GRPC_STATUS);
    if (!status)
        status = fields_find(&health->x.response_head.fields, FIELD_GRPC_STATUS);
    for (unsigned i = 0; i < count; i++)
        all = ARENA_JOIN(&health->x.arena, all, slice_of(bufs[i].base, bufs[i].len));
    if (!status || grpc_parse_status(status->value) != GRPC_OK)
        over(health, false,
             status ? grpc_status_name(grpc_parse_status(status->value))
                    : "an answer without grpc-status");
    else if (!grpc_health_read_response(all, &serving))
        over(health, false, "an answer that is no HealthCheckResponse");
    else
        over(health, serving == GRPC_SERVING, "it says that it is not serving");
}

static bool is_expected(const struct config_health *config, unsigned status) {
    for (size_t i = 0; i < config->status_count; i++)
        if (status >= config->statuses[i].first && status <= config->statuses[i].last)
            return true;
    return false;
}

/* The check has its result. */
static void over(struct health *health, bool is_good, const char *why) {
    take_result(health, is_good, why);
    let_go(health);
}

/* Ends the connection, politely where it came about: one that is broken off looks like a failure to
 * the upstream. */
static void let_go(struct health *health) {
    bool was_asking = health->stage == ASKING;

    health->stage = CLOSING;
    loop_timer_stop(health->shared->loop, &health->timer);
    if (was_asking) {
        if (health->stream)
            h2_client_detach(health->stream);
        else
            h1_client_detach(health->h1);
        health->stream = NULL;
        exchange_deinit(&health->x);
        task_cancel(&health->x.task);
    }
    if (health->h1)
        h1_client_close(health->h1, health->is_closed);
    else if (health->h2)
        h2_client_close(health->h2, health->is_closed);
    if (health->h1 || health->h2)
        return; /* on_codec_closed() follows */
    if (health->conn)
        conn_close(health->conn);
    health->conn = NULL;
    on_codec_closed(health);
}

static void rest(struct health *health, int64_t ns) {
    health->stage = RESTING;
    loop_timer_start(health->shared->loop, &health->timer,
                     ns * 9 / 10 + (int64_t)random_below((uint64_t)ns / 5 + 1));
}

static void take_result(struct health *health, bool is_good, const char *why) {
    const struct config_health *config = &health->o.config->health;
    bool is_first = !health->is_known, is_decided;

    health->good = is_good ? health->good + 1 : 0;
    health->failed = is_good ? 0 : health->failed + 1;
    health->is_known = true;
    is_decided = is_first || (is_good ? health->good >= config->healthy_after
                                      : health->failed >= config->unhealthy_after);
    atomic_fetch_add(&health->endpoint->checks[is_good], 1);
    if (!is_decided || (!is_first && is_good == health->is_healthy))
        return;
    health->is_healthy = is_good;
    health->o.found(health->o.ctx, health->endpoint, is_good, why);
}

static void free_it(struct health *health) {
    loop_timer_stop(health->shared->loop, &health->timer);
    endpoint_unref(health->endpoint);
    free(health);
}
