#include "sim.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <math.h>
#include <stdlib.h>

/* Exchanges that are under way at once. */
#define JOBS_MAX 20000
/* The gateway learns at most so often. */
#define LEARN_NS (5 * NS_PER_MS)

struct job {
    struct waiter waiter;
    struct sim_source *source;
    int64_t arrived_ns, sent_ns, done_ns;
    struct job *next; /* free, or in the engine's own line */
    bool is_counted;
};

static struct loop loop;
static struct gate_desk desk;
static struct sim *sim;
static struct job *jobs, *free_jobs, *engine_first, **engine_last;
static struct job
    *busy[JOBS_MAX]; /* in the engine's service; by done_ns, a binary heap from 1 on */
static unsigned busy_count, engine_waiting;
static int64_t *times, *refusals;
static unsigned times_count, refusals_count;
static double waits;
static struct service_sample answers;
static int64_t learned_ns;

static void arrive(struct sim_source *source);
static void enter_engine(struct job *job);
static void begin(struct job *job);
static void answer(void);
static void learn(void);
static void refused(struct job *job);
static void on_granted(struct gate_ticket *ticket, void *gift);
static void on_refused(struct gate_ticket *ticket);
static void schedule(struct sim_source *source, int64_t now_ns);
static double uniform(void);
static void heap_push(struct job *job);
static struct job *heap_pop(void);
static int compare(const void *a, const void *b);
static int64_t quantile(int64_t *list, unsigned count, double q);

void sim_run(struct sim *world) {
    int64_t now_ns = NS_PER_S, end_ns;

    sim = world;
    assert_int_equal(loop_open(&loop, 0), 0);
    jobs = xcalloc(JOBS_MAX, sizeof *jobs);
    times = xcalloc(SIM_WAITS_MAX, sizeof *times);
    refusals = xcalloc(SIM_WAITS_MAX, sizeof *refusals);
    free_jobs = NULL;
    for (unsigned i = 0; i < JOBS_MAX; i++) {
        jobs[i].next = free_jobs;
        free_jobs = &jobs[i];
    }
    engine_first = NULL;
    engine_last = &engine_first;
    busy_count = engine_waiting = times_count = refusals_count = 0;
    waits = 0;
    answers = (struct service_sample){0};
    learned_ns = 0;
    sim->seed = sim->seed ? sim->seed : 1;
    limiter_init(&sim->limiter, 4, 1000);
    gate_init(&sim->gate, sim->limit ? sim->limit : limiter_limit(&sim->limiter),
              sim->config.queue.size);
    queue_init(&sim->queue, &sim->gate, &sim->config);
    gate_desk_init(&desk, &sim->gate, &loop, on_granted);
    desk.refused = on_refused;
    end_ns = now_ns + sim->warmup_ns + sim->duration_ns;
    for (unsigned i = 0; i < sim->source_count; i++)
        schedule(&sim->sources[i], now_ns);
    sim->warmup_ns += now_ns;

    for (;;) {
        struct sim_source *first = NULL;

        for (unsigned i = 0; i < sim->source_count; i++)
            if (!first || sim->sources[i].next_ns < first->next_ns)
                first = &sim->sources[i];
        if (busy_count > 0 && (first->next_ns >= end_ns || busy[1]->done_ns <= first->next_ns)) {
            loop.now_ns = busy[1]->done_ns;
            answer();
        } else if (first->next_ns < end_ns) {
            loop.now_ns = first->next_ns;
            arrive(first);
        } else {
            break;
        }
        if (sim->at)
            sim->at(sim, loop.now_ns);
    }

    assert_int_equal(gate_taken(&sim->gate), 0);
    for (unsigned i = 0; i < sim->source_count; i++)
        sim->goodput += sim->sources[i].served;
    sim->mean_wait_ns = sim->goodput > 0 ? waits / sim->goodput : 0;
    sim->goodput *= 1e9 / (double)sim->duration_ns;
    sim->p50_ns = quantile(times, times_count, 0.5);
    sim->p99_ns = quantile(times, times_count, 0.99);
    sim->refused_p50_ns = quantile(refusals, refusals_count, 0.5);
    queue_deinit(&sim->queue);
    gate_deinit(&sim->gate);
    finish_loop(&loop);
    free(jobs);
    free(times);
    free(refusals);
}

