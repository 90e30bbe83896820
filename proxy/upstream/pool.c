/* The pool; see pool.h. A connection's right is held by its conn's account from the dial until the
 * close is complete, and travels with it when it is handed to another loop. */
#include "upstream/pool_state.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

/* A connection on its way to whoever waits for it. */
struct gift {
    struct upstream_conn *uc;  /* on the same loop; else NULL */
    struct conn_parcel parcel; /* on another one */
};

static void dial(struct pool *pool, struct lease *lease);
static void open_codec(struct upstream_conn *uc, bool is_used);
static void hold(struct lease *lease, struct upstream_conn *uc);
static void prefetch_next(const struct pool *pool);
static void on_codec_idle(void *ctx, enum h1_client_end end);
static void on_codec_closed(void *ctx);
static void offer(struct upstream_conn *uc);
static bool pass_on(struct upstream_conn *uc);
static void *make_gift(void *ctx, struct gate_desk *to);
static void on_granted(struct gate_ticket *ticket, void *gift);
static struct upstream_conn *unwrap(struct pool *pool, struct gift *gift);
static void on_asked(struct loop *loop, struct mail *mail);
static void hand_over(struct pool *pool);
static void on_idle_timer(struct timer *timer);
static void drop(struct upstream_conn *uc);
static void close_idle(struct upstream_conn *uc, bool at_once);
static void on_farewell(struct loop *loop, struct mail *mail);

void pool_loop_deinit(struct pool_loop *shared) {
    buffer_deinit(&shared->head);
    if (shared->h2)
        h2_client_loop_deinit(shared->h2);
    free(shared->h2);
}

void pool_loop_use_h2(struct pool_loop *shared) {
    if (shared->h2)
        return;
    shared->h2 = xmalloc(sizeof *shared->h2);
    h2_client_loop_init(shared->h2);
}

struct pool *pool_new(struct endpoint *endpoint, struct pool_loop *shared,
                      const struct pool_settings *settings) {
    struct pool *pool = xcalloc(1, sizeof *pool);

    pool->endpoint = endpoint_ref(endpoint);
    pool->shared = shared;
    pool->settings = settings;
    list_init(&pool->idle);
    list_init(&pool->others);
    list_init(&pool->dial_line);
    gate_desk_init(&pool->desk, &endpoint->connections, shared->loop, on_granted);
    pool->asked.deliver = on_asked;
    pool->farewell.deliver = on_farewell;
    timer_init(&pool->idle_timer, on_idle_timer);
    pool_h2_init(pool);
    pthread_mutex_lock(&endpoint->lock);
    endpoint->pools[shared->loop->index] = pool;
    pthread_mutex_unlock(&endpoint->lock);
    return pool;
}

void pool_close(struct pool *pool) {
    struct endpoint *endpoint = pool->endpoint;
    struct list *link, *next;

    if (pool->is_closing)
        return;
    pool->is_closing = true;
    loop_timer_stop(pool->shared->loop, &pool->idle_timer);
    /* From here on nobody asks this pool any more; who has, has posted already. */
    pthread_mutex_lock(&endpoint->lock);
    if (endpoint->pools[pool->shared->loop->index] == pool)
        endpoint->pools[pool->shared->loop->index] = NULL;
    pthread_mutex_unlock(&endpoint->lock);
    while ((link = list_pop(&pool->idle))) {
        struct upstream_conn *uc = CONTAINER_OF(link, struct upstream_conn, link);

        list_push_back(&pool->others, link);
        atomic_fetch_sub(&pool->idle_count, 1);
        uc->is_idle = false;
        close_idle(uc, pool_closes_at_once(pool));
    }
    for (link = pool->others.next; link != &pool->others; link = next) {
        struct upstream_conn *uc = CONTAINER_OF(link, struct upstream_conn, link);

        next = link->next;
        if (uc->is_dialling)
            pool_dial_failed(uc, FAIL_ENDPOINT_NONE);
    }
    pool_start_dials(pool); /* which refuses those in line */
    if (pool->settings->is_http2)
        pool_h2_close(pool);
    pool_close_if_empty(pool);
}

