/* A run as its loop sees it, with the test in the nursery's place. */
#include "child/run.h"

#include "base/control.h"
#include "support/unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct loop loop;
static struct fds fds;
static struct run_loop rl;
static int nursery; /* the other end of the channel */
static struct exchange x;
static max_align_t memory[256];
static unsigned gone;
static char packet[RUN_ENV_MAX + 4096];
static struct control_message message; /* its fds: of the program */

static void on_wake(struct task *task) {
}

static void on_response(struct body *body) {
}

static void on_gone(void *ctx) {
    ++*(unsigned *)ctx;
}

static const struct body_sink_ops response_sink = {.ready = on_response};

static int begin(void **state) {
    int ends[2];

    fds = (struct fds){.limit = {[FD_UPSTREAM] = 4}};
    gone = 0;
    message.fd_count = 0;
    if (loop_open(&loop, 0) || control_pair(ends))
        return 1;
    run_loop_init(&rl, &loop, &fds);
    nursery = ends[1];
    exchange_init(&x, &loop, on_wake, memory, sizeof memory);
    x.request_head.method = METHOD_POST;
    body_attach_sink(&x.response, &response_sink, NULL);
    return run_loop_take(&rl, ends[0]);
}

/* Everything has come back. */
static int end(void **state) {
    exchange_deinit(&x);
    control_message_deinit(&message);
    settle_down(&loop, NULL);
    assert_int_equal(loop.conns, 0);
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 0);
    run_loop_close(&rl);
    if (nursery >= 0)
        close(nursery);
    return (int)finish_loop(&loop);
}

static struct run *start(enum config_output output) {
    struct run_options options = {
        .pipeline = 7, .output = output, .on_gone = on_gone, .ctx = &gone};
    struct run *run;
    const char *why;

    options.grace_ns = 100 * NS_PER_MS;
    buffer_append(&options.env, slice_of("A=1\0B=2", 8));
    assert_int_equal(run_start(&run, &rl, &x, &options, &why), FAIL_NONE);
    return run;
}

/* What the nursery is told next, with its fds in the message; "" for nothing. */
static const char *told(void) {
    size_t len = 0;

    control_message_deinit(&message);
    if (control_receive_bytes(nursery, packet, sizeof packet - 1, &len, &message) <= 0)
        len = 0;
    packet[len] = '\0';
    return packet;
}

static void tell(const char *text) {
    assert_int_equal(control_send(nursery, text, NULL, 0), 0);
}

static void a_run_from_its_start_to_its_end(void **state) {
    struct run *run = start(OUTPUT_RAW);
    char text[16];

    assert_string_equal(told(), "spawn 1 7");
    assert_string_equal(packet + 10, "A=1");
    assert_string_equal(packet + 14, "B=2");
    assert_int_equal(message.fd_count, 2);
    tell("started 1 4711");
    body_push_copy(&x.request, SLICE("in"));
    body_end(&x.request);
    body_flush(&x.request);
    AWAIT(&loop, NULL, x.request.taken == 2);
    assert_int_equal(read(message.fds[0], text, sizeof text), 2);
    assert_int_equal(read(message.fds[0], text, sizeof text), 0); /* its end too */
    assert_int_equal(write(message.fds[1], "out", 3), 3);
    AWAIT(&loop, NULL, body_waiting(&x.response) == 3);
    assert_int_equal(x.response_head.status, 200);
    assert_true(x.events & EXCHANGE_RESPONSE_HEAD);
    control_message_deinit(&message);
    tell("gone 1 0 0");
    AWAIT(&loop, NULL, x.events & EXCHANGE_UPSTREAM_DONE);
    assert_int_equal(x.response.state, BODY_ENDED);
    assert_int_equal(gone, 1);
    assert_true(run_is_gone(run));
    run_detach(run);
}

static void who_lets_go_has_it_ended_and_the_rest_follows_by_itself(void **state) {
    struct run *run = start(OUTPUT_RAW);

    told();
    run_detach(run);
    assert_string_equal(told(), "end 1");
    assert_int_equal(gone, 0);
    assert_int_equal(fds_used(&fds, FD_UPSTREAM), 2);
    tell("gone 1 15 0");
    AWAIT(&loop, NULL, gone == 1 && loop.conns == 0);
}

static void one_that_cannot_be_started_says_why(void **state) {
    struct run *run = start(OUTPUT_SSE);

    tell("failed 1 cannot execute it: no such thing");
    AWAIT(&loop, NULL, x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_PROGRAM_START);
    assert_string_equal(x.upstream_why, "cannot execute it: no such thing");
    run_detach(run);
}

static void one_that_fails_without_a_word_is_a_failure(void **state) {
    struct run *run = start(OUTPUT_LINES);

    told();
    control_message_deinit(&message);
    tell("gone 1 768 0");
    AWAIT(&loop, NULL, x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_PROGRAM_FAILED);
    assert_string_equal(x.upstream_why, "it ended with status 3");
    run_detach(run);
}

static void one_whose_output_ends_first_is_ended_after_a_while(void **state) {
    struct run *run = start(OUTPUT_RAW);

    told();
    control_message_deinit(&message);
    AWAIT(&loop, NULL, control_is(told(), "end", &(const char *){NULL}));
    tell("gone 1 15 1");
    AWAIT(&loop, NULL, x.events & EXCHANGE_UPSTREAM_FAIL);
    run_detach(run);
}

