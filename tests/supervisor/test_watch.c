/* Tests of the watch over a gateway that serves, with a clock that the tests move. The process is a
 * child that sleeps, the listening socket a real one. */
#include "supervisor/state.h"

#include "support/unit.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WEDGE_NS (10 * NS_PER_S)
#define QUIET_NS SUPERVISOR_QUIET_NS
#define STEP_NS (500 * NS_PER_MS)

static struct supervisor *s;
static struct generation *g;
static struct pulse_board board;
static int64_t now_ns;
static int client;

static int open_all(void **state) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    struct kept *kept;

    s = calloc(1, sizeof *s);
    memset(&board, 0, sizeof board);
    assert_int_equal(totals_open(&s->totals), 0);
    s->current.plan.wedge_after_ns = WEDGE_NS;
    s->current.plan.listener_count = 1;
    kept = &s->kept.items[0];
    kept->fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    kept->count = kept->sure = 1;
    assert_int_equal(bind(kept->fds[0], (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(kept->fds[0], 8), 0);
    assert_int_equal(getsockname(kept->fds[0], (struct sockaddr *)&in, &len), 0);
    s->listeners[0] = kept;
    g = s->serving = &s->generations[0];
    g->state = GENERATION_SERVING;
    g->board = &board;
    g->loops = 2;
    g->pid = fork();
    if (g->pid == 0) {
        signal(SIGUSR2, SIG_IGN);
        for (;;)
            pause();
    }
    now_ns = g->since_ns = clock_now_ns();
    for (unsigned i = 0; i < g->loops; i++) {
        board.loops[i].state = PULSE_RUNNING;
        board.loops[i].alive_ns = now_ns;
    }
    client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&in, sizeof in), 0);
    supervisor_watch(s, now_ns);
    return 0;
}

static int close_all(void **state) {
    supervisor_reach_end(s);
    kill(g->pid, SIGKILL);
    waitpid(g->pid, NULL, 0);
    close(client);
    close(s->kept.items[0].fds[0]);
    totals_close(&s->totals);
    free(s);
    return 0;
}

/* Looks every half second for @ns, with the loops but @silent alive. */
static void pass(int64_t ns, int silent, bool is_accepting, bool is_held) {
    for (int64_t end_ns = now_ns + ns; now_ns < end_ns;) {
        now_ns += STEP_NS;
        for (int i = 0; i < (int)g->loops; i++)
            if (i != silent)
                board.loops[i].alive_ns = now_ns;
        board.sockets[0][0].looks += is_accepting;
        board.sockets[0][0].is_held = is_held;
        supervisor_watch(s, now_ns);
    }
}

static void who_gets_on_is_left_alone(void **state) {
    pass(10 * WEDGE_NS, -1, true, false);
    assert_false(g->is_wedged);
    assert_int_equal(s->start_at_ns, 0);
}

static void a_loop_that_is_silent_for_so_long_costs_its_gateway_the_service(void **state) {
    pass(WEDGE_NS - STEP_NS, 1, true, false);
    assert_false(g->is_wedged);
    pass(STEP_NS, 1, true, false);
    assert_true(g->is_wedged);
    assert_true(s->start_at_ns > 0);   /* a successor is on its way */
    assert_int_equal(g->end_by_ns, 0); /* and what moves goes on until then */
    assert_int_equal(metrics_read(s->totals.segment, s->totals.restarts), 1);
}

static void when_every_loop_is_silent_it_is_killed(void **state) {
    g->loops = 1;
    board.loops[1].state = PULSE_ENDED;
    pass(WEDGE_NS, 0, true, false);
    assert_true(g->is_wedged);
    assert_true(g->end_by_ns > 0);
}

static void a_retiring_one_is_killed_once_only_silent_loops_are_left(void **state) {
    pass(WEDGE_NS, 1, true, false);
    g->state = GENERATION_RETIRING;
    s->serving = NULL;
    pass(WEDGE_NS, 1, true, false);
    assert_false(g->end_soon);
    board.loops[0].state = PULSE_ENDED;
    pass(STEP_NS, 1, true, false);
    assert_true(g->end_soon);
}

static void silence_while_the_watch_itself_was_stopped_does_not_count(void **state) {
    now_ns += 100 * WEDGE_NS; /* as after SIGSTOP of all, or of the machine */
    supervisor_watch(s, now_ns);
    assert_false(g->is_wedged);
    pass(WEDGE_NS - STEP_NS, 1, true, false);
    assert_false(g->is_wedged);
    pass(2 * STEP_NS, 1, true, false);
    assert_true(g->is_wedged);
}

static void a_stopped_process_is_killed_at_once(void **state) {
    int status;

    kill(g->pid, SIGSTOP);
    waitpid(g->pid, &status, WUNTRACED);
    pass(WEDGE_NS, 1, true, false);
    assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    g->pid = fork(); /* for the end of the test */
    if (g->pid == 0)
        for (;;)
            pause();
}

