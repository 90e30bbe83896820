/* The promises of proxy/loop/loop.h and mailbox.h. */
#include "loop/loop.h"

#include "support/unit.h"

#include <assert.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SENDERS 4
#define LETTERS 10000 /* of each sender */

static struct loop loop;

static int set_up(void **state) {
    return loop_open(&loop, 3);
}

static int tear_down(void **state) {
    return (int)finish_loop(&loop);
}

/* --- Tasks ----------------------------------------------------------------------------------- */

/* A task that notes its turn in `order` and may wake others. */
struct step {
    struct task task;
    char name;
    struct step *wakes;
    struct step *ends;
    struct step *batches;
    struct step *leaves;
    unsigned runs;
};

static char order[32];
static size_t order_len;

static void walk(struct task *task) {
    struct step *step = CONTAINER_OF(task, struct step, task);

    step->runs++;
    if (order_len < sizeof order - 1)
        order[order_len++] = step->name;
    order[order_len] = '\0';
    if (step->wakes)
        loop_wake(&loop, &step->wakes->task);
    if (step->ends)
        loop_at_turn_end(&loop, &step->ends->task);
    if (step->batches)
        loop_at_batch_end(&loop, &step->batches->task);
    if (step->leaves)
        loop_behind_batch(&loop, &step->leaves->task);
}

static void step_init(struct step *step, char name) {
    *step = (struct step){.name = name};
    task_init(&step->task, walk);
    order_len = 0;
    order[0] = '\0';
}

static void a_task_woken_many_times_runs_once(void **state) {
    struct step a;

    step_init(&a, 'a');
    for (unsigned i = 0; i < 3; i++)
        loop_wake(&loop, &a.task);
    loop_turn(&loop);
    loop_turn(&loop);
    assert_int_equal(a.runs, 1);
    loop_wake(&loop, &a.task);
    loop_turn(&loop);
    assert_int_equal(a.runs, 2);
}

static void tasks_run_in_the_order_of_their_waking(void **state) {
    struct step a, b, c;

    step_init(&a, 'a');
    step_init(&b, 'b');
    step_init(&c, 'c');
    loop_wake(&loop, &b.task);
    loop_wake(&loop, &a.task);
    loop_wake(&loop, &c.task);
    loop_wake(&loop, &b.task);
    loop_turn(&loop);
    assert_string_equal(order, "bac");
}

static void a_task_woken_by_a_task_runs_in_the_same_turn(void **state) {
    struct step a, b, c;

    step_init(&a, 'a');
    step_init(&b, 'b');
    step_init(&c, 'c');
    a.wakes = &c;
    c.wakes = &b;
    loop_wake(&loop, &a.task);
    loop_turn(&loop);
    assert_string_equal(order, "acb");
}

static void a_cancelled_task_does_not_run(void **state) {
    struct step a, b;

    step_init(&a, 'a');
    step_init(&b, 'b');
    loop_wake(&loop, &a.task);
    loop_wake(&loop, &b.task);
    task_cancel(&a.task);
    task_cancel(&a.task);
    loop_turn(&loop);
    assert_string_equal(order, "b");
}

static void ending_tasks_run_after_the_ready_list(void **state) {
    struct step a, b, last;

    step_init(&a, 'a');
    step_init(&b, 'b');
    step_init(&last, 'z');
    a.ends = &last;
    a.wakes = &b;
    b.ends = &last;
    loop_wake(&loop, &a.task);
    loop_turn(&loop);
    assert_string_equal(order, "abz");
}

static void a_task_woken_at_the_end_of_a_turn_runs_in_the_next(void **state) {
    struct step a, last;

    step_init(&a, 'a');
    step_init(&last, 'z');
    last.wakes = &a;
    loop_at_turn_end(&loop, &last.task);
    loop_turn(&loop);
    assert_string_equal(order, "z");
    AWAIT(&loop, NULL, a.runs == 1);
}

static void turn_inside(struct task *task) {
    struct step *step = CONTAINER_OF(task, struct step, task);

    loop_wake(&loop, &step->wakes->task);
    loop_turn(&loop);
    assert_int_equal(step->wakes->runs, 0);
}

static void a_batch_ends_after_all_the_turns_of_a_poll(void **state) {
    struct step a, b, last;

    step_init(&a, 'a');
    step_init(&b, 'b');
    step_init(&last, 'z');
    loop_at_batch_end(&loop, &last.task);
    loop_at_batch_end(&loop, &last.task);
    loop_wake(&loop, &a.task);
    loop_turn(&loop);
    loop_wake(&loop, &b.task);
    loop_turn(&loop);
    assert_string_equal(order, "ab");
    spin(&loop, NULL);
    assert_string_equal(order, "abz");
}

