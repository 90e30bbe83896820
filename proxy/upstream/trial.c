/* What exchanges say of their endpoints; see trial.h. */
#include "upstream/trial.h"

#include "base/alloc.h"
#include "base/log.h"
#include "codec/grpc.h"

#include <string.h>

static void stop_awaiting(struct trial *trial);
static void count(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                  const char *what);
static void report(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                   const char *what, bool is_probe, int64_t now_ns);
static void add(_Atomic uint64_t *figure, uint64_t n);

struct endpoint_tally *tallies_new(unsigned loops) {
    struct endpoint_tally *tallies = xcalloc(loops, sizeof *tallies);

    for (unsigned i = 0; i < loops; i++)
        list_init(&tallies[i].awaiting);
    return tallies;
}

bool trial_begin(struct trial *trial, struct endpoint *endpoint, unsigned loop, bool is_last,
                 int64_t now_ns) {
    bool is_probe = false;

    if (!breaker_enter(&endpoint->breaker, now_ns, &is_probe) &&
        !(is_last && breaker_enter_early(&endpoint->breaker, now_ns, &is_probe)))
        return false;
    *trial = (struct trial){.endpoint = endpoint, .loop = loop, .is_probe = is_probe};
    list_init(&trial->link);
    return true;
}

void trial_sent(struct trial *trial, const struct body *request, int64_t now_ns) {
    if (!trial->endpoint)
        return;
    trial->request = request;
    trial->sent_ns = now_ns;
    list_push_back(&trial->endpoint->tallies[trial->loop].awaiting, &trial->link);
}

void trial_answered(struct trial *trial, int64_t now_ns) {
    struct endpoint_tally *tally;

    if (!trial->endpoint || !list_is_linked(&trial->link))
        return;
    tally = &trial->endpoint->tallies[trial->loop];
    list_remove(&trial->link);
    add(&tally->answered, 1);
    add(&tally->waited_ns, (uint64_t)(now_ns - trial->sent_ns));
}

void trial_end(struct trial *trial, enum breaker_verdict verdict, const char *what,
               int64_t now_ns) {
    struct endpoint *endpoint = trial->endpoint;

    if (!endpoint)
        return;
    stop_awaiting(trial);
    trial->endpoint = NULL;
    trial->given = verdict;
    count(endpoint, trial->loop, verdict, what);
    report(endpoint, trial->loop, verdict, what, trial->is_probe, now_ns);
}

void trial_tell(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                const char *what, int64_t now_ns) {
    count(endpoint, loop, verdict, what);
    report(endpoint, loop, verdict, what, false, now_ns);
}

void trial_look(struct endpoint *endpoint, unsigned loop, int64_t now_ns) {
    struct endpoint_tally *tally = &endpoint->tallies[loop];
    int64_t after_ns = atomic_load_explicit(&endpoint->stalls_after_ns, memory_order_relaxed);

    while (after_ns > 0 && !list_is_empty(&tally->awaiting)) {
        struct trial *oldest = CONTAINER_OF(tally->awaiting.next, struct trial, link);

        if (now_ns - oldest->sent_ns < after_ns)
            break;
        if (oldest->request && oldest->request->state == BODY_OPEN) {
            list_remove(&oldest->link);
            oldest->sent_ns = now_ns;
            list_push_back(&tally->awaiting, &oldest->link);
            continue;
        }
        add(&tally->stalled, 1);
        trial_end(oldest, VERDICT_DOUBTFUL, TRIAL_STALLED, now_ns);
    }
}

const char *trial_what(const char *text) {
    static const char *const others[] = {TRIAL_STALLED, TRIAL_500, TRIAL_502,
                                         TRIAL_503,     TRIAL_504, TRIAL_5XX};

    for (size_t i = 0; text && i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i], text) == 0)
            return others[i];
    for (int fail = FAIL_NONE + 1; text && fail < FAILS; fail++)
        if (strcmp(fail_row((enum fail)fail)->reason, text) == 0)
            return fail_row((enum fail)fail)->reason;
    for (int status = 0; text && status < GRPC_STATUSES; status++)
        if (strcmp(grpc_status_name((enum grpc_status)status), text) == 0)
            return grpc_status_name((enum grpc_status)status);
    return NULL;
}

static void stop_awaiting(struct trial *trial) {
    if (list_is_linked(&trial->link))
        list_remove(&trial->link);
}

static void count(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                  const char *what) {
    struct endpoint_tally *tally = &endpoint->tallies[loop];

    if (verdict == VERDICT_NONE)
        return;
    add(&tally->calls, 1);
    if (verdict == VERDICT_GOOD)
        return;
    add(&tally->bad, 1);
    atomic_store_explicit(&endpoint->last_failure, what, memory_order_relaxed);
}

static void report(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                   const char *what, bool is_probe, int64_t now_ns) {
    struct endpoint_tally *tally = &endpoint->tallies[loop];

    if ((verdict == VERDICT_BAD || verdict == VERDICT_POOR) && !is_probe) {
        if (tally->failed_ns == now_ns)
            return;
        tally->failed_ns = now_ns;
    }
    switch (breaker_report(&endpoint->breaker, verdict, what, is_probe, now_ns)) {
    case BREAKER_SAME:
        break;
    case BREAKER_TRIPPED:
        endpoint_tell_ejected(endpoint, now_ns);
        break;
    case BREAKER_RETURNED:
        atomic_store(&endpoint->returned_ns, now_ns);
        log_info("endpoint '%s' is used again: it has answered", endpoint->text);
        break;
    }
}

/* The loop is the only writer. */
static void add(_Atomic uint64_t *figure, uint64_t n) {
    atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
