/* The pool over HTTP/2: leases are streams. They are taken from the connections that are in use, so
 * that there are as few as possible; who finds no room stands in the pool's line, and connections
 * are dialled for as many as stand there. What has changed is looked at by one task, from the top
 * of the stack, never from within a callback of the gate or a codec. */
#include "upstream/pool_state.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

static struct upstream_conn *find_room(struct pool *pool);
static void hold(struct lease *lease, struct upstream_conn *uc);
static void tidy(struct task *task);
static void wake(struct pool *pool);
static void grow(struct pool *pool);
static void want(struct pool *pool);
static void dial(struct upstream_conn *uc);
static void fail_line(struct pool *pool, enum fail fail);
static void forget_wanted(struct pool *pool);
static void forget(struct upstream_conn *uc);
static bool has_open(const struct pool *pool);
static void on_change(void *ctx);
static void on_closed(void *ctx);
static void place(struct upstream_conn *uc);
static void rest(struct upstream_conn *uc);
static void on_ask_timer(struct timer *timer);
static void end_oldest(struct pool *pool);
static void on_yield_over(struct timer *timer);
static struct upstream_conn *conn_at(struct list *link);

void pool_h2_init(struct pool *pool) {
    if (pool->settings->is_http2)
        pool_loop_use_h2(pool->shared);
    list_init(&pool->open);
    list_init(&pool->line);
    task_init(&pool->tidy, tidy);
    timer_init(&pool->ask_timer, on_ask_timer);
    pool->streams_each = pool->settings->h2.streams;
}

enum pool_outcome pool_h2_lease(struct pool *pool, struct lease *lease, enum fail *fail) {
    struct upstream_conn *uc = list_is_empty(&pool->line) ? find_room(pool) : NULL;

    if (!uc && pool->growing == 0 &&
        !endpoint_may_dial(pool->endpoint, pool->shared->loop->now_ns) && !has_open(pool)) {
        *fail = (enum fail)atomic_load(&pool->endpoint->dial_fail);
        return POOL_FAILED;
    }
    atomic_fetch_add(&pool->endpoint->inflight, 1);
    lease->pool = pool;
    if (uc) {
        hold(lease, uc);
        return POOL_READY;
    }
    lease->state = LEASE_WAITING;
    list_init(&lease->link);
    list_push_back(&pool->line, &lease->link);
    pool->line_len++;
    grow(pool);
    if (pool->refusal)
        wake(pool);
    return POOL_WAIT;
}

void pool_h2_lease_end(struct lease *lease, enum lease_state state) {
    struct pool *pool = lease->pool;

    if (state == LEASE_HELD) {
        atomic_fetch_sub(&pool->endpoint->streams, 1);
        h2_client_detach(lease->stream); /* on_change() follows */
        return;
    }
    assert(state == LEASE_WAITING);
    list_remove(&lease->link);
    pool->line_len--;
    wake(pool);
}

void pool_h2_close(struct pool *pool) {
    struct list *link, *next;

    loop_timer_stop(pool->shared->loop, &pool->ask_timer);
    for (link = pool->open.next; link != &pool->open; link = next) {
        next = link->next;
        place(conn_at(link));
    }
    wake(pool);
}

/* The most used first: what is not needed empties and ends. */
static struct upstream_conn *find_room(struct pool *pool) {
    struct list *link, *next;

    if (pool->is_closing)
        return NULL;
    for (link = pool->open.next; link != &pool->open; link = next) {
        next = link->next;
        if (h2_client_room(conn_at(link)->h2) > 0)
            return conn_at(link);
        place(conn_at(link)); /* it has just ended, or been told of a smaller number */
    }
    for (link = pool->idle.next; link != &pool->idle; link = link->next)
        if (h2_client_room(conn_at(link)->h2) > 0)
            return conn_at(link);
    return NULL;
}

static void hold(struct lease *lease, struct upstream_conn *uc) {
    lease->stream = h2_client_reserve(uc->h2);
    lease->conn = uc;
    lease->state = LEASE_HELD;
    atomic_fetch_add(&uc->pool->endpoint->streams, 1);
    if (uc->is_idle || h2_client_room(uc->h2) == 0)
        place(uc);
}

static void wake(struct pool *pool) {
    loop_wake(pool->shared->loop, &pool->tidy);
}

/* The line against what there is room for. */
static void tidy(struct task *task) {
    struct pool *pool = CONTAINER_OF(task, struct pool, tidy);
    struct upstream_conn *uc;

    while (!list_is_empty(&pool->line) && (uc = find_room(pool))) {
        struct lease *lease = CONTAINER_OF(list_pop(&pool->line), struct lease, link);

        pool->line_len--;
        hold(lease, uc);
        lease->ready(lease, FAIL_NONE);
    }
    if (pool->is_closing)
        fail_line(pool, FAIL_ENDPOINT_NONE);
    if (list_is_empty(&pool->line)) {
        forget_wanted(pool);
    } else {
        grow(pool);
        if (pool->growing == 0 && !has_open(pool))
            fail_line(pool, pool->refusal ? pool->refusal
                                          : (enum fail)atomic_load(&pool->endpoint->dial_fail));
    }
    pool_close_if_empty(pool);
}

