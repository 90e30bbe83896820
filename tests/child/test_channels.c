/* What gateways may ask of the nursery, and how much of it. */
#include "base/control.h"
#include "child/nursery_state.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

static struct nursery *nursery;
static struct nursery_channel *channel;
static int gateway; /* the other end */
static struct control_message message;

static struct program_set *make_set(void) {
    struct program_set *set = calloc(1, sizeof *set);
    int err = programs_parse(
        &set->programs, SLICE("[{\"name\":\"p\",\"pipeline\":3,\"program\":{\"exec\":true,"
                              "\"command\":[\"true\"],\"env\":[],\"addresses\":[],\"signal\":15,"
                              "\"deaths\":5}}]"));

    assert_int_equal(err, 0);
    return set;
}

static int begin(void **state) {
    int ends[2];

    nursery = calloc(1, sizeof *nursery);
    nursery->epoll = epoll_create1(0);
    nursery->board = board_init(calloc(1, sizeof(struct board)));
    list_init(&nursery->channels);
    list_init(&nursery->children);
    list_init(&nursery->residents);
    control_pair(ends);
    gateway = ends[0];
    channel = channel_open(nursery, ends[1], make_set());
    return channel == NULL;
}

static int end(void **state) {
    while (!list_is_empty(&nursery->channels))
        channel_close(nursery, CONTAINER_OF(nursery->channels.next, struct nursery_channel, link));
    assert_int_equal(nursery->channel_count, 0);
    nursery_empty_graves(nursery);
    free(nursery->board);
    close(nursery->epoll);
    free(nursery);
    close(gateway);
    return 0;
}

static void ask(const char *text, size_t len, unsigned fd_count) {
    const int fds[] = {STDIN_FILENO, STDOUT_FILENO};

    assert_int_equal(control_send_bytes(gateway, slice_of(text, len), fds, fd_count), 0);
    channel_read(nursery, channel);
}
#define ASK(text, fd_count) ask(text, sizeof(text) - 1, fd_count)

static const char *answer(void) {
    return control_receive(gateway, &message) > 0 ? message.text : "";
}

static void only_programs_of_its_own_file_are_started(void **state) {
    ASK("spawn 1 2", 2);
    assert_string_equal(answer(),
                        "failed 1 the nursery cannot start it: No such file or directory");
    ASK("spawn 2 3", 1); /* no output */
    assert_string_equal(answer(),
                        "failed 2 the nursery cannot start it: No such file or directory");
    ASK("spawn nonsense", 2);
    ASK("nonsense", 0);
    assert_string_equal(answer(), "");
}

static void so_many_programs_run_at_a_time(void **state) {
    nursery->child_count = NURSERY_CHILDREN_MAX;
    ASK("spawn 1 3", 2);
    assert_string_equal(answer(),
                        "failed 1 the nursery cannot start it: too many programs are running");
    nursery->child_count = 0;
}

static void a_board_without_room_starts_nothing(void **state) {
    char name[16];

    for (int i = 0; i < BOARD_ROWS_MAX; i++) {
        snprintf(name, sizeof name, "q%d", i);
        atomic_store(&board_take(nursery->board, name)->running, 1);
    }
    ASK("spawn 1 3", 2);
    assert_string_equal(answer(),
                        "failed 1 the nursery cannot start it: too many programs are running");
    /* A row that nobody needs any more makes room. */
    atomic_store(&nursery->board->rows[5].running, 0);
    assert_ptr_equal(nursery_row(nursery, "p"), &nursery->board->rows[5]);
}

static void an_environment_that_was_cut_is_refused(void **state) {
    ASK("spawn 1 3\0A=1\0B", 2);
    assert_string_equal(answer(), "failed 1 the nursery cannot start it: Argument list too long");
}

static void so_many_channels_are_open(void **state) {
    nursery->channel_count = NURSERY_CHANNELS_MAX;
    assert_null(channel_open(nursery, -1, channel->set));
    nursery->channel_count = 1;
}

static void who_is_late_misses_nothing(void **state) {
    char text[32];

    for (int i = 0; i < 5000; i++)
        channel_tell(nursery, channel, "started %d", i);
    assert_true(channel->unsent.len > 0);
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "started %d", i);
        while (control_receive(gateway, &message) == 0)
            channel->watch.ready(nursery, &channel->watch);
        assert_string_equal(message.text, text);
    }
    assert_int_equal(channel->unsent.len, 0);
}

static void who_never_listens_loses_the_channel(void **state) {
    for (int i = 0; i < 100000 && nursery->channel_count > 0; i++) {
        assert_true(channel->unsent.len <= NURSERY_UNSENT_MAX);
        channel_tell(nursery, channel, "started %d %d", i, i);
    }
    assert_int_equal(nursery->channel_count, 0);
}

static void the_end_of_a_gateway_is_that_of_its_channel(void **state) {
    close(gateway);
    channel_read(nursery, channel);
    assert_int_equal(nursery->channel_count, 0);
    gateway = dup(STDIN_FILENO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_programs_of_its_own_file_are_started, begin, end),
        cmocka_unit_test_setup_teardown(so_many_programs_run_at_a_time, begin, end),
        cmocka_unit_test_setup_teardown(a_board_without_room_starts_nothing, begin, end),
        cmocka_unit_test_setup_teardown(an_environment_that_was_cut_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(so_many_channels_are_open, begin, end),
        cmocka_unit_test_setup_teardown(who_is_late_misses_nothing, begin, end),
        cmocka_unit_test_setup_teardown(who_never_listens_loses_the_channel, begin, end),
        cmocka_unit_test_setup_teardown(the_end_of_a_gateway_is_that_of_its_channel, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
