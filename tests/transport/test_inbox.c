/* The promises of proxy/transport/inbox.h: what has come for several conns is read first, and told
 * then, whatever one of them does to another meanwhile. */
#include "transport/inbox.h"

#include "conn_world.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MANY (INBOX_ARRIVALS_MAX + 8)
#define SHARE (INBOX_BYTES_MAX / 2 + 1) /* two of it are too much to read on */

static struct codec codecs[MANY];
static int wires[MANY];
static unsigned count;
static unsigned waiting_max; /* how many others had been read when one was told */

/* What the one that is told first does to the others. */
static void (*act)(struct conn *other);

static void on_data(struct conn *conn, struct slice bytes) {
    void (*now)(struct conn *) = act;
    unsigned waiting = 0;

    act = NULL;
    codec_events.on_data(conn, bytes);
    for (unsigned i = 0; i < count; i++) {
        struct conn *other = codecs[i].conn;

        waiting += other && other->has_arrivals;
        if (now && other && other != conn)
            now(other);
    }
    if (waiting > waiting_max)
        waiting_max = waiting;
}

static struct conn_events events;

/* As many conns as there are to be. */
static void open_conns(unsigned number) {
    events = codec_events;
    events.on_data = on_data;
    make_room(MANY);
    count = number;
    waiting_max = 0;
    for (unsigned i = 0; i < count; i++) {
        int pair[2];

        stream_pair(pair);
        wires[i] = pair[0];
        codecs[i] = (struct codec){0};
        conn_start(make_conn(&codecs[i], &loops[0], pair[1], true), &events, &codecs[i]);
    }
}

static size_t heard(void) {
    size_t bytes = 0;

    for (unsigned i = 0; i < count; i++)
        bytes += codecs[i].heard.len;
    return bytes;
}

static void close_conns(void) {
    for (unsigned i = 0; i < count; i++) {
        if (codecs[i].conn)
            conn_close(codecs[i].conn);
        close(wires[i]);
    }
    settle_down(&loops[0], NULL);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(codecs[i].closed, 1);
        buffer_deinit(&codecs[i].heard);
    }
}

static void two_say_something_and_the_first_does(void (*what)(struct conn *other)) {
    open_conns(2);
    act = what;
    SAY(wires[0], "hello");
    SAY(wires[1], "hello");
    AWAIT(&loops[0], NULL, !act);
    settle_down(&loops[0], NULL);
    assert_int_equal(waiting_max, 1);
}

static void who_is_closed_before_it_is_told_hears_nothing(void **state) {
    two_say_something_and_the_first_does(conn_close);
    assert_int_equal(heard(), 5);
    assert_int_equal(codecs[0].closed + codecs[1].closed, 1);
    close_conns();
}

static void who_is_paused_before_it_is_told_hears_what_was_read(void **state) {
    two_say_something_and_the_first_does(conn_pause);
    assert_int_equal(heard(), 10);
    SAY(wires[0], "again");
    SAY(wires[1], "again");
    settle_down(&loops[0], NULL);
    assert_int_equal(heard(), 15); /* one of them is paused */
    conn_resume(codecs[0].conn);
    conn_resume(codecs[1].conn);
    AWAIT(&loops[0], NULL, heard() == 20);
    close_conns();
}

static void export_it(struct conn *other) {
    struct conn_parcel parcel;

    assert_int_equal(conn_export(other, &parcel), -EBUSY);
}

/* Its bytes would be lost. */
static void who_is_not_told_yet_does_not_go_to_another_loop(void **state) {
    two_say_something_and_the_first_does(export_it);
    assert_int_equal(codecs[0].closed + codecs[1].closed, 1);
    close_conns();
}

/* Or a request would go out on an idle connection whose end has come before it. */
static void an_end_is_told_at_once_and_in_its_order(void **state) {
    open_conns(2);
    SAY(wires[0], "hello");
    shutdown(wires[1], SHUT_WR);
    inbox_read(codecs[0].conn); /* as libuv has it */
    assert_int_equal(heard(), 0);
    inbox_read(codecs[1].conn);
    assert_int_equal(heard(), 5);
    assert_int_equal(codecs[1].eofs, 1);
    close_conns();
}

static void what_came_first_is_told_before_a_new_conn_is_heard(void **state) {
    open_conns(2);
    SAY(wires[0], "hello");
    SAY(wires[1], "I am new");
    inbox_read(codecs[0].conn);
    codecs[1].conn->is_new = true;
    act = NULL;
    conn_look(codecs[1].conn);
    assert_int_equal(heard(), 13);
    assert_int_equal(waiting_max, 0); /* by then nobody waits */
    close_conns();
}

static size_t heard_before_mail;

static void read_mail(struct loop *loop, struct mail *mail) {
    heard_before_mail = heard();
}

static void what_came_first_is_told_before_mail_is_delivered(void **state) {
    struct mail mail = {.deliver = read_mail};

    open_conns(1);
    settle_down(&loops[0], NULL); /* it is watched by now */
    heard_before_mail = SIZE_MAX;
    SAY(wires[0], "hello");
    loop_post(&loops[0], &mail);
    AWAIT(&loops[0], NULL, heard_before_mail != SIZE_MAX);
    assert_int_equal(heard_before_mail, 5);
    close_conns();
}

static void so_many_are_read_first_and_no_more(void **state) {
    open_conns(MANY);
    for (unsigned i = 0; i < count; i++)
        SAY(wires[i], "hello");
    AWAIT(&loops[0], NULL, heard() == MANY * 5);
    assert_int_equal(waiting_max, INBOX_ARRIVALS_MAX - 1);
    close_conns();
}

static void so_many_bytes_are_read_first_and_no_more(void **state) {
    char *bytes = malloc(SHARE + 1);

    open_conns(4);
    for (unsigned i = 0; i < count; i++) {
        memset(bytes, 'a' + (int)i, SHARE);
        say(wires[i], slice_of(bytes, SHARE));
    }
    AWAIT(&loops[0], NULL, heard() == (size_t)4 * SHARE);
    assert_int_equal(waiting_max, 1);
    for (unsigned i = 0; i < count; i++) {
        memset(bytes, 'a' + (int)i, SHARE);
        assert_int_equal(codecs[i].heard.len, SHARE);
        assert_memory_equal(codecs[i].heard.base, bytes, SHARE);
    }
    free(bytes);
    close_conns();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_LOOPS(who_is_closed_before_it_is_told_hears_nothing),
        ON_LOOPS(who_is_paused_before_it_is_told_hears_what_was_read),
        ON_LOOPS(who_is_not_told_yet_does_not_go_to_another_loop),
        ON_LOOPS(an_end_is_told_at_once_and_in_its_order),
        ON_LOOPS(what_came_first_is_told_before_a_new_conn_is_heard),
        ON_LOOPS(what_came_first_is_told_before_mail_is_delivered),
        ON_LOOPS(so_many_are_read_first_and_no_more),
        ON_LOOPS(so_many_bytes_are_read_first_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
