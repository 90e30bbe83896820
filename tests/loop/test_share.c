/* The promises of proxy/loop/share.h, and of gates that share a row: two gates on one table stand
 * for two processes; in the last tests there are real ones. */
#include "loop/gate.h"

#include "support/unit.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY "up/concurrency/"
#define LINE_PLACES 100

/* A process: its loop, its gate. */
struct party {
    struct share_home home;
    struct loop loop;
    struct gate gate;
    struct gate_desk desk;
};

static struct share_table *table;
static struct party parties[2];
static unsigned granted;

static void on_granted(struct gate_ticket *ticket, void *gift) {
    granted++;
}

static struct share_table *make_table(void) {
    void *memory = mmap(NULL, sizeof(struct share_table), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return share_table_init(memory);
}

static void open_party(unsigned i, uint32_t limit) {
    struct party *party = &parties[i];

    party->home = (struct share_home){.table = table, .slot = i};
    share_begin(&party->home);
    assert_int_equal(loop_open(&party->loop, 0), 0);
    gate_init(&party->gate, limit, LINE_PLACES);
    gate_desk_init(&party->desk, &party->gate, &party->loop, on_granted);
    assert_true(gate_share(&party->gate, &party->home, KEY));
}

static int set_up(void **state) {
    table = make_table();
    granted = 0;
    open_party(0, 2);
    open_party(1, 2);
    return 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gate_taken(&parties[i].gate), 0);
        gate_deinit(&parties[i].gate);
        assert_int_equal(finish_loop(&parties[i].loop), 0);
    }
    munmap(table, sizeof *table);
    return 0;
}

static void look(unsigned i) {
    share_beat(&parties[i].home);
    gate_look(&parties[i].gate, &parties[i].loop);
}

static void leave(unsigned i, struct gate_ticket *ticket) {
    gate_leave(&parties[i].gate, ticket, &parties[i].loop);
}

static enum gate_outcome enter(unsigned i, struct gate_ticket *ticket) {
    return gate_enter(&parties[i].desk, ticket);
}

/* @ms pass, on the clocks of both loops. */
static void pass_time(int64_t ms) {
    for (unsigned i = 0; i < 2; i++)
        parties[i].loop.now_ns += ms * NS_PER_MS;
}

static void the_limit_is_on_the_sum(void **state) {
    struct gate_ticket a = {0}, b = {0}, c = {0};

    assert_int_equal(enter(0, &a), GATE_IN);
    assert_int_equal(enter(1, &b), GATE_IN);
    assert_int_equal(gate_taken_in_all(&parties[0].gate), 2);
    assert_false(gate_try(&parties[0].gate));
    assert_int_equal(enter(1, &c), GATE_WAIT);
    assert_int_equal(gate_taken(&parties[0].gate), 1);
    leave(0, &a);
    assert_int_equal(granted, 0); /* nobody wakes it... */
    look(1);
    assert_int_equal(granted, 1); /* ...but it looks */
    leave(1, &b);
    leave(1, &c);
}

static void each_holds_its_own_limit_against_the_sum(void **state) {
    parties[1].gate.limit = 3;
    assert_true(gate_try(&parties[0].gate));
    assert_true(gate_try(&parties[0].gate));
    assert_true(gate_try(&parties[1].gate));
    assert_false(gate_try(&parties[0].gate));
    assert_false(gate_try(&parties[1].gate));
    leave(0, NULL);
    assert_false(gate_try(&parties[0].gate)); /* 2 of 2 */
    assert_true(gate_try(&parties[1].gate));  /* 3 of 3 */
    leave(0, NULL);
    leave(1, NULL);
    leave(1, NULL);
}

static void the_lines_are_one_by_age(void **state) {
    struct gate_ticket in[2] = {0}, older = {0}, younger = {0}, newcomer = {0};

    enter(0, &in[0]);
    enter(0, &in[1]);
    assert_int_equal(enter(1, &older), GATE_WAIT);
    pass_time(5);
    assert_int_equal(enter(0, &younger), GATE_WAIT);
    leave(0, &in[0]);
    assert_int_equal(granted, 0);
    look(0); /* the other's turn */
    assert_int_equal(younger.state, TICKET_WAITING);
    assert_int_equal(enter(0, &newcomer), GATE_WAIT);
    look(1);
    assert_int_equal(older.state, TICKET_IN);
    leave(1, &older);
    look(0);
    assert_int_equal(younger.state, TICKET_IN);
    leave(0, &in[1]);
    assert_int_equal(newcomer.state, TICKET_IN);
    leave(0, &younger);
    leave(0, &newcomer);
}

static void *no_gift(void *ctx, struct gate_desk *to) {
    return NULL;
}

