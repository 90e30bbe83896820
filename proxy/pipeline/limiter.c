#include "pipeline/limiter.h"

#include <math.h>

static void steady(struct limiter *limiter, int64_t now_ns);
static void count_high(struct limiter *limiter);
static bool may_cut(const struct limiter *limiter);
static void cut(struct limiter *limiter);
static void grow(struct limiter *limiter);
static bool is_probe_due(const struct limiter *limiter, int64_t now_ns);
static int64_t fresh_ns(const struct limiter *limiter);
static bool is_above(const struct limiter *limiter, double times);
static double allowed(const struct limiter *limiter, double share);
static void learn_noise(struct limiter *limiter);
static void begin_probe(struct limiter *limiter, int64_t now_ns);
static void measured(struct limiter *limiter, int64_t now_ns);
static void end_probe(struct limiter *limiter, int64_t now_ns);
static void enter(struct limiter *limiter, enum limiter_state state, int64_t now_ns);
static bool is_window_full(const struct limiter *limiter, int64_t now_ns);
static void open_window(struct limiter *limiter, int64_t now_ns);
static double clamp(double value, double low, double high);

void limiter_init(struct limiter *limiter, unsigned min, unsigned max) {
    *limiter = (struct limiter){
        .min = min,
        .max = max,
        .limit = clamp(LIMITER_START, min, max),
        .is_starting = true,
    };
}

void limiter_learn(struct limiter *limiter, const struct service_sample *answers, unsigned inflight,
                   int64_t now_ns) {
    struct service_sample *window = &limiter->window;

    if (limiter->window_from_ns == 0)
        open_window(limiter, now_ns);
    window->count += answers->count;
    window->sum_ns += answers->sum_ns;
    window->squares += answers->squares;
    limiter->inflight_max = inflight > limiter->inflight_max ? inflight : limiter->inflight_max;
    switch (limiter->state) {
    case LIMITER_STEADY:
        if (is_window_full(limiter, now_ns))
            steady(limiter, now_ns);
        break;
    case LIMITER_DRAIN:
        if (inflight <= limiter_limit(limiter))
            enter(limiter, LIMITER_SETTLE, now_ns);
        else if (now_ns - limiter->changed_ns > LIMITER_DRAIN_TIMES * limiter->before_ns)
            end_probe(limiter, now_ns); /* something is stuck there */
        break;
    case LIMITER_SETTLE:
        /* What was sent under more load is still to be answered. */
        if (now_ns - limiter->changed_ns >= limiter->probe_ns)
            enter(limiter, LIMITER_MEASURE, now_ns);
        break;
    case LIMITER_MEASURE:
        if (is_window_full(limiter, now_ns))
            measured(limiter, now_ns);
        break;
    }
}

unsigned limiter_limit(const struct limiter *limiter) {
    return (unsigned)(limiter->state == LIMITER_STEADY ? limiter->limit : limiter->probe);
}

unsigned limiter_keep(struct limiter *limiter) {
    unsigned limit = (unsigned)limiter->limit;
    unsigned change = limit > limiter->kept ? limit - limiter->kept : limiter->kept - limit;

    if (change * 10 > limiter->kept)
        limiter->kept = limit;
    return limiter->kept;
}

void limiter_resume(struct limiter *limiter, unsigned kept) {
    limiter->kept = kept;
    limiter->limit = clamp(kept, limiter->min, limiter->max);
    limiter->is_starting = false;
    limiter->probed_ns = -LIMITER_PROBE_MAX_NS; /* a probe comes first */
}

