/* The promises of proxy/transport/acceptor.h. Listening sockets are unix sockets without a name in
 * the file system, so that no port is needed; the clients are the test's. */
#include "transport/acceptor.h"

#include "support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT 2
#define CLIENTS_MAX 256

static struct loop loops[2];
static struct fds fds;
static struct gate gate;

/* One listening socket with its acceptor, and what came of it. */
struct door {
    struct acceptor *acceptor;
    int fd;
    struct sockaddr_un address;
    socklen_t address_len;
    struct conn *conns[CLIENTS_MAX];
    unsigned accepted, closed, errors;
    unsigned in_turn; /* accepted since the turn began */
    unsigned in_turn_max;
    unsigned turns;   /* in which somebody was accepted */
    int64_t costs_ns; /* so long it takes to accept one */
    int err;
    struct task turn_over;
    struct loop *loop;
};

static struct door doors[2];

static void on_data(struct conn *conn, struct slice bytes) {
}

static void on_eof(struct conn *conn) {
    conn_close(conn);
}

static void on_error(struct conn *conn, int err) {
    conn_close(conn);
}

static void on_drained(struct conn *conn) {
}

static void on_closed(struct conn *conn) {
    struct door *door = conn->codec;

    door->closed++;
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (door->conns[i] == conn)
            door->conns[i] = NULL;
}

static const struct conn_events events = {on_data, on_eof, on_error, on_drained, on_closed};

static void on_turn_over(struct task *task) {
    CONTAINER_OF(task, struct door, turn_over)->in_turn = 0;
}

static void on_accept(void *ctx, struct conn *conn, bool is_over) {
    struct door *door = ctx;

    door->conns[door->accepted++] = conn;
    door->turns += door->in_turn == 0;
    if (++door->in_turn > door->in_turn_max)
        door->in_turn_max = door->in_turn;
    loop_at_turn_end(door->loop, &door->turn_over);
    conn_start(conn, &events, door);
    door->loop->now_ns += door->costs_ns;
}

static void on_accept_error(void *ctx, int err) {
    struct door *door = ctx;

    door->errors++;
    door->err = err;
}

static void open_door(unsigned i) {
    struct door *door = &doors[i];
    struct acceptor_options options = {
        .loop = &loops[i],
        .is_unix = true,
        .fds = &fds,
        .connections = &gate,
        .on_accept = on_accept,
        .on_error = on_accept_error,
        .ctx = door,
    };

    *door = (struct door){.loop = &loops[i], .address_len = sizeof(sa_family_t)};
    task_init(&door->turn_over, on_turn_over);
    door->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    door->address.sun_family = AF_UNIX;
    /* Without a name the kernel chooses one in its own space. */
    assert_int_equal(bind(door->fd, (struct sockaddr *)&door->address, door->address_len), 0);
    door->address_len = sizeof door->address;
    getsockname(door->fd, (struct sockaddr *)&door->address, &door->address_len);
    assert_int_equal(listen(door->fd, CLIENTS_MAX), 0);
    options.fd = door->fd;
    assert_int_equal(acceptor_open(&door->acceptor, &options), 0);
}

static int open_with(uint32_t limit) {
    gate_init(&gate, limit, UINT32_MAX);
    fds = (struct fds){.limit = {CLIENTS_MAX, 100, 100, 100}};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_open(&loops[i], i), 0);
        open_door(i);
    }
    return 0;
}

static int set_up(void **state) {
    return open_with(LIMIT);
}

static int set_up_narrow(void **state) {
    return open_with(1);
}

static int set_up_wide(void **state) {
    return open_with(CLIENTS_MAX);
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < 2; i++) {
        acceptor_close(doors[i].acceptor);
        for (unsigned j = 0; j < doors[i].accepted; j++)
            if (doors[i].conns[j])
                conn_close(doors[i].conns[j]);
    }
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(gate_taken(&gate), 0);
    assert_int_equal(atomic_load(&gate.waiting), 0);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(finish_loop(&loops[i]), 0);
    gate_deinit(&gate);
    return 0;
}

