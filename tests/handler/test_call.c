/* Calls and their workers: batches, bounds, deadlines, what is forgotten, what an instance keeps.
 */
#include "calls_world.h"
#include "handler/trap.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define CALLS_MAX 4200

static void many_calls_are_all_answered(void **state) {
    static struct asked asked[CALLS_MAX];

    begin("fault", 3, 1, 20 * NS_PER_S, CALLS_MAX);
    for (unsigned i = 0; i < CALLS_MAX; i++)
        ask(&asked[i], 0, NULL);
    assert_int_equal(done, 0); /* none from within call_submit() */
    AWAIT(&world.loop, NULL, done == CALLS_MAX);
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        assert_int_equal(asked[i].outcome, CALL_CONTINUE);
        assert_int_equal(asked[i].edits, 1);
    }
    AWAIT(&world.loop, NULL, atomic_load(&world.all->list[0].calls) == CALLS_MAX);
    assert_int_equal(atomic_load(&world.all->list[0].events[0]), CALLS_MAX);
    end();
}

static void one_worker_keeps_the_order(void **state) {
    struct asked asked[100];

    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    for (unsigned i = 0; i < 100; i++)
        ask(&asked[i], 0, NULL);
    AWAIT(&world.loop, NULL, done == 100);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(asked[i].order, i);
    end();
}

static void a_queue_is_bounded(void **state) {
    struct asked first, asked[5];
    unsigned full = 0;

    begin("fault", 1, 1, 20 * NS_PER_S, 2);
    ask(&first, 0, "wait");
    AWAIT(&world.loop, NULL, is_running(1, 0));
    for (unsigned i = 0; i < 5; i++)
        ask(&asked[i], 0, NULL);
    AWAIT(&world.loop, NULL, done == 3);
    open_gate();
    AWAIT(&world.loop, NULL, done == 6);
    for (unsigned i = 0; i < 5; i++)
        full += asked[i].outcome == CALL_FULL;
    assert_int_equal(full, 3);
    assert_int_equal(asked[0].outcome, CALL_CONTINUE);
    assert_int_equal(asked[1].outcome, CALL_CONTINUE);
    end();
}

static void what_waits_too_long_is_answered_and_never_run(void **state) {
    struct asked first, late;

    begin("fault", 1, 2, 20 * NS_PER_S, 10);
    world.handlers[1].timeout_ns = NS_PER_MS;
    ask(&first, 0, "wait");
    AWAIT(&world.loop, NULL, is_running(1, 0));
    ask(&late, 1, NULL);
    AWAIT(&world.loop, NULL, late.is_done);
    assert_int_equal(late.outcome, CALL_HANG);
    open_gate();
    AWAIT(&world.loop, NULL, first.is_done);
    assert_int_equal(first.outcome, CALL_CONTINUE);
    AWAIT(&world.loop, NULL, queued_of(1) == 0);
    assert_int_equal(atomic_load(&world.all->list[1].events[0]), 0);
    end();
}

static void a_forgotten_call_is_heard_of_no_more(void **state) {
    struct asked running, queued, pending;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    ask(&running, 0, "wait");
    AWAIT(&world.loop, NULL, is_running(1, 0));
    ask(&queued, 0, NULL);
    AWAIT(&world.loop, NULL, is_running(1, 1));
    ask(&pending, 0, NULL);
    call_forget(pending.call);
    call_forget(queued.call);
    call_forget(running.call);
    open_gate();
    AWAIT(&world.loop, NULL, is_running(0, 0));
    settle_down(&world.loop, NULL);
    assert_int_equal(done, 0);
    assert_int_equal(atomic_load(&world.all->list[0].events[0]), 1);
    end();
}

/* A loop may end before calls that nobody waits for. */
static void a_desk_may_close_before_its_calls_are_back(void **state) {
    struct asked running, queued;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    ask(&running, 0, "wait");
    AWAIT(&world.loop, NULL, is_running(1, 0));
    ask(&queued, 0, "large_reply");
    AWAIT(&world.loop, NULL, is_running(1, 1));
    loop_timer_stop(&world.loop, &running.call->timer);
    loop_timer_stop(&world.loop, &queued.call->timer);
    handler_desk_close(world.desk);
    world.desk = NULL;
    open_gate();
    end();
    assert_int_equal(done, 0);
}

