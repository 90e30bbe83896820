/* Heartbeats in memory that another process can read: each loop tells when it last got through a
 * turn, each acceptor that it is looking after its socket. Whoever watches needs nothing else of
 * the process, so it can also tell of one that is stopped or blocked altogether. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define PULSE_LOOPS_MAX 64

enum pulse_state { PULSE_NONE, PULSE_RUNNING, PULSE_ENDED };

/* Home: written by its loop; read anywhere. */
struct pulse {
    _Atomic int64_t alive_ns; /* CLOCK_MONOTONIC, the same in every process */
    _Atomic uint32_t state;   /* enum pulse_state */
    char apart[52];           /* a cache line each */
};

/* Of one listening socket. Home: written by whoever accepts on it; read anywhere. */
struct accept_pulse {
    _Atomic uint32_t looks;   /* how often it has looked for connections */
    _Atomic uint32_t is_held; /* it is not to look now: there is no right, or load is shed */
};

#define PULSE_LISTENERS_MAX 64
#define PULSE_SOCKETS_MAX 64 /* of a listener */

/* Zeroed memory is a board without a loop. */
struct pulse_board {
    struct pulse loops[PULSE_LOOPS_MAX];
    struct accept_pulse sockets[PULSE_LISTENERS_MAX][PULSE_SOCKETS_MAX];
};
