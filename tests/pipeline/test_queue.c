/* The promises of proxy/pipeline/queue.h. The gate has one place, which is handed on by hand; time
 * is the loop's, which nobody runs. */
#include "pipeline/queue.h"

#include "support/unit.h"

#include <stdio.h>

#define MS NS_PER_MS
#define SIZE 8
#define TARGET (20 * MS)
#define INTERVAL (CODEL_INTERVAL * TARGET)
#define SERVICE (10 * MS)
#define GUESTS 4096

struct guest {
    struct waiter waiter;
    char name;
};

static struct loop loop;
static struct gate gate;
static struct gate_desk desk;
static struct queue queue;
static struct config_pipeline config;
static struct guest guests[GUESTS];
static unsigned guest_count;
static char said[256]; /* who was granted (A), and refused (-A), in order */
static struct guest *in;

static void say_name(const char *before, char name) {
    size_t len = strlen(said);

    snprintf(said + len, sizeof said - len, "%s%c", before, name);
}

static void on_granted(struct gate_ticket *ticket, void *gift) {
    in = CONTAINER_OF(ticket, struct guest, waiter.ticket);
    say_name("", in->name);
}

static void on_refused(struct gate_ticket *ticket) {
    struct guest *guest = CONTAINER_OF(ticket, struct guest, waiter.ticket);

    assert_int_equal(ticket->state, TICKET_OUT);
    assert_int_not_equal(guest->waiter.refused, FAIL_NONE);
    say_name("-", guest->name);
}

static struct guest *make(char name, uint64_t client, enum config_priority priority) {
    struct guest *guest = &guests[guest_count++];

    assert_true(guest_count <= GUESTS);
    *guest = (struct guest){.name = name};
    guest->waiter.client = client;
    guest->waiter.priority = priority;
    return guest;
}

static enum gate_outcome enter(struct guest *guest) {
    return gate_enter(&desk, &guest->waiter.ticket);
}

/* Of client 1, unless the name is in lower case: then each letter is a client. */
static struct guest *wait_as(char name) {
    struct guest *guest = make(name, name >= 'a' ? (uint64_t)name : 1, PRIORITY_DEFAULT);

    assert_int_equal(enter(guest), GATE_WAIT);
    return guest;
}

/* Whoever is in leaves. */
static void leave(void) {
    struct guest *guest = in;

    in = NULL;
    gate_leave(&gate, &guest->waiter.ticket, &loop);
}

static void pass(int64_t ns) {
    loop.now_ns += ns;
}

static void learn(int64_t ns) {
    struct service_sample sample = {0};

    for (unsigned i = 0; i < SERVICE_WEIGHT; i++)
        service_sample_add(&sample, ns);
    queue_learn(&queue, &sample, loop.now_ns);
}

static int set_up(void **state) {
    config = (struct config_pipeline){.queue = {.size = SIZE, .target_ns = TARGET}};
    assert_int_equal(loop_open(&loop, 0), 0);
    loop.now_ns = NS_PER_S;
    gate_init(&gate, 1, SIZE);
    queue_init(&queue, &gate, &config);
    gate_desk_init(&desk, &gate, &loop, on_granted);
    desk.refused = on_refused;
    learn(SERVICE);
    guest_count = 0;
    said[0] = '\0';
    in = make('0', 99, PRIORITY_DEFAULT);
    assert_int_equal(enter(in), GATE_IN);
    return 0;
}

static int tear_down(void **state) {
    while (in)
        leave();
    assert_int_equal(queue.count, 0);
    assert_int_equal(gate_taken(&gate), 0);
    for (unsigned i = 0; i < QUEUE_PRIORITIES; i++) {
        assert_int_equal(atomic_load(&queue.classes[i].count), 0);
        assert_int_equal(queue.classes[i].flows, 0);
        assert_int_equal(queue.classes[i].fair, 0);
    }
    queue_deinit(&queue);
    gate_deinit(&gate);
    return (int)finish_loop(&loop);
}

static void drain(void) {
    while (in)
        leave();
}

static void a_client_is_served_in_the_order_of_its_requests(void **state) {
    wait_as('A');
    pass(MS);
    wait_as('B');
    pass(MS);
    wait_as('C');
    drain();
    assert_string_equal(said, "ABC");
}

static void clients_take_turns(void **state) {
    wait_as('A');
    wait_as('B');
    wait_as('C');
    wait_as('x');
    wait_as('D');
    wait_as('y');
    drain();
    assert_string_equal(said, "AxyBCD");
}

static void a_higher_priority_goes_before(void **state) {
    enter(make('B', 1, PRIORITY_BACKGROUND));
    enter(make('D', 1, PRIORITY_DEFAULT));
    enter(make('C', 1, PRIORITY_CRITICAL));
    enter(make('c', 2, PRIORITY_CRITICAL));
    assert_int_equal(atomic_load(&queue.classes[PRIORITY_CRITICAL].count), 2);
    drain();
    assert_string_equal(said, "CcDB");
}

