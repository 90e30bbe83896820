/* Finds how many exchanges an upstream can do at once, from how long its answers take: the limit of
 * `limits.concurrency = "auto"`.
 *
 * It began as Netflix's Gradient2: the limit is multiplied by long / short, the time that answers
 * take in the long run over what they take now, and given a little room to grow. What measurement
 * has made of it:
 *
 * - The long-run time there is an average, which follows a queue in the upstream: under lasting
 *   overload the limit creeps up to its maximum. Here it is the base, the time that answers take
 * when the upstream has fewer of them to do. While there is little load it is measured in passing;
 * else the limit is lowered by a quarter for about three answers' time, mostly every
 * LIMITER_PROBE_NS: a probe, which costs about 1% of the capacity.
 * - Answers that take longer do not say that the load is too high: the upstream may have become
 *   slower, or have something else to do, and to let it have less to do each time starves its
 *   clients. So a probe comes first. What takes as long with less to do is the upstream's own time,
 *   and becomes the base. Only if answers were faster then, and take longer again now that the
 * limit is back, for LIMITER_HIGHS windows, it is lowered, to what Little's law makes of both. A
 *   little longer is not worth another probe, whose gap costs more than it finds: then it is
 * lowered by what is known, and again as long as that makes answers faster. And if they take
 * twice the base though they did not before the probe, with the same limit, that is not why.
 * - What is too little to lower it is too much to raise it: between LIMITER_QUICK and
 * LIMITER_TOLERANCE it stays. Else it would go to and fro about what the upstream can do, and be
 * too high for most of the time.
 * - Both are wider where answers differ by themselves: what chance alone makes of a window's mean
 * is its standard error, which is measured.
 * - A window is no shorter than an answer takes, so that each shows what the last change has made
 * of it, and has enough answers for their chances to even out.
 * - Where the first probe shows that it was far too much, it goes on with a quarter less, until
 *   answers get faster no more, so that the base is one.
 * - It grows only while it is used, and starts by a quarter at a time. Later by little, but by more
 * the longer it has not been lowered, as it then seems to be far from what can be done.
 *
 *                | a window of answers             | slow, or a probe is due | in flight <= limit
 *      STEADY    | some room, if they are quick;   | DRAIN, with less        | -
 *                | less, if a probe was quicker    |                         |
 *      DRAIN     | -                               | -                       | SETTLE
 *      SETTLE    | after an answer's time: MEASURE | -                       | -
 *      MEASURE   | far quicker: DRAIN, with less;  | -                       | -
 *                | else the base is known: STEADY  |                         |
 *
 * Time is what the caller says. Home: whoever owns it. */
#pragma once

#include "base/clock.h"
#include "pipeline/service.h"

#include <stdbool.h>

#define LIMITER_START 20
#define LIMITER_ROOM_MIN 0.5    /* to grow, in a window */
#define LIMITER_ROOM_STREAK 8   /* steps after which one is twice as large; and so on */
#define LIMITER_STEP 0.5        /* a cut goes so far below the last place at least */
#define LIMITER_QUICK 0.015     /* beyond the base: so little leaves room to grow */
#define LIMITER_TOLERANCE 0.03  /* and so little is no reason to lower it, or both, if more: */
#define LIMITER_NOISE 1.5       /* standard errors of a window's mean */
#define LIMITER_NOISE_MAX 0.2   /* but no more */
#define LIMITER_NOISE_WINDOWS 8 /* that the standard error is an average of */
#define LIMITER_USED 0.9        /* of the limit are in flight: more might be */
#define LIMITER_HIGHS 3         /* windows in a row beyond the tolerance are one too many */
#define LIMITER_HIGH_NS (2 * NS_PER_S) /* between two probes because of that, or */
#define LIMITER_HIGH_TIMES 10          /* answers' times; so long a probe counts as fresh */
#define LIMITER_MILD 1.25              /* of the base: so little more needs no fresh probe */
#define LIMITER_SLOW 2.0               /* of the base: too slow to be load that the limit lets in */
#define LIMITER_DIP 0.9                /* of the base: more than noise takes off */
#define LIMITER_PROBE 0.75             /* of the limit */
#define LIMITER_FALLS 0.85             /* of what it took with more load: that was too much */
#define LIMITER_CUT_MAX 0.25           /* it is lowered by no more at once */
#define LIMITER_WINDOW_NS (100 * NS_PER_MS)
#define LIMITER_WINDOW_MAX_NS (2 * NS_PER_S)
#define LIMITER_WINDOW_COUNT 64 /* answers; in LIMITER_WINDOW_MAX_NS one is enough */
#define LIMITER_PROBE_NS (10 * NS_PER_S)
#define LIMITER_PROBE_TIMES 50 /* answers' times: where they take long it is probed less often */
#define LIMITER_PROBE_MAX_NS (60 * NS_PER_S)
#define LIMITER_AGAIN_TIMES 10 /* between two probes because answers are slow */
#define LIMITER_DRAIN_TIMES 10 /* after so long without a drain the probe is given up */

enum limiter_state { LIMITER_STEADY, LIMITER_DRAIN, LIMITER_SETTLE, LIMITER_MEASURE };

struct limiter {
    unsigned min, max;
    double limit; /* of the steady state */
    double probe; /* of a probe */
    enum limiter_state state;
    bool is_starting; /* nothing has shown yet that it is enough */
    int64_t base_ns;  /* 0: not known */
    int64_t short_ns; /* of the last window */
    double noise;     /* standard error of short_ns, as a share of it */

    struct service_sample window;
    int64_t window_from_ns;
    unsigned inflight_max; /* in this window */

    unsigned highs;     /* windows beyond the tolerance in a row */
    int64_t high_ns;    /* the shortest of them, but for the first */
    bool is_checked;    /* a probe came just before them: the base is fresh */
    bool is_cut;        /* without a fresh probe, and answers have not been quick since */
    bool has_cut;       /* it was lowered before */
    int64_t cut_ns;     /* high_ns when it was lowered the last time */
    unsigned streak;    /* steps that it has grown by since then */
    bool is_slow;       /* the probe is because of slow answers */
    bool has_fallen;    /* they got shorter with less load */
    int64_t before_ns;  /* short_ns when it began */
    int64_t probe_ns;   /* what answers took with more load than now */
    int64_t changed_ns; /* when the state has changed */
    int64_t probed_ns;  /* when a probe ended, or the load was low */
    unsigned kept;      /* as last told by limiter_keep() */
};

/* @min <= @max, both at least 1. Starts with LIMITER_START, or what of them is next to it. */
void limiter_init(struct limiter *limiter, unsigned min, unsigned max);

/* Answers have come, perhaps none; @inflight exchanges are under way. Answers: times to the first
 * byte of exchanges that are no streams, without those of an upstream that refuses (5xx), which
 * are quick. To be called at least every few milliseconds while there are any. */
void limiter_learn(struct limiter *limiter, const struct service_sample *answers, unsigned inflight,
                   int64_t now_ns);

/* What the limit is now. */
unsigned limiter_limit(const struct limiter *limiter);
/* What is worth keeping: the limit but for a probe, and the same as the last time unless it has
 * changed by a tenth. */
unsigned limiter_keep(struct limiter *limiter);
/* Goes on from what was kept. */
void limiter_resume(struct limiter *limiter, unsigned kept);