static void what_the_end_of_a_batch_leads_to_is_not_waited_for(void **state) {
    struct step a, last, again;

    step_init(&a, 'a');
    step_init(&last, 'y');
    step_init(&again, 'z');
    last.wakes = &a;
    a.batches = &again;
    loop_at_batch_end(&loop, &last.task);
    uv_run(&loop.uv, UV_RUN_ONCE); /* there is nothing else that would end it */
    assert_string_equal(order, "yaz");
}

static void what_a_batch_leads_to_leaves_behind_its_end(void **state) {
    struct step a, last, behind;

    step_init(&a, 'a');
    step_init(&last, 'y');
    step_init(&behind, 'z');
    loop_behind_batch(&loop, &behind.task);
    loop_behind_batch(&loop, &behind.task);
    loop_at_batch_end(&loop, &last.task);
    last.wakes = &a;
    a.leaves = &behind;
    spin(&loop, NULL);
    assert_string_equal(order, "yaz");
}

static void what_was_put_off_is_done_ahead_of_the_next_turn(void **state) {
    struct step a, ahead, last;

    step_init(&a, 'a');
    step_init(&ahead, 'x');
    step_init(&last, 'y');
    loop_wake(&loop, &a.task);
    loop_ahead_of_turn(&loop, &ahead.task);
    loop_ahead_of_turn(&loop, &ahead.task);
    loop_turn(&loop);
    assert_string_equal(order, "xa");
    loop_at_batch_end(&loop, &last.task);
    loop_ahead_of_turn(&loop, &ahead.task);
    spin(&loop, NULL);
    assert_string_equal(order, "xaxy");
}

static unsigned heard, heard_before; /* of the sources below; at the end of the batch before */

static void on_source(uv_poll_t *poll, int status, int events) {
    struct step *last = poll->data;

    uv_poll_stop(poll);
    heard++;
    loop_at_batch_end(&loop, &last->task);
}

static void end_of_batch(struct task *task) {
    struct step *step = CONTAINER_OF(task, struct step, task);

    assert_in_range(heard - heard_before, 1, LOOP_EVENTS_MAX);
    heard_before = heard;
    step->runs++;
}

static void a_batch_has_so_many_events_and_no_more(void **state) {
    uv_poll_t sources[3 * LOOP_EVENTS_MAX];
    int fds[3 * LOOP_EVENTS_MAX];
    struct step last;

    step_init(&last, 'z');
    last.task.run = end_of_batch;
    heard = heard_before = 0;
    for (unsigned i = 0; i < 3 * LOOP_EVENTS_MAX; i++) {
        fds[i] = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
        uv_poll_init(&loop.uv, &sources[i], fds[i]);
        sources[i].data = &last;
        uv_poll_start(&sources[i], UV_READABLE, on_source);
    }
    AWAIT(&loop, NULL, heard_before == 3 * LOOP_EVENTS_MAX);
    assert_in_range(last.runs, 3, 4); /* the loop's own may be among them */
    for (unsigned i = 0; i < 3 * LOOP_EVENTS_MAX; i++)
        uv_close((uv_handle_t *)&sources[i], NULL);
    settle_down(&loop, NULL);
    for (unsigned i = 0; i < 3 * LOOP_EVENTS_MAX; i++)
        close(fds[i]);
}

static void a_turn_inside_a_turn_does_nothing(void **state) {
    struct step outer, inner;

    step_init(&outer, 'o');
    step_init(&inner, 'i');
    outer.wakes = &inner;
    outer.task.run = turn_inside;
    loop_wake(&loop, &outer.task);
    loop_turn(&loop);
    assert_int_equal(inner.runs, 1);
}

static void a_turn_ends_after_so_many_tasks_and_the_rest_follows(void **state) {
    struct step forever, last;

    step_init(&forever, 'f');
    step_init(&last, 'z');
    forever.wakes = &forever;
    loop_at_turn_end(&loop, &last.task);
    loop_wake(&loop, &forever.task);
    loop_turn(&loop);
    assert_int_equal(forever.runs, LOOP_TURN_TASKS_MAX);
    assert_int_equal(last.runs, 1); /* borrowed bytes end with the turn, whatever is left */
    AWAIT(&loop, NULL, forever.runs > 3 * LOOP_TURN_TASKS_MAX);
    forever.wakes = NULL;
    AWAIT(&loop, NULL, !uv_is_active((uv_handle_t *)&loop.idle));
}

static unsigned bytes_heard;

static void on_heard(uv_poll_t *poll, int status, int events) {
    char byte;
    ssize_t n = read((int)(intptr_t)poll->data, &byte, 1);

    bytes_heard += n > 0;
}