/* A window is full. */
static void steady(struct limiter *limiter, int64_t now_ns) {
    double saturation = (double)limiter->inflight_max / limiter_limit(limiter);

    limiter->short_ns = limiter->window.sum_ns / limiter->window.count;
    learn_noise(limiter);
    open_window(limiter, now_ns);
    if (limiter->base_ns == 0 || limiter->short_ns < limiter->base_ns / 2)
        limiter->base_ns = limiter->short_ns;
    else if ((double)limiter->short_ns < LIMITER_DIP * (double)limiter->base_ns)
        limiter->base_ns += (limiter->short_ns - limiter->base_ns) / 4;
    limiter->is_checked &= now_ns - limiter->probed_ns < fresh_ns(limiter);
    count_high(limiter);
    if (saturation <= 0.5) {
        /* With little to do answers take what they take: no need to make it little. */
        limiter->base_ns += (limiter->short_ns - limiter->base_ns) / 4;
        limiter->probed_ns = now_ns;
        return;
    }
    if (limiter->highs >= LIMITER_HIGHS && may_cut(limiter))
        cut(limiter);
    else if (is_probe_due(limiter, now_ns))
        begin_probe(limiter, now_ns);
    else if (saturation >= LIMITER_USED && !is_above(limiter, allowed(limiter, LIMITER_QUICK)))
        grow(limiter);
}

static void count_high(struct limiter *limiter) {
    if (!is_above(limiter, allowed(limiter, LIMITER_TOLERANCE))) {
        limiter->highs = 0;
        limiter->is_cut = false;
        return;
    }
    limiter->is_starting = false;
    /* So slow, but not before the probe, with the same limit: it is the upstream that has changed.
     */
    if (is_above(limiter, LIMITER_SLOW) && !limiter->has_fallen)
        limiter->is_checked = false;
    /* The first of them may still be of what was before. */
    if (limiter->highs <= 1 || limiter->short_ns < limiter->high_ns)
        limiter->high_ns = limiter->short_ns;
    limiter->highs++;
}

/* Is it known that answers take longer because of the limit? Right after a probe. A little longer
 * may be said of an older base too, which another probe would cost more than; but again only if
 * the last time has helped, until answers have been quick, as it may be the base that is wrong. */
static bool may_cut(const struct limiter *limiter) {
    if (limiter->is_checked)
        return true;
    if (limiter->probed_ns == 0) /* the base may itself be of too much to do */
        return false;
    if (limiter->is_cut && limiter->high_ns >= limiter->cut_ns)
        return false;
    return (double)limiter->high_ns < LIMITER_MILD * (double)limiter->base_ns;
}

/* Little's law: with as many in flight as answers would then take the base, but for the tolerance.
 * Half the way, unless it is far: too much at once makes an upstream slower than that law knows,
 * and what is too low is found out slowly. The first time all the way: it has come there by steps
 * of a quarter, and what they have let together in stays together. */
static void cut(struct limiter *limiter) {
    double tolerated = allowed(limiter, LIMITER_TOLERANCE) * (double)limiter->base_ns;
    double gain = tolerated / (double)limiter->high_ns;
    double most = (unsigned)limiter->limit - LIMITER_STEP;

    if (limiter->has_cut && (double)limiter->high_ns < LIMITER_SLOW * (double)limiter->base_ns)
        gain = (1 + gain) / 2;
    limiter->has_cut = true;
    limiter->limit *= clamp(gain, LIMITER_CUT_MAX, 1);
    if (limiter->limit > most)
        limiter->limit = most;
    limiter->limit = clamp(limiter->limit, limiter->min, limiter->max);
    limiter->cut_ns = limiter->high_ns;
    limiter->streak = 0;
    limiter->highs = 0;
    limiter->is_cut = !limiter->is_checked;
    limiter->is_checked = false;
}

static void grow(struct limiter *limiter) {
    double room = sqrt(limiter->limit) / 8;

    limiter->streak++;
    room = room > LIMITER_ROOM_MIN ? room : LIMITER_ROOM_MIN;
    room *= 1 + (double)limiter->streak / LIMITER_ROOM_STREAK;
    if (limiter->is_starting || room > limiter->limit / 4)
        room = limiter->limit / 4;
    limiter->limit = clamp(limiter->limit + room, limiter->min, limiter->max);
}

static bool is_probe_due(const struct limiter *limiter, int64_t now_ns) {
    int64_t since_ns = now_ns - limiter->probed_ns;
    int64_t every_ns = LIMITER_PROBE_TIMES * limiter->short_ns;

    if (limiter->is_checked)
        return false;
    /* Not at the first, which is in part of what was before: a probe is compared with it. */
    if (limiter->highs >= LIMITER_HIGHS) {
        if (is_above(limiter, LIMITER_SLOW) && since_ns >= LIMITER_AGAIN_TIMES * limiter->base_ns)
            return true;
        if (since_ns >= fresh_ns(limiter))
            return true;
    }
    every_ns = every_ns > LIMITER_PROBE_NS ? every_ns : LIMITER_PROBE_NS;
    every_ns = every_ns < LIMITER_PROBE_MAX_NS ? every_ns : LIMITER_PROBE_MAX_NS;
    return !limiter->is_starting && since_ns >= every_ns;
}

