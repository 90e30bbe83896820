/* A pipeline's queue with the loops of several threads at it: no permit is lost, nobody is told
 * twice, and the bounds hold, whatever is granted, refused, given up and measured at the same time.
 */
#include "pipeline/permit.h"
#include "support/unit.h"

#include <assert.h>

#define THREADS 4
#define GUESTS 40
#define VISITS 20000
#define LIMIT 3
#define SIZE 12

struct guest {
    struct permit permit;
    enum { AWAY, WAITS, IN } place;
};

struct crowd {
    struct loop loop;
    struct pipeline_loop part;
    struct guest guests[GUESTS];
    uint64_t seed;
    unsigned visits, refused;
    uv_idle_t idle;
};

static struct crowd crowds[THREADS];
static struct pipeline pipeline;
static struct config_pipeline config = {.queue = {.size = SIZE, .target_ns = NS_PER_MS}};
static _Atomic uint32_t inside;

static void come_in(struct guest *guest) {
    assert(atomic_fetch_add(&inside, 1) < LIMIT);
    guest->place = IN;
}

static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct guest *guest = CONTAINER_OF(permit_told(ticket), struct guest, permit);

    assert(guest->place == WAITS && guest->permit.kind == PERMIT_CONCURRENCY);
    come_in(guest);
}

static void on_refused(struct gate_ticket *ticket) {
    struct guest *guest = CONTAINER_OF(permit_told(ticket), struct guest, permit);

    assert(guest->place == WAITS && guest->permit.kind == PERMIT_REFUSED);
    assert(guest->permit.waiter.refused != FAIL_NONE);
    guest->place = AWAY;
}

static void enter(struct crowd *crowd, struct guest *guest) {
    struct waiter *waiter = &guest->permit.waiter;

    crowd->visits++;
    waiter->client = rnd(&crowd->seed) % 5;
    waiter->priority = (enum config_priority)(rnd(&crowd->seed) % QUEUE_PRIORITIES);
    waiter->deadline_ns =
        rnd(&crowd->seed) % 4 ? 0 : crowd->loop.now_ns + (int64_t)(rnd(&crowd->seed) % 4000000);
    switch (permit_acquire(&crowd->part, &guest->permit)) {
    case GATE_IN:
        come_in(guest);
        break;
    case GATE_WAIT:
        guest->place = WAITS;
        break;
    case GATE_FULL:
        crowd->refused++;
        break;
    }
}

/* A visitor does one of the things that its state allows. */
static bool act(struct crowd *crowd, struct guest *guest) {
    bool is_over = crowd->visits >= VISITS;
    uint64_t choice = rnd(&crowd->seed) % 64;

    switch (guest->place) {
    case AWAY:
        if (is_over)
            return false;
        enter(crowd, guest);
        break;
    case IN:
        guest->place = AWAY;
        atomic_fetch_sub(&inside, 1);
        permit_answered(&crowd->part, NULL, 1 + (int64_t)(rnd(&crowd->seed) % 1000000));
        permit_release(&crowd->part, &guest->permit);
        break;
    case WAITS:
        if (choice > 0 && !is_over)
            break;
        guest->place = AWAY;
        permit_release(&crowd->part, &guest->permit);
        break;
    }
    if (choice == 1)
        gate_look(&pipeline.concurrency, &crowd->loop);
    if (choice == 2)
        assert(queue_retry_ms(&pipeline.queue, crowd->loop.now_ns) <= QUEUE_RETRY_MAX_MS);
    if (choice == 3)
        queue_is_overloaded(&pipeline.queue);
    return true;
}

static void on_idle(uv_idle_t *idle) {
    struct crowd *crowd = idle->data;
    bool is_busy = false;

    for (unsigned i = 0; i < GUESTS; i++)
        is_busy |= act(crowd, &crowd->guests[i]);
    if (!is_busy) {
        uv_close((uv_handle_t *)idle, NULL);
        loop_stop(&crowd->loop);
    }
}

static void *visit(void *ctx) {
    struct crowd *crowd = ctx;

    loop_run(&crowd->loop);
    return NULL;
}

static void no_permit_is_lost_among_threads(void **state) {
    static struct pool_loop shared[THREADS];
    pthread_t threads[THREADS];
    unsigned refused = 0;

    config.limits.concurrency = LIMIT;
    pipeline.config = &config;
    gate_init(&pipeline.concurrency, LIMIT, SIZE);
    queue_init(&pipeline.queue, &pipeline.concurrency, &config);
    for (unsigned i = 0; i < THREADS; i++) {
        struct crowd *crowd = &crowds[i];

        assert_int_equal(loop_open(&crowd->loop, i), 0);
        shared[i].loop = &crowd->loop;
        crowd->part = (struct pipeline_loop){.shared = &pipeline, .pools_shared = &shared[i]};
        gate_desk_init(&crowd->part.desk, &pipeline.concurrency, &crowd->loop, on_granted);
        crowd->part.desk.refused = on_refused;
        crowd->seed = i + 1;
        crowd->idle.data = crowd;
        uv_idle_init(&crowd->loop.uv, &crowd->idle);
        uv_idle_start(&crowd->idle, on_idle);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &crowds[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(gate_taken(&pipeline.concurrency), 0);
    assert_int_equal(pipeline.queue.count, 0);
    assert_int_equal(atomic_load(&inside), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        refused += crowds[i].refused;
        assert_int_equal(loop_close(&crowds[i].loop), 0);
    }
    assert_true(refused > 0);
    queue_deinit(&pipeline.queue);
    gate_deinit(&pipeline.concurrency);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_permit_is_lost_among_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
