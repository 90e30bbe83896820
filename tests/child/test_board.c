/* What the nursery shows. */
#include "child/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct board *board;

static int begin(void **state) {
    board = board_init(calloc(1, sizeof *board));
    return 0;
}

static int end(void **state) {
    free(board);
    return 0;
}

static void a_row_is_found_by_its_name(void **state) {
    struct board_row *row = board_take(board, "a");

    assert_ptr_equal(board_take(board, "a"), row);
    assert_ptr_not_equal(board_take(board, "b"), row);
    assert_ptr_equal(board_find(board, "a"), row);
    assert_null(board_find(board, "c"));
    assert_null(board_find(NULL, "a"));
}

static void there_are_so_many_rows(void **state) {
    char name[16];

    for (int i = 0; i < BOARD_ROWS_MAX; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_non_null(board_take(board, name));
    }
    assert_null(board_take(board, "more"));
    atomic_store(&board->rows[7].is_used, 0);
    atomic_store(&board->rows[7].starts, 5);
    assert_ptr_equal(board_take(board, "more"), &board->rows[7]);
    assert_int_equal(atomic_load(&board->rows[7].starts), 0);
}

static void another_version_is_not_read(void **state) {
    assert_ptr_equal(board_attach(board, sizeof *board), board);
    assert_null(board_attach(board, sizeof *board - 1));
    board->bytes++;
    assert_null(board_attach(board, sizeof *board));
}

static void a_history_is_read_as_it_was_shown(void **state) {
    struct board_row *row = board_take(board, "a");
    struct respawn shown = {.state = RESPAWN_HELD, .count = 2, .held_until_ns = 9}, read;

    shown.at_ns[0] = 3;
    shown.at_ns[1] = 4;
    board_show_respawn(row, &shown);
    board_read_respawn(row, &read);
    assert_int_equal(read.state, RESPAWN_HELD);
    assert_int_equal(read.count, 2);
    assert_int_equal(read.at_ns[1], 4);
    assert_int_equal(read.held_until_ns, 9);
    atomic_store(&row->death_count, 1000); /* whoever has written that */
    board_read_respawn(row, &read);
    assert_int_equal(read.count, 0);
}

static void instances_are_counted_by_state(void **state) {
    struct board_row *row = board_take(board, "a");

    atomic_store(&row->instances, 3);
    atomic_store(&row->list[1].state, INSTANCE_READY);
    assert_int_equal(board_count(row, INSTANCE_READY), 1);
    assert_int_equal(board_count(row, INSTANCE_IDLE), 2);
}

/* Two bridges, of which one is started anew: counters go on, what was open is so no more. */
static void what_bridges_count_adds_up(void **state) {
    struct board_row *row = board_take(board, "a");
    struct mcp_counts none = {0}, first = {.sessions = 2, .calls_all = 5, .lost = 1},
                      second = {.sessions = 1, .calls_all = 7}, last = first;

    board_count_mcp(row, &first, &none);
    board_count_mcp(row, &second, &none);
    assert_int_equal(atomic_load(&row->mcp[0]), 3);
    last.sessions = 0;
    board_count_mcp(row, &last, &first);
    board_count_mcp(row, &second, &none);
    assert_int_equal(atomic_load(&row->mcp[0]), 2);
    assert_int_equal(atomic_load(&row->mcp[offsetof(struct mcp_counts, calls_all) / 8]), 19);
    assert_int_equal(atomic_load(&row->mcp[MCP_COUNTS - 1]), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_row_is_found_by_its_name, begin, end),
        cmocka_unit_test_setup_teardown(there_are_so_many_rows, begin, end),
        cmocka_unit_test_setup_teardown(another_version_is_not_read, begin, end),
        cmocka_unit_test_setup_teardown(a_history_is_read_as_it_was_shown, begin, end),
        cmocka_unit_test_setup_teardown(instances_are_counted_by_state, begin, end),
        cmocka_unit_test_setup_teardown(what_bridges_count_adds_up, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
