#include "pipeline/balancer.h"

#include "base/hash.h"
#include "base/random.h"

/* Which endpoints there is a choice of. */
struct choice_of {
    const struct endpoint *avoid; /* borrowed; NULL: none */
    bool is_sure;                 /* connected, or not known to be down */
    int64_t now_ns;
};

/* One of two. */
struct offer {
    struct pool *pool; /* borrowed; NULL: none yet */
    double load, weight;
    double answer_ns; /* 0: does not matter, or is not known */
};

static struct pool *any_in_service(const struct pipeline_loop *part);
static size_t narrow(const struct pipeline_loop *part, const struct balancer_wish *wish,
                     struct choice_of *among);
static bool is_usable(const struct pool *pool, const struct choice_of *among);
static bool is_reachable(const struct pool *pool, int64_t now_ns);
static struct pool *pick_of_two(const struct pipeline_loop *part, const struct choice_of *among,
                                size_t usable);
static struct offer offer_of(const struct pipeline_loop *part, struct pool *pool, int64_t now_ns);
static int compare(const struct offer *left, const struct offer *right);
static struct pool *pick_by_key(const struct pipeline_loop *part, const struct choice_of *among,
                                size_t usable, uint64_t key);
static uint64_t score(uint64_t key, const struct endpoint *endpoint);
static uint32_t inflight_of(const struct pool *pool);

struct pool *balancer_pick(const struct pipeline_loop *part, const struct balancer_wish *wish) {
    struct choice_of among;
    struct pool *best;
    size_t usable;

    if (!part->set || part->set->count == 0)
        return NULL;
    if (wish->home) {
        struct pool *home = balancer_find(part, wish->home, NULL);

        if (home && home->endpoint != wish->avoid)
            return home;
    }
    if (part->set->count == 1)
        return endpoint_is_in_service(part->set->list[0]) ? part->pools[0] : NULL;
    usable = narrow(part, wish, &among);
    if (usable == 0)
        return any_in_service(part);
    best = wish->is_keyed ? pick_by_key(part, &among, usable, wish->key)
                          : pick_of_two(part, &among, usable);
    /* On other loops it may all have changed meanwhile. */
    return best ? best : any_in_service(part);
}

struct pool *balancer_find(const struct pipeline_loop *part, uint64_t id, bool *is_known) {
    int64_t now_ns = part->pools_shared->loop->now_ns;

    if (is_known)
        *is_known = false;
    for (size_t i = 0; part->set && i < part->set->count; i++) {
        struct pool *pool = part->pools[i];

        if (pool->endpoint->id != id)
            continue;
        if (is_known)
            *is_known = true;
        return endpoint_is_usable_again(pool->endpoint, now_ns) && is_reachable(pool, now_ns)
                   ? pool
                   : NULL;
    }
    return NULL;
}

uint64_t balancer_home(const struct pipeline_loop *part, uint64_t key) {
    const struct endpoint *best = NULL;

    for (size_t i = 0; part->set && i < part->set->count; i++)
        if (!best || score(key, part->set->list[i]) > score(key, best))
            best = part->set->list[i];
    return best ? best->id : 0;
}

enum fail balancer_outage(const struct pipeline_loop *part) {
    int64_t now_ns = part->pools_shared->loop->now_ns;
    enum fail why = FAIL_ENDPOINT_NONE;

    for (size_t i = 0; part->set && i < part->set->count; i++) {
        const struct pool *pool = part->pools[i];

        if (endpoint_is_usable(pool->endpoint, now_ns) &&
            (endpoint_is_up(pool->endpoint) || pool_is_alive(pool)))
            return FAIL_NONE;
        if (!endpoint_is_up(pool->endpoint) &&
            endpoint_is_in_service(pool->endpoint)) /* which its breaker may have opened for */
            why = (enum fail)atomic_load_explicit(&pool->endpoint->dial_fail, memory_order_relaxed);
    }
    return why;
}

static struct pool *any_in_service(const struct pipeline_loop *part) {
    size_t first = random_below(part->set->count);

    for (size_t i = 0; i < part->set->count; i++) {
        struct pool *pool = part->pools[(first + i) % part->set->count];

        if (endpoint_is_in_service(pool->endpoint))
            return pool;
    }
    return NULL;
}

/* What the wish asks for, as long as that leaves a choice: to avoid one is the first thing to be
 * given up. Returns how many there are. */
