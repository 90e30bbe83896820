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

/* Zeroed memory is a board without a loop. */
struct pulse_board {
    struct pulse loops[PULSE_LOOPS_MAX];
};