static void tasks_without_end_let_input_and_timers_through(void **state) {
    struct step forever;
    uv_poll_t poll;
    int fds[2];

    stream_pair(fds);
    step_init(&forever, 'f');
    forever.wakes = &forever;
    loop_wake(&loop, &forever.task);
    poll.data = (void *)(intptr_t)fds[0];
    uv_poll_init(&loop.uv, &poll, fds[0]);
    uv_poll_start(&poll, UV_READABLE, on_heard);
    bytes_heard = 0;
    for (unsigned i = 1; i <= 5; i++) {
        SAY(fds[1], "x");
        AWAIT(&loop, NULL, bytes_heard == i);
    }
    assert_true(forever.runs >= 5 * LOOP_TURN_TASKS_MAX);
    forever.wakes = NULL;
    uv_close((uv_handle_t *)&poll, NULL);
    settle_down(&loop, NULL);
    close(fds[0]);
    close(fds[1]);
}

/* --- Timers ---------------------------------------------------------------------------------- */

struct bell {
    struct timer timer;
    int64_t due_ns, rang_ns;
};

static void ring(struct timer *timer) {
    CONTAINER_OF(timer, struct bell, timer)->rang_ns = clock_now_ns();
}

static void set_bell(struct bell *bell, int64_t delay_ns) {
    loop.now_ns = clock_now_ns();
    bell->due_ns = loop.now_ns + delay_ns;
    loop_timer_start(&loop, &bell->timer, delay_ns);
}

static void a_timer_of_the_loop_is_never_early(void **state) {
    for (unsigned i = 0; i < 10; i++) {
        struct bell bell = {0};

        timer_init(&bell.timer, ring);
        set_bell(&bell, 1 + i * 700 * NS_PER_US);
        AWAIT(&loop, NULL, bell.rang_ns);
        assert_true(bell.rang_ns >= bell.due_ns);
    }
}

static void a_nearer_timer_does_not_wait_for_a_farther_one(void **state) {
    struct bell far = {0}, near = {0}, stopped = {0};

    timer_init(&far.timer, ring);
    timer_init(&near.timer, ring);
    timer_init(&stopped.timer, ring);
    set_bell(&far, 3600 * NS_PER_S);
    set_bell(&stopped, 2 * NS_PER_MS);
    set_bell(&near, 5 * NS_PER_MS);
    loop_timer_stop(&loop, &stopped.timer);
    AWAIT(&loop, NULL, near.rang_ns);
    assert_int_equal(stopped.rang_ns, 0);
    set_bell(&far, 5 * NS_PER_MS); /* moved */
    AWAIT(&loop, NULL, far.rang_ns);
    assert_int_equal(loop.wheel.running, 0);
}

/* --- Mail ------------------------------------------------------------------------------------ */

struct letter {
    struct mail mail;
    unsigned sender, number;
};

static struct letter letters[SENDERS][LETTERS];
static unsigned received[SENDERS]; /* the next number of each sender */

static void take_letter(struct loop *to, struct mail *mail) {
    struct letter *letter = CONTAINER_OF(mail, struct letter, mail);

    assert(to == &loop);
    assert(letter->number == received[letter->sender]);
    received[letter->sender]++;
}

static void *send_letters(void *first) {
    struct letter *own = first;

    for (unsigned i = 0; i < LETTERS; i++)
        loop_post(&loop, &own[i].mail);
    return NULL;
}

static void write_letters(void) {
    for (unsigned s = 0; s < SENDERS; s++) {
        received[s] = 0;
        for (unsigned i = 0; i < LETTERS; i++)
            letters[s][i] = (struct letter){{.deliver = take_letter}, s, i};
    }
}

static void letters_of_one_sender_arrive_in_order(void **state) {
    write_letters();
    for (unsigned i = 0; i < 100; i++) {
        loop_post(&loop, &letters[0][i].mail);
        if (i % 7 == 0)
            spin(&loop, NULL);
    }
    AWAIT(&loop, NULL, received[0] == 100); /* take_letter() checks the order */
}