/* As many connections under way as the line can fill, within the bound on dials. */
static void grow(struct pool *pool) {
    unsigned each = pool->streams_each ? pool->streams_each : 1;
    unsigned needed = (pool->line_len + each - 1) / each;

    pool->refusal = FAIL_NONE;
    if (pool->streams_each == 0 && has_open(pool))
        return; /* the upstream takes nothing now: nor would it on another one */
    if (needed > pool->settings->dials)
        needed = pool->settings->dials;
    while (pool->growing < needed && !pool->refusal && !pool->is_closing &&
           endpoint_may_dial(pool->endpoint, pool->shared->loop->now_ns))
        want(pool);
}

static void want(struct pool *pool) {
    struct upstream_conn *uc = pool_conn_new(pool);

    pool->growing++;
    uc->is_wanted = true;
    if (gate_enter(&pool->desk, &uc->ticket) == GATE_IN) {
        dial(uc);
        return;
    }
    pool_ask_others(pool);
    if (!timer_is_running(&pool->ask_timer))
        loop_timer_start(pool->shared->loop, &pool->ask_timer, POOL_ASK_NS);
}

void pool_h2_granted(struct gate_ticket *ticket) {
    struct pool *pool = CONTAINER_OF(ticket->desk, struct pool, desk);

    dial(CONTAINER_OF(ticket, struct upstream_conn, ticket));
    if (pool->refusal)
        wake(pool);
}

static void dial(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    enum fail refusal = pool_enter_dial(pool);

    if (refusal) {
        gate_leave(&pool->endpoint->connections, &uc->ticket, pool->shared->loop);
        pool->refusal = refusal;
        forget(uc);
        return;
    }
    uc->ticket.state = TICKET_OUT; /* the right is the connection's */
    uc->is_wanted = false;
    pool_dial(uc);
}

void pool_h2_connected(struct upstream_conn *uc) {
    uc->h2 = h2_client_open(uc->conn, &(struct h2_client_options){
                                          .settings = &uc->pool->settings->h2,
                                          .shared = uc->pool->shared->h2,
                                          .on_change = on_change,
                                          .on_closed = on_closed,
                                          .ctx = uc,
                                      });
}

void pool_h2_dial_failed(struct pool *pool) {
    pool->growing--;
    wake(pool);
}

static void fail_line(struct pool *pool, enum fail fail) {
    struct list *link;

    while ((link = list_pop(&pool->line))) {
        struct lease *lease = CONTAINER_OF(link, struct lease, link);

        pool->line_len--;
        lease->state = LEASE_NONE;
        atomic_fetch_sub(&pool->endpoint->inflight, 1);
        lease->ready(lease, fail);
    }
}

/* Nobody waits any more: neither do we. */
static void forget_wanted(struct pool *pool) {
    struct list *link, *next;

    loop_timer_stop(pool->shared->loop, &pool->ask_timer);
    for (link = pool->others.next; pool->growing > 0 && link != &pool->others; link = next) {
        struct upstream_conn *uc = conn_at(link);
        void *gift;

        next = link->next;
        if (!uc->is_wanted)
            continue;
        if (gate_cancel(&uc->ticket, &gift) == GATE_OWED)
            gate_leave(&pool->endpoint->connections, NULL, pool->shared->loop);
        forget(uc);
    }
}

static void forget(struct upstream_conn *uc) {
    uc->pool->growing--;
    list_remove(&uc->link);
    free(uc);
}

/* Is there a connection that may have room one day? */
static bool has_open(const struct pool *pool) {
    if (!list_is_empty(&pool->open) || !list_is_empty(&pool->idle))
        return true;
    for (struct list *link = pool->others.next; link != &pool->others; link = link->next)
        if (conn_at(link)->h2 && h2_client_state(conn_at(link)->h2) == H2_CLIENT_OPEN)
            return true;
    return false;
}

static void on_change(void *ctx) {
    struct upstream_conn *uc = ctx;
    struct pool *pool = uc->pool;
    enum h2_client_state state = h2_client_state(uc->h2);

    if (uc->is_dialling) {
        enum fail fail = h2_client_fail(uc->h2);

        if (state == H2_CLIENT_OPENING)
            return;
        if (state != H2_CLIENT_OPEN) {
            if (fail == FAIL_UPSTREAM_MALFORMED)
                log_limited(&pool->shared->failures_logged, LOG_WARN,
                            "'%s' does not keep to HTTP/2: %s; correct it, or the pipeline's "
                            "protocol",
                            pool->endpoint->text, h2_client_why(uc->h2));
            else
                fail = FAIL_CONNECT_REFUSED;
            pool_dial_failed(uc, fail);
            return;
        }
        endpoint_dial_succeeded(pool->endpoint);
        pool_dial_over(uc);
        pool->growing--;
        timer_init(&uc->timer, on_yield_over);
    }
    if (state == H2_CLIENT_OPEN)
        pool->streams_each = h2_client_streams_max(uc->h2);
    place(uc);
    if (!list_is_empty(&pool->line))
        wake(pool);
}