static void the_bound_is_exact(void **state) {
    struct guest *last;

    for (char name = 'A'; name < 'A' + SIZE; name++)
        wait_as(name);
    last = make('Z', 1, PRIORITY_DEFAULT);
    assert_int_equal(enter(last), GATE_FULL);
    assert_int_equal(last->waiter.refused, FAIL_QUEUE_FULL);
    assert_string_equal(said, "");
    assert_int_equal(queue.count, SIZE);
    leave();
    assert_int_equal(enter(make('Y', 1, PRIORITY_DEFAULT)), GATE_WAIT);
}

static void nobody_waits_where_there_is_no_queue(void **state) {
    struct guest *guest = make('A', 1, PRIORITY_CRITICAL);

    queue.size = 0;
    assert_int_equal(enter(guest), GATE_FULL);
    assert_int_equal(guest->waiter.refused, FAIL_QUEUE_FULL);
}

static void who_has_most_waiting_makes_room(void **state) {
    struct guest *newest;

    for (char name = 'A'; name < 'A' + SIZE - 1; name++)
        newest = wait_as(name);
    wait_as('x');
    assert_int_equal(enter(make('y', 'y', PRIORITY_DEFAULT)), GATE_WAIT);
    assert_string_equal(said, "-G");
    assert_int_equal(newest->waiter.refused, FAIL_QUEUE_FULL);
    assert_int_equal(queue.count, SIZE);
    /* Not for one of its own, nor for one who would have as many. */
    assert_int_equal(enter(make('Z', 1, PRIORITY_DEFAULT)), GATE_FULL);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(enter(make('y', 'y', PRIORITY_DEFAULT)), GATE_WAIT);
    assert_int_equal(enter(make('y', 'y', PRIORITY_DEFAULT)), GATE_FULL);
    assert_int_equal(queue.count, SIZE);
}

static void a_lower_priority_makes_room(void **state) {
    for (unsigned i = 0; i < SIZE; i++)
        enter(make((char)('A' + i), 1, i < 2 ? PRIORITY_BACKGROUND : PRIORITY_DEFAULT));
    assert_int_equal(enter(make('c', 2, PRIORITY_CRITICAL)), GATE_WAIT);
    assert_int_equal(enter(make('d', 3, PRIORITY_DEFAULT)), GATE_WAIT);
    assert_string_equal(said, "-B-A");
    assert_int_equal(enter(make('b', 4, PRIORITY_BACKGROUND)), GATE_FULL);
    said[0] = '\0';
    drain();
    assert_string_equal(said, "cCdDEFGH");
}

static void who_leaves_is_gone_at_once(void **state) {
    struct guest *a = wait_as('A'), *b = wait_as('B');
    void *gift;

    wait_as('C');
    assert_int_equal(gate_cancel(&b->waiter.ticket, &gift), GATE_CANCELLED);
    assert_int_equal(queue.count, 2);
    assert_int_equal(gate_cancel(&a->waiter.ticket, &gift), GATE_CANCELLED);
    drain();
    assert_string_equal(said, "C");
}

static void what_cannot_be_answered_in_time_is_refused_at_once(void **state) {
    struct guest *guest = make('A', 1, PRIORITY_DEFAULT);

    guest->waiter.deadline_ns = loop.now_ns + SERVICE - 1;
    assert_int_equal(enter(guest), GATE_FULL);
    assert_int_equal(guest->waiter.refused, FAIL_DEADLINE_UNMET);
    guest->waiter.deadline_ns = loop.now_ns + SERVICE;
    assert_int_equal(enter(guest), GATE_WAIT);
    wait_as('B');
    wait_as('C');
    /* Three are before it, of 10 ms each. */
    guest = make('D', 1, PRIORITY_DEFAULT);
    guest->waiter.deadline_ns = loop.now_ns + 4 * SERVICE - MS;
    assert_int_equal(enter(guest), GATE_FULL);
    guest->waiter.deadline_ns = loop.now_ns + 4 * SERVICE + MS;
    assert_int_equal(enter(guest), GATE_WAIT);
    /* Another client's turn comes sooner, and that of a higher priority next. */
    guest = make('x', 'x', PRIORITY_DEFAULT);
    guest->waiter.deadline_ns = loop.now_ns + 2 * SERVICE + MS;
    assert_int_equal(enter(guest), GATE_WAIT);
    guest = make('c', 'x', PRIORITY_CRITICAL);
    guest->waiter.deadline_ns = loop.now_ns + SERVICE + MS;
    assert_int_equal(enter(guest), GATE_WAIT);
}

