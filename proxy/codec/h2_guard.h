/* What a client may do to an HTTP/2 connection that costs it little and us much: frames that carry
 * nothing, and streams that end before they were of use. Each kind has a bucket: so many a second
 * in the long run, H2_GUARD_BURST_S seconds' worth of them at once, and more with the work that
 * makes them proper (an answer sent brings WINDOW_UPDATEs). Frames of unknown types are skipped by
 * nghttp2 and cost no more than their bytes. Home: loop. */
#pragma once

#include "base/clock.h"

#include <stdbool.h>

#define H2_GUARD_BURST_S 10

/* The share of streams ended early is looked at whenever so many have ended. */
#define H2_GUARD_STREAMS 200

/* A stream has ended early when its client took it back within so long, unanswered. */
#define H2_GUARD_EARLY_NS NS_PER_S

enum h2_abuse {
    H2_ABUSE_PING,
    H2_ABUSE_SETTINGS,      /* and GOAWAY */
    H2_ABUSE_PRIORITY,      /* which weir does not heed */
    H2_ABUSE_WINDOW_UPDATE, /* beyond some for each DATA frame that was sent */
    H2_ABUSE_EMPTY_DATA,    /* without END_STREAM */
    H2_ABUSE_RESET,         /* RST_STREAM (CVE-2023-44487), beyond one for each answered stream */
    H2_ABUSE_PROVOKED,      /* stream errors, which make us send it (CVE-2025-8671) */
    H2_ABUSES
};

struct h2_guard_limits {
    unsigned per_second[H2_ABUSES]; /* 1 to 1000000 */
    unsigned early_percent;         /* of streams; 100: any */
};

struct h2_guard {
    const struct h2_guard_limits *limits; /* borrowed: settings */
    int64_t since_ns;                     /* of the last refill */
    uint64_t left[H2_ABUSES];             /* thousandths */
    unsigned streams, early;              /* ended; halved from time to time */
};

void h2_guard_init(struct h2_guard *guard, const struct h2_guard_limits *limits, int64_t now_ns);

/* One more. False: it is too much. */
bool h2_guard_count(struct h2_guard *guard, enum h2_abuse kind, int64_t now_ns);

/* @n of that kind are made up for. */
void h2_guard_credit(struct h2_guard *guard, enum h2_abuse kind, unsigned n);

/* A stream has ended. False: too many have ended early. */
bool h2_guard_stream_ended(struct h2_guard *guard, bool is_early);

/* "too many PING frames" */
const char *h2_abuse_text(enum h2_abuse kind);