void pool_look(struct pool *pool) {
    struct gate *gate = &pool->endpoint->connections;
    int64_t now_ns = pool->shared->loop->now_ns;
    uint32_t wanted;

    gate_look(gate, pool->shared->loop);
    wanted = gate_wanted(gate);
    /* HTTP/2: while our line is not empty it is about to be served with what is idle. */
    for (; wanted > 0 && list_is_empty(&pool->line) && !list_is_empty(&pool->idle); wanted--)
        drop(CONTAINER_OF(pool->idle.prev, struct upstream_conn, link));
    if (wanted > 0 && list_is_empty(&pool->idle) && pool->settings->is_http2 &&
        now_ns >= pool->yield_look_ns) {
        pool->yield_look_ns = now_ns + POOL_ASK_NS; /* as often as another loop asks */
        pool_h2_yield(pool);
    }
}

bool pool_is_alive(const struct pool *pool) {
    int64_t failed_ns = atomic_load_explicit(&pool->endpoint->dial_failed_ns, memory_order_relaxed);

    if (pool->settings->is_http2 || endpoint_is_up(pool->endpoint) ||
        pool->shared->loop->now_ns - failed_ns > POOL_DOUBT_NS || list_is_empty(&pool->idle))
        return pool_is_connected(pool);
    return CONTAINER_OF(pool->idle.next, struct upstream_conn, link)->idle_since_ns > failed_ns;
}

enum pool_outcome pool_lease(struct pool *pool, struct lease *lease, bool is_fresh,
                             enum fail *fail) {
    struct endpoint *endpoint = pool->endpoint;

    assert(lease->state == LEASE_NONE);
    if (pool->settings->is_http2)
        return pool_h2_lease(pool, lease, fail);
    if (is_fresh && gate_taken_in_all(&endpoint->connections) >= endpoint->connections.limit)
        is_fresh = false;
    if (!list_is_empty(&pool->idle) && !is_fresh) {
        atomic_fetch_sub(&pool->idle_count, 1);
        hold(lease, CONTAINER_OF(list_pop(&pool->idle), struct upstream_conn, link));
        prefetch_next(pool);
        atomic_fetch_add(&endpoint->inflight, 1);
        return POOL_READY;
    }
    if (!endpoint_may_dial(endpoint, pool->shared->loop->now_ns)) {
        *fail = (enum fail)atomic_load(&endpoint->dial_fail);
        return POOL_FAILED;
    }
    lease->pool = pool;
    lease->state = LEASE_WAITING;
    pool->waiting++;
    list_init(&lease->link);
    atomic_fetch_add(&endpoint->inflight, 1);
    if (gate_enter(&pool->desk, &lease->ticket) == GATE_IN)
        on_granted(&lease->ticket, NULL);
    else
        pool_ask_others(pool);
    return POOL_WAIT;
}

void lease_start(struct lease *lease, struct exchange *x, const struct request_head *head,
                 struct content content) {
    assert(lease->state == LEASE_HELD);
    if (lease->pool->settings->is_http2)
        h2_client_start(lease->stream, x, head, content);
    else
        h1_client_start(lease->conn->codec, x, head, content);
}

