/* The states of a breaker; see breaker.h. */
#include "upstream/breaker.h"

#include "base/random.h"

static void open_it(struct breaker *breaker, enum breaker_cause cause, const char *what,
                    int64_t now_ns);
static void close_it(struct breaker *breaker, int64_t now_ns);
static void enter_state(struct breaker *breaker, enum breaker_state state, int64_t now_ns);
static void forgive(struct breaker *breaker, int64_t now_ns);
static int64_t open_ns(const struct breaker *breaker);
static enum breaker_change probe_over(struct breaker *breaker, enum breaker_verdict verdict,
                                      const char *what, int64_t now_ns);

void breaker_init(struct breaker *breaker, const struct breaker_settings *settings) {
    *breaker = (struct breaker){.settings = settings};
    pthread_mutex_init(&breaker->lock, NULL);
}

void breaker_deinit(struct breaker *breaker) {
    pthread_mutex_destroy(&breaker->lock);
}

bool breaker_enter(struct breaker *breaker, int64_t now_ns, bool *is_probe) {
    bool may;

    *is_probe = false;
    if (atomic_load_explicit(&breaker->state, memory_order_relaxed) == BREAKER_CLOSED)
        return true;
    pthread_mutex_lock(&breaker->lock);
    may = breaker_may_enter(breaker, now_ns);
    if (may && atomic_load(&breaker->state) != BREAKER_CLOSED) {
        if (atomic_load(&breaker->state) == BREAKER_OPEN) {
            breaker->passes = 0;
            enter_state(breaker, BREAKER_HALF_OPEN, now_ns);
        }
        atomic_store(&breaker->probe_by_ns, now_ns + breaker->settings->open_for_ns);
        *is_probe = true;
    }
    pthread_mutex_unlock(&breaker->lock);
    return may;
}

bool breaker_enter_early(struct breaker *breaker, int64_t now_ns, bool *is_probe) {
    bool may = true;

    *is_probe = false;
    pthread_mutex_lock(&breaker->lock);
    if (atomic_load(&breaker->state) != BREAKER_CLOSED) {
        may = now_ns >= breaker->early_ns;
        if (may) {
            breaker->early_ns = now_ns + BREAKER_EARLY_NS * 3 / 4 +
                                (int64_t)random_below((uint64_t)BREAKER_EARLY_NS / 2);
            breaker->passes = breaker->settings->passes; /* one more is enough */
            *is_probe = true;
        }
    }
    pthread_mutex_unlock(&breaker->lock);
    return may;
}

enum breaker_change breaker_report(struct breaker *breaker, enum breaker_verdict verdict,
                                   const char *what, bool is_probe, int64_t now_ns) {
    enum breaker_change change = BREAKER_SAME;

    if (verdict == VERDICT_GOOD && !is_probe) {
        if (atomic_load_explicit(&breaker->failures, memory_order_relaxed) > 0)
            atomic_store_explicit(&breaker->failures, 0, memory_order_relaxed);
        return BREAKER_SAME;
    }
    if (verdict == VERDICT_POOR && !is_probe)
        atomic_fetch_add(&breaker->failures, 1);
    if (verdict == VERDICT_BAD && !is_probe) {
        unsigned failures = atomic_fetch_add(&breaker->failures, 1) + 1;

        return breaker->settings->in_a_row > 0 && failures >= breaker->settings->in_a_row &&
                       breaker_trip(breaker, BREAKER_IN_A_ROW, what, now_ns)
                   ? BREAKER_TRIPPED
                   : BREAKER_SAME;
    }
    if (!is_probe)
        return BREAKER_SAME;
    pthread_mutex_lock(&breaker->lock);
    if (atomic_load(&breaker->state) != BREAKER_CLOSED)
        change = probe_over(breaker, verdict, what, now_ns);
    pthread_mutex_unlock(&breaker->lock);
    return change;
}

bool breaker_trip(struct breaker *breaker, enum breaker_cause cause, const char *what,
                  int64_t now_ns) {
    bool does;

    pthread_mutex_lock(&breaker->lock);
    does = atomic_load(&breaker->state) == BREAKER_CLOSED;
    if (does) {
        forgive(breaker, now_ns);
        open_it(breaker, cause, what, now_ns);
    }
    pthread_mutex_unlock(&breaker->lock);
    return does;
}

void breaker_hint(struct breaker *breaker, int64_t now_ns) {
    pthread_mutex_lock(&breaker->lock);
    if (atomic_load(&breaker->state) == BREAKER_OPEN && atomic_load(&breaker->until_ns) > now_ns)
        atomic_store(&breaker->until_ns, now_ns);
    pthread_mutex_unlock(&breaker->lock);
}