static void arrive(struct sim_source *source) {
    struct job *job = free_jobs;

    assert_non_null(job);
    free_jobs = job->next;
    *job = (struct job){.source = source, .arrived_ns = loop.now_ns};
    job->is_counted = loop.now_ns >= sim->warmup_ns;
    source->offered += job->is_counted;
    job->waiter.client = source->client;
    job->waiter.priority = source->priority;
    job->waiter.deadline_ns = source->patience_ns ? loop.now_ns + source->patience_ns : 0;
    schedule(source, loop.now_ns);
    switch (gate_enter(&desk, &job->waiter.ticket)) {
    case GATE_IN:
        enter_engine(job);
        break;
    case GATE_WAIT:
        break;
    case GATE_FULL:
        refused(job);
        break;
    }
    if (sim->queue.count > sim->queued_max)
        sim->queued_max = sim->queue.count;
}

static void enter_engine(struct job *job) {
    job->sent_ns = loop.now_ns;
    job->next = NULL;
    if (busy_count < sim->places) {
        begin(job);
        return;
    }
    *engine_last = job;
    engine_last = &job->next;
    engine_waiting++;
}

static void begin(struct job *job) {
    double slow = 1 + sim->slowdown * engine_waiting - sim->jitter * log(uniform());
    int64_t pause_at_ns = sim->warmup_ns + NS_PER_S, end_ns = pause_at_ns + sim->pause_ns;
    int64_t begun_ns = loop.now_ns > pause_at_ns && loop.now_ns < end_ns ? end_ns : loop.now_ns;

    job->done_ns = begun_ns + (int64_t)((double)sim->service_ns * slow);
    if (begun_ns <= pause_at_ns && job->done_ns > pause_at_ns)
        job->done_ns += sim->pause_ns;
    heap_push(job);
}

/* The engine has done one; its own line moves up first. */
static void answer(void) {
    struct job *job = heap_pop();

    if (engine_first) {
        struct job *first = engine_first;

        engine_first = first->next;
        if (!engine_first)
            engine_last = &engine_first;
        engine_waiting--;
        begin(first);
    }
    if (job->is_counted && job->done_ns < sim->warmup_ns + sim->duration_ns) {
        job->source->served++;
        waits += (double)(job->sent_ns - job->arrived_ns);
        if (times_count < SIM_WAITS_MAX)
            times[times_count++] = loop.now_ns - job->arrived_ns;
    }
    service_sample_add(&answers, loop.now_ns - job->sent_ns);
    if (loop.now_ns - learned_ns >= LEARN_NS)
        learn();
    gate_leave(&sim->gate, &job->waiter.ticket, &loop);
    job->next = free_jobs;
    free_jobs = job;
}

static void learn(void) {
    learned_ns = loop.now_ns;
    queue_learn(&sim->queue, &answers, loop.now_ns);
    if (sim->limit == 0) {
        limiter_learn(&sim->limiter, &answers, gate_taken(&sim->gate), loop.now_ns);
        gate_set_limit(&sim->gate, limiter_limit(&sim->limiter), &loop);
    }
    answers = (struct service_sample){0};
}

static void refused(struct job *job) {
    assert_int_not_equal(job->waiter.refused, FAIL_NONE);
    if (job->is_counted) {
        job->source->refused++;
        sim->reasons[job->waiter.refused]++;
        if (refusals_count < SIM_WAITS_MAX)
            refusals[refusals_count++] = loop.now_ns - job->arrived_ns;
    }
    job->next = free_jobs;
    free_jobs = job;
}

static void on_granted(struct gate_ticket *ticket, void *gift) {
    enter_engine(CONTAINER_OF(ticket, struct job, waiter.ticket));
}

static void on_refused(struct gate_ticket *ticket) {
    refused(CONTAINER_OF(ticket, struct job, waiter.ticket));
}

/* Above 0, at most 1. */
static double uniform(void) {
    return (double)((rnd(&sim->seed) >> 11) + 1) / 9007199254740992.0;
}

static void schedule(struct sim_source *source, int64_t now_ns) {
    source->next_ns =
        now_ns + (int64_t)(1e9 / source->per_s * (source->is_regular ? 1 : -log(uniform())));
}

static void heap_push(struct job *job) {
    unsigned at = ++busy_count;

    assert_true(at < JOBS_MAX);
    for (; at > 1 && busy[at / 2]->done_ns > job->done_ns; at /= 2)
        busy[at] = busy[at / 2];
    busy[at] = job;
}

static struct job *heap_pop(void) {
    struct job *top = busy[1], *last = busy[busy_count--];
    unsigned at = 1;

    while (2 * at <= busy_count) {
        unsigned child = 2 * at;

        if (child < busy_count && busy[child + 1]->done_ns < busy[child]->done_ns)
            child++;
        if (busy[child]->done_ns >= last->done_ns)
            break;
        busy[at] = busy[child];
        at = child;
    }
    busy[at] = last;
    return top;
}

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

static int64_t quantile(int64_t *list, unsigned count, double q) {
    if (count == 0)
        return 0;
    qsort(list, count, sizeof *list, compare);
    return list[(unsigned)(q * (count - 1))];
}