static void what_has_become_too_late_is_not_sent(void **state) {
    struct guest *late = make('A', 1, PRIORITY_DEFAULT);

    late->waiter.deadline_ns = loop.now_ns + 3 * SERVICE;
    enter(late);
    wait_as('B');
    pass(2 * SERVICE + 1);
    leave();
    assert_string_equal(said, "-AB");
    assert_int_equal(late->waiter.refused, FAIL_DEADLINE_UNMET);
}

/* A line in which every wait is above the target, of QUEUE_FEW services, for an interval. */
static void overload(void) {
    for (int64_t spent_ns = 0; spent_ns <= 4 * INTERVAL; spent_ns += SERVICE) {
        for (unsigned i = 0; i < SIZE; i++)
            enter(make('.', 1, PRIORITY_DEFAULT));
        pass(SERVICE);
        leave();
    }
    assert_true(queue_is_overloaded(&queue));
    said[0] = '\0';
}

static void an_overloaded_line_is_short_and_served_newest_first(void **state) {
    struct guest *more;

    overload();
    while (queue.count > 0)
        leave();
    said[0] = '\0';
    for (unsigned i = 0; i < QUEUE_FEW; i++) {
        assert_int_equal(enter(make((char)('A' + i), 1, PRIORITY_DEFAULT)), GATE_WAIT);
        pass(MS);
    }
    more = make('Z', 1, PRIORITY_DEFAULT);
    assert_int_equal(enter(more), GATE_FULL);
    assert_int_equal(more->waiter.refused, FAIL_OVERLOADED);
    leave();
    assert_string_equal(said, "D");
    /* Another client's own line is not. */
    assert_int_equal(enter(make('x', 'x', PRIORITY_DEFAULT)), GATE_WAIT);
    assert_int_equal(enter(make('y', 'x', PRIORITY_DEFAULT)), GATE_WAIT);
    assert_int_equal(enter(make('z', 'x', PRIORITY_DEFAULT)), GATE_WAIT);
}

static void an_overloaded_line_drops_who_has_waited_too_long(void **state) {
    struct guest *old;

    overload();
    while (queue.count > 0)
        leave();
    said[0] = '\0';
    old = wait_as('A');
    pass(3 * QUEUE_FEW * SERVICE / 2);
    wait_as('B');
    assert_string_equal(said, "");
    pass(QUEUE_FEW * SERVICE);
    gate_look(&gate, &loop);
    assert_string_equal(said, "-A");
    assert_int_equal(old->waiter.refused, FAIL_QUEUE_DROPPED);
}

static void an_overloaded_line_may_be_empty(void **state) {
    overload();
    while (queue.count > 0)
        leave();
    said[0] = '\0';
    assert_int_equal(enter(make('b', 'b', PRIORITY_BACKGROUND)), GATE_WAIT);
    gate_look(&gate, &loop);
    assert_string_equal(said, "");
    assert_false(queue_is_overloaded(&queue)); /* nobody suffers from it */
}

static void a_handful_is_no_overload(void **state) {
    for (unsigned i = 0; i < QUEUE_FEW; i++)
        wait_as('.');
    for (unsigned i = 0; i < 100; i++) {
        pass(INTERVAL);
        leave();
        wait_as('.');
    }
    assert_false(queue_is_overloaded(&queue));
    assert_null(strchr(said, '-'));
}

static void a_calm_line_drops_nobody(void **state) {
    wait_as('A');
    pass(10 * INTERVAL);
    gate_look(&gate, &loop);
    assert_string_equal(said, "");
}

static void without_a_target_nobody_is_dropped(void **state) {
    queue.target_ns = 0;
    for (char name = 'A'; name < 'A' + SIZE; name++)
        wait_as(name);
    for (unsigned i = 0; i < SIZE; i++) {
        pass(10 * INTERVAL);
        leave();
    }
    assert_string_equal(said, "ABCDEFGH");
    assert_false(queue_is_overloaded(&queue));
}

static void where_answers_take_long_a_wait_of_half_of_that_is_no_overload(void **state) {
    for (unsigned i = 0; i < 20; i++)
        learn(NS_PER_S);
    for (unsigned i = 0; i < 40; i++) {
        pass(NS_PER_S / 3);
        while (queue.count > 0)
            leave();
        wait_as('.');
    }
    assert_false(queue_is_overloaded(&queue));
    assert_null(strchr(said, '-'));
}