static void on_closed(void *ctx) {
    struct upstream_conn *uc = ctx;
    struct pool *pool = uc->pool;

    loop_timer_stop(pool->shared->loop, &uc->timer);
    if (uc->is_live)
        atomic_fetch_sub(&pool->open_count, 1);
    list_remove(&uc->link);
    free(uc);
    wake(pool);
}

/* Into the list that it belongs to now. */
static void place(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    bool is_live =
        h2_client_state(uc->h2) == H2_CLIENT_OPEN && !uc->is_yielding && !pool->is_closing;
    bool is_used = h2_client_used(uc->h2) > 0;
    bool has_room = is_live && is_used && h2_client_room(uc->h2) > 0;

    if (is_live != uc->is_live) {
        uc->is_live = is_live;
        atomic_fetch_add(&pool->open_count, is_live ? 1 : -1);
    }
    if (uc->is_idle && (is_used || !is_live))
        pool_leave_idle(uc);
    if (has_room != uc->has_room) {
        list_remove(&uc->link);
        list_push_front(has_room ? &pool->open : &pool->others, &uc->link);
        uc->has_room = has_room;
    }
    if (!is_used && !is_live)
        h2_client_close(uc->h2, pool_closes_at_once(pool));
    else if (!is_used && !uc->is_idle)
        rest(uc);
}

/* No exchange is on it: kept for the next, unless the line needs it, or another loop. */
static void rest(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    const struct gate *connections = &pool->endpoint->connections;
    struct loop *loop = pool->shared->loop;

    pool_enter_idle(uc);
    uc->idle_since_ns = loop->now_ns;
    if (pool->settings->idle_timeout_ns && !timer_is_running(&pool->idle_timer))
        loop_timer_start(loop, &pool->idle_timer, pool->settings->idle_timeout_ns);
    /* One that was dialled just now serves our line first. */
    if (list_is_empty(&pool->line) &&
        (atomic_load(&connections->waiting) > 0 || gate_wanted(connections) > 0))
        end_oldest(pool);
}

/* As long as this loop has nothing to serve its line with. */
static void on_ask_timer(struct timer *timer) {
    struct pool *pool = CONTAINER_OF(timer, struct pool, ask_timer);
    struct endpoint *endpoint = pool->endpoint;
    struct pool *richest = NULL;
    uint32_t most = 0;

    if (has_open(pool) || list_is_empty(&pool->line))
        return;
    pthread_mutex_lock(&endpoint->lock);
    for (unsigned i = 0; i < endpoint->loops; i++) {
        struct pool *other = endpoint->pools[i];

        if (other && other != pool && atomic_load(&other->open_count) > most) {
            most = atomic_load(&other->open_count);
            richest = other;
        }
    }
    if (richest) {
        atomic_store(&richest->must_yield, true);
        if (!atomic_exchange(&richest->is_asked, true))
            loop_post(richest->shared->loop, &richest->asked);
    }
    pthread_mutex_unlock(&endpoint->lock);
    loop_timer_start(pool->shared->loop, timer, POOL_ASK_NS);
}

/* A connection cannot change its loop, but its right can, once it is closed. */
void pool_h2_asked(struct pool *pool) {
    bool must_yield = atomic_exchange(&pool->must_yield, false);

    if (atomic_load(&pool->endpoint->connections.waiting) == 0)
        return;
    if (!list_is_empty(&pool->idle))
        end_oldest(pool);
    else if (must_yield)
        pool_h2_yield(pool);
}

static void end_oldest(struct pool *pool) {
    struct upstream_conn *oldest = conn_at(pool->idle.prev);

    pool_leave_idle(oldest);
    h2_client_close(oldest->h2, false);
}

/* Keeps further exchanges off the connection with the fewest, so that it ends soon. */
void pool_h2_yield(struct pool *pool) {
    struct upstream_conn *least = NULL;

    if (pool->shared->loop->now_ns < pool->yield_after_ns)
        return;
    for (struct list *link = pool->open.next; link != &pool->open; link = link->next)
        if (!least || h2_client_used(conn_at(link)->h2) < h2_client_used(least->h2))
            least = conn_at(link);
    for (struct list *link = pool->others.next; !least && link != &pool->others; link = link->next)
        if (conn_at(link)->is_live)
            least = conn_at(link);
    if (!least)
        return;
    least->is_yielding = true;
    place(least);
    loop_timer_start(pool->shared->loop, &least->timer, POOL_YIELD_NS);
}

/* Exchanges have stayed on it: they may be there for long, and our line needs it too. */
static void on_yield_over(struct timer *timer) {
    struct upstream_conn *uc = CONTAINER_OF(timer, struct upstream_conn, timer);
    struct pool *pool = uc->pool;

    if (h2_client_used(uc->h2) == 0)
        return; /* it is being closed */
    uc->is_yielding = false;
    pool->yield_after_ns = pool->shared->loop->now_ns + POOL_YIELD_AGAIN_NS;
    place(uc);
    wake(pool);
}

static struct upstream_conn *conn_at(struct list *link) {
    return CONTAINER_OF(link, struct upstream_conn, link);
}