static void one_slow_handler_leaves_a_worker_to_others(void **state) {
    struct asked slow[6], quick;

    begin("fault", 2, 2, 20 * NS_PER_S, 10);
    for (unsigned i = 0; i < 6; i++)
        ask(&slow[i], 0, "wait");
    AWAIT(&world.loop, NULL, is_running(1, 5));
    ask(&quick, 1, NULL);
    AWAIT(&world.loop, NULL, quick.is_done);
    assert_int_equal(done, 1);
    open_gate();
    AWAIT(&world.loop, NULL, done == 7);
    end();
}

static void a_large_reply_arrives_whole(void **state) {
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    for (unsigned i = 1; i <= 3; i++) {
        ask(&asked, 0, "large_reply");
        AWAIT(&world.loop, NULL, done == i);
        assert_int_equal(asked.outcome, CALL_RESPOND);
        assert_int_equal(asked.content, 500000);
    }
    end();
}

static void to_respond_without_a_reply_is_a_fault(void **state) {
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    ask(&asked, 0, "no_reply");
    AWAIT(&world.loop, NULL, done == 1);
    assert_int_equal(asked.outcome, CALL_FAULT);
    assert_int_equal(atomic_load(&world.all->list[0].faults[FAULT_ANSWER]), 1);
    end();
}

static void a_handler_in_quarantine_is_not_called(void **state) {
    struct asked asked;
    struct quarantine *quarantine;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    quarantine = handlers_quarantine(world.all, 0);
    for (unsigned i = 0; i < 4; i++)
        quarantine_tell(quarantine, false, true, world.loop.now_ns);
    ask(&asked, 0, NULL);
    assert_false(asked.is_done);
    AWAIT(&world.loop, NULL, done == 1);
    assert_int_equal(asked.outcome, CALL_QUARANTINED);
    ask(&asked, 0, NULL); /* and one that nobody waits for */
    call_forget(asked.call);
    world.handlers[0].on_quarantine = QUARANTINE_BYPASS;
    ask(&asked, 0, NULL);
    AWAIT(&world.loop, NULL, done == 2);
    assert_int_equal(asked.outcome, CALL_BYPASSED);
    assert_true(handlers_reset(world.all, "first"));
    assert_false(handlers_reset(world.all, "third"));
    ask(&asked, 0, NULL);
    AWAIT(&world.loop, NULL, done == 3);
    assert_int_equal(asked.outcome, CALL_CONTINUE);
    assert_int_equal(atomic_load(&world.all->list[0].events[0]), 1);
    end();
}

/* One that sleeps in the kernel, and has long stopped looking by itself, is woken. */
static void a_loop_that_rests_hears_of_its_calls(void **state) {
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    for (unsigned i = 1; i <= 3; i++) {
        ask(&asked, 0, NULL);
        while (done < i)
            uv_run(&world.loop.uv, UV_RUN_ONCE); /* waits for as long as it takes */
        assert_int_equal(asked.outcome, CALL_CONTINUE);
        for (unsigned turn = 0; turn < 1000; turn++)
            uv_run(&world.loop.uv, UV_RUN_NOWAIT);
    }
    end();
}

/* As of a process that writes where it should not: they cost a look each, and do not go on. */
static void wake_ups_without_news_come_to_an_end(void **state) {
    struct pollfd polled = {.events = POLLIN};
    struct asked asked;

    begin("fault", 1, 1, 20 * NS_PER_S, 10);
    polled.fd = uv_backend_fd(&world.loop.uv);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(eventfd_write(world.all->desk_fds[0].by_processes, 1), 0);
        assert_int_equal(eventfd_write(world.all->desk_fds[0].by_threads, 1), 0);
        AWAIT(&world.loop, NULL, poll(&polled, 1, 0) == 0);
    }
    ask(&asked, 0, NULL);
    while (done == 0)
        uv_run(&world.loop.uv, UV_RUN_ONCE);
    end();
}

static void calls_of_two_loops_share_a_worker(void **state) {
    struct asked first[40], second[40];
    struct handler_desk *other;
    struct loop loop;

    loops = 2;
    begin("fault", 1, 1, 20 * NS_PER_S, 100);
    loops = 1;
    assert_int_equal(loop_open(&loop, 1), 0);
    other = handler_desk_open(world.all, &loop);
    for (unsigned i = 0; i < 40; i++) {
        ask(&first[i], 0, NULL);
        ask_at(other, &second[i], 0, NULL);
        if (i % 8 == 0)
            spin(&world.loop, &loop);
    }
    AWAIT(&world.loop, &loop, done == 80);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(first[i].outcome, CALL_CONTINUE);
        assert_int_equal(second[i].outcome, CALL_CONTINUE);
    }
    handler_desk_close(other);
    end();
    assert_int_equal(finish_loop(&loop), 0);
}

