#include "pipeline/codel.h"

static void calm_down(struct codel *codel, int64_t now_ns);

void codel_begin(struct codel *codel, int64_t target_ns, int64_t now_ns) {
    if (codel->is_overloaded && codel_is_over(codel, target_ns, now_ns))
        calm_down(codel, codel->empty_ns);
    codel->busy_ns = now_ns;
    codel->empty_ns = codel->above_ns = 0;
}

void codel_end(struct codel *codel, int64_t now_ns) {
    codel->empty_ns = now_ns;
    codel->busy_ns = codel->above_ns = 0;
}

bool codel_is_over(const struct codel *codel, int64_t target_ns, int64_t now_ns) {
    return codel->empty_ns &&
           (!codel->is_overloaded ||
            now_ns - codel->empty_ns >= CODEL_INTERVAL * target_ns / CODEL_SHORT_SHARE);
}

void codel_see(struct codel *codel, const struct codel_look *look) {
    int64_t now_ns = look->now_ns, interval_ns = CODEL_INTERVAL * look->target_ns;
    int64_t patience_ns = interval_ns;

    if (look->target_ns == 0)
        return;
    if (codel->is_overloaded) {
        if (now_ns - codel->refused_ns < interval_ns)
            return;
        calm_down(codel, now_ns);
    }
    if (look->wait_ns <= look->target_ns) {
        codel->above_ns = 0;
        return;
    }
    if (codel->ended_ns && now_ns - codel->ended_ns < CODEL_REMEMBERED * interval_ns)
        patience_ns = interval_ns / CODEL_SHORT_SHARE;
    if (codel->above_ns == 0) {
        codel->above_ns = now_ns;
        codel->count_max = 0;
    }
    if (look->count > codel->count_max)
        codel->count_max = look->count;
    if (now_ns - codel->above_ns < patience_ns)
        return;
    codel->is_overloaded = look->count + codel->count_max / CODEL_LESS_SHARE >= codel->count_max;
    codel->refused_ns = codel->above_ns = now_ns;
    codel->count_max = look->count;
}

void codel_refused(struct codel *codel, int64_t now_ns) {
    codel->refused_ns = now_ns;
}

static void calm_down(struct codel *codel, int64_t now_ns) {
    codel->is_overloaded = false;
    codel->ended_ns = now_ns;
    codel->above_ns = 0;
}

bool codel_is_standing(const struct codel *codel, int64_t target_ns, int64_t now_ns) {
    return target_ns > 0 && codel->busy_ns && now_ns - codel->busy_ns >= CODEL_INTERVAL * target_ns;
}
