/* The pool's dials: from the right to one until the codec takes over, or why it never does. */
#include "upstream/pool_state.h"
#include "upstream/trial.h"

#include "base/alloc.h"

#include <stdlib.h>

static void on_dialled(struct conn *conn, int err);
static void on_dial_timeout(struct timer *timer);
static void give_up(struct upstream_conn *uc, enum fail fail);

struct upstream_conn *pool_conn_new(struct pool *pool) {
    struct upstream_conn *uc = xcalloc(1, sizeof *uc);

    uc->pool = pool;
    timer_init(&uc->timer, on_dial_timeout);
    list_push_back(&pool->others, &uc->link);
    return uc;
}

enum fail pool_enter_dial(struct pool *pool) {
    struct endpoint *endpoint = pool->endpoint;

    if (pool->is_closing)
        return FAIL_ENDPOINT_NONE;
    if (!endpoint_may_dial(endpoint, pool->shared->loop->now_ns))
        return (enum fail)atomic_load(&endpoint->dial_fail);
    return fds_acquire(pool->shared->fds, FD_UPSTREAM) ? FAIL_NONE : FAIL_FDS_USED_UP;
}

void pool_dial(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    struct endpoint *endpoint = pool->endpoint;
    struct conn_account account = pool_account(pool);
    struct tls *tls = NULL;
    int err;

    uc->is_dialling = true;
    pool->dialling++;
    atomic_fetch_add(&endpoint->dials, 1);
    if (pool->settings->tls)
        tls = tls_client_dial(pool->settings->tls, (const struct sockaddr *)&endpoint->address);
    err = conn_dial(&uc->conn, pool->shared->loop, (const struct sockaddr *)&endpoint->address,
                    &account, tls, on_dialled, uc);
    if (err)
        pool_dial_failed(uc, endpoint_fail_of(err)); /* conn_dial() has closed what it had */
    else
        loop_timer_start(pool->shared->loop, &uc->timer, pool->settings->dial_timeout_ns);
}

static void on_dialled(struct conn *conn, int err) {
    struct upstream_conn *uc = conn->codec;
    struct pool *pool = uc->pool;

    if (err) {
        enum fail fail = endpoint_fail_of(err);

        if (fail_is_tls(fail))
            log_limited(&pool->shared->failures_logged, LOG_WARN, "%s: '%s': %s",
                        fail_row(fail)->title, pool->endpoint->text, tls_why(conn->tls));
        give_up(uc, fail);
        return;
    }
    if (pool->settings->is_http2 && conn_is_secure(conn) &&
        !slice_equal(conn_protocol(conn), SLICE("h2"))) {
        log_limited(&pool->shared->failures_logged, LOG_WARN,
                    "'%s' does not agree on HTTP/2 by ALPN", pool->endpoint->text);
        give_up(uc, FAIL_TLS_PROTOCOL);
        return;
    }
    if (pool->settings->is_http2)
        pool_h2_connected(uc); /* the dial goes on until SETTINGS have come */
    else
        pool_h1_connected(uc);
}

static void on_dial_timeout(struct timer *timer) {
    give_up(CONTAINER_OF(timer, struct upstream_conn, timer), FAIL_CONNECT_TIMEOUT);
}

/* The next in line may dial instead. */
static void give_up(struct upstream_conn *uc, enum fail fail) {
    struct pool *pool = uc->pool;

    pool_dial_failed(uc, fail);
    pool_start_dials(pool);
    pool_close_if_empty(pool);
}

void pool_dial_failed(struct upstream_conn *uc, enum fail fail) {
    struct pool *pool = uc->pool;
    struct lease *lease = uc->lease;

    if (!pool->is_closing) {
        endpoint_dial_failed(pool->endpoint, fail, pool->shared->loop->now_ns);
        if (pool->endpoint->settings->does_connecting_count && fail != FAIL_FDS_USED_UP)
            trial_tell(pool->endpoint, pool->shared->loop->index, VERDICT_BAD,
                       fail_row(fail)->reason, pool->shared->loop->now_ns);
    }
    pool_dial_over(uc);
    if (uc->h2) {
        h2_client_close(uc->h2, true);
    } else {
        if (uc->conn)
            conn_close(uc->conn); /* its right goes back when that is complete */
        list_remove(&uc->link);
        free(uc);
    }
    if (pool->settings->is_http2)
        pool_h2_dial_failed(pool);
    if (lease) {
        lease->state = LEASE_NONE;
        lease->conn = NULL;
        atomic_fetch_sub(&pool->endpoint->inflight, 1);
        lease->ready(lease, fail);
    }
}

void pool_dial_over(struct upstream_conn *uc) {
    uc->is_dialling = false;
    loop_timer_stop(uc->pool->shared->loop, &uc->timer);
    uc->pool->dialling--;
    atomic_fetch_sub(&uc->pool->endpoint->dials, 1);
}

struct conn_account pool_account(struct pool *pool) {
    return (struct conn_account){pool->shared->fds, FD_UPSTREAM, &pool->endpoint->connections};
}