void lease_end(struct lease *lease) {
    struct pool *pool = lease->pool;
    enum lease_state state = lease->state;
    struct upstream_conn *uc = lease->conn;
    void *gift;

    if (state == LEASE_NONE)
        return;
    lease->state = LEASE_NONE;
    atomic_fetch_sub(&pool->endpoint->inflight, 1);
    if (pool->settings->is_http2) {
        pool_h2_lease_end(lease, state);
        state = LEASE_NONE;
    }
    switch (state) {
    case LEASE_NONE:
        break;
    case LEASE_WAITING:
        pool->waiting--;
        if (gate_cancel(&lease->ticket, &gift) != GATE_OWED)
            break;
        if (gift)
            on_codec_idle(unwrap(pool, gift), H1_CLIENT_REUSABLE);
        else
            gate_leave(&pool->endpoint->connections, NULL, pool->shared->loop);
        break;
    case LEASE_DIAL_LINE:
        list_remove(&lease->link);
        gate_leave(&pool->endpoint->connections, &lease->ticket, pool->shared->loop);
        break;
    case LEASE_DIALLING:
        uc->lease = NULL; /* the dial goes on: its connection will be of use */
        break;
    case LEASE_HELD:
        uc->lease = NULL;
        h1_client_detach(uc->codec);
        /* With a lease, it has gone on to who waited to dial; else, if it is not back, no exchange
         * was started on it. */
        if (!uc->lease && !uc->is_back)
            on_codec_idle(uc, uc->is_lost ? H1_CLIENT_BROKEN : H1_CLIENT_REUSABLE);
        break;
    }
    lease->conn = NULL;
    lease->pool = NULL;
    pool_close_if_empty(pool);
}

/* The lease has a right to one socket: dials, or waits for its turn to. */
static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct lease *lease = CONTAINER_OF(ticket, struct lease, ticket);
    struct pool *pool = CONTAINER_OF(ticket->desk, struct pool, desk);

    if (pool->settings->is_http2) {
        pool_h2_granted(ticket);
        return;
    }
    pool->waiting--;
    if (gift) {
        struct upstream_conn *uc;

        ticket->state = TICKET_OUT; /* the right is the connection's */
        uc = unwrap(pool, gift);
        list_remove(&uc->link);
        hold(lease, uc);
        lease->ready(lease, FAIL_NONE);
        return;
    }
    lease->state = LEASE_DIAL_LINE;
    list_push_back(&pool->dial_line, &lease->link);
    pool_start_dials(pool);
    pool_close_if_empty(pool); /* a closing pool has refused it */
}

/* What a refused dial gives back may go to a lease of this very pool, which then comes here too:
 * the outermost call sees to it, so that a long line costs no stack. */
void pool_start_dials(struct pool *pool) {
    if (pool->is_starting)
        return;
    pool->is_starting = true;
    while (pool->dialling < pool->settings->dials && !list_is_empty(&pool->dial_line))
        dial(pool, CONTAINER_OF(list_pop(&pool->dial_line), struct lease, link));
    pool->is_starting = false;
}

static void dial(struct pool *pool, struct lease *lease) {
    struct endpoint *endpoint = pool->endpoint;
    enum fail reason = pool_enter_dial(pool);
    struct upstream_conn *uc;

    if (reason) {
        gate_leave(&endpoint->connections, &lease->ticket, pool->shared->loop);
        lease->state = LEASE_NONE;
        atomic_fetch_sub(&endpoint->inflight, 1);
        lease->ready(lease, reason);
        return;
    }
    uc = pool_conn_new(pool);
    lease->ticket.state = TICKET_OUT; /* the right is the connection's */
    lease->state = LEASE_DIALLING;
    lease->conn = uc;
    uc->lease = lease;
    pool_dial(uc);
}

void pool_h1_connected(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    struct lease *lease = uc->lease;

    endpoint_dial_succeeded(pool->endpoint);
    pool_dial_over(uc);
    open_codec(uc, false);
    if (lease) {
        list_remove(&uc->link);
        hold(lease, uc);
        lease->ready(lease, FAIL_NONE);
    } else {
        offer(uc);
    }
    pool_start_dials(pool);
}

static void open_codec(struct upstream_conn *uc, bool is_used) {
    struct h1_client_options options = {
        .settings = &uc->pool->settings->h1,
        .head = &uc->pool->shared->head,
        .on_idle = on_codec_idle,
        .on_closed = on_codec_closed,
        .ctx = uc,
        .is_used = is_used,
    };

    uc->codec = h1_client_open(uc->conn, &options);
}

