/* Processes that plugins run in: what they say arrives, loops hand them calls themselves, and what
 * they do to the memory that they share harms nobody else. */
#include "calls_world.h"
#include "handler/process_area.h"
#include "handler/trap.h"

#include <string.h>

static void what_is_logged_and_counted_there_arrives(void **state) {
    struct asked asked[20];

    begin("fault", 2, 1, 20 * NS_PER_S, 100);
    for (unsigned i = 0; i < 20; i++)
        ask(&asked[i], 0, "say");
    AWAIT(&world.loop, NULL, done == 20);
    assert_int_equal(atomic_load(&world.all->list[0].events[0]), 20);
    AWAIT(&world.loop, NULL, atomic_load(&world.all->list[0].lines.window) != 0);
    end();
}

static void a_process_that_is_killed_costs_a_call_at_most(void **state) {
    struct asked asked;
    unsigned failed = 0;

    if (HANDLER_HAS_SANITIZER)
        skip();
    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    for (unsigned i = 1; i <= 20; i++) {
        ask(&asked, 0, i % 4 ? NULL : "kill");
        AWAIT(&world.loop, NULL, done == i);
        failed += asked.outcome == CALL_FAULT;
        assert_true(asked.outcome == CALL_CONTINUE || i % 4 == 0);
    }
    assert_int_equal(failed, 5);
    end();
}

/* Lends the only process, which is at work, to the loop. */
static void lend(struct asked *asked, const char *what) {
    ask(asked, 0, NULL); /* its thread has it started */
    AWAIT(&world.loop, NULL, done == 1);
    AWAIT(&world.loop, NULL, is_running(0, 0));
    AWAIT(&world.loop, NULL,
          atomic_load(&world.all->slots[0].instances[0].area->state) == PROCESS_READY);
    assert_int_equal(atomic_load(&world.all->slots[0].lent_ns), 0);
    ask(asked, 0, what);
    calls_flush(&world.desk->flush);
    task_cancel(&world.desk->flush);
    assert_int_not_equal(atomic_load(&world.all->slots[0].lent_ns), 0);
}

static void a_process_that_is_late_is_left_to_its_thread(void **state) {
    struct asked slow, quick;

    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    lend(&slow, "wait");
    AWAIT(&world.loop, NULL, !atomic_load(&world.all->slots[0].lender));
    assert_true(is_running(1, 0));
    ask(&quick, 0, NULL);
    open_gate();
    AWAIT(&world.loop, NULL, done == 3);
    assert_int_equal(slow.outcome, CALL_CONTINUE);
    assert_int_equal(quick.outcome, CALL_CONTINUE);
    assert_int_equal(atomic_load(&world.all->list[0].calls), 3);
    end();
}

static void overwrite_state(uint32_t value) {
    atomic_store(&world.all->slots[0].instances[0].area->state, value);
}

static pid_t process(void) {
    return atomic_load(&world.all->pids[0]);
}

/* What is in the memory that it shares with us may be anything. */
static void a_process_that_overwrites_its_state_is_killed_at_once(void **state) {
    static const uint32_t states[] = {
        77, UINT32_MAX, PROCESS_NONE, PROCESS_STARTING, PROCESS_ENDED, PROCESS_SPENT, PROCESS_READY,
    };

    for (unsigned i = 0; i < sizeof states / sizeof *states; i++)
        for (unsigned is_lent = 0; is_lent < 2; is_lent++) {
            struct asked asked, next;
            pid_t before;

            begin("fault", 1, 1, 1000 * NS_PER_S, 100);
            if (is_lent) {
                lend(&asked, "wait");
            } else {
                ask(&asked, 0, "wait");
                done = 1;
                AWAIT(&world.loop, NULL,
                      process() > 0 &&
                          atomic_load(&world.all->slots[0].instances[0].area->next) > 0);
            }
            before = process();
            overwrite_state(states[i]);
            AWAIT(&world.loop, NULL, done == 2);
            assert_int_equal(asked.outcome, CALL_FAULT);
            assert_int_equal(atomic_load(&world.all->list[0].faults[FAULT_STATE]), 1);
            ask(&next, 0, NULL);
            AWAIT(&world.loop, NULL, done == 3);
            assert_int_equal(next.outcome, CALL_CONTINUE);
            assert_int_not_equal(process(), before);
            end();
        }
}

/* As a thread of it may for as long as it lives. */
static void *overwrite_all_the_time(void *stop) {
    _Atomic uint32_t *word = &world.all->slots[0].instances[0].area->state;

    while (!atomic_load((_Atomic bool *)stop)) {
        uint32_t seen = atomic_load(word);

        if (seen != PROCESS_ENDED)
            atomic_compare_exchange_strong(word, &seen, 77);
    }
    return NULL;
}

static void a_state_that_is_overwritten_all_the_time_holds_nobody_up(void **state) {
    _Atomic bool stop = false;
    struct asked asked;
    pthread_t thread;

    begin("fault", 1, 1, 1000 * NS_PER_S, 100);
    assert_int_equal(pthread_create(&thread, NULL, overwrite_all_the_time, &stop), 0);
    while (atomic_load(&world.all->list[0].faults[FAULT_STATE]) < 10) {
        unsigned before = done;

        handlers_reset(world.all, "first"); /* no quarantine */
        ask(&asked, 0, NULL);
        AWAIT(&world.loop, NULL, done == before + 1);
        assert_true(asked.outcome == CALL_FAULT || asked.outcome == CALL_CONTINUE);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    end();
}

/* As one that a loop would copy for too long. */
static void what_is_large_is_left_to_the_thread(void **state) {
    static char text[100000];
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    lend(&asked, "large_reply");
    AWAIT(&world.loop, NULL, done == 2);
    assert_int_equal(asked.content, 500000);
    AWAIT(&world.loop, NULL, is_running(0, 0));
    atomic_store(&world.all->slots[0].lent_ns, 0);
    memset(text, 'x', sizeof text - 1);
    ask(&asked, 0, text);
    AWAIT(&world.loop, NULL, done == 3);
    assert_int_equal(asked.outcome, CALL_CONTINUE);
    assert_int_equal(atomic_load(&world.all->slots[0].lent_ns), 0);
    end();
}

static void a_loop_may_end_while_it_is_lent_a_process(void **state) {
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    lend(&asked, "wait");
    call_forget(asked.call);
    handler_desk_close(world.desk);
    world.desk = NULL;
    assert_null(atomic_load(&world.all->slots[0].lender));
    open_gate();
    end();
    assert_int_equal(done, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_logged_and_counted_there_arrives, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_process_that_is_killed_costs_a_call_at_most, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_process_that_is_late_is_left_to_its_thread, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_process_that_overwrites_its_state_is_killed_at_once,
                                        in_process, in_thread),
        cmocka_unit_test_setup_teardown(a_state_that_is_overwritten_all_the_time_holds_nobody_up,
                                        in_process, in_thread),
        cmocka_unit_test_setup_teardown(what_is_large_is_left_to_the_thread, in_process, in_thread),
        cmocka_unit_test_setup_teardown(a_loop_may_end_while_it_is_lent_a_process, in_process,
                                        in_thread),
    };

    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}
