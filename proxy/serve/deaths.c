#include "serve/deaths.h"

static json_t *save(void *ctx, const struct keeper_now *now);
static void take_up(void *ctx, const json_t *saved, const struct keeper_now *now);

struct keeper_section deaths_section(struct crashes *crashes) {
    return (struct keeper_section){"deaths", crashes, save, take_up};
}

static json_t *save(void *ctx, const struct keeper_now *now) {
    int64_t at_ns[CRASHES_MAX];
    unsigned count = crashes_recent(ctx, now->now_ns, at_ns);
    json_t *saved = json_object(), *list = json_array();

    for (unsigned i = 0; i < count; i++)
        json_array_append_new(list, keeper_instant(at_ns[i], now));
    json_object_set_new(saved, "at", list);
    return saved;
}

static void take_up(void *ctx, const json_t *saved, const struct keeper_now *now) {
    const json_t *list = json_object_get(saved, "at"), *item;
    int64_t ahead_ns, before_ns = -CRASHES_WINDOW_NS;
    size_t i;

    json_array_foreach(list, i, item) {
        if (i == CRASHES_MAX)
            break;
        if (!keeper_ahead(item, now, &ahead_ns) || ahead_ns < before_ns || ahead_ns > 0)
            continue;
        crashes_remember(ctx, now->now_ns + ahead_ns);
        before_ns = ahead_ns;
    }
}