static void count_to(const char *expected) {
    struct asked asked;
    unsigned before = done;

    ask(&asked, 0, "count");
    AWAIT(&world.loop, NULL, done == before + 1);
    assert_string_equal(asked.count, expected);
}

static void a_lost_instance_begins_anew(void **state) {
    struct asked asked;

    if (HANDLER_HAS_SANITIZER)
        skip(); /* nobody would catch it */
    begin("fault_statics", 1, 1, 20 * NS_PER_S, 10);
    count_to("1");
    count_to("2");
    count_to("3");
    ask(&asked, 0, "null");
    AWAIT(&world.loop, NULL, done == 4);
    assert_int_equal(asked.outcome, CALL_FAULT);
    count_to("1");
    count_to("2");
    end();
}

static void each_instance_has_its_own_statics(void **state) {
    struct asked slow[2];

    begin("fault_statics", 2, 1, 20 * NS_PER_S, 10);
    assert_ptr_not_equal(world.all->slots[0].instances[0].image,
                         world.all->slots[1].instances[0].image);
    assert_ptr_not_equal(world.all->slots[0].instances[0].image->functions,
                         world.all->slots[1].instances[0].image->functions);
    for (unsigned i = 0; i < 2; i++)
        ask(&slow[i], 0, "nap");
    AWAIT(&world.loop, NULL, done == 2);
    end();
}

/* The others of its batch are run by somebody else meanwhile. */
static void one_slow_call_does_not_hold_up_its_batch(void **state) {
    struct asked slow, quick[8];

    begin("fault", 2, 1, 20 * NS_PER_S, 100);
    ask(&quick[0], 0, NULL); /* both know that calls are short */
    AWAIT(&world.loop, NULL, done == 1);
    ask(&slow, 0, "wait");
    for (unsigned i = 0; i < 8; i++)
        ask(&quick[i], 0, NULL);
    AWAIT(&world.loop, NULL, done == 9);
    assert_false(slow.is_done);
    open_gate();
    AWAIT(&world.loop, NULL, done == 10);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_calls_are_all_answered),
        cmocka_unit_test(one_worker_keeps_the_order),
        cmocka_unit_test(a_queue_is_bounded),
        cmocka_unit_test(what_waits_too_long_is_answered_and_never_run),
        cmocka_unit_test(a_forgotten_call_is_heard_of_no_more),
        cmocka_unit_test(a_desk_may_close_before_its_calls_are_back),
        cmocka_unit_test(one_slow_handler_leaves_a_worker_to_others),
        cmocka_unit_test(a_large_reply_arrives_whole),
        cmocka_unit_test(to_respond_without_a_reply_is_a_fault),
        cmocka_unit_test(a_handler_in_quarantine_is_not_called),
        cmocka_unit_test(a_loop_that_rests_hears_of_its_calls),
        cmocka_unit_test(wake_ups_without_news_come_to_an_end),
        cmocka_unit_test(calls_of_two_loops_share_a_worker),
        cmocka_unit_test(a_lost_instance_begins_anew),
        cmocka_unit_test(each_instance_has_its_own_statics),
        cmocka_unit_test(one_slow_call_does_not_hold_up_its_batch),
        cmocka_unit_test_setup_teardown(many_calls_are_all_answered, in_process, in_thread),
        cmocka_unit_test_setup_teardown(one_worker_keeps_the_order, in_process, in_thread),
        cmocka_unit_test_setup_teardown(a_queue_is_bounded, in_process, in_thread),
        cmocka_unit_test_setup_teardown(a_forgotten_call_is_heard_of_no_more, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_desk_may_close_before_its_calls_are_back, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_large_reply_arrives_whole, in_process, in_thread),
        cmocka_unit_test_setup_teardown(to_respond_without_a_reply_is_a_fault, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_lost_instance_begins_anew, in_process, in_thread),
        cmocka_unit_test_setup_teardown(one_slow_call_does_not_hold_up_its_batch, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(a_loop_that_rests_hears_of_its_calls, in_process,
                                        in_thread),
        cmocka_unit_test_setup_teardown(calls_of_two_loops_share_a_worker, in_process, in_thread),
    };

    return cmocka_run_group_tests(tests, make_gate, remove_gate);
}
