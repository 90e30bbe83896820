#include "pipeline/hold.h"

#include "base/log.h"
#include "base/random.h"
#include "pipeline/balancer.h"
#include "pipeline/permit.h"

#include <assert.h>

static void tell_outage(struct pipeline_loop *part);
static void insert(struct hold *hold, struct hold_ticket *ticket);
static void take_out(struct pipeline_loop *part, struct hold_ticket *ticket);
static unsigned window_of(const struct pipeline_loop *part);
static void probe(struct pipeline_loop *part);
static struct pool *find_probed(struct pipeline_loop *part);
static bool is_worth_a_probe(const struct endpoint *endpoint, int64_t now_ns);
static void end_probe(struct pipeline_loop *part);
static void on_probe_ready(struct lease *lease, enum fail fail);
static void on_probed(struct task *task);
static void on_look(struct timer *timer);
static struct pipeline_loop *part_of(struct hold *hold);

void hold_open(struct pipeline_loop *part, hold_let_go_fn *let_go) {
    struct hold *hold = &part->hold;

    list_init(&hold->line);
    timer_init(&hold->look, on_look);
    task_init(&hold->probed, on_probed);
    hold->window = HOLD_FIRST;
    hold->let_go = let_go;
    hold->logged = (struct log_limit)LOG_LIMIT(1);
}

void hold_close(struct pipeline_loop *part) {
    struct loop *loop = part->pools_shared->loop;

    assert(list_is_empty(&part->hold.line));
    loop_timer_stop(loop, &part->hold.look);
    end_probe(part);
    task_cancel(&part->hold.probed);
}

bool hold_is_due(const struct pipeline_loop *part) {
    enum fail outage = balancer_outage(part);

    /* Where nobody may be held nobody would find out that it is over either. */
    return outage && !fail_is_tls(outage) && part->shared->hold.max > 0;
}

bool hold_enter(struct pipeline_loop *part, struct hold_ticket *ticket, struct permit *permit) {
    struct hold_shared *shared = &part->shared->hold;
    struct hold *hold = &part->hold;

    assert(ticket->state == HOLD_NONE && permit->kind == PERMIT_NONE);
    if (atomic_fetch_add(&shared->held, 1) >= shared->max) {
        atomic_fetch_sub(&shared->held, 1);
        return false;
    }
    if (list_is_empty(&hold->line)) {
        if (atomic_fetch_add(&shared->holders, 1) == 0)
            tell_outage(part);
        loop_timer_start(part->pools_shared->loop, &hold->look, HOLD_LOOK_NS);
    }
    if (ticket->since_ns == 0)
        ticket->since_ns = part->pools_shared->loop->now_ns;
    ticket->permit = permit;
    ticket->state = HOLD_HELD;
    insert(hold, ticket);
    hold_look(part);
    return true;
}

void hold_leave(struct pipeline_loop *part, struct hold_ticket *ticket, bool is_well) {
    struct hold *hold = &part->hold;
    enum hold_state state = ticket->state;

    if (state == HOLD_HELD)
        take_out(part, ticket);
    ticket->state = HOLD_NONE;
    if (state != HOLD_OUT)
        return;
    hold->out--;
    hold->window = is_well ? window_of(part) + 1 : HOLD_FIRST;
    hold_look(part);
}

void hold_look(struct pipeline_loop *part) {
    struct hold *hold = &part->hold;

    if (list_is_empty(&hold->line))
        return;
    if (hold_is_due(part)) {
        hold->window = HOLD_FIRST;
        probe(part);
        return;
    }
    while (!list_is_empty(&hold->line) && hold->out < window_of(part)) {
        struct hold_ticket *ticket = CONTAINER_OF(hold->line.next, struct hold_ticket, link);

        if (!permit_try(part, ticket->permit))
            break;
        take_out(part, ticket);
        ticket->state = HOLD_OUT;
        hold->out++;
        hold->let_go(ticket);
    }
}

static void tell_outage(struct pipeline_loop *part) {
    enum fail outage = balancer_outage(part);

    if (outage)
        log_limited(&part->hold.logged, LOG_WARN,
                    "no endpoint of pipeline '%s' is usable: %s; requests wait",
                    part->shared->config->name, fail_row(outage)->title);
}

/* Those that come back are older than nearly all, and stand in front of them. */
static void insert(struct hold *hold, struct hold_ticket *ticket) {
    struct list *before = hold->line.prev;

    if (before != &hold->line &&
        CONTAINER_OF(before, struct hold_ticket, link)->since_ns > ticket->since_ns)
        for (before = &hold->line;
             CONTAINER_OF(before->next, struct hold_ticket, link)->since_ns <= ticket->since_ns;)
            before = before->next;
    list_push_front(before, &ticket->link);
}

