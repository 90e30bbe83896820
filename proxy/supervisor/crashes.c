#include "supervisor/crashes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int64_t backoff_ns(unsigned soon);

int64_t crashes_note(struct crashes *crashes, int64_t now_ns, int64_t lived_ns) {
    /* What stands there is the death CRASHES_MAX deaths ago. */
    int64_t oldest_ns = crashes->at_ns[crashes->count % CRASHES_MAX];

    crashes->is_slow = crashes->count >= CRASHES_MAX && now_ns - oldest_ns < CRASHES_WINDOW_NS;
    crashes_remember(crashes, now_ns);
    crashes->soon = lived_ns < CRASHES_SOON_NS ? crashes->soon + 1 : 0;
    if (crashes->is_slow)
        return lived_ns < CRASHES_SLOW_NS ? CRASHES_SLOW_NS - lived_ns : 0;
    return backoff_ns(crashes->soon);
}

unsigned crashes_recent(const struct crashes *crashes, int64_t now_ns, int64_t at_ns[CRASHES_MAX]) {
    unsigned kept = crashes->count < CRASHES_MAX ? crashes->count : CRASHES_MAX, count = 0;

    for (unsigned i = crashes->count - kept; i != crashes->count; i++)
        if (now_ns - crashes->at_ns[i % CRASHES_MAX] < CRASHES_WINDOW_NS)
            at_ns[count++] = crashes->at_ns[i % CRASHES_MAX];
    return count;
}

void crashes_write(const struct crashes *crashes, int64_t now_ns, char to[CRASHES_TEXT_MAX]) {
    int64_t at_ns[CRASHES_MAX];
    unsigned count = crashes_recent(crashes, now_ns, at_ns);
    int len = 0;

    to[0] = '\0';
    for (unsigned i = 0; i < count; i++)
        len += snprintf(to + len, (size_t)(CRASHES_TEXT_MAX - len), " %lld",
                        (long long)((now_ns - at_ns[i]) / NS_PER_MS));
}

bool crashes_read(struct crashes *crashes, const char *text, int64_t now_ns) {
    struct crashes read = {0};
    long long before_ms = CRASHES_WINDOW_NS / NS_PER_MS;

    for (char *end; *text; text = end) {
        long long age_ms;

        errno = 0;
        age_ms = strtoll(text, &end, 10);
        if (errno || end == text || age_ms < 0 || age_ms > before_ms || read.count == CRASHES_MAX)
            return false;
        crashes_remember(&read, now_ns - age_ms * NS_PER_MS);
        before_ms = age_ms;
    }
    if (read.count > 0)
        *crashes = read;
    return read.count > 0;
}

void crashes_remember(struct crashes *crashes, int64_t at_ns) {
    crashes->at_ns[crashes->count % CRASHES_MAX] = at_ns;
    crashes->count++;
}

static int64_t backoff_ns(unsigned soon) {
    int64_t wait_ns = CRASHES_BACKOFF_NS;

    if (soon <= 1)
        return 0;
    for (unsigned i = 2; i < soon && wait_ns < CRASHES_BACKOFF_MAX_NS; i++)
        wait_ns *= 2;
    return wait_ns < CRASHES_BACKOFF_MAX_NS ? wait_ns : CRASHES_BACKOFF_MAX_NS;
}
