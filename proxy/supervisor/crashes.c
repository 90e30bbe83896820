#include "supervisor/crashes.h"

static int64_t backoff_ns(unsigned soon);

int64_t crashes_note(struct crashes *crashes, int64_t now_ns, int64_t lived_ns) {
    int64_t *place = &crashes->at_ns[crashes->count % CRASHES_MAX];

    /* What stands there is the death CRASHES_MAX deaths ago. */
    crashes->is_slow = crashes->count >= CRASHES_MAX && now_ns - *place < CRASHES_WINDOW_NS;
    *place = now_ns;
    crashes->count++;
    crashes->soon = lived_ns < CRASHES_SOON_NS ? crashes->soon + 1 : 0;
    if (crashes->is_slow)
        return lived_ns < CRASHES_SLOW_NS ? CRASHES_SLOW_NS - lived_ns : 0;
    return backoff_ns(crashes->soon);
}

static int64_t backoff_ns(unsigned soon) {
    int64_t wait_ns = CRASHES_BACKOFF_NS;

    if (soon <= 1)
        return 0;
    for (unsigned i = 2; i < soon && wait_ns < CRASHES_BACKOFF_MAX_NS; i++)
        wait_ns *= 2;
    return wait_ns < CRASHES_BACKOFF_MAX_NS ? wait_ns : CRASHES_BACKOFF_MAX_NS;
}