/* Connects; the kernel says yes before anybody accepts. */
static int come(unsigned i) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&doors[i].address, doors[i].address_len), 0);
    return fd;
}

static void who_comes_is_accepted_and_entered(void **state) {
    int client = come(0);

    AWAIT(&loops[0], &loops[1], doors[0].accepted == 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 1);
    assert_int_equal(gate_taken(&gate), 1);
    assert_int_equal(fcntl(client, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(client);
    AWAIT(&loops[0], &loops[1], doors[0].closed == 1);
    assert_int_equal(fds_used(&fds, FD_CLIENT), 0);
    assert_int_equal(gate_taken(&gate), 0);
}

static void beyond_the_limit_clients_stay_in_the_backlog(void **state) {
    int clients[LIMIT + 2];

    for (unsigned i = 0; i < LIMIT + 2; i++)
        clients[i] = come(0);
    AWAIT(&loops[0], &loops[1], acceptor_is_waiting(doors[0].acceptor));
    assert_int_equal(doors[0].accepted, LIMIT);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(doors[0].accepted, LIMIT);
    SAY(clients[LIMIT], "not refused"); /* the backlog has it */
    close(clients[0]);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == LIMIT + 1);
    close(clients[1]);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == LIMIT + 2);
    close(clients[2]);
    close(clients[3]);
    AWAIT(&loops[0], &loops[1], doors[0].closed == LIMIT + 2);
    assert_int_equal(doors[0].errors, 0);
}

static void a_place_that_one_loop_gives_up_lets_in_who_waits_at_another(void **state) {
    int first = come(0), second;

    AWAIT(&loops[0], &loops[1], doors[0].accepted == 1);
    second = come(1);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(doors[1].accepted, 0);
    close(first);
    AWAIT(&loops[0], &loops[1], doors[1].accepted == 1);
    close(second);
}

/* Though the first door has taken its last client long ago, it must not keep a place for a next
 * one while there is somebody at the other door. */
static void no_place_is_kept_for_nobody(void **state) {
    for (unsigned round = 0; round < 5; round++) {
        int first = come(0), second;

        AWAIT(&loops[0], &loops[1], doors[0].accepted == round + 1);
        settle_down(&loops[0], &loops[1]);
        close(first);
        AWAIT(&loops[0], &loops[1], doors[0].closed == round + 1);
        settle_down(&loops[0], &loops[1]);
        second = come(1);
        AWAIT(&loops[0], &loops[1], doors[1].accepted == round + 1);
        close(second);
        AWAIT(&loops[0], &loops[1], doors[1].closed == round + 1);
    }
}

static void come_and_be_accepted(int *clients, unsigned count) {
    unsigned before = doors[0].accepted;

    for (unsigned i = 0; i < count; i++)
        clients[i] = come(0);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == before + count);
}

static void leave(const int *clients, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(clients[i]);
}

/* Twice as many in each wake, until they are ACCEPTOR_BATCH. */
static void of_a_crowd_all_are_in_after_a_few_wakes(void **state) {
    int clients[CLIENTS_MAX];
    unsigned wakes = ACCEPTOR_FULL, in = ACCEPTOR_FULL;

    for (unsigned batch = 2; in < CLIENTS_MAX; wakes++) {
        in += batch;
        batch = 2 * batch < ACCEPTOR_BATCH ? 2 * batch : ACCEPTOR_BATCH;
    }
    come_and_be_accepted(clients, CLIENTS_MAX);
    assert_int_equal(doors[0].in_turn_max, ACCEPTOR_BATCH);
    assert_int_equal(doors[0].turns, wakes);
    leave(clients, CLIENTS_MAX);
}

static void a_wake_ends_when_its_time_is_over(void **state) {
    int crowd[ACCEPTOR_FULL + 2 + 4], slow[8], quick[8];

    come_and_be_accepted(crowd, sizeof crowd / sizeof *crowd);
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2);
    doors[0].costs_ns = ACCEPTOR_TURN_NS / 2;
    come_and_be_accepted(slow, 8);
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2 + 8 / 2);
    doors[0].costs_ns = 0;
    come_and_be_accepted(quick, 8); /* as many as before are tried */
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2 + 8 / 2 + 1);
    leave(crowd, sizeof crowd / sizeof *crowd);
    leave(slow, 8);
    leave(quick, 8);
}

