/* The past of each endpoint in buckets, and what it says beside that of its peers. */
#include "upstream/outlier.h"

#include "base/alloc.h"
#include "base/log.h"
#include "upstream/trial.h"

/* What has happened in a while. */
struct figures {
    uint64_t calls, bad, stalled, answered, waited_ns;
};

struct outlier_record {
    struct figures seen; /* sums of the tallies at the last look */
    struct figures past[OUTLIER_BUCKETS];
    unsigned next;     /* in past: the oldest one */
    int64_t looked_ns; /* 0: never */
};

/* A look at a pipeline. */
struct look {
    struct endpoint *const *list;
    size_t count;
    const struct outlier_settings *settings;
    int64_t now_ns;
    struct figures all[OUTLIER_BUCKETS]; /* of those that can be compared, newest first */
};

static bool take(struct endpoint *endpoint, int64_t now_ns);
static struct figures sum(const struct endpoint *endpoint);
static void judge(const struct look *look, struct endpoint *endpoint);
static bool is_outlier(const struct figures *own, const struct figures *peers, double share);
static bool may_eject(const struct look *look, const struct endpoint *endpoint);
static bool has_failed_in_a_row(const struct look *look, const struct endpoint *endpoint,
                                const struct figures *own, const struct figures *peers);
static bool is_worse(const struct figures *own, const struct figures *peers, double share);
static void eject(const struct look *look, struct endpoint *endpoint, enum breaker_cause cause,
                  const struct figures *own, const struct figures *peers);
static const struct figures *past_of(const struct endpoint *endpoint, unsigned age);
static void add(struct figures *to, const struct figures *from);
static struct figures less(const struct figures *from, const struct figures *what);
static bool is_closed(const struct endpoint *endpoint);

void outlier_look(struct endpoint *const *list, size_t count,
                  const struct outlier_settings *settings, int64_t now_ns) {
    struct look look = {.list = list, .count = count, .settings = settings, .now_ns = now_ns};
    bool has_news = false;

    if (count < 2 || settings->share == 0)
        return; /* nobody to compare it with */
    for (size_t i = 0; i < count; i++)
        has_news |= take(list[i], now_ns);
    if (!has_news)
        return;
    for (size_t i = 0; i < count; i++)
        for (unsigned age = 0; is_closed(list[i]) && age < OUTLIER_BUCKETS; age++)
            add(&look.all[age], past_of(list[i], age));
    for (size_t i = 0; i < count; i++)
        if (is_closed(list[i]))
            judge(&look, list[i]);
}

/* What has come since the last look is the newest bucket. False: nothing has. */
static bool take(struct endpoint *endpoint, int64_t now_ns) {
    struct outlier_record *record = endpoint->record;
    struct figures now = sum(endpoint);
    bool has_news;
    int64_t buckets;

    if (!record) {
        record = endpoint->record = xcalloc(1, sizeof *record);
        record->seen = now;
    }
    buckets = (now_ns - record->looked_ns + OUTLIER_BUCKET_NS / 2) / OUTLIER_BUCKET_NS;
    for (int64_t i = 0; i < (buckets < OUTLIER_BUCKETS ? buckets : OUTLIER_BUCKETS); i++) {
        record->past[record->next] = (struct figures){0};
        record->next = (record->next + 1) % OUTLIER_BUCKETS;
    }
    /* Whoever was kept out begins anew. */
    if (is_closed(endpoint)) {
        struct figures fresh = less(&now, &record->seen);

        add(&record->past[(record->next + OUTLIER_BUCKETS - 1) % OUTLIER_BUCKETS], &fresh);
    } else {
        memset(record->past, 0, sizeof record->past);
    }
    has_news = now.calls != record->seen.calls || now.answered != record->seen.answered;
    record->seen = now;
    record->looked_ns = now_ns;
    return has_news;
}

static struct figures sum(const struct endpoint *endpoint) {
    struct figures sum = {0};

    for (unsigned i = 0; i < endpoint->loops; i++) {
        const struct endpoint_tally *tally = &endpoint->tallies[i];

        sum.calls += atomic_load_explicit(&tally->calls, memory_order_relaxed);
        sum.bad += atomic_load_explicit(&tally->bad, memory_order_relaxed);
        sum.stalled += atomic_load_explicit(&tally->stalled, memory_order_relaxed);
        sum.answered += atomic_load_explicit(&tally->answered, memory_order_relaxed);
        sum.waited_ns += atomic_load_explicit(&tally->waited_ns, memory_order_relaxed);
    }
    return sum;
}

