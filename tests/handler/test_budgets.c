/* What handlers may use up: memory and CPU time of their processes, memory that faults leave
 * behind; and what becomes of a gateway that is to be replaced. */
#include "support/unit.h"

#include "handler/handlers_state.h"
#include "handler/process.h"
#include "handler/trap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1 << 20)

static struct world {
    struct loop loop;
    struct config config;
    struct config_handler handlers[2];
    struct handlers *all;
    struct handler_desk *desk;
    bool is_answered;
    enum call_outcome outcome;
    unsigned count; /* x-count of the answer */
    unsigned taints;
} world;

static void on_taint(void *ctx) {
    world.taints++;
}

static void begin(enum config_isolation isolation, bool may_demote) {
    static char path[] = PLUGINS "/fault.so";

    memset(&world, 0, sizeof world);
    for (unsigned i = 0; i < 2; i++)
        world.handlers[i] = (struct config_handler){
            .name = (char *)(uintptr_t)(i ? "second" : "first"),
            .plugin = path,
            .timeout_ns = 10 * NS_PER_S,
            .fault = {.window_ns = NS_PER_S * 60, .demote = may_demote},
            .isolation = isolation,
            .process = {.memory = 512 * MIB, .cpu_ns = NS_PER_S},
            .queue = 100,
            .config = (char *)(uintptr_t) "{}",
        };
    world.config = (struct config){
        .server = {.handler_threads = 2, .handler_loss = 64 * MIB},
        .handlers = world.handlers,
        .handler_count = 2,
    };
}

static void start(void) {
    const struct handlers_options options = {
        .config = &world.config, .loops = 1, .cells_fd = -1, .on_taint = on_taint};
    char *why = NULL;

    if (handlers_prepare(&world.all, &options, &why) || handlers_start(world.all, &why))
        fail_msg("%s", why);
    assert_int_equal(loop_open(&world.loop, 0), 0);
    world.desk = handler_desk_open(world.all, &world.loop);
}

static void end(void) {
    handler_desk_close(world.desk);
    handlers_close(world.all);
    assert_int_equal(finish_loop(&world.loop), 0);
}

static void on_done(struct call *call, void *ctx) {
    const struct call_answer *answer = call_answer(call);

    world.is_answered = true;
    world.outcome = answer->outcome;
    world.count = 0;
    for (unsigned i = 0; i < answer->edit_count; i++)
        if (slice_equal(answer->edits[i].name, SLICE("x-count")))
            world.count = (unsigned)strtoul(answer->edits[i].value.base, NULL, 10);
    call_free(call);
}

static void expect(size_t handler, const char *what, enum call_outcome outcome) {
    struct field fields[] = {{SLICE("x-fault"), slice_str(what), FIELD_OTHER, false}};
    const struct request_head head = {
        .version = HTTP_1_1,
        .method_text = SLICE("GET"),
        .path = SLICE("/"),
        .fields = {fields, 1, 1},
    };
    const struct call_input input = {
        .handler = handler, .request = &head, .request_id = SLICE("some-id")};

    world.is_answered = false;
    call_submit(world.desk, &input, on_done, NULL);
    AWAIT(&world.loop, NULL, world.is_answered);
    assert_int_equal(world.outcome, outcome);
}

static uint64_t faults(unsigned kind) {
    return handlers_faults(world.all, 0, kind);
}

static void a_process_has_so_much_memory_and_no_more(void **state) {
    static const char *const ways[] = {"hoard", "hoard_maps", "hoard_shared"};

    if (HANDLER_HAS_SANITIZER)
        skip(); /* its allocator ends the process */
    for (unsigned i = 0; i < 3; i++) {
        begin(ISOLATION_PROCESS, true);
        world.handlers[0].process.memory = 40 * MIB;
        start();
        expect(0, ways[i], CALL_CONTINUE);
        assert_in_range(world.count, 30, 40);
        expect(1, ways[i], CALL_CONTINUE); /* each has its own bound: the heap's, or that */
        assert_in_range(world.count, 200, 512);
        end();
    }
}