void breaker_reset(struct breaker *breaker) {
    pthread_mutex_lock(&breaker->lock);
    breaker->trips = breaker->passes = 0;
    breaker->cause = BREAKER_NO_CAUSE;
    breaker->what = NULL;
    breaker->since_ns = 0;
    atomic_store(&breaker->failures, 0);
    atomic_store(&breaker->state, BREAKER_CLOSED);
    pthread_mutex_unlock(&breaker->lock);
}

struct breaker_view breaker_view(struct breaker *breaker) {
    struct breaker_view view;

    pthread_mutex_lock(&breaker->lock);
    view = (struct breaker_view){
        .state = (enum breaker_state)atomic_load(&breaker->state),
        .cause = breaker->cause,
        .what = breaker->what,
        .trips = breaker->trips,
        .since_ns = breaker->since_ns,
        .until_ns = atomic_load(&breaker->until_ns),
    };
    pthread_mutex_unlock(&breaker->lock);
    return view;
}

void breaker_restore(struct breaker *breaker, const struct breaker_view *view) {
    pthread_mutex_lock(&breaker->lock);
    breaker->cause = view->cause;
    breaker->what = view->what;
    breaker->trips = view->trips;
    breaker->since_ns = view->since_ns;
    atomic_store(&breaker->until_ns, view->until_ns);
    atomic_store(&breaker->state, BREAKER_OPEN);
    pthread_mutex_unlock(&breaker->lock);
}

const char *breaker_state_name(enum breaker_state state) {
    static const char *const names[] = {"closed", "open", "half-open"};

    return names[state];
}

const char *breaker_cause_name(enum breaker_cause cause) {
    static const char *const names[BREAKER_CAUSES] = {"none", "failures_in_a_row", "fails_often",
                                                      "stalls"};

    return names[cause];
}

/* The rest is called with the lock held. */

static enum breaker_change probe_over(struct breaker *breaker, enum breaker_verdict verdict,
                                      const char *what, int64_t now_ns) {
    atomic_store(&breaker->probe_by_ns, 0);
    switch (verdict) {
    case VERDICT_NONE:
        return BREAKER_SAME; /* the next one finds out */
    case VERDICT_GOOD:
        if (++breaker->passes < breaker->settings->passes)
            return BREAKER_SAME;
        close_it(breaker, now_ns);
        return BREAKER_RETURNED;
    case VERDICT_BAD:
    case VERDICT_POOR:
    case VERDICT_DOUBTFUL:
        break;
    }
    /* Early ones do not prolong it: their failing says nothing new. */
    if (atomic_load(&breaker->state) == BREAKER_OPEN) {
        breaker->passes = 0;
        breaker->what = what;
        return BREAKER_SAME;
    }
    open_it(breaker, breaker->cause, what, now_ns);
    return BREAKER_TRIPPED;
}

static void open_it(struct breaker *breaker, enum breaker_cause cause, const char *what,
                    int64_t now_ns) {
    if (breaker->trips < BREAKER_TRIPS_MAX)
        breaker->trips++;
    atomic_fetch_add(&breaker->opened[cause], 1);
    breaker->cause = cause;
    breaker->what = what;
    breaker->passes = 0;
    atomic_store(&breaker->until_ns, now_ns + open_ns(breaker));
    enter_state(breaker, BREAKER_OPEN, now_ns);
}

static void close_it(struct breaker *breaker, int64_t now_ns) {
    atomic_store(&breaker->failures, 0);
    enter_state(breaker, BREAKER_CLOSED, now_ns);
}

static void enter_state(struct breaker *breaker, enum breaker_state state, int64_t now_ns) {
    breaker->since_ns = now_ns;
    atomic_store(&breaker->probe_by_ns, 0);
    atomic_store(&breaker->state, (int)state);
}

/* Of a closed one: for the time that all was well. */
static void forgive(struct breaker *breaker, int64_t now_ns) {
    int64_t forgiven = (now_ns - breaker->since_ns) / breaker->settings->open_for_ns;

    breaker->trips = forgiven < breaker->trips ? breaker->trips - (unsigned)forgiven : 0;
}

static int64_t open_ns(const struct breaker *breaker) {
    int64_t max_ns = breaker->settings->open_max_ns;
    int64_t each_ns = breaker->settings->open_for_ns;

    return breaker->trips < (uint64_t)(max_ns / each_ns) ? each_ns * breaker->trips : max_ns;
}
