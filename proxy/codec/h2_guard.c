/* Buckets of the abuse guard. */
#include "codec/h2_guard.h"

#define ONE 1000 /* in thousandths */
#define REFILL_NS (100 * NS_PER_MS)

static void refill(struct h2_guard *guard, int64_t now_ns);
static uint64_t burst(const struct h2_guard *guard, enum h2_abuse kind);

void h2_guard_init(struct h2_guard *guard, const struct h2_guard_limits *limits, int64_t now_ns) {
    *guard = (struct h2_guard){.limits = limits, .since_ns = now_ns};
    for (enum h2_abuse kind = 0; kind < H2_ABUSES; kind++)
        guard->left[kind] = burst(guard, kind);
}

bool h2_guard_count(struct h2_guard *guard, enum h2_abuse kind, int64_t now_ns) {
    if (now_ns - guard->since_ns >= REFILL_NS)
        refill(guard, now_ns);
    if (guard->left[kind] < ONE)
        return false;
    guard->left[kind] -= ONE;
    return true;
}

void h2_guard_credit(struct h2_guard *guard, enum h2_abuse kind, unsigned n) {
    uint64_t left = guard->left[kind] + n * (uint64_t)ONE;

    guard->left[kind] = left < burst(guard, kind) ? left : burst(guard, kind);
}

bool h2_guard_stream_ended(struct h2_guard *guard, bool is_early) {
    guard->streams++;
    guard->early += is_early;
    if (guard->streams < H2_GUARD_STREAMS)
        return true;
    if (guard->early * 100 > guard->limits->early_percent * guard->streams)
        return false;
    guard->streams /= 2;
    guard->early /= 2;
    return true;
}

const char *h2_abuse_text(enum h2_abuse kind) {
    static const char *const texts[H2_ABUSES] = {
        [H2_ABUSE_PING] = "too many PING frames",
        [H2_ABUSE_SETTINGS] = "too many SETTINGS or GOAWAY frames",
        [H2_ABUSE_PRIORITY] = "too many PRIORITY frames",
        [H2_ABUSE_WINDOW_UPDATE] = "too many WINDOW_UPDATE frames",
        [H2_ABUSE_EMPTY_DATA] = "too many empty DATA frames",
        [H2_ABUSE_RESET] = "too many RST_STREAM frames",
        [H2_ABUSE_PROVOKED] = "too many stream errors",
    };

    return texts[kind];
}

static void refill(struct h2_guard *guard, int64_t now_ns) {
    uint64_t ms = (uint64_t)(now_ns - guard->since_ns) / NS_PER_MS;

    guard->since_ns = now_ns;
    if (ms > H2_GUARD_BURST_S * 1000)
        ms = H2_GUARD_BURST_S * 1000;
    for (enum h2_abuse kind = 0; kind < H2_ABUSES; kind++) {
        /* So many thousandths a millisecond as there are whole ones a second. */
        uint64_t left = guard->left[kind] + ms * guard->limits->per_second[kind];

        guard->left[kind] = left < burst(guard, kind) ? left : burst(guard, kind);
    }
}

static uint64_t burst(const struct h2_guard *guard, enum h2_abuse kind) {
    return (uint64_t)guard->limits->per_second[kind] * H2_GUARD_BURST_S * ONE;
}