static void a_right_is_not_passed_over_an_older_line(void **state) {
    struct gate_ticket in[2] = {0}, older = {0}, younger = {0};

    enter(0, &in[0]);
    enter(0, &in[1]);
    enter(1, &older);
    pass_time(5);
    enter(0, &younger);
    assert_false(gate_pass(&parties[0].gate, &parties[0].loop, no_gift, NULL));
    assert_int_equal(gate_wanted(&parties[0].gate), 1);
    leave(0, &in[0]);
    look(1);
    assert_int_equal(older.state, TICKET_IN);
    assert_int_equal(gate_wanted(&parties[0].gate), 0);
    assert_int_equal(gate_wanted(&parties[1].gate), 1); /* by the younger */
    leave(1, &older);
    look(0);
    leave(0, &younger);
    leave(0, &in[1]);
}

static void who_cannot_have_one_holds_nobody_up(void **state) {
    struct gate_ticket in = {0}, waits = {0};

    parties[1].gate.limit = 1;
    assert_int_equal(enter(0, &in), GATE_IN);
    assert_int_equal(enter(1, &waits), GATE_WAIT);
    pass_time(5);
    assert_true(gate_try(&parties[0].gate)); /* 2 of 2; it needs the sum below 1 */
    assert_int_equal(gate_wanted(&parties[0].gate), 1);
    leave(0, NULL);
    leave(0, &in);
    assert_false(gate_try(&parties[0].gate)); /* now it can, and came first */
    look(1);
    assert_int_equal(waits.state, TICKET_IN);
    leave(1, &waits);
}

static void nobody_yields_to_one_that_is_stopped(void **state) {
    struct gate_ticket in[2] = {0}, waits = {0};

    enter(0, &in[0]);
    enter(0, &in[1]);
    enter(1, &waits);
    leave(0, &in[0]);
    assert_false(gate_try(&parties[0].gate));
    atomic_fetch_sub(&table->seen_ms[1], SHARE_SILENT_MS);
    share_beat(&parties[0].home);
    assert_true(gate_try(&parties[0].gate));
    assert_int_equal(gate_wanted(&parties[0].gate), 0);
    leave(0, NULL);
    leave(0, &in[1]);
    look(1);
    leave(1, &waits);
}

static void a_cancelled_waiter_holds_nobody_up(void **state) {
    struct gate_ticket in[2] = {0}, waits = {0};
    void *gift;

    enter(0, &in[0]);
    enter(0, &in[1]);
    enter(1, &waits);
    assert_int_equal(gate_wanted(&parties[0].gate), 1);
    assert_int_equal(gate_cancel(&waits, &gift), GATE_CANCELLED);
    assert_int_equal(gate_wanted(&parties[0].gate), 0);
    leave(0, &in[0]);
    assert_true(gate_try(&parties[0].gate));
    leave(0, NULL);
    leave(0, &in[1]);
}

static void what_the_dead_had_is_given_back(void **state) {
    struct gate_ticket waits = {0};

    assert_true(gate_try(&parties[1].gate));
    assert_true(gate_try(&parties[1].gate));
    assert_int_equal(enter(0, &waits), GATE_WAIT);
    assert_false(share_is_alone(&parties[0].home));
    share_table_clear(table, 1);
    assert_true(share_is_alone(&parties[0].home));
    look(0);
    assert_int_equal(waits.state, TICKET_IN);
    assert_true(gate_try(&parties[0].gate));
    leave(0, NULL);
    leave(0, &waits);
    atomic_store(&parties[1].gate.share.row->users[1], 1); /* for tear_down() */
}

/* --- The table ------------------------------------------------------------------------------ */

static void a_row_goes_by_its_key_and_is_free_when_nobody_uses_it(void **state) {
    struct share a, b, other, again;

    assert_true(share_claim(&a, &parties[0].home, "a"));
    assert_true(share_claim(&b, &parties[1].home, "a"));
    assert_true(share_claim(&other, &parties[0].home, "b"));
    assert_ptr_equal(a.row, b.row);
    assert_ptr_not_equal(a.row, other.row);
    share_release(&a);
    assert_true(share_claim(&again, &parties[0].home, "c"));
    assert_ptr_not_equal(again.row, b.row); /* the other process uses it still */
    share_release(&b);
    share_release(&again);
    assert_true(share_claim(&again, &parties[0].home, "d"));
    assert_ptr_equal(again.row, &table->rows[1]);
    share_release(&again);
    share_release(&other);
    share_release(&other); /* none: harmless */
}

static void a_full_table_has_no_room_and_gets_some_by_a_death(void **state) {
    struct share share;
    char key[16];

    for (unsigned i = 1; i < SHARE_ROWS_MAX; i++) { /* one is the gates' */
        snprintf(key, sizeof key, "%u", i);
        assert_true(share_claim(&share, &parties[i % 2].home, key));
    }
    assert_false(share_claim(&share, &parties[0].home, "more"));
    assert_null(share.row);
    assert_true(share_claim(&share, &parties[0].home, "7")); /* one that is there */
    share_table_clear(table, 1);
    assert_true(share_claim(&share, &parties[0].home, "more"));
    atomic_store(&parties[1].gate.share.row->users[1], 1);
}