static void a_wake_takes_as_many_as_came_together_lately(void **state) {
    int clients[ACCEPTOR_FULL + 2 * 2 + 1 + 2];
    unsigned come_yet = 0;

    while (come_yet < ACCEPTOR_FULL + 2 * 2)
        clients[come_yet++] = come(0);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == come_yet);
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2);
    clients[come_yet++] = come(0); /* alone: two were tried */
    AWAIT(&loops[0], &loops[1], doors[0].accepted == come_yet);
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2 + 1);
    while (come_yet < sizeof clients / sizeof *clients)
        clients[come_yet++] = come(0);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == come_yet);
    assert_int_equal(doors[0].turns, ACCEPTOR_FULL + 2 + 1 + 2);
    while (come_yet > 0)
        close(clients[--come_yet]);
}

static void a_closed_acceptor_leaves_the_line_and_closes_its_socket(void **state) {
    int in[LIMIT], waits[2], late;

    for (unsigned i = 0; i < LIMIT; i++)
        in[i] = come(0);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == LIMIT);
    waits[0] = come(0);
    waits[1] = come(1);
    settle_down(&loops[0], &loops[1]);
    acceptor_close(doors[0].acceptor);
    acceptor_close(doors[0].acceptor); /* till the loop has run */
    doors[0].acceptor = NULL;
    close(in[0]);
    AWAIT(&loops[0], &loops[1], doors[1].accepted == 1);
    assert_int_equal(doors[0].accepted, LIMIT);
    late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&doors[0].address, doors[0].address_len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(late);
    close(in[1]);
    close(waits[0]);
    close(waits[1]);
}

static void who_is_in_the_backlog_is_taken_in_before_the_close(void **state) {
    int clients[LIMIT + 1];

    for (unsigned i = 0; i < LIMIT + 1; i++)
        clients[i] = come(0);
    acceptor_close(doors[0].acceptor);
    doors[0].acceptor = NULL;
    assert_int_equal(doors[0].accepted, LIMIT); /* as far as there are rights */
    assert_int_equal(atomic_load(&gate.waiting), 0);
    for (unsigned i = 0; i < LIMIT + 1; i++)
        close(clients[i]);
    AWAIT(&loops[0], &loops[1], doors[0].closed == LIMIT);
}

static void while_it_is_held_clients_stay_in_the_backlog(void **state) {
    int first, second;

    acceptor_hold(doors[0].acceptor, true);
    acceptor_hold(doors[0].acceptor, true);
    first = come(0);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(doors[0].accepted, 0);
    acceptor_hold(doors[0].acceptor, false);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == 1);
    acceptor_hold(doors[0].acceptor, true);
    second = come(0);
    settle_down(&loops[0], &loops[1]);
    acceptor_close(doors[0].acceptor); /* nobody who was let into the backlog is reset */
    doors[0].acceptor = NULL;
    assert_int_equal(doors[0].accepted, 2);
    close(first);
    close(second);
}

/* Its place in line comes up while it is held: the right goes on to the other door. */
static void a_held_acceptor_keeps_no_right(void **state) {
    int first = come(0), second, third;

    AWAIT(&loops[0], &loops[1], doors[0].accepted == 1);
    second = come(0);
    AWAIT(&loops[0], &loops[1], atomic_load(&gate.waiting) == 1);
    acceptor_hold(doors[0].acceptor, true);
    close(first);
    AWAIT(&loops[0], &loops[1], doors[0].closed == 1);
    settle_down(&loops[0], &loops[1]);
    third = come(1);
    AWAIT(&loops[0], &loops[1], doors[1].accepted == 1);
    assert_int_equal(doors[0].accepted, 1);
    acceptor_hold(doors[0].acceptor, false);
    close(third);
    AWAIT(&loops[0], &loops[1], doors[0].accepted == 2);
    close(second);
}