static void no_letter_of_many_threads_is_lost(void **state) {
    pthread_t threads[SENDERS];

    write_letters();
    for (unsigned s = 0; s < SENDERS; s++)
        assert_int_equal(pthread_create(&threads[s], NULL, send_letters, letters[s]), 0);
    for (unsigned s = 0; s < SENDERS; s++)
        AWAIT(&loop, NULL, received[s] == LETTERS);
    for (unsigned s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
}

static struct step woken_by_mail;

static void wake_by_mail(struct loop *to, struct mail *mail) {
    loop_wake(to, &woken_by_mail.task);
}

static void a_task_woken_by_a_letter_runs_at_once(void **state) {
    struct mail mail = {.deliver = wake_by_mail};

    step_init(&woken_by_mail, 'm');
    loop_post(&loop, &mail);
    AWAIT(&loop, NULL, woken_by_mail.runs == 1);
    assert_true(list_is_empty(&loop.ready));
}

/* --- The end --------------------------------------------------------------------------------- */

static struct letter late;

static void post_late(struct loop *to, struct mail *mail) {
    loop_post(to, &late.mail);
}

static void letters_that_come_after_the_end_are_delivered_too(void **state) {
    struct loop *saved = &loop;
    struct mail first = {.deliver = post_late};

    late = (struct letter){{.deliver = take_letter}, 0, 0};
    received[0] = 0;
    assert_int_equal(loop_open(saved, 0), 0);
    loop_stop(saved);
    loop_post(saved, &first); /* its delivery posts another */
    loop_run(saved);
    assert_int_equal(received[0], 1);
    assert_int_equal(loop_close(saved), 0);
}

static void a_task_woken_as_the_loop_ends_still_runs(void **state) {
    struct step a, last;

    assert_int_equal(loop_open(&loop, 0), 0);
    step_init(&a, 'a');
    step_init(&last, 'z');
    last.wakes = &a;
    loop_at_turn_end(&loop, &last.task);
    loop_stop(&loop);
    loop_turn(&loop); /* as in the callback that stopped the loop */
    loop_run(&loop);
    assert_string_equal(order, "za");
    assert_int_equal(loop_close(&loop), 0);
}

static void a_loop_whose_handles_are_closed_leaves_nothing(void **state) {
    uv_timer_t timer;

    assert_int_equal(loop_open(&loop, 0), 0);
    uv_timer_init(&loop.uv, &timer);
    uv_close((uv_handle_t *)&timer, NULL);
    loop_stop(&loop);
    loop_run(&loop);
    assert_int_equal(loop_close(&loop), 0);
}

static void a_handle_that_was_forgotten_is_counted(void **state) {
    uv_timer_t forgotten[2];

    assert_int_equal(loop_open(&loop, 0), 0);
    uv_timer_init(&loop.uv, &forgotten[0]);
    uv_timer_init(&loop.uv, &forgotten[1]);
    loop_stop(&loop);
    loop_run(&loop);
    assert_int_equal(loop_close(&loop), 2);
    uv_close((uv_handle_t *)&forgotten[0], NULL);
    uv_close((uv_handle_t *)&forgotten[1], NULL);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop.uv), 0);
}

static void the_heartbeat_follows_the_turns(void **state) {
    int64_t before_ns = atomic_load(&loop.pulse->alive_ns);

    AWAIT(&loop, NULL, atomic_load(&loop.pulse->alive_ns) > before_ns);
    assert_int_equal(loop.index, 3);
}

#define ON_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_LOOP(a_task_woken_many_times_runs_once),
        ON_LOOP(tasks_run_in_the_order_of_their_waking),
        ON_LOOP(a_task_woken_by_a_task_runs_in_the_same_turn),
        ON_LOOP(a_cancelled_task_does_not_run),
        ON_LOOP(ending_tasks_run_after_the_ready_list),
        ON_LOOP(a_task_woken_at_the_end_of_a_turn_runs_in_the_next),
        ON_LOOP(a_turn_inside_a_turn_does_nothing),
        ON_LOOP(a_batch_ends_after_all_the_turns_of_a_poll),
        ON_LOOP(what_the_end_of_a_batch_leads_to_is_not_waited_for),
        ON_LOOP(what_a_batch_leads_to_leaves_behind_its_end),
        ON_LOOP(what_was_put_off_is_done_ahead_of_the_next_turn),
        ON_LOOP(a_batch_has_so_many_events_and_no_more),
        ON_LOOP(a_turn_ends_after_so_many_tasks_and_the_rest_follows),
        ON_LOOP(tasks_without_end_let_input_and_timers_through),
        ON_LOOP(a_timer_of_the_loop_is_never_early),
        ON_LOOP(a_nearer_timer_does_not_wait_for_a_farther_one),
        ON_LOOP(letters_of_one_sender_arrive_in_order),
        ON_LOOP(no_letter_of_many_threads_is_lost),
        ON_LOOP(a_task_woken_by_a_letter_runs_at_once),
        ON_LOOP(the_heartbeat_follows_the_turns),
        cmocka_unit_test(letters_that_come_after_the_end_are_delivered_too),
        cmocka_unit_test(a_task_woken_as_the_loop_ends_still_runs),
        cmocka_unit_test(a_loop_whose_handles_are_closed_leaves_nothing),
        cmocka_unit_test(a_handle_that_was_forgotten_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