/* How long a probe counts as fresh. */
static int64_t fresh_ns(const struct limiter *limiter) {
    int64_t ns = LIMITER_HIGH_TIMES * limiter->short_ns;

    return ns > LIMITER_HIGH_NS ? ns : LIMITER_HIGH_NS;
}

/* Do answers take more than @times the base? */
static bool is_above(const struct limiter *limiter, double times) {
    return (double)limiter->short_ns > times * (double)limiter->base_ns;
}

/* So many times the base is what noise may make of it, or @share more. */
static double allowed(const struct limiter *limiter, double share) {
    return 1 + clamp(LIMITER_NOISE * limiter->noise, share, LIMITER_NOISE_MAX);
}

/* From the window whose mean is short_ns. */
static void learn_noise(struct limiter *limiter) {
    double count = limiter->window.count, mean = (double)limiter->window.sum_ns / count;
    double variance = limiter->window.squares / count - mean * mean;
    double noise = variance > 0 ? sqrt(variance / count) / mean : 0;

    limiter->noise += (noise - limiter->noise) / (limiter->noise > 0 ? LIMITER_NOISE_WINDOWS : 1);
}

static void begin_probe(struct limiter *limiter, int64_t now_ns) {
    limiter->is_slow = is_above(limiter, LIMITER_SLOW);
    limiter->has_fallen = false;
    limiter->before_ns = limiter->probe_ns = limiter->short_ns;
    limiter->probe = clamp(LIMITER_PROBE * limiter->limit, limiter->min, limiter->max);
    enter(limiter, LIMITER_DRAIN, now_ns);
}

/* What answers take with less load is known. */
static void measured(struct limiter *limiter, int64_t now_ns) {
    int64_t ns = limiter->window.sum_ns / limiter->window.count;
    bool falls = (double)ns < LIMITER_FALLS * (double)limiter->probe_ns;

    limiter->has_fallen |= falls;
    if (falls && limiter->probe > limiter->min) {
        limiter->probe_ns = ns;
        limiter->probe = clamp(LIMITER_PROBE * limiter->probe, limiter->min, limiter->max);
        enter(limiter, LIMITER_DRAIN, now_ns);
        return;
    }
    if (limiter->is_slow || limiter->has_fallen)
        limiter->base_ns = ns;
    else
        limiter->base_ns += (ns - limiter->base_ns) / 2;
    limiter->is_checked = true;
    limiter->is_cut = false;
    end_probe(limiter, now_ns);
}

static void end_probe(struct limiter *limiter, int64_t now_ns) {
    limiter->probed_ns = now_ns;
    limiter->highs = 0;
    enter(limiter, LIMITER_STEADY, now_ns);
}

static void enter(struct limiter *limiter, enum limiter_state state, int64_t now_ns) {
    limiter->state = state;
    limiter->changed_ns = now_ns;
    open_window(limiter, now_ns);
}

static bool is_window_full(const struct limiter *limiter, int64_t now_ns) {
    int64_t spent_ns = now_ns - limiter->window_from_ns;
    int64_t least_ns =
        limiter->short_ns > LIMITER_WINDOW_NS ? limiter->short_ns : LIMITER_WINDOW_NS;
    bool is_probe = limiter->state == LIMITER_MEASURE;

    if (limiter->window.count == 0)
        return false;
    if (spent_ns >= LIMITER_WINDOW_MAX_NS)
        return true;
    return limiter->window.count >= LIMITER_WINDOW_COUNT &&
           spent_ns >= (is_probe ? limiter->probe_ns : least_ns);
}

static void open_window(struct limiter *limiter, int64_t now_ns) {
    limiter->window = (struct service_sample){0};
    limiter->window_from_ns = now_ns;
    limiter->inflight_max = 0;
}

static double clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}