/* @uc is in no list. */
static void hold(struct lease *lease, struct upstream_conn *uc) {
    list_push_back(&uc->pool->others, &uc->link);
    uc->is_idle = false;
    uc->is_back = false;
    uc->lease = lease;
    lease->pool = uc->pool;
    lease->conn = uc;
    lease->state = LEASE_HELD;
}

/* Of the idle connection that is leased next, and of the one after it, where it will be found then.
 */
static void prefetch_next(const struct pool *pool) {
    const struct loop *loop = pool->shared->loop;
    const struct upstream_conn *next = CONTAINER_OF(pool->idle.next, struct upstream_conn, link);

    if (list_is_empty(&pool->idle))
        return;
    h1_client_prefetch(next->codec, loop);
    loop_prefetch(loop, next->conn, offsetof(struct conn, sock));
    loop_prefetch(loop, next->link.next, sizeof *next);
}

/* From h1_client_detach(), or because an idle connection has ended or got bytes unasked. */
static void on_codec_idle(void *ctx, enum h1_client_end end) {
    struct upstream_conn *uc = ctx;
    struct pool *pool = uc->pool;

    if (uc->lease) {
        uc->is_lost = true; /* not closed under who has it: lease_end() follows */
        return;
    }
    uc->is_back = true;
    if (end == H1_CLIENT_REUSABLE && !uc->is_lost && !pool->is_closing) {
        conn_resume(uc->conn); /* a long answer may have paused it */
        offer(uc);
        return;
    }
    if (uc->is_idle)
        pool_leave_idle(uc);
    h1_client_close(uc->codec, pool_closes_at_once(pool));
}

static void on_codec_closed(void *ctx) {
    struct upstream_conn *uc = ctx;
    struct pool *pool = uc->pool;

    list_remove(&uc->link);
    free(uc);
    pool_close_if_empty(pool);
}

/* A connection is free: for who waits longest, on whatever loop; else it is kept. */
static void offer(struct upstream_conn *uc) {
    struct pool *pool = uc->pool;
    struct loop *loop = pool->shared->loop;

    if (!list_is_empty(&pool->dial_line)) {
        struct lease *lease = CONTAINER_OF(list_pop(&pool->dial_line), struct lease, link);

        gate_leave(&pool->endpoint->connections, &lease->ticket, loop);
        list_remove(&uc->link);
        hold(lease, uc);
        lease->ready(lease, FAIL_NONE);
        return;
    }
    if (pass_on(uc))
        return;
    pool_enter_idle(uc);
    uc->idle_since_ns = loop->now_ns;
    if (pool->settings->idle_timeout_ns && !timer_is_running(&pool->idle_timer))
        loop_timer_start(loop, &pool->idle_timer, pool->settings->idle_timeout_ns);
    /* Who began to wait meanwhile either sees idle_count, or is seen here. */
    if (atomic_load(&pool->endpoint->connections.waiting) > 0)
        hand_over(pool);
    /* A connection cannot change its process, but its right can, once it is closed. */
    if (uc->is_idle && gate_wanted(&pool->endpoint->connections) > 0)
        drop(uc);
}

/* Gives the connection and its right to the first in line, if any. */
static bool pass_on(struct upstream_conn *uc) {
    return gate_pass(&uc->pool->endpoint->connections, uc->pool->shared->loop, make_gift, uc);
}

static void *make_gift(void *ctx, struct gate_desk *to) {
    struct upstream_conn *uc = ctx;
    struct gift *gift = xmalloc(sizeof *gift);

    *gift = (struct gift){.uc = uc};
    if (to->loop == uc->pool->shared->loop)
        return gift;
    uc->conn->account.right = NULL;
    gift->uc = NULL;
    if (h1_client_export(uc->codec, &gift->parcel) < 0) {
        free(gift); /* the connection is lost; its right still passes on, as one to dial */
        return NULL;
    }
    return gift;
}

static struct upstream_conn *unwrap(struct pool *pool, struct gift *gift) {
    struct conn_account account = pool_account(pool);
    struct upstream_conn *uc = gift->uc;

