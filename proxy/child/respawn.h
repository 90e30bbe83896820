/* When to start a program again that has died. The history belongs to the program, not to an
 * attempt: it lasts over reloads, gateways and (serve/, in the state file) all of weir.
 *
 *                  | a death                     | hold_ns over | up for window_ns | reset
 *   FREE           | FREE, with a backoff, or    | -            | history cleared  | cleared
 *                  | HELD if there were too many |              |                  |
 *   HELD           | HELD                        | PROBING      | -                | FREE, cleared
 *   PROBING        | HELD                        | -            | FREE, cleared    | FREE, cleared
 *
 * While it is held nothing is started; behind that one death is enough to be held again. */
#pragma once

#include "base/clock.h"
#include "config/process.h"

#include <stdbool.h>

#define RESPAWN_BACKOFF_NS (100 * NS_PER_MS) /* behind the second death in a row; then doubles */
#define RESPAWN_BACKOFF_MAX_NS (5 * NS_PER_S)
#define RESPAWN_SOON_NS (10 * NS_PER_S) /* who lives for less has died soon */
#define RESPAWN_TEXT_MAX 512

struct respawn_settings {
    unsigned deaths; /* at most CONFIG_DEATHS_MAX */
    int64_t window_ns, hold_ns;
};

enum respawn_state { RESPAWN_FREE, RESPAWN_HELD, RESPAWN_PROBING };

/* Zeroed memory has seen no death. */
struct respawn {
    enum respawn_state state;
    int64_t at_ns[CONFIG_DEATHS_MAX + 1]; /* the last deaths, oldest first */
    unsigned count;                       /* of them */
    unsigned soon;                        /* deaths in a row that came soon */
    int64_t held_until_ns;                /* HELD */
};

/* It died after @lived_ns. Returns how long to wait before the next start; when that is for a
 * breaker that has just tripped *@is_trip is true. */
int64_t respawn_died(struct respawn *respawn, const struct respawn_settings *settings,
                     int64_t now_ns, int64_t lived_ns, bool *is_trip);

/* May one be started now? Ends a hold whose time has passed. */
bool respawn_may_start(struct respawn *respawn, int64_t now_ns);

/* It has been up for the whole window, or somebody says that all is well. */
void respawn_clear(struct respawn *respawn);

/* As text, from one process to another: ages of the deaths in milliseconds, oldest first, and
 * "held" with what is left of it, or "probing": "5000 1000 held 299000". */
void respawn_write(const struct respawn *respawn, int64_t now_ns, char to[RESPAWN_TEXT_MAX]);

/* False: @text is none; @respawn is as it was. */
bool respawn_read(struct respawn *respawn, const char *text, int64_t now_ns);