static size_t narrow(const struct pipeline_loop *part, const struct balancer_wish *wish,
                     struct choice_of *among) {
    size_t usable = 0;

    for (unsigned step = 0; step < 4 && usable == 0; step++) {
        *among = (struct choice_of){
            .avoid = step % 2 == 0 ? wish->avoid : NULL,
            .is_sure = wish->is_sure && step < 2,
            .now_ns = part->pools_shared->loop->now_ns,
        };
        for (size_t i = 0; i < part->set->count; i++)
            usable += is_usable(part->pools[i], among);
    }
    return usable;
}

static bool is_usable(const struct pool *pool, const struct choice_of *among) {
    const struct endpoint *endpoint = pool->endpoint;

    return endpoint != among->avoid && endpoint_is_usable(endpoint, among->now_ns) &&
           (!among->is_sure || endpoint_is_up(endpoint) || pool_is_alive(pool)) &&
           is_reachable(pool, among->now_ns);
}

static bool is_reachable(const struct pool *pool, int64_t now_ns) {
    return pool_is_connected(pool) || endpoint_may_dial(pool->endpoint, now_ns);
}

static struct pool *pick_of_two(const struct pipeline_loop *part, const struct choice_of *among,
                                size_t usable) {
    size_t first = random_below(usable), second = usable > 1 ? random_below(usable - 1) : first;
    struct offer best = {0};

    if (usable > 1 && second >= first)
        second++;
    for (size_t i = 0, n = 0; i < part->set->count; i++) {
        if (!is_usable(part->pools[i], among))
            continue;
        if (n == first || n == second) {
            struct offer offer = offer_of(part, part->pools[i], among->now_ns);
            int order = best.pool ? compare(&offer, &best) : -1;

            /* Of equals the one that was drawn first, or all would go to the front of the list. */
            if (order < 0 || (order == 0 && n == first))
                best = offer;
        }
        n++;
    }
    return best.pool;
}

static struct offer offer_of(const struct pipeline_loop *part, struct pool *pool, int64_t now_ns) {
    bool is_timed = part->shared->config->balance.by == BALANCE_LATENCY;

    return (struct offer){
        .pool = pool,
        .load = (double)inflight_of(pool) + 1,
        .weight = endpoint_weight(pool->endpoint, now_ns),
        .answer_ns = is_timed ? (double)peak_ns(&pool->endpoint->answers, now_ns) : 0,
    };
}

/* Less than 0: @left is better; 0: they are equal. */
static int compare(const struct offer *left, const struct offer *right) {
    double less = left->load * right->weight, more = right->load * left->weight;

    if (left->answer_ns > 0 && right->answer_ns > 0) {
        less *= left->answer_ns;
        more *= right->answer_ns;
    }
    return (less > more) - (less < more);
}

static struct pool *pick_by_key(const struct pipeline_loop *part, const struct choice_of *among,
                                size_t usable, uint64_t key) {
    struct pool *best = NULL, *least = NULL;
    uint64_t highest = 0, all = 1, most;

    for (size_t i = 0; i < part->set->count; i++)
        if (is_usable(part->pools[i], among))
            all += inflight_of(part->pools[i]);
    most = (all * BALANCER_BOUND_PERCENT + usable * 100 - 1) / (usable * 100);
    most = most > BALANCER_BOUND_MIN ? most : BALANCER_BOUND_MIN;
    for (size_t i = 0; i < part->set->count; i++) {
        struct pool *pool = part->pools[i];
        uint64_t own;

        if (!is_usable(pool, among))
            continue;
        if (!least || inflight_of(pool) < inflight_of(least))
            least = pool;
        own = score(key, pool->endpoint);
        /* In its slow start it has a part of its keys only, always the same ones. */
        if (inflight_of(pool) >= most ||
            hash_mix(own) % ENDPOINT_WEIGHT_MAX >= endpoint_weight(pool->endpoint, among->now_ns))
            continue;
        if (!best || own > highest) {
            best = pool;
            highest = own;
        }
    }
    return best ? best : least;
}

static uint64_t score(uint64_t key, const struct endpoint *endpoint) {
    return hash_mix(key ^ endpoint->id);
}

static uint32_t inflight_of(const struct pool *pool) {
    return atomic_load_explicit(&pool->endpoint->inflight, memory_order_relaxed);
}