    if (!uc) {
        uc = pool_conn_new(pool);
        uc->conn = conn_open(pool->shared->loop, gift->parcel.fd,
                             pool->endpoint->address.ss_family == AF_UNIX, NULL, &account);
        conn_adopt_tls(uc->conn, gift->parcel.tls);
        open_codec(uc, true);
    }
    free(gift);
    return uc;
}

void pool_ask_others(struct pool *pool) {
    struct endpoint *endpoint = pool->endpoint;

    pthread_mutex_lock(&endpoint->lock);
    for (unsigned i = 0; i < endpoint->loops; i++) {
        struct pool *other = endpoint->pools[i];

        if (other && other != pool && atomic_load(&other->idle_count) > 0 &&
            !atomic_exchange(&other->is_asked, true))
            loop_post(other->shared->loop, &other->asked);
    }
    pthread_mutex_unlock(&endpoint->lock);
}

static void on_asked(struct loop *loop, struct mail *mail) {
    struct pool *pool = CONTAINER_OF(mail, struct pool, asked);

    atomic_store(&pool->is_asked, false);
    if (pool->settings->is_http2)
        pool_h2_asked(pool);
    else
        hand_over(pool);
}

/* Gives idle connections to whoever waits for them, on whatever loop. */
static void hand_over(struct pool *pool) {
    while (!list_is_empty(&pool->idle)) {
        struct upstream_conn *uc = CONTAINER_OF(pool->idle.next, struct upstream_conn, link);

        pool_leave_idle(uc);
        if (pass_on(uc))
            continue;
        pool_enter_idle(uc);
        break;
    }
}

static void on_idle_timer(struct timer *timer) {
    struct pool *pool = CONTAINER_OF(timer, struct pool, idle_timer);
    struct loop *loop = pool->shared->loop;

    while (!list_is_empty(&pool->idle)) {
        struct upstream_conn *oldest = CONTAINER_OF(pool->idle.prev, struct upstream_conn, link);
        int64_t left = oldest->idle_since_ns + pool->settings->idle_timeout_ns - loop->now_ns;

        if (left > 0) {
            loop_timer_start(loop, timer, left);
            return;
        }
        drop(oldest);
    }
}

/* Closes an idle connection, so that the upstream hears of it before its right is free again. */
static void drop(struct upstream_conn *uc) {
    pool_leave_idle(uc);
    close_idle(uc, false);
}

static void close_idle(struct upstream_conn *uc, bool at_once) {
    if (uc->h2)
        h2_client_close(uc->h2, at_once);
    else
        h1_client_close(uc->codec, at_once);
}

bool pool_closes_at_once(const struct pool *pool) {
    return pool->is_closing && !gate_is_contested(&pool->endpoint->connections);
}

void pool_enter_idle(struct upstream_conn *uc) {
    list_remove(&uc->link);
    list_push_front(&uc->pool->idle, &uc->link);
    uc->is_idle = true;
    atomic_fetch_add(&uc->pool->idle_count, 1);
}

void pool_leave_idle(struct upstream_conn *uc) {
    atomic_fetch_sub(&uc->pool->idle_count, 1);
    uc->is_idle = false;
    list_remove(&uc->link);
    list_push_back(&uc->pool->others, &uc->link);
}

/* A closing pool whose last connection is gone waits for one letter to itself: what was posted to
 * it before comes first. Then it frees itself. */
void pool_close_if_empty(struct pool *pool) {
    if (!pool->is_closing || pool->is_farewell_sent || pool->waiting > 0 ||
        !list_is_empty(&pool->idle) || !list_is_empty(&pool->open) ||
        !list_is_empty(&pool->others) || !list_is_empty(&pool->dial_line) ||
        !list_is_empty(&pool->line))
        return;
    pool->is_farewell_sent = true;
    loop_post(pool->shared->loop, &pool->farewell);
}

static void on_farewell(struct loop *loop, struct mail *mail) {
    struct pool *pool = CONTAINER_OF(mail, struct pool, farewell);

    task_cancel(&pool->tidy);
    endpoint_unref(pool->endpoint);
    free(pool);
}