static void when_the_nursery_is_lost_so_is_the_run(void **state) {
    struct run *run = start(OUTPUT_RAW), *another;
    struct run_options options = {0};
    const char *why;

    close(nursery);
    nursery = -1;
    AWAIT(&loop, NULL, x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_PROGRAM_LOST);
    run_detach(run);
    buffer_append(&options.env, SLICE("x"));
    assert_int_equal(run_start(&another, &rl, &x, &options, &why), FAIL_PROGRAM_START);
    assert_string_equal(why, "the nursery is not there");
}

static void what_is_too_much_for_an_environment_is_refused(void **state) {
    struct run_options options = {0};
    struct run *run;
    const char *why;

    memset(buffer_reserve(&options.env, RUN_ENV_MAX + 1), 'x', RUN_ENV_MAX + 1);
    options.env.len = RUN_ENV_MAX + 1;
    assert_int_equal(run_start(&run, &rl, &x, &options, &why), FAIL_HEAD_LARGE);
    /* As much as it can hold fits the channel. */
    options = (struct run_options){.on_gone = on_gone, .ctx = &gone};
    memset(buffer_reserve(&options.env, RUN_ENV_MAX), 'x', RUN_ENV_MAX);
    options.env.len = RUN_ENV_MAX;
    assert_int_equal(run_start(&run, &rl, &x, &options, &why), FAIL_NONE);
    assert_int_equal(strlen(told()), strlen("spawn 1 0"));
    run_detach(run);
    told();
    tell("gone 1 0 0");
    settle_down(&loop, NULL);
}

static void without_fds_there_is_none(void **state) {
    struct run *run = start(OUTPUT_RAW), *second, *third;
    struct run_options options = {.on_gone = on_gone, .ctx = &gone};
    struct exchange y;
    max_align_t more[64];
    const char *why;

    exchange_init(&y, &loop, on_wake, more, sizeof more);
    assert_int_equal(run_start(&second, &rl, &y, &options, &why), FAIL_NONE);
    assert_int_equal(run_start(&third, &rl, &y, &options, &why), FAIL_FDS_USED_UP);
    run_detach(run);
    run_detach(second);
    tell("gone 1 0 0");
    tell("gone 2 0 0");
    AWAIT(&loop, NULL, gone == 2);
    exchange_deinit(&y);
}

/* The nursery does not read: what is to be started waits, with no pipes of its own. */
static void when_the_channel_is_full_it_waits(void **state) {
    static char block[1024];
    struct run *run;
    unsigned count = 0;

    while (run_loop_send(&rl, slice_of(block, sizeof block), NULL, 0) == 0)
        count++;
    assert_true(count > 10);
    run = start(OUTPUT_RAW);
    settle_down(&loop, NULL);
    while (count-- > 0)
        assert_true(control_receive_bytes(nursery, packet, sizeof packet, &(size_t){0}, &message) >
                    0);
    AWAIT(&loop, NULL, strcmp(told(), "spawn 1 7") == 0);
    run_detach(run);
    tell("gone 1 0 0");
    AWAIT(&loop, NULL, gone == 1);
}

static void one_that_waits_may_be_let_go(void **state) {
    static char block[1024];

    while (run_loop_send(&rl, slice_of(block, sizeof block), NULL, 0) == 0)
        ;
    run_detach(start(OUTPUT_RAW));
    assert_int_equal(gone, 1);
    settle_down(&loop, NULL);
}

static void a_reader_that_is_slow_holds_the_program_back(void **state) {
    static char block[1 << 20];
    struct run *run = start(OUTPUT_RAW);
    ssize_t n, all = 0;

    told();
    fcntl(message.fds[1], F_SETFL, O_NONBLOCK);
    for (int quiet = 0; quiet<100; quiet = n> 0 ? 0 : quiet + 1) {
        n = write(message.fds[1], block, sizeof block);
        all += n > 0 ? n : 0;
        spin(&loop, NULL);
    }
    assert_in_range(all, BODY_WINDOW_BYTES, BODY_WINDOW_BYTES + LOOP_READ_BYTES + (1 << 20));
    while (body_waiting(&x.response) > 0) {
        body_drop(&x.response, body_waiting(&x.response));
        spin(&loop, NULL);
    }
    assert_true(write(message.fds[1], block, sizeof block) > 0);
    run_detach(run);
    tell("gone 1 9 1");
    AWAIT(&loop, NULL, gone == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_from_its_start_to_its_end, begin, end),
        cmocka_unit_test_setup_teardown(who_lets_go_has_it_ended_and_the_rest_follows_by_itself,
                                        begin, end),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_started_says_why, begin, end),
        cmocka_unit_test_setup_teardown(one_that_fails_without_a_word_is_a_failure, begin, end),
        cmocka_unit_test_setup_teardown(one_whose_output_ends_first_is_ended_after_a_while, begin,
                                        end),
        cmocka_unit_test_setup_teardown(when_the_nursery_is_lost_so_is_the_run, begin, end),
        cmocka_unit_test_setup_teardown(what_is_too_much_for_an_environment_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(without_fds_there_is_none, begin, end),
        cmocka_unit_test_setup_teardown(when_the_channel_is_full_it_waits, begin, end),
        cmocka_unit_test_setup_teardown(one_that_waits_may_be_let_go, begin, end),
        cmocka_unit_test_setup_teardown(a_reader_that_is_slow_holds_the_program_back, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
