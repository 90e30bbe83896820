/* What a load generator is asked to do, and when: the options that all of them have, the schedule
 * of an open loop, and the window in which answers count.
 *
 * Open loop (--rate): request k is due at begin + k / rate whatever the answers do; one that finds
 * nothing free to carry it waits, and its latency counts from when it was due, so that a stalled
 * server cannot hide by slowing the clients down. One that is begun late though something was free
 * is the generator's own doing: it, or the machine, had no time for it. That is counted apart, as
 * latencies then are not the server's alone.
 *
 * It ends the program where its arguments make no sense, and sends nothing itself. */
#ifndef LOAD_PLAN_H
#define LOAD_PLAN_H

#include "measure.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/epoll.h>

#define PLAN_LATE_NS 5000000  /* what is begun so much after it was due is late */
#define PLAN_REST_NS 10000000 /* after an error, before a connection is used again */

struct plan {
    /* As asked for. */
    struct sockaddr_in address;
    uint64_t connections, limit, timeout_ns, duration_ns, warmup_ns, series_ms;
    double rate;            /* open loop: requests per second; 0: closed loop */
    long long expect_bytes; /* of an answer's content; -1: any */
    struct pids pids;
    /* To be set by the program. */
    int epoll;
    uint64_t tick_ns; /* it has something to do so often though nothing comes */

    /* As it goes. CLOCK_MONOTONIC. */
    uint64_t now_ns;
    uint64_t begin_ns, window_ns, end_ns;
    uint64_t started; /* requests; those that failed left out */
    uint64_t dispatched,
        window_dispatched;      /* open loop: taken from the schedule; before the window */
    uint64_t late, late_max_ns; /* of those in the window */
    bool is_counting, was_free;
};

/* The entries of a getopt_long() table, and what --help says of them. */
enum plan_option {
    PLAN_CONNECTIONS = 256,
    PLAN_SECONDS,
    PLAN_WARMUP,
    PLAN_COUNT,
    PLAN_RATE,
    PLAN_TIMEOUT,
    PLAN_SERIES,
    PLAN_BYTES,
    PLAN_CPU_OF,
};

#define PLAN_OPTIONS                                                                \
    {"connections", 1, NULL, PLAN_CONNECTIONS}, {"seconds", 1, NULL, PLAN_SECONDS}, \
        {"warmup", 1, NULL, PLAN_WARMUP}, {"count", 1, NULL, PLAN_COUNT},           \
        {"rate", 1, NULL, PLAN_RATE}, {"timeout", 1, NULL, PLAN_TIMEOUT},           \
        {"series", 1, NULL, PLAN_SERIES}, {"bytes", 1, NULL, PLAN_BYTES}, {         \
        "cpu-of", 1, NULL, PLAN_CPU_OF                                              \
    }

#define PLAN_USAGE                                                                          \
    "  --seconds S       length of the counted window (default 2)\n"                        \
    "  --warmup S        before it, not counted (default 0)\n"                              \
    "  --count N         end after N answers\n"                                             \
    "  --rate R          open loop: R requests per second\n"                                \
    "  --timeout S       of one request (default 10)\n"                                     \
    "  --series MS       also the results of each so many milliseconds, warm-up included\n" \
    "  --bytes N         the content length to expect\n"                                    \
    "  --cpu-of PID,...  processes whose CPU time is measured over the window\n"

/* Nothing asked for yet, but @connections. */
struct plan plan_default(uint64_t connections);
/* Takes an option; false: it is none of PLAN_OPTIONS. */
bool plan_option(struct plan *plan, int option, char *value);
/* Takes what follows the options, the address; false: it is none, or nothing can be done with no
 * connection. */
bool plan_address(struct plan *plan, int argc, char **argv);

void plan_begin(struct plan *plan);
/* Is the time up, or are @answered all that are wanted? */
bool plan_is_over(const struct plan *plan, uint64_t answered);
/* May no more be begun, as of --count requests each is to be answered? */
bool plan_is_used_up(const struct plan *plan);
/* True once: the warm-up is over, and what is counted begins. */
bool plan_opens_window(struct plan *plan);

/* What counts is over now. */
void plan_end(struct plan *plan);

/* Waits for events, the next request that is due if something @is_free to carry it, or a tick.
 * Answers how many of @events there are. */
int plan_wait(struct plan *plan, struct epoll_event *events, int events_max, bool is_free);
/* Open loop: takes the next request if it is due, with the time when it was. To be called only
 * while something is free. */
bool plan_take(struct plan *plan, uint64_t *due_ns);

/* How many were due until the end and have not been begun. */
uint64_t plan_unsent(const struct plan *plan);

#endif