/* On loop 1: a right is sent here, and the acceptor is closed before its letter is read. */
static void close_as_a_right_comes(struct loop *loop, struct mail *mail) {
    AWAIT(&loops[0], NULL, doors[0].closed == 1);
    acceptor_close(doors[1].acceptor);
    doors[1].acceptor = NULL;
}

static void an_acceptor_may_be_closed_while_a_right_is_on_its_way(void **state) {
    struct mail mail = {.deliver = close_as_a_right_comes};
    int in = come(0), waits;

    AWAIT(&loops[0], &loops[1], doors[0].accepted == 1);
    acceptor_close(doors[0].acceptor); /* so that the right goes to the other door alone */
    doors[0].acceptor = NULL;
    waits = come(1);
    AWAIT(&loops[0], &loops[1], atomic_load(&gate.waiting) == 1);
    close(in);
    loop_post(&loops[1], &mail);
    AWAIT(&loops[1], NULL, !doors[1].acceptor);
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(doors[1].accepted, 0);
    close(waits);
}

/* --- Errors, in a child whose limits may be changed ------------------------------------------- */

/* Exits 0 when all is as promised; cmocka's asserts end at the parent only. */
#define DEMAND(condition)                             \
    do {                                              \
        if (!(condition)) {                           \
            fprintf(stderr, "not: %s\n", #condition); \
            _exit(1);                                 \
        }                                             \
    } while (0)

#define CHILD_AWAITS(condition)                           \
    do {                                                  \
        int64_t until_ns = clock_now_ns() + PATIENCE_NS;  \
        while (!(condition) && clock_now_ns() < until_ns) \
            spin(&loops[0], &loops[1]);                   \
        DEMAND(condition);                                \
    } while (0)

static void run_out_of_fds(void) {
    struct rlimit before, none;
    int client;

    open_with(LIMIT);
    client = come(0);
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    CHILD_AWAITS(doors[0].errors == 1);
    DEMAND(doors[0].err == EMFILE);
    DEMAND(doors[0].accepted == 0);
    DEMAND(gate_taken(&gate) == 0);
    DEMAND(fds_used(&fds, FD_CLIENT) == 0);
    for (unsigned i = 0; i < 5; i++)
        spin(&loops[0], &loops[1]);
    DEMAND(doors[0].errors <= 2); /* it pauses, it does not spin */
    CHILD_AWAITS(doors[0].errors >= 2);
    setrlimit(RLIMIT_NOFILE, &before);
    CHILD_AWAITS(doors[0].accepted == 1);
    close(client);
    tear_down(NULL);
    _exit(0);
}

static void accept_errors_are_counted_and_pass(void **state) {
    pid_t child = fork();
    int status = 0;

    if (child == 0)
        run_out_of_fds();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define AT_DOORS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define AT_WIDE_DOORS(test) cmocka_unit_test_setup_teardown(test, set_up_wide, tear_down)
#define AT_NARROW_DOORS(test) cmocka_unit_test_setup_teardown(test, set_up_narrow, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        AT_DOORS(who_comes_is_accepted_and_entered),
        AT_DOORS(beyond_the_limit_clients_stay_in_the_backlog),
        AT_NARROW_DOORS(a_place_that_one_loop_gives_up_lets_in_who_waits_at_another),
        AT_NARROW_DOORS(no_place_is_kept_for_nobody),
        AT_WIDE_DOORS(of_a_crowd_all_are_in_after_a_few_wakes),
        AT_WIDE_DOORS(a_wake_ends_when_its_time_is_over),
        AT_WIDE_DOORS(a_wake_takes_as_many_as_came_together_lately),
        AT_DOORS(a_closed_acceptor_leaves_the_line_and_closes_its_socket),
        AT_DOORS(who_is_in_the_backlog_is_taken_in_before_the_close),
        AT_DOORS(while_it_is_held_clients_stay_in_the_backlog),
        AT_NARROW_DOORS(a_held_acceptor_keeps_no_right),
        AT_NARROW_DOORS(an_acceptor_may_be_closed_while_a_right_is_on_its_way),
        cmocka_unit_test(accept_errors_are_counted_and_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
