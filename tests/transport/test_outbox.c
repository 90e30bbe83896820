/* The promises of proxy/transport/outbox.h: what conns send from within a turn leaves at the end of
 * the batch, in order and whole, whatever becomes of the conn till then. */
#include "transport/outbox.h"

#include "conn_world.h"

#include <errno.h>
#include <unistd.h>

#define MANY (OUTBOX_SENDS_MAX + 1)

static char text[OUTBOX_SEND_BYTES_MAX * 4];

/* As a task of @loop's turn does it. */
static void send_in_turn(struct conn *conn, const char *what) {
    loops[0].in_turn = true;
    assert_int_equal(send_text(conn, what), CONN_SENT);
    loops[0].in_turn = false;
}

static void expect_nothing(void) {
    assert_int_equal(hear(wire, text, sizeof text), -EAGAIN);
}

static void expect(const char *what) {
    assert_int_equal(hear(wire, text, sizeof text), (ssize_t)strlen(what));
    assert_string_equal(text, what);
}

static const char *letters(size_t count) {
    static char all[sizeof text];

    memset(all, 'x', count);
    all[count] = '\0';
    return all;
}

static void what_is_sent_in_a_turn_leaves_at_the_end_of_the_batch(void **state) {
    send_in_turn(codec.conn, "one");
    expect_nothing();
    spin(&loops[0], NULL);
    expect("one");
    send_in_turn(codec.conn, "two");
    spin(&loops[0], NULL);
    expect("two");
    assert_int_equal(codec.drains, 0);
}

static void outside_of_a_turn_nothing_is_held(void **state) {
    assert_int_equal(send_text(codec.conn, "at once"), CONN_SENT);
    expect("at once");
}

static void several_sends_leave_as_one(void **state) {
    send_in_turn(codec.conn, "one ");
    send_in_turn(codec.conn, "two");
    spin(&loops[0], NULL);
    expect("one two");
}

static void the_longest_is_held_and_a_longer_one_goes_at_once(void **state) {
    send_in_turn(codec.conn, letters(OUTBOX_SEND_BYTES_MAX));
    expect_nothing();
    spin(&loops[0], NULL);
    expect(letters(OUTBOX_SEND_BYTES_MAX));
    send_in_turn(codec.conn, letters(OUTBOX_SEND_BYTES_MAX + 1));
    expect(letters(OUTBOX_SEND_BYTES_MAX + 1));
}

static void a_long_one_goes_behind_what_is_held(void **state) {
    send_in_turn(codec.conn, "first");
    send_in_turn(codec.conn, letters(OUTBOX_SEND_BYTES_MAX + 1));
    assert_int_equal(hear(wire, text, 6), 5);
    assert_string_equal(text, "first");
    expect(letters(OUTBOX_SEND_BYTES_MAX + 1));
}

static void what_does_not_fit_to_what_is_held_makes_it_leave(void **state) {
    send_in_turn(codec.conn, "first");
    send_in_turn(codec.conn, letters(OUTBOX_SEND_BYTES_MAX));
    expect("first");
    spin(&loops[0], NULL);
    expect(letters(OUTBOX_SEND_BYTES_MAX));
}

static void two_conns_that_take_turns_keep_their_order(void **state) {
    struct codec other = {0};
    int pair[2];

    stream_pair(pair);
    open_conn(&other, &loops[0], pair[1], true);
    send_in_turn(codec.conn, "a");
    send_in_turn(other.conn, "1");
    send_in_turn(codec.conn, "b");
    send_in_turn(other.conn, "2");
    spin(&loops[0], NULL);
    expect("ab");
    assert_int_equal(hear(pair[0], text, sizeof text), 2);
    assert_string_equal(text, "12");
    conn_close(other.conn);
    AWAIT(&loops[0], NULL, other.closed == 1);
    close(pair[0]);
}

static void so_many_are_held_and_no_more(void **state) {
    static struct codec codecs[MANY];
    static int wires[MANY];

    make_room(MANY);
    for (unsigned i = 0; i < MANY; i++) {
        int pair[2];

        stream_pair(pair);
        wires[i] = pair[0];
        open_conn(&codecs[i], &loops[0], pair[1], true);
        assert_int_equal(i > 0 && hear(wires[0], text, sizeof text) > 0, 0);
        send_in_turn(codecs[i].conn, "x");
    }
    for (unsigned i = 0; i < MANY - 1; i++)
        assert_int_equal(hear(wires[i], text, sizeof text), 1);
    assert_int_equal(hear(wires[MANY - 1], text, sizeof text), -EAGAIN);
    spin(&loops[0], NULL);
    assert_int_equal(hear(wires[MANY - 1], text, sizeof text), 1);
    for (unsigned i = 0; i < MANY; i++) {
        conn_close(codecs[i].conn);
        close(wires[i]);
    }
}

static void nothing_waits_longer_than_so_long(void **state) {
    send_in_turn(codec.conn, "x");
    loops[0].now_ns += OUTBOX_WAIT_NS - 1;
    outbox_look(&loops[0]);
    expect_nothing();
    loops[0].now_ns++;
    outbox_look(&loops[0]);
    expect("x");
    outbox_look(&loops[0]);
}

