/* A small queueing simulation: exchanges arrive, wait at a gate with a pipeline's queue, are served
 * by an engine of known capacity, and leave. Time is simulated, so results are the same on any
 * machine. */
#pragma once

#include "pipeline/limiter.h"
#include "pipeline/queue.h"

#define SIM_SOURCES 64
#define SIM_WAITS_MAX 400000 /* exchanges of which times are kept */

/* Exchanges that arrive. */
struct sim_source {
    double per_s;
    bool is_regular; /* one like the other; else Poisson */
    uint64_t client;
    enum config_priority priority;
    int64_t patience_ns; /* their deadline; 0: none */
    /* Results, of what arrived after the warm-up. */
    unsigned offered, served, refused;
    int64_t next_ns;
};

struct sim {
    struct sim_source sources[SIM_SOURCES];
    unsigned source_count;
    unsigned limit;     /* 0: the limiter's */
    unsigned places;    /* of the engine */
    int64_t service_ns; /* of each */
    double jitter;      /* what a service takes more, on average, as a share; exponential */
    double slowdown;    /* one that waits in the engine makes what begins slower by this share */
    int64_t pause_ns;   /* it does nothing for so long, once: a second after the warm-up */
    struct config_pipeline config;
    int64_t warmup_ns, duration_ns;
    uint64_t seed;
    /* Called at each change of the time; NULL: nothing. */
    void (*at)(struct sim *sim, int64_t now_ns);

    /* Results. */
    double goodput;          /* served per second */
    double mean_wait_ns;     /* before the engine, of what was served */
    int64_t p50_ns, p99_ns;  /* from arrival to answer */
    int64_t refused_p50_ns;  /* from arrival to refusal */
    unsigned reasons[FAILS]; /* of refusals */
    unsigned queued_max;

    struct gate gate;
    struct queue queue;
    struct limiter limiter;
};

void sim_run(struct sim *world);
