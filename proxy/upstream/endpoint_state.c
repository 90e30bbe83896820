#include "upstream/endpoint_state.h"

#include <string.h>

static enum fail fail_named(const char *reason);

json_t *endpoint_save(const struct endpoint *endpoint, const struct keeper_now *now) {
    int64_t after_ns = atomic_load(&endpoint->dial_after_ns);
    uint32_t failures = atomic_load(&endpoint->dial_failures);
    int fail = atomic_load(&endpoint->dial_fail);

    if (failures == 0 || fail == FAIL_NONE || now->now_ns - after_ns > ENDPOINT_KEPT_NS)
        return NULL;
    if (failures > ENDPOINT_KEPT_FAILURES_MAX)
        failures = ENDPOINT_KEPT_FAILURES_MAX;
    return json_pack("{s:i, s:s, s:o}", "failures", (int)failures, "reason",
                     fail_row((enum fail)fail)->reason, "dial_after",
                     keeper_instant(after_ns, now));
}

void endpoint_take_up(struct endpoint *endpoint, const json_t *saved,
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

/* FAIL_NONE: it is nothing that a dial ends with. */
static enum fail fail_named(const char *reason) {
    for (int fail = FAIL_NONE + 1; reason && fail < FAILS; fail++)
        if (strcmp(fail_row((enum fail)fail)->reason, reason) == 0)
            return fail_row((enum fail)fail)->retry == FAIL_RETRY_UNSENT ? (enum fail)fail
                                                                         : FAIL_NONE;
    return FAIL_NONE;
}