static void judge(const struct look *look, struct endpoint *endpoint) {
    const struct outlier_settings *settings = look->settings;
    unsigned ages = (unsigned)(settings->window_ns / OUTLIER_BUCKET_NS);
    uint64_t calls_due = settings->calls_min, stalls_due = OUTLIER_STALLS_MIN;
    struct figures own = {0}, peers = {0};
    int64_t stalls_ns = 0;

    for (unsigned age = 0; age < ages && age < OUTLIER_BUCKETS; age++) {
        struct figures others = less(&look->all[age], past_of(endpoint, age));

        add(&own, past_of(endpoint, age));
        add(&peers, &others);
        if ((age + 1) * OUTLIER_BUCKET_NS < OUTLIER_SPAN_NS ||
            (own.calls < calls_due && own.stalled < stalls_due) ||
            peers.calls < settings->calls_min)
            continue;
        calls_due = 2 * own.calls;
        stalls_due = 2 * own.stalled + OUTLIER_STALLS_MIN;
        if (is_outlier(&own, &peers, settings->share) && may_eject(look, endpoint)) {
            eject(look, endpoint, own.stalled * 2 > own.bad ? BREAKER_STALLS : BREAKER_OFTEN, &own,
                  &peers);
            return;
        }
    }
    if (has_failed_in_a_row(look, endpoint, &own, &peers) && may_eject(look, endpoint)) {
        eject(look, endpoint, BREAKER_IN_A_ROW, &own, &peers);
        return;
    }
    if (settings->stall_ns > 0 && peers.answered > 0 && peers.answered >= settings->calls_min) {
        stalls_ns = OUTLIER_STALL_FACTOR * (int64_t)(peers.waited_ns / peers.answered);
        stalls_ns = stalls_ns > settings->stall_ns ? stalls_ns : settings->stall_ns;
    }
    atomic_store_explicit(&endpoint->stalls_after_ns, stalls_ns, memory_order_relaxed);
}

/* The last is the test of two shares for being one, by how many standard deviations they differ:
 * (p1 - p2)^2 >= SIGMAS^2 * p * (1 - p) * (1 / n + 1 / m), without the divisions. */
static bool is_outlier(const struct figures *own, const struct figures *peers, double share) {
    double n = (double)own->calls, m = (double)peers->calls;
    double both = (double)(own->bad + peers->bad);
    double apart = (double)own->bad * m - (double)peers->bad * n; /* n * m times */

    return is_worse(own, peers, share) && apart * apart * (n + m) >= OUTLIER_SIGMAS *
                                                                         OUTLIER_SIGMAS * both *
                                                                         (n + m - both) * n * m;
}

/* Too few for the test are told by their order. */
static bool has_failed_in_a_row(const struct look *look, const struct endpoint *endpoint,
                                const struct figures *own, const struct figures *peers) {
    unsigned row = look->settings->in_a_row;

    return row > 0 &&
           atomic_load_explicit(&endpoint->breaker.failures, memory_order_relaxed) >= row &&
           own->calls >= row && peers->calls >= row && is_worse(own, peers, look->settings->share);
}

static bool is_worse(const struct figures *own, const struct figures *peers, double share) {
    double n = (double)own->calls, m = (double)peers->calls;

    return n > 0 && m > 0 && (double)own->bad >= share * n &&
           (double)own->bad * m >= 2 * (double)peers->bad * n;
}

static bool may_eject(const struct look *look, const struct endpoint *endpoint) {
    size_t out = 0, left = 0, most = (size_t)((double)look->count * look->settings->eject_max);

    for (size_t i = 0; i < look->count; i++) {
        out += !is_closed(look->list[i]);
        left += look->list[i] != endpoint && endpoint_is_usable(look->list[i], look->now_ns) &&
                is_closed(look->list[i]);
    }
    return left > 0 && out < (most > 0 ? most : 1);
}

static void eject(const struct look *look, struct endpoint *endpoint, enum breaker_cause cause,
                  const struct figures *own, const struct figures *peers) {
    if (!breaker_trip(&endpoint->breaker, cause, atomic_load(&endpoint->last_failure),
                      look->now_ns))
        return;
    log_warn("endpoint '%s' fails %.0f%% of its requests, its peers %.0f%%", endpoint->text,
             100.0 * (double)own->bad / (double)own->calls,
             100.0 * (double)peers->bad / (double)peers->calls);
    endpoint_tell_ejected(endpoint, look->now_ns);
}

/* @age 0: the newest bucket. */
static const struct figures *past_of(const struct endpoint *endpoint, unsigned age) {
    const struct outlier_record *record = endpoint->record;

    return &record->past[(record->next + 2 * OUTLIER_BUCKETS - 1 - age) % OUTLIER_BUCKETS];
}

static void add(struct figures *to, const struct figures *from) {
    to->calls += from->calls;
    to->bad += from->bad;
    to->stalled += from->stalled;
    to->answered += from->answered;
    to->waited_ns += from->waited_ns;
}

static struct figures less(const struct figures *from, const struct figures *what) {
    return (struct figures){from->calls - what->calls, from->bad - what->bad,
                            from->stalled - what->stalled, from->answered - what->answered,
                            from->waited_ns - what->waited_ns};
}

static bool is_closed(const struct endpoint *endpoint) {
    return atomic_load_explicit(&endpoint->breaker.state, memory_order_relaxed) == BREAKER_CLOSED;
}
