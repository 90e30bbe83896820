#include "child/respawn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGE_MAX_MS (INT64_C(86400) * 1000 * 2) /* a window and a hold, at the most */

static void remember(struct respawn *respawn, int64_t at_ns);
static unsigned within(const struct respawn *respawn, int64_t window_ns, int64_t now_ns);
static int64_t backoff_ns(unsigned soon);

int64_t respawn_died(struct respawn *respawn, const struct respawn_settings *settings,
                     int64_t now_ns, int64_t lived_ns, bool *is_trip) {
    if (lived_ns >= settings->window_ns)
        respawn_clear(respawn); /* whoever is to say so may be late */
    remember(respawn, now_ns);
    respawn->soon = lived_ns < RESPAWN_SOON_NS ? respawn->soon + 1 : 0;
    *is_trip = respawn->state != RESPAWN_FREE ||
               within(respawn, settings->window_ns, now_ns) > settings->deaths;
    if (!*is_trip)
        return backoff_ns(respawn->soon);
    respawn->state = RESPAWN_HELD;
    respawn->held_until_ns = now_ns + settings->hold_ns;
    return settings->hold_ns;
}

bool respawn_may_start(struct respawn *respawn, int64_t now_ns) {
    if (respawn->state == RESPAWN_HELD && now_ns >= respawn->held_until_ns)
        respawn->state = RESPAWN_PROBING;
    return respawn->state != RESPAWN_HELD;
}

void respawn_clear(struct respawn *respawn) {
    *respawn = (struct respawn){0};
}

void respawn_write(const struct respawn *respawn, int64_t now_ns, char to[RESPAWN_TEXT_MAX]) {
    size_t len = 0;

    to[0] = '\0';
    for (unsigned i = 0; i < respawn->count; i++) {
        int64_t age_ms = (now_ns - respawn->at_ns[i]) / NS_PER_MS;

        if (age_ms <= AGE_MAX_MS)
            len += (size_t)snprintf(to + len, RESPAWN_TEXT_MAX - len, "%lld ", (long long)age_ms);
    }
    if (respawn->state == RESPAWN_HELD)
        snprintf(to + len, RESPAWN_TEXT_MAX - len, "held %lld",
                 (long long)((respawn->held_until_ns - now_ns) / NS_PER_MS));
    else if (respawn->state == RESPAWN_PROBING)
        snprintf(to + len, RESPAWN_TEXT_MAX - len, "probing");
}

bool respawn_read(struct respawn *respawn, const char *text, int64_t now_ns) {
    struct respawn read = {0};
    int64_t before_ms = AGE_MAX_MS;
    bool is_held = false;

    while (*text) {
        long long ms;
        char *end;

        if (*text == ' ') {
            text++;
        } else if (strcmp(text, "probing") == 0) {
            read.state = RESPAWN_PROBING;
            break;
        } else if (strncmp(text, "held ", 5) == 0 && !is_held) {
            is_held = true;
            text += 5;
        } else {
            errno = 0;
            ms = strtoll(text, &end, 10);
            if (errno || end == text || ms > AGE_MAX_MS || ms < (is_held ? -AGE_MAX_MS : 0) ||
                (!is_held && (ms > before_ms || read.count > CONFIG_DEATHS_MAX)))
                return false;
            text = end;
            if (is_held) {
                read.state = RESPAWN_HELD;
                read.held_until_ns = now_ns + ms * NS_PER_MS;
                break;
            }
            remember(&read, now_ns - ms * NS_PER_MS);
            before_ms = ms;
        }
    }
    if (is_held && read.state != RESPAWN_HELD)
        return false;
    *respawn = read;
    return true;
}

static void remember(struct respawn *respawn, int64_t at_ns) {
    const unsigned max = CONFIG_DEATHS_MAX + 1;

    if (respawn->count == max)
        memmove(respawn->at_ns, respawn->at_ns + 1, (max - 1) * sizeof respawn->at_ns[0]);
    else
        respawn->count++;
    respawn->at_ns[respawn->count - 1] = at_ns;
}

static unsigned within(const struct respawn *respawn, int64_t window_ns, int64_t now_ns) {
    unsigned count = 0;

    for (unsigned i = 0; i < respawn->count; i++)
        count += now_ns - respawn->at_ns[i] < window_ns;
    return count;
}

/* The first comes at once. */
static int64_t backoff_ns(unsigned soon) {
    int64_t wait_ns = RESPAWN_BACKOFF_NS;

    if (soon <= 1)
        return 0;
    for (unsigned i = 2; i < soon && wait_ns < RESPAWN_BACKOFF_MAX_NS; i++)
        wait_ns *= 2;
    return wait_ns < RESPAWN_BACKOFF_MAX_NS ? wait_ns : RESPAWN_BACKOFF_MAX_NS;
}