static void a_key_that_is_too_long_has_no_row(void **state) {
    char key[SHARE_KEY_MAX + 2];
    struct share share;

    memset(key, 'k', sizeof key);
    key[SHARE_KEY_MAX + 1] = '\0';
    assert_false(share_claim(&share, &parties[0].home, key));
    key[SHARE_KEY_MAX] = '\0';
    assert_true(share_claim(&share, &parties[0].home, key));
    assert_int_equal(strlen(share.row->key), SHARE_KEY_MAX);
    share_release(&share);
}

static void a_claimer_that_hangs_is_waited_for_and_a_dead_one_is_not(void **state) {
    struct share share;
    int64_t start_ns = clock_now_ns();

    atomic_store(&table->claimer, 2);
    assert_false(share_claim(&share, &parties[0].home, "a"));
    assert_true(clock_now_ns() - start_ns >= SHARE_CLAIM_NS);
    share_table_clear(table, 1);
    assert_true(share_claim(&share, &parties[0].home, "a"));
    share_release(&share);
    atomic_store(&parties[1].gate.share.row->users[1], 1);
}

static void a_table_of_another_kind_is_not_taken(void **state) {
    assert_ptr_equal(share_table_attach(table, sizeof *table), table);
    assert_null(share_table_attach(table, sizeof *table - 1));
    table->bytes++;
    assert_null(share_table_attach(table, sizeof *table));
    table->bytes--;
    table->magic ^= 1;
    assert_null(share_table_attach(table, sizeof *table));
    table->magic ^= 1;
}

/* --- Processes ------------------------------------------------------------------------------ */

#define PROCESSES 4
#define CROWD_LIMIT 3
#define VISITS 200000

/* Shared with the children: how many are inside by their own count. */
struct crowd {
    _Atomic unsigned inside, most, visits;
};

static void visit(unsigned slot, struct crowd *crowd) {
    struct share_home home = {.table = table, .slot = slot};
    struct gate gate;

    gate_init(&gate, CROWD_LIMIT, 0);
    if (!gate_share(&gate, &home, "crowd"))
        _exit(1);
    while (atomic_fetch_add(&crowd->visits, 1) < VISITS) {
        unsigned now, most;

        if (!gate_try(&gate))
            continue;
        now = atomic_fetch_add(&crowd->inside, 1) + 1;
        most = atomic_load(&crowd->most);
        while (now > most && !atomic_compare_exchange_weak(&crowd->most, &most, now))
            ;
        atomic_fetch_sub(&crowd->inside, 1);
        gate_leave(&gate, NULL, NULL);
    }
    _exit(gate_taken(&gate) == 0 ? 0 : 2);
}

static void processes_never_have_more_than_the_limit_together(void **state) {
    struct crowd *crowd =
        mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];

    assert_true(crowd != MAP_FAILED);
    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            visit(i, crowd);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_true(atomic_load(&crowd->most) >= 1 && atomic_load(&crowd->most) <= CROWD_LIMIT);
    munmap(crowd, sizeof *crowd);
}

static void a_killed_process_holds_nothing_once_it_is_buried(void **state) {
    struct share_home home = {.table = table, .slot = 2};
    pid_t child;

    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct gate gate;

        gate_init(&gate, 2, 0);
        if (gate_share(&gate, &home, KEY) && gate_try(&gate) && gate_try(&gate))
            raise(SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &(int){0}, 0), child);
    assert_int_equal(gate_taken_in_all(&parties[0].gate), 2);
    assert_false(gate_try(&parties[0].gate));
    share_table_clear(table, 2);
    assert_true(gate_try(&parties[0].gate));
    assert_true(gate_try(&parties[0].gate));
    leave(0, NULL);
    leave(0, NULL);
}

#define AT_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        AT_TABLE(the_limit_is_on_the_sum),
        AT_TABLE(each_holds_its_own_limit_against_the_sum),
        AT_TABLE(the_lines_are_one_by_age),
        AT_TABLE(a_right_is_not_passed_over_an_older_line),
        AT_TABLE(who_cannot_have_one_holds_nobody_up),
        AT_TABLE(nobody_yields_to_one_that_is_stopped),
        AT_TABLE(a_cancelled_waiter_holds_nobody_up),
        AT_TABLE(what_the_dead_had_is_given_back),
        AT_TABLE(a_row_goes_by_its_key_and_is_free_when_nobody_uses_it),
        AT_TABLE(a_full_table_has_no_room_and_gets_some_by_a_death),
        AT_TABLE(a_key_that_is_too_long_has_no_row),
        AT_TABLE(a_claimer_that_hangs_is_waited_for_and_a_dead_one_is_not),
        AT_TABLE(a_table_of_another_kind_is_not_taken),
        AT_TABLE(processes_never_have_more_than_the_limit_together),
        AT_TABLE(a_killed_process_holds_nothing_once_it_is_buried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
