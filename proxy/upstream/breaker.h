/* A breaker: keeps exchanges off an endpoint that fails, and lets single ones find out whether it
 * is well again. Shared by all loops: while it is closed it costs two loads to ask and one to
 * report that all went well; only what changes its state takes its lock.
 *
 *             | failures in a row, | its time    | probe good        | probe bad
 *             | breaker_trip()     | is over     |                   |
 *   CLOSED    | OPEN               | -           | -                 | -
 *   OPEN      | -                  | HALF_OPEN*  | (early) CLOSED    | (early) OPEN
 *   HALF_OPEN | -                  | -           | CLOSED, if enough | OPEN, for longer
 *
 * (*) by whoever enters then. In HALF_OPEN one probe at a time is under way, and as many as the
 * settings say have to succeed in a row: what fails half of its requests passes a single probe as
 * often as not. It is open for open_for times the number of its trips; each open_for without one
 * takes one off that.
 *
 * An early probe is for when there is nothing else to be used: it goes whatever the time, one in
 * BREAKER_EARLY_NS, and the first one that succeeds closes the breaker. Home: shared. */
#pragma once

#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define BREAKER_EARLY_NS (100 * NS_PER_MS) /* on average; jittered by a quarter */
#define BREAKER_TRIPS_MAX 1000

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

enum breaker_cause {
    BREAKER_NO_CAUSE,
    BREAKER_IN_A_ROW, /* failures in a row */
    BREAKER_OFTEN,    /* it fails far more often than its peers */
    BREAKER_STALLS,   /* it keeps exchanges waiting far longer than its peers */
    BREAKER_CAUSES
};

/* What an exchange says of its endpoint. */
enum breaker_verdict {
    VERDICT_NONE, /* nothing: the client left, or it was refused unprocessed */
    VERDICT_GOOD,
    VERDICT_BAD,  /* it has failed */
    VERDICT_POOR, /* it has answered, that it or what is behind it fails: that counts in a row, but
                     opens the breaker only where its peers fare better (outlier.h) */
    VERDICT_DOUBTFUL, /* it may have failed: only told by comparing it with its peers */
};

/* What a report has changed. */
enum breaker_change { BREAKER_SAME, BREAKER_TRIPPED, BREAKER_RETURNED };

struct breaker_settings {
    unsigned in_a_row;   /* BAD verdicts that open it; 0: any number is no reason */
    int64_t open_for_ns; /* > 0 */
    int64_t open_max_ns; /* >= open_for_ns */
    unsigned passes;     /* probes that have to succeed; >= 1 */
};

struct breaker {
    const struct breaker_settings *settings; /* borrowed */
    _Atomic int state;                       /* enum breaker_state */
    _Atomic unsigned failures;               /* in a row */
    _Atomic int64_t until_ns;                /* OPEN: before, only early probes */
    _Atomic int64_t
        probe_by_ns; /* HALF_OPEN: a probe is under way, and given up then; 0: none is */
    _Atomic uint64_t opened[BREAKER_CAUSES]; /* since start; failed probes included */
    pthread_mutex_t lock;                    /* guards what follows */
    enum breaker_cause cause;                /* of the last trip */
    const char *what;                        /* the last failure; static text, or NULL */
    unsigned trips;                          /* that count */
    unsigned passes;                         /* probes that succeeded in a row */
    int64_t since_ns; /* when it came into its state; 0: it has never tripped */
    int64_t early_ns; /* no early probe before */
};

/* How it is, for status and the state file. */
struct breaker_view {
    enum breaker_state state;
    enum breaker_cause cause;
    const char *what;
    unsigned trips;
    int64_t since_ns, until_ns;
};

void breaker_init(struct breaker *breaker, const struct breaker_settings *settings);
void breaker_deinit(struct breaker *breaker);

/* May an exchange enter now? Changes nothing. */
static inline bool breaker_may_enter(const struct breaker *breaker, int64_t now_ns) {
    switch (atomic_load_explicit(&breaker->state, memory_order_relaxed)) {
    case BREAKER_CLOSED:
        return true;
    case BREAKER_OPEN:
        return now_ns >= atomic_load_explicit(&breaker->until_ns, memory_order_relaxed);
    default:
        return now_ns >= atomic_load_explicit(&breaker->probe_by_ns, memory_order_relaxed);
    }
}

/* An exchange enters, or must not: another one may have been quicker. One that has entered reports,
 * with the *@is_probe that it was given. */
bool breaker_enter(struct breaker *breaker, int64_t now_ns, bool *is_probe);
/* The same where there is nothing else to be used. */
bool breaker_enter_early(struct breaker *breaker, int64_t now_ns, bool *is_probe);

/* @what: of a verdict that is not good; static text. */
enum breaker_change breaker_report(struct breaker *breaker, enum breaker_verdict verdict,
                                   const char *what, bool is_probe, int64_t now_ns);

/* Opens it, if it is closed. */
bool breaker_trip(struct breaker *breaker, enum breaker_cause cause, const char *what,
                  int64_t now_ns);

/* A reason to believe that it is well: if it is open, a probe may go now. */
void breaker_hint(struct breaker *breaker, int64_t now_ns);

/* Closes it and forgets. */
void breaker_reset(struct breaker *breaker);

struct breaker_view breaker_view(struct breaker *breaker);

/* As it was when it was viewed (OPEN or HALF_OPEN), for one that was just made. */
void breaker_restore(struct breaker *breaker, const struct breaker_view *view);

/* "closed", "open", "half-open". */
const char *breaker_state_name(enum breaker_state state);
/* "failures_in_a_row", "fails_often", "stalls". */
const char *breaker_cause_name(enum breaker_cause cause);
