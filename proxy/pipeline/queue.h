/* Who waits for a pipeline's concurrency, and who of them is next: the order of its gate.
 *
 * - Priorities are strict: nobody is served while somebody of a higher one waits.
 * - Within one, clients take turns (deficit round robin with a quantum of one exchange), so what
 * one of them sends waits behind its own.
 * - Turns come, and the exchanges of a client are served, oldest first. Once somebody has been
 *   standing for an interval, newest first, but for those who have waited for twice the target: at
 *   full load nothing drains what has once come together. Oldest first everybody would wait for it;
 *   so most do not wait at all. Who has more than its share in line then waits for its turns.
 * - A priority is overloaded (codel.h) when turns take too long to come round, a client's line when
 *   what it sends itself waits too long. Either is served newest first, new clients first; who has
 * waited twice the target is dropped; and beyond what a quarter of the target drains the next is
 * refused at once, as it could but drop another one later. That is what makes a refusal immediate.
 * - When all places are taken, who has most waiting makes room for who has less, and a lower
 * priority for a higher one.
 * - What cannot be answered before its deadline, given how long answers take at least and how fast
 *   the line is drained, is refused at once, or when its turn comes.
 *
 * The target is queue.target, but never less than two thirds of what answers take on average, nor
 * than QUEUE_FEW of them take to be served: where they take a second nobody minds to wait for 20
 * ms, or can be served within that. At full load nearly everybody is then answered within 1 + 2 *
 * 2/3 times what an answer takes, fast upstream or slow. A shorter line would be empty more often
 * while there is more to do: at exactly what can be done it costs 2% of that, half of an answer's
 * time would cost 2.6% and all of it 1.5%.
 *
 * Locked by its gate. Home: shared. */
#pragma once

#include "config/config.h"
#include "exchange/fail.h"
#include "loop/gate.h"
#include "pipeline/flows.h"
#include "pipeline/service.h"

#define QUEUE_PRIORITIES (PRIORITY_BACKGROUND + 1)

/* So few who wait say nothing of a load: a line of them is not overloaded, and an overloaded one
 * may have as many. */
#define QUEUE_FEW 4

/* An overloaded line keeps what drains in this part of the target. */
#define QUEUE_KEEP_SHARE 4

/* So many of a client may wait and be nothing out of the common. */
#define QUEUE_FAIR 2

/* Overloaded flows that are looked at for one that is served. */
#define QUEUE_LOOKS_MAX 4

/* What a refused client is told to come back after. */
#define QUEUE_RETRY_MIN_MS 1000
#define QUEUE_RETRY_MAX_MS 60000

/* One that waits, or may have to. Home: loop; what the queue writes into it, until it is told. */
struct waiter {
    struct gate_ticket ticket;
    struct list in_class, in_flow;
    struct flow *flow; /* borrowed: the queue */
    /* To be set before gate_enter(). */
    uint64_t client;     /* whose turn it takes; 0: everybody's */
    int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    enum config_priority priority;
    /* Set by the queue. */
    int64_t since_ns;
    enum fail refused; /* why; FAIL_NONE */
};

/* What waits at one priority. */
struct queue_class {
    struct list line;   /* struct waiter by in_class, oldest first */
    struct list fresh;  /* struct flow by in_round: not served since they wait; oldest first */
    struct list served; /* the others, in the order of their turns */
    struct codel codel;
    int64_t flow_ended_ns;  /* as codel.ended_ns, of any flow that is gone */
    unsigned flows;         /* of which somebody waits */
    unsigned fair;          /* who waits, of each flow at most QUEUE_FAIR */
    _Atomic uint32_t count; /* of line; any thread may read */
};

struct queue {
    struct gate_order order;
    struct gate *gate; /* borrowed: whose order it is */
    unsigned size;     /* that may wait */
    int64_t target_ns; /* as configured; 0: no CoDel */
    int64_t now_ns;    /* the latest of any loop */
    struct service service;
    struct flows flows;
    struct queue_class classes[QUEUE_PRIORITIES];
    struct list overloaded; /* struct flow by in_overloaded */
    unsigned count;         /* of all classes */
    double owed;            /* who was refused and may be expected back, at owed_ns */
    int64_t owed_ns;
    _Atomic int64_t retry_at_ns; /* when who is refused now may expect to be served */
};

/* Becomes the order of @gate, which must not be used yet. */
void queue_init(struct queue *queue, struct gate *gate, const struct config_pipeline *config);
/* Nobody waits any more. */
void queue_deinit(struct queue *queue);

/* Answers have come. Any thread. */
void queue_learn(struct queue *queue, const struct service_sample *sample, int64_t now_ns);

/* Is more asked for than can be served, by all or by some? Any thread. */
bool queue_is_overloaded(struct queue *queue);

/* After how many milliseconds who is refused now should try again: from how many wait and were
 * refused, and how fast they are served; between QUEUE_RETRY_MIN_MS and QUEUE_RETRY_MAX_MS, and
 * spread over as much again so that those who are told at one time do not come back at one. Any
 * thread. */
unsigned queue_retry_ms(const struct queue *queue, int64_t now_ns);
