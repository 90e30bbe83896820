/* When to start a process again that has died: at once; one whose predecessor, too, died soon after
 * it was ready, with a backoff; one that dies again and again, slowly. Never gives up. */
#pragma once

#include "base/clock.h"

#include <stdbool.h>

#define CRASHES_MAX 5 /* deaths in the window; more slow the restarts down */
#define CRASHES_WINDOW_NS (60 * NS_PER_S)
#define CRASHES_SLOW_NS (10 * NS_PER_S) /* from one start to the next then */
#define CRASHES_SOON_NS NS_PER_S        /* who lives for less dies soon */
#define CRASHES_BACKOFF_NS \
    (50 * NS_PER_MS) /* for the second in a row that dies soon; then doubles */
#define CRASHES_BACKOFF_MAX_NS NS_PER_S
#define CRASHES_TEXT_MAX 64 /* bytes of CRASHES_MAX ages as text, terminated */

/* Zeroed memory has seen no death. */
struct crashes {
    int64_t at_ns[CRASHES_MAX]; /* a ring of the last deaths */
    unsigned count;             /* of all deaths */
    unsigned soon;              /* deaths in a row that came soon */
    bool is_slow;               /* after the last death: more than CRASHES_MAX in the window */
};

/* Those of the last CRASHES_WINDOW_NS, oldest first; returns how many. */
unsigned crashes_recent(const struct crashes *crashes, int64_t now_ns, int64_t at_ns[CRASHES_MAX]);

/* The same as text, from one process to another: ages in milliseconds, each behind a blank. */
void crashes_write(const struct crashes *crashes, int64_t now_ns, char to[CRASHES_TEXT_MAX]);

/* Fills @crashes, which has seen none, from such a @text. False: it is none, or there are no deaths
 * in it. */
bool crashes_read(struct crashes *crashes, const char *text, int64_t now_ns);

/* One more, which came behind those that are there already; what led to it is not known. */
void crashes_remember(struct crashes *crashes, int64_t at_ns);

/* A process died that had worked for @lived_ns: how long to wait before the next start. */
int64_t crashes_note(struct crashes *crashes, int64_t now_ns, int64_t lived_ns);