static void in_a_thread_mappings_are_bounded_as_the_heap_is(void **state) {
    if (HANDLER_HAS_SANITIZER)
        skip(); /* nothing stands in front of mmap() */
    begin(ISOLATION_THREAD, false);
    start();
    expect(0, "hoard_maps", CALL_CONTINUE);
    assert_in_range(world.count, 200, 256);
    end();
}

static void a_process_that_burns_beside_its_calls_is_ended(void **state) {
    begin(ISOLATION_PROCESS, true);
    world.handlers[0].process.cpu_ns = 100 * NS_PER_MS;
    world.handlers[1].process.cpu_ns = 0;
    start();
    expect(1, "burn", CALL_CONTINUE); /* as much as it likes */
    expect(0, "burn", CALL_CONTINUE);
    AWAIT(&world.loop, NULL, faults(FAULT_CPU) == 1);
    expect(0, "none", CALL_CONTINUE); /* it has another one, which does not */
    assert_int_equal(handlers_faults(world.all, 1, FAULT_CPU), 0);
    assert_false(handlers_are_tainted(world.all));
    end();
}

/* Far more CPU time than the budget, but all of it is its calls'. */
static void a_process_that_works_is_left_alone(void **state) {
    int64_t until_ns = clock_now_ns() + NS_PER_S;

    begin(ISOLATION_PROCESS, true);
    world.handlers[0].process.cpu_ns = 10 * NS_PER_MS;
    start();
    while (clock_now_ns() < until_ns)
        expect(0, "none", CALL_CONTINUE);
    assert_int_equal(faults(FAULT_CPU), 0);
    end();
}

static void what_faults_lose_has_the_gateway_replaced(void **state) {
    if (HANDLER_HAS_SANITIZER)
        skip(); /* nobody would catch them */
    begin(ISOLATION_THREAD, false);
    world.config.server.handler_loss = MIB;
    start();
    expect(0, "null", CALL_FAULT);
    AWAIT(&world.loop, NULL, atomic_load(&world.all->replaced) == 1);
    assert_int_equal(atomic_load(&world.all->lost_bytes), 0);
    for (unsigned i = 0; i < 3; i++)
        expect(0, "leak", CALL_FAULT);
    AWAIT(&world.loop, NULL, atomic_load(&world.all->replaced) == 4);
    assert_in_range(atomic_load(&world.all->lost_bytes), 3 * 256 * 1024, MIB);
    assert_false(handlers_are_tainted(world.all));
    expect(0, "leak", CALL_FAULT); /* and what libc has lost with it is beyond */
    AWAIT(&world.loop, NULL, handlers_are_tainted(world.all));
    expect(0, "leak", CALL_FAULT);
    assert_int_equal(world.taints, 1);
    assert_int_equal(handlers_dirty_faults(world.all, 0), 0);
    /* It is not to run in processes. */
    expect(0, "none", CALL_CONTINUE);
    assert_false(atomic_load(&world.all->list[0].is_in_process));
    end();
}

static void after_a_dirty_fault_all_others_run_in_processes(void **state) {
    if (HANDLER_HAS_SANITIZER)
        skip();
    begin(ISOLATION_THREAD, true);
    start();
    expect(1, "none", CALL_CONTINUE);
    expect(0, "raise_abort", CALL_FAULT);
    AWAIT(&world.loop, NULL, atomic_load(&world.all->list[0].is_demoted));
    AWAIT(&world.loop, NULL, atomic_load(&world.all->list[1].is_in_process));
    assert_true(atomic_load(&world.all->list[0].is_in_process));
    assert_false(atomic_load(&world.all->list[1].is_demoted)); /* in this gateway only */
    expect(1, "raise_abort", CALL_FAULT);
    expect(1, "none", CALL_CONTINUE);
    assert_int_equal(handlers_dirty_faults(world.all, 1), 0);
    assert_int_equal(world.taints, 1);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_has_so_much_memory_and_no_more),
        cmocka_unit_test(in_a_thread_mappings_are_bounded_as_the_heap_is),
        cmocka_unit_test(a_process_that_burns_beside_its_calls_is_ended),
        cmocka_unit_test(a_process_that_works_is_left_alone),
        cmocka_unit_test(what_faults_lose_has_the_gateway_replaced),
        cmocka_unit_test(after_a_dirty_fault_all_others_run_in_processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
