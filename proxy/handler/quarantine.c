#include "handler/quarantine.h"

#include "base/log.h"
#include "config/units.h"

static void hold(struct quarantine *q, int64_t until_ns);
static void log_held(const struct config_handler *config, uint64_t faults, uint64_t calls);
static void release(struct quarantine *q);
static void count(struct quarantine *q, bool is_fault, int64_t number);
static bool is_share_reached(const struct quarantine *q, int64_t number, uint64_t *calls,
                             uint64_t *faults);

void quarantine_init(struct quarantine *q, const struct config_handler *config) {
    *q = (struct quarantine){.config = config};
    pthread_mutex_init(&q->lock, NULL);
}

void quarantine_deinit(struct quarantine *q) {
    pthread_mutex_destroy(&q->lock);
}

enum quarantine_answer quarantine_ask(struct quarantine *q, int64_t now_ns) {
    enum quarantine_answer answer = QUARANTINE_CALL;

    if (!quarantine_is_on(q))
        return QUARANTINE_CALL;
    pthread_mutex_lock(&q->lock);
    if (quarantine_is_on(q) && now_ns < q->until_ns) {
        answer = QUARANTINE_NO;
    } else if (quarantine_is_on(q)) {
        atomic_store(&q->state, QUARANTINE_PROBING);
        q->until_ns = now_ns + q->config->hold_ns;
        answer = QUARANTINE_PROBE;
    }
    pthread_mutex_unlock(&q->lock);
    return answer;
}

void quarantine_tell(struct quarantine *q, bool is_probe, bool is_fault, int64_t now_ns) {
    int64_t number = now_ns / (q->config->fault.window_ns / QUARANTINE_SLOTS);
    const char *name = q->config->name;
    uint64_t calls, faults;

    pthread_mutex_lock(&q->lock);
    if (is_probe && atomic_load(&q->state) == QUARANTINE_PROBING && is_fault) {
        hold(q, now_ns + q->config->hold_ns);
        log_warn("handler '%s' stays in quarantine: it faulted again", name);
    } else if (is_probe && atomic_load(&q->state) == QUARANTINE_PROBING) {
        release(q);
        log_info("handler '%s' leaves quarantine: it was tried and did not fault", name);
    } else if (!quarantine_is_on(q)) { /* what began before says nothing new */
        count(q, is_fault, number);
        if (is_fault && is_share_reached(q, number, &calls, &faults)) {
            hold(q, now_ns + q->config->hold_ns);
            log_held(q->config, faults, calls);
        }
    }
    pthread_mutex_unlock(&q->lock);
}

void quarantine_take_back(struct quarantine *q) {
    pthread_mutex_lock(&q->lock);
    if (atomic_load(&q->state) == QUARANTINE_PROBING)
        hold(q, 0); /* the next one is the probe */
    pthread_mutex_unlock(&q->lock);
}

void quarantine_reset(struct quarantine *q) {
    pthread_mutex_lock(&q->lock);
    release(q);
    pthread_mutex_unlock(&q->lock);
}

json_t *quarantine_save(struct quarantine *q, const struct keeper_now *now) {
    json_t *saved = NULL;

    pthread_mutex_lock(&q->lock);
    if (quarantine_is_on(q))
        saved = json_pack("{s:o}", "until", keeper_instant(q->until_ns, now));
    pthread_mutex_unlock(&q->lock);
    return saved;
}

/* No longer than it would be held now: the file may be wrong, and hold may be another. */
void quarantine_take_up(struct quarantine *q, const json_t *saved, const struct keeper_now *now) {
    int64_t ahead_ns;

    if (q->config->fault.quarantine_share == 0 ||
        !keeper_ahead(json_object_get(saved, "until"), now, &ahead_ns))
        return;
    pthread_mutex_lock(&q->lock);
    hold(q, now->now_ns + (ahead_ns < q->config->hold_ns ? ahead_ns : q->config->hold_ns));
    pthread_mutex_unlock(&q->lock);
    log_warn("handler '%s' is still in quarantine, as it was before this start", q->config->name);
}

static void hold(struct quarantine *q, int64_t until_ns) {
    atomic_store(&q->state, QUARANTINE_HELD);
    q->until_ns = until_ns;
}

static void log_held(const struct config_handler *config, uint64_t faults, uint64_t calls) {
    struct buffer hold = {0};

    units_append_duration(&hold, config->hold_ns);
    log_error("handler '%s' goes into quarantine: %llu of its last %llu calls faulted; it is tried "
              "again in %.*s, or when POST /handler/reset?name=%s says so",
              config->name, (unsigned long long)faults, (unsigned long long)calls, SLICE_ARG(hold),
              config->name);
    buffer_deinit(&hold);
}

static void release(struct quarantine *q) {
    atomic_store(&q->state, QUARANTINE_OFF);
    memset(q->slots, 0, sizeof q->slots);
}

static void count(struct quarantine *q, bool is_fault, int64_t number) {
    size_t i = (size_t)(number % QUARANTINE_SLOTS);

    if (q->slots[i].number != number) {
        q->slots[i].number = number;
        q->slots[i].calls = q->slots[i].faults = 0;
    }
    q->slots[i].calls++;
    q->slots[i].faults += is_fault;
}

static bool is_share_reached(const struct quarantine *q, int64_t number, uint64_t *calls,
                             uint64_t *faults) {
    double share = q->config->fault.quarantine_share;

    *calls = *faults = 0;
    for (size_t i = 0; i < QUARANTINE_SLOTS; i++) {
        if (q->slots[i].number <= number - QUARANTINE_SLOTS)
            continue;
        *calls += q->slots[i].calls;
        *faults += q->slots[i].faults;
    }
    return share > 0 && *calls >= q->config->fault.min_calls &&
           (double)*faults >= share * (double)*calls;
}
