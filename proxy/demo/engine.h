/* The demo engine: an HTTP/1.1 origin server on one loop, made of weir's own acceptor, connections
 * and codec, so that the codec has a second user. What it answers is in resource.c. Home: the
 * engine's process, loop. */
#pragma once

#include "codec/h1_server.h"
#include "transport/acceptor.h"

struct engine {
    struct loop loop;
    struct fds fds;
    struct gate connections;
    struct h1_server_settings settings;
    struct h1_server_loop h1;
    struct acceptor *acceptor; /* owned; NULL: not accepting */
    struct list visits;        /* struct visit */
    uv_signal_t sigterm;
    struct timer drain_timer;
    int64_t drain_until_ns; /* 0: not draining; INT64_MAX: broken off what was left */
};

/* Serves on @fd (bound, listening, non-blocking; the caller's) until SIGTERM, then finishes what is
 * under way, endless streams excepted. Returns the exit status of the process. */
int engine_run(int fd);
