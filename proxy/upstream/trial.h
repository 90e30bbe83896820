/* A trial: one exchange's use of one endpoint, from its being let in until it is known what that
 * says of the endpoint. The verdict goes to the breaker, and into the tally that the endpoint is
 * compared with its peers by (outlier.h).
 *
 * An exchange that waits for its first byte far longer than its peers need is given up on: it is
 * doubtful, whatever becomes of it later. What fails in one turn of a loop is one failure in a row:
 * the streams of one connection. */
#pragma once

#include "base/list.h"
#include "exchange/body.h"
#include "upstream/endpoint.h"

#define TRIAL_STALLED "stalled"
#define TRIAL_500 "status_500"
#define TRIAL_502 "status_502"
#define TRIAL_503 "status_503"
#define TRIAL_504 "status_504"
#define TRIAL_5XX "status_5xx"

/* What the exchanges of one loop have said of an endpoint since start. Home: the loop; the figures
 * are written by it and read by any thread. */
struct endpoint_tally {
    _Atomic uint64_t calls;     /* verdicts but VERDICT_NONE */
    _Atomic uint64_t bad;       /* of these; doubtful ones too */
    _Atomic uint64_t stalled;   /* of these */
    _Atomic uint64_t answered;  /* first bytes that came */
    _Atomic uint64_t waited_ns; /* how long they took, in all */
    struct list awaiting;       /* struct trial: of the first byte, oldest first */
    int64_t failed_ns;          /* the turn in which the last one failed */
    char apart[64];             /* no cache line has figures of two loops */
};

/* Zeroed memory is none; home: loop. */
struct trial {
    struct endpoint
        *endpoint;    /* borrowed: outlives it; NULL: the verdict is known, or none is due */
    struct list link; /* in awaiting */
    unsigned loop;    /* its index */
    const struct body *request; /* borrowed; NULL: none */
    int64_t sent_ns;            /* since when it is awaited */
    bool is_probe;
    enum breaker_verdict given; /* once it is known */
};

struct endpoint_tally *tallies_new(unsigned loops);

/* @loop: index. False: the endpoint may not be used now. @is_last: there is no other, so that its
 * breaker may be tried before its time. */
bool trial_begin(struct trial *trial, struct endpoint *endpoint, unsigned loop, bool is_last,
                 int64_t now_ns);

/* The request goes out. @request (borrowed: as long as it is awaited): while the client still sends
 * it, nobody else is waited for; NULL: there is none. */
void trial_sent(struct trial *trial, const struct body *request, int64_t now_ns);
/* The response head is there. */
void trial_answered(struct trial *trial, int64_t now_ns);

/* The verdict; the first one counts. @what: static text of one that is not good: the reason of a
 * fail_row(), the name of a gRPC status, or one of TRIAL_*. */
void trial_end(struct trial *trial, enum breaker_verdict verdict, const char *what, int64_t now_ns);

/* The static text for @text, of what may be given as @what; NULL: it is none. */
const char *trial_what(const char *text);

/* A verdict of who is in no trial: a dial, or a response that broke after a good head. */
void trial_tell(struct endpoint *endpoint, unsigned loop, enum breaker_verdict verdict,
                const char *what, int64_t now_ns);

/* Gives up on who has waited too long for @endpoint on @loop. At every tick. */
void trial_look(struct endpoint *endpoint, unsigned loop, int64_t now_ns);