static void take_out(struct pipeline_loop *part, struct hold_ticket *ticket) {
    struct hold_shared *shared = &part->shared->hold;

    list_remove(&ticket->link);
    atomic_fetch_sub(&shared->held, 1);
    if (!list_is_empty(&part->hold.line))
        return;
    atomic_fetch_sub(&shared->holders, 1);
    loop_timer_stop(part->pools_shared->loop, &part->hold.look);
    end_probe(part); /* a dial that is under way goes on: its connection will be of use */
}

/* No loop takes more than its part of the permits, or others' backlogs would wait for all of its.
 */
static unsigned window_of(const struct pipeline_loop *part) {
    uint32_t holders = atomic_load_explicit(&part->shared->hold.holders, memory_order_relaxed);
    uint32_t most = gate_limit(&part->shared->concurrency);

    most = holders > 1 ? (most + holders - 1) / holders : most;
    return part->hold.window < most ? part->hold.window : most;
}

static void probe(struct pipeline_loop *part) {
    struct hold_shared *shared = &part->shared->hold;
    struct hold *hold = &part->hold;
    int64_t now_ns = part->pools_shared->loop->now_ns;
    int64_t due_ns = atomic_load(&shared->probe_ns);
    int64_t next_ns =
        now_ns + HOLD_PROBE_NS * 3 / 4 + (int64_t)random_below((uint64_t)(HOLD_PROBE_NS / 2));
    struct pool *pool;
    enum fail fail;

    if (now_ns < due_ns || !atomic_compare_exchange_strong(&shared->probe_ns, &due_ns, next_ns))
        return;
    end_probe(part); /* one that hangs until its timeout keeps no other from being made */
    pool = find_probed(part);
    if (!pool)
        return;
    hold->probe_of = endpoint_ref(pool->endpoint);
    hold->probe.ready = on_probe_ready;
    endpoint_let_dial(pool->endpoint);
    switch (pool_lease(pool, &hold->probe, false, &fail)) {
    case POOL_READY:
        on_probe_ready(&hold->probe, FAIL_NONE);
        break;
    case POOL_FAILED:
        on_probe_ready(&hold->probe, fail);
        break;
    case POOL_WAIT:
        break;
    }
}

/* In turns. */
static struct pool *find_probed(struct pipeline_loop *part) {
    int64_t now_ns = part->pools_shared->loop->now_ns;

    for (size_t i = 0; part->set && i < part->set->count; i++) {
        struct pool *pool = part->pools[part->hold.next_probe++ % part->set->count];

        if (is_worth_a_probe(pool->endpoint, now_ns))
            return pool;
    }
    return NULL;
}

/* Not one that was taken out of service; and where its breaker alone keeps it out, and is asked
 * already, there is nothing to be found out by a dial. */
static bool is_worth_a_probe(const struct endpoint *endpoint, int64_t now_ns) {
    unsigned conditions = atomic_load_explicit(&endpoint->conditions, memory_order_relaxed);

    return !(conditions & (ENDPOINT_DRAINED | ENDPOINT_DISABLED)) &&
           (!endpoint_is_up(endpoint) || !breaker_may_enter(&endpoint->breaker, now_ns));
}

static void end_probe(struct pipeline_loop *part) {
    struct hold *hold = &part->hold;

    if (!hold->probe_of)
        return;
    lease_end(&hold->probe);
    task_cancel(&hold->probed);
    endpoint_unref(hold->probe_of);
    hold->probe_of = NULL;
}

static void on_probe_ready(struct lease *lease, enum fail fail) {
    struct hold *hold = CONTAINER_OF(lease, struct hold, probe);

    hold->probe_fail = fail;
    loop_wake(part_of(hold)->pools_shared->loop, &hold->probed);
}

static void on_probed(struct task *task) {
    struct hold *hold = CONTAINER_OF(task, struct hold, probed);
    struct pipeline_loop *part = part_of(hold);

    if (!hold->probe_of)
        return;
    if (hold->probe_fail == FAIL_NONE)
        breaker_hint(&hold->probe_of->breaker, part->pools_shared->loop->now_ns);
    end_probe(part);
    if (!list_is_empty(&hold->line) && !hold_is_due(part))
        hold_look(part);
}

static void on_look(struct timer *timer) {
    struct hold *hold = CONTAINER_OF(timer, struct hold, look);
    struct pipeline_loop *part = part_of(hold);

    loop_timer_start(part->pools_shared->loop, timer, HOLD_LOOK_NS);
    hold_look(part);
}

static struct pipeline_loop *part_of(struct hold *hold) {
    return CONTAINER_OF(hold, struct pipeline_loop, hold);
}