/* Load that is just what can be done, with some that wait from the beginning on. */
static void what_is_always_standing_is_served_newest_first_and_nobody_starves(void **state) {
    int64_t waited_max_ns = 0;
    unsigned at_once = 0, rounds = 800;

    learn(MS);
    queue.size = 100;
    for (unsigned i = 0; i < 12; i++)
        wait_as('.');
    for (unsigned i = 0; i < rounds; i++) {
        struct guest *newest = wait_as('.');
        int64_t waited_ns;

        said[0] = '\0';
        leave();
        at_once += in == newest;
        waited_ns = loop.now_ns - in->waiter.since_ns;
        waited_max_ns = waited_ns > waited_max_ns ? waited_ns : waited_max_ns;
        pass(MS);
    }
    assert_int_equal(queue.count, 12);
    assert_true(at_once > rounds / 2);
    assert_true(waited_max_ns <= 2 * TARGET + MS);
    assert_false(queue_is_overloaded(&queue));
}

static void retry_is_within_its_bounds_and_spread(void **state) {
    unsigned least = UINT32_MAX, most = 0;

    for (unsigned i = 0; i < 200; i++) {
        unsigned ms = queue_retry_ms(&queue, loop.now_ns);

        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, QUEUE_RETRY_MIN_MS, QUEUE_RETRY_MIN_MS + 200);
    assert_in_range(most, 2 * QUEUE_RETRY_MIN_MS - 200, 2 * QUEUE_RETRY_MIN_MS);
}

static void retry_grows_with_who_was_refused_and_passes(void **state) {
    for (char name = 'A'; name < 'A' + SIZE; name++)
        wait_as(name);
    /* 100 are served in a second; so many would need 10 s. */
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(enter(make('Z', 1, PRIORITY_DEFAULT)), GATE_FULL);
    assert_in_range(queue_retry_ms(&queue, loop.now_ns), 9000, 21000);
    assert_in_range(queue_retry_ms(&queue, loop.now_ns + 8 * NS_PER_S), QUEUE_RETRY_MIN_MS, 5000);
    assert_in_range(queue_retry_ms(&queue, loop.now_ns + 100 * NS_PER_S), QUEUE_RETRY_MIN_MS,
                    2 * QUEUE_RETRY_MIN_MS);
    pass(NS_PER_S); /* none was served: the rate is low */
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(enter(make('Z', 1, PRIORITY_DEFAULT)), GATE_FULL);
    assert_int_equal(queue_retry_ms(&queue, loop.now_ns), QUEUE_RETRY_MAX_MS);
}

static void a_refusal_reaches_another_loop_by_mail(void **state) {
    struct loop other;
    struct gate_desk far;
    struct guest *guest = make('A', 1, PRIORITY_BACKGROUND), *cancelled;
    void *gift;

    assert_int_equal(loop_open(&other, 1), 0);
    other.now_ns = loop.now_ns;
    gate_desk_init(&far, &gate, &other, on_granted);
    far.refused = on_refused;
    queue.size = 2;
    assert_int_equal(gate_enter(&far, &guest->waiter.ticket), GATE_WAIT);
    cancelled = make('B', 1, PRIORITY_BACKGROUND);
    assert_int_equal(gate_enter(&far, &cancelled->waiter.ticket), GATE_WAIT);
    assert_int_equal(enter(make('C', 1, PRIORITY_DEFAULT)), GATE_WAIT);
    assert_int_equal(enter(make('D', 1, PRIORITY_DEFAULT)), GATE_WAIT);
    assert_int_equal(guest->waiter.ticket.state, TICKET_REFUSED);
    assert_string_equal(said, "");
    /* Nothing is owed to one that leaves while its refusal is under way. */
    assert_int_equal(gate_cancel(&cancelled->waiter.ticket, &gift), GATE_CANCELLED);
    AWAIT(&other, NULL, said[0]);
    assert_string_equal(said, "-A");
    drain();
    assert_int_equal(finish_loop(&other), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_client_is_served_in_the_order_of_its_requests),
        T(clients_take_turns),
        T(a_higher_priority_goes_before),
        T(the_bound_is_exact),
        T(nobody_waits_where_there_is_no_queue),
        T(who_has_most_waiting_makes_room),
        T(a_lower_priority_makes_room),
        T(who_leaves_is_gone_at_once),
        T(what_cannot_be_answered_in_time_is_refused_at_once),
        T(what_has_become_too_late_is_not_sent),
        T(an_overloaded_line_is_short_and_served_newest_first),
        T(an_overloaded_line_drops_who_has_waited_too_long),
        T(an_overloaded_line_may_be_empty),
        T(a_handful_is_no_overload),
        T(a_calm_line_drops_nobody),
        T(without_a_target_nobody_is_dropped),
        T(where_answers_take_long_a_wait_of_half_of_that_is_no_overload),
        T(what_is_always_standing_is_served_newest_first_and_nobody_starves),
        T(retry_is_within_its_bounds_and_spread),
        T(retry_grows_with_who_was_refused_and_passes),
        T(a_refusal_reaches_another_loop_by_mail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