/* So that of a long batch not all is held. */
static void any_event_makes_the_oldest_leave(void **state) {
    struct codec other = {0};
    int pair[2];

    stream_pair(pair);
    open_conn(&other, &loops[0], pair[1], true);
    loops[0].now_ns = clock_now_ns() - OUTBOX_WAIT_NS;
    send_in_turn(codec.conn, "x");
    SAY(pair[0], "event");
    other.conn->is_new = true;
    conn_look(other.conn);
    assert_int_equal(other.heard.len, 5);
    expect("x");
    conn_close(other.conn);
    AWAIT(&loops[0], NULL, other.closed == 1);
    buffer_deinit(&other.heard);
    close(pair[0]);
}

static void conn_push_does_not_wait(void **state) {
    send_in_turn(codec.conn, "x");
    conn_push(codec.conn);
    expect("x");
    conn_push(codec.conn);
    expect_nothing();
}

static void a_conn_that_is_closed_sends_it_before(void **state) {
    send_in_turn(codec.conn, "farewell");
    conn_close(codec.conn);
    expect("farewell");
    AWAIT(&loops[0], NULL, codec.closed == 1);
    assert_int_equal(hear(wire, text, sizeof text), 0);
}

static void a_half_close_goes_behind_it(void **state) {
    send_in_turn(codec.conn, "last words");
    conn_finish(codec.conn);
    expect("last words");
    assert_int_equal(hear(wire, text, sizeof text), 0);
}

static void the_last_bytes_of_a_connection_are_not_held_but_go_behind_it(void **state) {
    send_in_turn(codec.conn, "one ");
    conn_end_follows(codec.conn);
    send_in_turn(codec.conn, "two");
    conn_close(codec.conn);
    AWAIT(&loops[0], NULL, codec.closed == 1);
    AWAIT(&loops[0], NULL, hear(wire, text, sizeof text) == 7);
    assert_string_equal(text, "one two");
    assert_int_equal(hear(wire, text, sizeof text), 0);
}

static void a_conn_goes_to_another_loop_without_it(void **state) {
    struct conn_parcel parcel;

    send_in_turn(codec.conn, "here");
    assert_int_equal(conn_export(codec.conn, &parcel), 0);
    expect("here");
    AWAIT(&loops[0], NULL, codec.closed == 1);
    close(parcel.fd);
    fds_release(&fds, FD_CLIENT);
}

static void a_conn_whose_socket_does_not_take_it_stays(void **state) {
    struct conn_parcel parcel;

    fill_socket(codec.conn->fd);
    send_in_turn(codec.conn, "here");
    assert_int_equal(conn_export(codec.conn, &parcel), -EBUSY);
    AWAIT(&loops[0], NULL, codec.closed == 1);
}

/* What the socket does not take at the end of the batch is queued like anything else. */
static void a_full_socket_gets_it_later(void **state) {
    size_t len = 0;

    fill_socket(codec.conn->fd);
    send_in_turn(codec.conn, "x");
    spin(&loops[0], NULL);
    assert_false(conn_is_drained(codec.conn));
    while (codec.drains == 0 || len == 0 || text[len - 1] != 'x') {
        ssize_t n = hear(wire, text, sizeof text);

        len = n > 0 ? (size_t)n : 0;
        spin(&loops[0], NULL);
    }
    assert_int_equal(codec.drains, 1);
    assert_int_equal(codec.errors, 0);
}

/* An early answer is still heard, and then an error: a plain end would make a whole answer of one
 * that ends with its connection. */
static void a_broken_connection_is_read_to_its_end(void **state) {
    SAY(wire, "early");
    send_in_turn(codec.conn, "x");
    reset_socket(&wire);
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_true(codec.err == -ECONNRESET || codec.err == -EPIPE);
    assert_int_equal(codec.heard.len, 5);
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.errors, 1);
    assert_int_equal(codec.eofs + codec.drains, 0);
}

static void who_does_not_read_hears_of_it_too(void **state) {
    conn_pause(codec.conn);
    send_in_turn(codec.conn, "x");
    reset_socket(&wire);
    AWAIT(&loops[0], NULL, codec.errors == 1);
    assert_int_equal(codec.err, -ECONNRESET);
    settle_down(&loops[0], NULL);
    assert_int_equal(codec.errors, 1);
    assert_int_equal(codec.heard.len + codec.eofs + codec.drains, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_PAIR(what_is_sent_in_a_turn_leaves_at_the_end_of_the_batch),
        ON_PAIR(outside_of_a_turn_nothing_is_held),
        ON_PAIR(several_sends_leave_as_one),
        ON_PAIR(the_longest_is_held_and_a_longer_one_goes_at_once),
        ON_PAIR(a_long_one_goes_behind_what_is_held),
        ON_PAIR(what_does_not_fit_to_what_is_held_makes_it_leave),
        ON_PAIR(two_conns_that_take_turns_keep_their_order),
        ON_LOOPS(so_many_are_held_and_no_more),
        ON_PAIR(nothing_waits_longer_than_so_long),
        ON_PAIR(any_event_makes_the_oldest_leave),
        ON_PAIR(conn_push_does_not_wait),
        ON_PAIR(a_conn_that_is_closed_sends_it_before),
        ON_TCP(a_half_close_goes_behind_it),
        ON_TCP(the_last_bytes_of_a_connection_are_not_held_but_go_behind_it),
        ON_PAIR(a_conn_goes_to_another_loop_without_it),
        ON_PAIR(a_conn_whose_socket_does_not_take_it_stays),
        ON_TCP(a_full_socket_gets_it_later),
        ON_TCP(a_broken_connection_is_read_to_its_end),
        ON_TCP(who_does_not_read_hears_of_it_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
