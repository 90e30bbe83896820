#include "upstream/endpoint_state.h"

#include "upstream/trial.h"

#include <string.h>

#define SINCE_MAX_NS (INT64_C(366) * 24 * 3600 * NS_PER_S)

static void save_dials(const struct endpoint *endpoint, json_t *to, const struct keeper_now *now);
static void save_breaker(struct endpoint *endpoint, json_t *to, const struct keeper_now *now);
static void take_up_dials(struct endpoint *endpoint, const json_t *saved,
                          const struct keeper_now *now);
static void take_up_breaker(struct endpoint *endpoint, const json_t *saved,
                            const struct keeper_now *now);
static void take_up_conditions(struct endpoint *endpoint, const json_t *saved,
                               const struct keeper_now *now);
static json_t *order_text(unsigned conditions);
static enum fail fail_named(const char *reason);
static enum breaker_cause cause_named(const char *name);

json_t *endpoint_save(struct endpoint *endpoint, const struct keeper_now *now) {
    unsigned conditions = atomic_load(&endpoint->conditions);
    json_t *saved = json_object();

    save_dials(endpoint, saved, now);
    save_breaker(endpoint, saved, now);
    if (conditions & ENDPOINT_UNHEALTHY)
        json_object_set_new(saved, "unhealthy", json_true());
    if (conditions & (ENDPOINT_DRAINED | ENDPOINT_DISABLED))
        json_object_set_new(saved, "service", order_text(conditions));
    if (json_object_size(saved) > 0)
        return saved;
    json_decref(saved);
    return NULL;
}

json_t *endpoint_save_order(unsigned condition) {
    return json_pack("{s:o}", "service", order_text(condition));
}

unsigned endpoint_saved_order(const json_t *saved) {
    const char *service = json_string_value(json_object_get(saved, "service"));

    if (!service)
        return 0;
    return strcmp(service, "drained") == 0    ? ENDPOINT_DRAINED
           : strcmp(service, "disabled") == 0 ? ENDPOINT_DISABLED
                                              : 0;
}

static json_t *order_text(unsigned conditions) {
    return json_string(conditions & ENDPOINT_DISABLED ? "disabled" : "drained");
}

void endpoint_take_up(struct endpoint *endpoint, const json_t *saved,
                      const struct keeper_now *now) {
    take_up_dials(endpoint, saved, now);
    take_up_breaker(endpoint, json_object_get(saved, "breaker"), now);
    take_up_conditions(endpoint, saved, now);
}

static void save_dials(const struct endpoint *endpoint, json_t *to, const struct keeper_now *now) {
    int64_t after_ns = atomic_load(&endpoint->dial_after_ns);
    uint32_t failures = atomic_load(&endpoint->dial_failures);
    int fail = atomic_load(&endpoint->dial_fail);

    if (failures == 0 || fail == FAIL_NONE || now->now_ns - after_ns > ENDPOINT_KEPT_NS)
        return;
    if (failures > ENDPOINT_KEPT_FAILURES_MAX)
        failures = ENDPOINT_KEPT_FAILURES_MAX;
    json_object_set_new(to, "failures", json_integer((json_int_t)failures));
    json_object_set_new(to, "reason", json_string(fail_row((enum fail)fail)->reason));
    json_object_set_new(to, "dial_after", keeper_instant(after_ns, now));
}

static void save_breaker(struct endpoint *endpoint, json_t *to, const struct keeper_now *now) {
    struct breaker_view view = breaker_view(&endpoint->breaker);

    if (view.state == BREAKER_CLOSED || now->now_ns - view.until_ns > ENDPOINT_KEPT_NS)
        return;
    json_object_set_new(
        to, "breaker",
        json_pack("{s:s, s:s, s:i, s:o, s:o}", "cause", breaker_cause_name(view.cause), "what",
                  view.what ? view.what : "", "trips", (int)view.trips, "since",
                  keeper_instant(view.since_ns, now), "until", keeper_instant(view.until_ns, now)));
}

static void take_up_dials(struct endpoint *endpoint, const json_t *saved,
                          const struct keeper_now *now) {
    json_int_t failures = json_integer_value(json_object_get(saved, "failures"));
    enum fail fail = fail_named(json_string_value(json_object_get(saved, "reason")));
    int64_t ahead_ns;

    if (failures < 1 || failures > ENDPOINT_KEPT_FAILURES_MAX || fail == FAIL_NONE ||
        !keeper_ahead(json_object_get(saved, "dial_after"), now, &ahead_ns) ||
        ahead_ns < -ENDPOINT_KEPT_NS || ahead_ns > ENDPOINT_BACKOFF_MAX_NS)
        return;
    atomic_store(&endpoint->dial_failures, (uint32_t)failures);
    atomic_store(&endpoint->dial_fail, (int)fail);
    atomic_store(&endpoint->dial_after_ns, now->now_ns + ahead_ns);
}

static void take_up_breaker(struct endpoint *endpoint, const json_t *saved,
                            const struct keeper_now *now) {
    json_int_t trips = json_integer_value(json_object_get(saved, "trips"));
    struct breaker_view view = {
        .cause = cause_named(json_string_value(json_object_get(saved, "cause"))),
        .what = trial_what(json_string_value(json_object_get(saved, "what"))),
    };
    int64_t until_ns, since_ns;

    if (view.cause == BREAKER_NO_CAUSE || trips < 1 || trips > BREAKER_TRIPS_MAX ||
        !keeper_ahead(json_object_get(saved, "until"), now, &until_ns) ||
        !keeper_ahead(json_object_get(saved, "since"), now, &since_ns) ||
        until_ns < -ENDPOINT_KEPT_NS || until_ns > endpoint->settings->breaker.open_max_ns ||
        since_ns > 0 || since_ns < -SINCE_MAX_NS)
        return;
    view.trips = (unsigned)trips;
    view.until_ns = now->now_ns + until_ns;
    view.since_ns = now->now_ns + since_ns;
    breaker_restore(&endpoint->breaker, &view);
}

static void take_up_conditions(struct endpoint *endpoint, const json_t *saved,
                               const struct keeper_now *now) {
    unsigned conditions = endpoint_saved_order(saved);

    /* The first check decides, if there are any. */
    if (json_is_true(json_object_get(saved, "unhealthy")) && endpoint->settings->is_checked)
        conditions |= ENDPOINT_UNHEALTHY;
    endpoint_change(endpoint, conditions, 0, now->now_ns);
}

/* FAIL_NONE: it is nothing that a dial ends with. */
static enum fail fail_named(const char *reason) {
    for (int fail = FAIL_NONE + 1; reason && fail < FAILS; fail++)
        if (strcmp(fail_row((enum fail)fail)->reason, reason) == 0)
            return fail_row((enum fail)fail)->retry == FAIL_RETRY_UNSENT ? (enum fail)fail
                                                                         : FAIL_NONE;
    return FAIL_NONE;
}

static enum breaker_cause cause_named(const char *name) {
    for (int cause = BREAKER_NO_CAUSE + 1; name && cause < BREAKER_CAUSES; cause++)
        if (strcmp(breaker_cause_name((enum breaker_cause)cause), name) == 0)
            return (enum breaker_cause)cause;
    return BREAKER_NO_CAUSE;
}
