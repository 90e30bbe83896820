/* The budget is a ring of seconds behind a lock, which is taken for every RETRY_TALLY_MAX requests
 * and for every retry. */
#include "pipeline/retry.h"

#include "base/random.h"

#define DIGITS_MAX 9

static void report(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns);
static size_t slot_of(struct retry_budget *budget, int64_t second);
static uint64_t left(const struct retry_budget *budget, int64_t second);
static int64_t parse(struct slice value, int64_t unit_ns);

void retry_budget_init(struct retry_budget *budget, double share) {
    *budget = (struct retry_budget){.share = share};
    pthread_mutex_init(&budget->lock, NULL);
}

void retry_budget_deinit(struct retry_budget *budget) {
    pthread_mutex_destroy(&budget->lock);
}

void retry_budget_count(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns) {
    int64_t second = now_ns / NS_PER_S;

    if (tally->requests >= RETRY_TALLY_MAX || (tally->requests > 0 && tally->second != second)) {
        pthread_mutex_lock(&budget->lock);
        report(budget, tally, now_ns);
        pthread_mutex_unlock(&budget->lock);
    }
    tally->second = second;
    tally->requests++;
}

bool retry_budget_take(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns) {
    int64_t second = now_ns / NS_PER_S;
    bool is_there;

    pthread_mutex_lock(&budget->lock);
    report(budget, tally, now_ns);
    is_there = left(budget, second) > 0;
    if (is_there)
        budget->seconds[slot_of(budget, second)].retries++;
    pthread_mutex_unlock(&budget->lock);
    return is_there;
}

uint64_t retry_budget_left(struct retry_budget *budget, int64_t now_ns) {
    uint64_t n;

    pthread_mutex_lock(&budget->lock);
    n = left(budget, now_ns / NS_PER_S);
    pthread_mutex_unlock(&budget->lock);
    return n;
}

int64_t retry_backoff_ns(unsigned retry) {
    int64_t most_ns = RETRY_BACKOFF_NS;

    for (; retry > 1 && most_ns < RETRY_BACKOFF_MAX_NS; retry--)
        most_ns *= 2;
    if (most_ns > RETRY_BACKOFF_MAX_NS)
        most_ns = RETRY_BACKOFF_MAX_NS;
    return 1 + (int64_t)random_below((uint64_t)most_ns);
}

int64_t retry_after_ns(struct slice value) {
    return parse(value, NS_PER_S);
}

int64_t retry_pushback_ns(struct slice value) {
    return parse(value, NS_PER_MS);
}

/* Locked. */
static void report(struct retry_budget *budget, struct retry_tally *tally, int64_t now_ns) {
    if (tally->requests > 0 && now_ns / NS_PER_S - tally->second < RETRY_WINDOW_S)
        budget->seconds[slot_of(budget, tally->second)].requests += tally->requests;
    tally->requests = 0;
}

/* The slot of @second, emptied of what was there a window ago. Locked. */
static size_t slot_of(struct retry_budget *budget, int64_t second) {
    size_t i = (size_t)(second % RETRY_WINDOW_S);

    if (budget->seconds[i].second < second) {
        budget->seconds[i].second = second;
        budget->seconds[i].requests = budget->seconds[i].retries = 0;
    }
    return i;
}

/* Locked. */
static uint64_t left(const struct retry_budget *budget, int64_t second) {
    uint64_t requests = 0, retries = 0, most;

    for (unsigned i = 0; i < RETRY_WINDOW_S; i++) {
        if (second - budget->seconds[i].second >= RETRY_WINDOW_S)
            continue;
        requests += budget->seconds[i].requests;
        retries += budget->seconds[i].retries;
    }
    most = (uint64_t)((double)requests * budget->share) + RETRY_WINDOW_S * RETRY_FREE_PER_S;
    return most > retries ? most - retries : 0;
}

static int64_t parse(struct slice value, int64_t unit_ns) {
    int64_t n = 0;

    if (value.len == 0 || value.len > DIGITS_MAX)
        return RETRY_PUSHBACK_NEVER;
    for (size_t i = 0; i < value.len; i++) {
        if (value.base[i] < '0' || value.base[i] > '9')
            return RETRY_PUSHBACK_NEVER;
        n = n * 10 + (value.base[i] - '0');
    }
    return n * unit_ns;
}
