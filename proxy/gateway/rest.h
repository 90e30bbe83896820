/* What a rush leaves behind is given back when it is over: a loop on which no exchange has begun
 * for REST_AFTER_NS frees what its pools keep; when all loops have, the memory that malloc() has
 * free goes back to the kernel, in a thread of its own, because that may take its time. It does not
 * in a process in which a fault of a handler may have left malloc() locked. */
#pragma once

#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define REST_AFTER_NS (5 * NS_PER_S)
#define REST_TRIM_PAUSE_NS (60 * NS_PER_S) /* between two times: what it costs is bounded */

struct gateway;
struct gateway_loop;

/* Of a loop. */
struct rest_loop {
    uint64_t begun; /* exchanges, at the last look */
    int64_t since_ns;
    _Atomic bool is_at_rest; /* any thread may read */
};

/* Of a gateway. Home: loop 0, but where noted. */
struct rest {
    bool is_trimmed; /* since the loops came to rest */
    int64_t trimmed_ns;
    unsigned trims;
    pthread_t thread;
    bool has_thread;          /* to be joined */
    _Atomic bool is_trimming; /* any thread */
};

/* At every tick. Home: loop. */
void rest_look(struct gateway_loop *gl);

/* Waits for the thread. After the loops have ended. */
void rest_close(struct gateway *gateway);