static void a_listener_that_does_not_look_at_its_backlog_is_lost(void **state) {
    pass(WEDGE_NS - STEP_NS, -1, false, false);
    assert_false(g->is_wedged);
    pass(STEP_NS, -1, false, false);
    assert_true(g->is_wedged);
    assert_true(s->start_at_ns > 0);
}

static void one_that_is_held_is_not(void **state) {
    pass(3 * WEDGE_NS, -1, false, true);
    assert_false(g->is_wedged);
    /* The time counts from when it may look again. */
    pass(WEDGE_NS - STEP_NS, -1, false, false);
    assert_false(g->is_wedged);
}

/* Somebody is in its backlog, and is let in. */
static bool has_client(void) {
    struct pollfd polled = {.fd = s->kept.items[0].fds[0], .events = POLLIN};

    if (poll(&polled, 1, 0) == 0)
        return false;
    close(accept(polled.fd, NULL, NULL));
    return true;
}

static void one_that_nobody_comes_to_is_tried(void **state) {
    assert_true(has_client());
    pass(QUIET_NS - STEP_NS, -1, false, false);
    assert_false(has_client());
    pass(2 * STEP_NS, -1, false, false);
    assert_true(s->reaches[0].is_under_way);
    pass(STEP_NS, -1, true, false);
    assert_true(has_client());
    assert_false(s->reaches[0].is_under_way);
    pass(QUIET_NS + STEP_NS, -1, false, false);
    pass(WEDGE_NS, -1, false, false); /* and this time nobody looks */
    assert_true(g->is_wedged);
}

static void one_that_is_held_or_used_is_not_tried(void **state) {
    assert_true(has_client());
    pass(3 * QUIET_NS, -1, false, true);
    pass(3 * QUIET_NS, -1, true, false);
    assert_false(has_client());
}

static void one_that_was_shut_down_listens_again(void **state) {
    int fd = s->kept.items[0].fds[0], is_listening = 0;
    socklen_t len = sizeof is_listening;

    assert_int_equal(shutdown(fd, SHUT_RD), 0);
    pass(STEP_NS, -1, true, false);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len), 0);
    assert_true(is_listening);
    assert_false(g->is_wedged);
}

static void one_that_cannot_be_reached_is_told_once(void **state) {
    char path[] = "/tmp/weir-test-XXXXXX", away[sizeof path + 5];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_non_null(mkdtemp(path));
    snprintf(un.sun_path, sizeof un.sun_path, "%s/s", path);
    snprintf(away, sizeof away, "%s/away", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(fd, 8), 0);
    close(s->kept.items[0].fds[0]);
    s->kept.items[0].fds[0] = fd;
    assert_int_equal(rename(un.sun_path, away), 0);
    pass(2 * QUIET_NS, -1, false, false);
    assert_true(s->reaches[0].is_lost);
    assert_int_equal(rename(away, un.sun_path), 0);
    pass(QUIET_NS + STEP_NS, -1, false, false);
    pass(STEP_NS, -1, true, false);
    assert_false(s->reaches[0].is_lost);
    unlink(un.sun_path);
    rmdir(path);
}

static void the_watch_can_be_off(void **state) {
    s->current.plan.wedge_after_ns = 0;
    pass(3 * WEDGE_NS, 1, false, false);
    assert_false(g->is_wedged);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_gets_on_is_left_alone, open_all, close_all),
        cmocka_unit_test_setup_teardown(
            a_loop_that_is_silent_for_so_long_costs_its_gateway_the_service, open_all, close_all),
        cmocka_unit_test_setup_teardown(when_every_loop_is_silent_it_is_killed, open_all,
                                        close_all),
        cmocka_unit_test_setup_teardown(a_retiring_one_is_killed_once_only_silent_loops_are_left,
                                        open_all, close_all),
        cmocka_unit_test_setup_teardown(silence_while_the_watch_itself_was_stopped_does_not_count,
                                        open_all, close_all),
        cmocka_unit_test_setup_teardown(a_stopped_process_is_killed_at_once, open_all, close_all),
        cmocka_unit_test_setup_teardown(a_listener_that_does_not_look_at_its_backlog_is_lost,
                                        open_all, close_all),
        cmocka_unit_test_setup_teardown(one_that_is_held_is_not, open_all, close_all),
        cmocka_unit_test_setup_teardown(one_that_nobody_comes_to_is_tried, open_all, close_all),
        cmocka_unit_test_setup_teardown(one_that_is_held_or_used_is_not_tried, open_all, close_all),
        cmocka_unit_test_setup_teardown(one_that_was_shut_down_listens_again, open_all, close_all),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_reached_is_told_once, open_all,
                                        close_all),
        cmocka_unit_test_setup_teardown(the_watch_can_be_off, open_all, close_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
