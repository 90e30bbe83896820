/* The promises of proxy/loop/gate.h. Two loops are run by hand on one thread, so that every state
 * can be reached on purpose; in the last test real threads meet. */
#include "loop/gate.h"

#include "support/unit.h"

#include <assert.h>
#include <pthread.h>

#define LIMIT 2
#define LINE_PLACES 4

static struct loop loops[2];
static struct gate gate;
static struct gate_desk desks[2];

/* A ticket with a name, and what came for it. */
struct guest {
    struct gate_ticket ticket;
    char name;
    void *gift;
    enum { AWAY, WAITS, IN } place; /* with threads: what its own one knows */
};

static char granted[32]; /* names in order */
static size_t granted_len;

static void on_granted(struct gate_ticket *ticket, void *gift) {
    struct guest *guest = CONTAINER_OF(ticket, struct guest, ticket);

    assert_int_equal(ticket->state, TICKET_IN);
    guest->gift = gift;
    granted[granted_len++] = guest->name;
    granted[granted_len] = '\0';
}

static void open_gate(uint32_t limit, uint32_t line_max) {
    gate_init(&gate, limit, line_max);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_open(&loops[i], i), 0);
        gate_desk_init(&desks[i], &gate, &loops[i], on_granted);
    }
    granted_len = 0;
    granted[0] = '\0';
}

static int set_up(void **state) {
    open_gate(LIMIT, LINE_PLACES);
    return 0;
}

/* Whatever a test did: nobody waits and every right is back. */
static int tear_down(void **state) {
    settle_down(&loops[0], &loops[1]);
    assert_int_equal(gate_taken(&gate), 0);
    assert_int_equal(atomic_load(&gate.waiting), 0);
    assert_int_equal(finish_loop(&loops[0]), 0);
    assert_int_equal(finish_loop(&loops[1]), 0);
    gate_deinit(&gate);
    return 0;
}

static enum gate_outcome enter(struct guest *guest, char name, unsigned at) {
    *guest = (struct guest){.name = name};
    return gate_enter(&desks[at], &guest->ticket);
}

/* @guest gives its right back, as its own loop. */
static void leave(struct guest *guest) {
    gate_leave(&gate, &guest->ticket, guest->ticket.desk->loop);
}

static enum gate_cancel_outcome cancel(struct guest *guest) {
    void *gift;

    return gate_cancel(&guest->ticket, &gift);
}

static void the_bound_is_exact(void **state) {
    struct guest a, b, c;

    assert_int_equal(enter(&a, 'a', 0), GATE_IN);
    assert_true(gate_try(&gate));
    assert_false(gate_try(&gate));
    assert_int_equal(enter(&c, 'c', 0), GATE_WAIT);
    assert_int_equal(gate_taken(&gate), LIMIT);
    gate_leave(&gate, NULL, &loops[0]); /* the one of gate_try() */
    assert_string_equal(granted, "c");
    assert_int_equal(gate_taken(&gate), LIMIT);
    leave(&c);
    assert_int_equal(enter(&b, 'b', 1), GATE_IN);
    leave(&a);
    leave(&b);
}

static void who_waits_longest_is_first_whatever_its_loop(void **state) {
    struct guest a, b, line[4];

    enter(&a, 'a', 0);
    enter(&b, 'b', 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(enter(&line[i], (char)('1' + i), i % 2), GATE_WAIT);
    assert_int_equal(atomic_load(&gate.waiting), 4);
    leave(&a);
    assert_string_equal(granted, "1"); /* on the same loop: at once */
    leave(&b);
    assert_string_equal(granted, "12");
    leave(&line[0]);
    assert_string_equal(granted, "123");
    leave(&line[2]); /* '4' lives on the other loop */
    assert_string_equal(granted, "123");
    assert_int_equal(line[3].ticket.state, TICKET_PROMISED);
    assert_int_equal(atomic_load(&gate.waiting), 0);
    AWAIT(&loops[0], &loops[1], granted_len == 4);
    assert_string_equal(granted, "1234");
    leave(&line[1]);
    leave(&line[3]);
}

static void several_rights_travel_in_one_letter_and_in_order(void **state) {
    struct guest a, b, line[2];

    enter(&a, 'a', 0);
    enter(&b, 'b', 0);
    enter(&line[0], '1', 1);
    enter(&line[1], '2', 1);
    leave(&a);
    leave(&b);
    assert_true(desks[1].is_posted);
    AWAIT(&loops[0], &loops[1], granted_len == 2);
    assert_string_equal(granted, "12");
    assert_false(desks[1].is_posted);
    leave(&line[0]);
    leave(&line[1]);
}

static void a_higher_limit_lets_in_who_waits_and_a_lower_one_waits_itself(void **state) {
    struct guest in[LIMIT], line[3];

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'a', 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(enter(&line[i], (char)('1' + i), i % 2), GATE_WAIT);
    gate_set_limit(&gate, LIMIT + 2, &loops[0]);
    AWAIT(&loops[0], &loops[1], granted_len == 2);
    assert_string_equal(granted, "12");
    gate_set_limit(&gate, 1, &loops[0]);
    for (unsigned i = 0; i < LIMIT; i++)
        leave(&in[i]);
    leave(&line[0]);
    assert_int_equal(granted_len, 2);
    leave(&line[1]); /* '3' lives on the other loop */
    AWAIT(&loops[0], &loops[1], granted_len == 3);
    leave(&line[2]);
}

static void a_full_line_refuses(void **state) {
    struct guest in[LIMIT], line[LINE_PLACES], more;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    for (unsigned i = 0; i < LINE_PLACES; i++)
        assert_int_equal(enter(&line[i], 'l', i % 2), GATE_WAIT);
    assert_int_equal(enter(&more, 'm', 0), GATE_FULL);
    assert_int_equal(more.ticket.state, TICKET_OUT);
    assert_int_equal(cancel(&line[1]), GATE_CANCELLED);
    assert_int_equal(enter(&more, 'm', 0), GATE_WAIT);
    for (unsigned i = 0; i < LINE_PLACES; i++)
        assert_int_equal(cancel(&line[i]), GATE_CANCELLED);
    assert_int_equal(cancel(&more), GATE_CANCELLED);
    for (unsigned i = 0; i < LIMIT; i++)
        leave(&in[i]);
}

/* A right that has come back, but not yet gone to the line: the instant between the two halves of
 * another thread's gate_leave(). */
static void a_line_that_just_moved_on_is_not_full(void **state) {
    struct guest in[LIMIT], line[LINE_PLACES], more;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    for (unsigned i = 0; i < LINE_PLACES; i++)
        enter(&line[i], (char)('1' + i), 0);
    in[0].ticket.state = TICKET_OUT;
    atomic_fetch_sub(gate.taken, 1);
    assert_int_equal(enter(&more, 'm', 0), GATE_WAIT);
    assert_string_equal(granted, "1");
    leave(&in[1]);
    leave(&line[0]);
    assert_string_equal(granted, "123");
    leave(&line[1]);
    leave(&line[2]);
    assert_string_equal(granted, "1234m");
    leave(&line[3]);
    leave(&more);
}

static void without_a_line_it_is_in_or_full(void **state) {
    struct guest a, b;

    tear_down(NULL);
    open_gate(1, 0);
    assert_int_equal(enter(&a, 'a', 0), GATE_IN);
    assert_int_equal(enter(&b, 'b', 1), GATE_FULL);
    leave(&a);
    assert_int_equal(enter(&b, 'b', 1), GATE_IN);
    leave(&b);
}

static void a_gate_of_none_lets_nobody_in(void **state) {
    struct guest a;

    tear_down(NULL);
    open_gate(0, 1);
    assert_false(gate_try(&gate));
    assert_int_equal(enter(&a, 'a', 0), GATE_WAIT);
    assert_int_equal(cancel(&a), GATE_CANCELLED);
}

static void nobody_overtakes_who_waits(void **state) {
    struct guest in[LIMIT], waits;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    enter(&waits, 'w', 1);
    in[0].ticket.state = TICKET_OUT; /* a right is free, but it is the waiting one's */
    atomic_fetch_sub(gate.taken, 1);
    assert_false(gate_try(&gate));
    atomic_fetch_add(gate.taken, 1);
    gate_leave(&gate, NULL, &loops[0]);
    assert_false(gate_try(&gate)); /* promised: taken */
    AWAIT(&loops[0], &loops[1], granted_len == 1);
    leave(&waits);
    leave(&in[1]);
}

static void a_ticket_that_never_entered_can_be_cancelled(void **state) {
    struct guest a = {0};

    assert_int_equal(cancel(&a), GATE_CANCELLED);
    assert_int_equal(enter(&a, 'a', 0), GATE_IN);
    leave(&a);
    assert_int_equal(cancel(&a), GATE_CANCELLED);
}

static void a_cancelled_waiter_is_gone_at_once(void **state) {
    struct guest in[LIMIT], first, second;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    enter(&first, '1', 0);
    enter(&second, '2', 0);
    assert_int_equal(cancel(&first), GATE_CANCELLED);
    assert_int_equal(atomic_load(&gate.waiting), 1);
    leave(&in[0]);
    assert_string_equal(granted, "2");
    leave(&second);
    leave(&in[1]);
}

static void a_right_whose_ticket_is_cancelled_on_the_way_passes_on(void **state) {
    struct guest in[LIMIT], first, second;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    enter(&first, '1', 1);
    enter(&second, '2', 0);
    leave(&in[0]);
    assert_int_equal(first.ticket.state, TICKET_PROMISED);
    assert_int_equal(cancel(&first), GATE_OWED);
    assert_int_equal(gate_taken(&gate), LIMIT); /* still held: it is owed */
    gate_leave(&gate, NULL, &loops[0]);
    assert_string_equal(granted, "2");
    settle_down(&loops[0], &loops[1]); /* the letter finds nobody */
    assert_string_equal(granted, "2");
    leave(&second);
    leave(&in[1]);
}

static void a_ticket_that_is_in_owes_its_right(void **state) {
    struct guest a;

    enter(&a, 'a', 0);
    assert_int_equal(cancel(&a), GATE_OWED);
    assert_int_equal(a.ticket.state, TICKET_OUT);
    gate_leave(&gate, NULL, &loops[0]);
}

static struct gate_desk *gift_for;
static unsigned gifts_made;

static void *make_gift(void *ctx, struct gate_desk *to) {
    gift_for = to;
    gifts_made++;
    return ctx;
}

static void a_gift_comes_with_the_right(void **state) {
    struct guest in[LIMIT], near, far;
    int near_gift, far_gift;

    gifts_made = 0;
    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    assert_false(gate_pass(&gate, &loops[0], make_gift, &near_gift));
    assert_int_equal(gifts_made, 0); /* nobody waits: none is made */
    enter(&near, 'n', 0);
    enter(&far, 'f', 1);
    assert_true(gate_pass(&gate, &loops[0], make_gift, &near_gift));
    assert_ptr_equal(near.gift, &near_gift);
    assert_ptr_equal(gift_for, &desks[0]);
    assert_true(gate_pass(&gate, &loops[0], make_gift, &far_gift));
    assert_ptr_equal(gift_for, &desks[1]);
    AWAIT(&loops[0], &loops[1], granted_len == 2);
    assert_ptr_equal(far.gift, &far_gift);
    assert_int_equal(gate_taken(&gate), LIMIT);
    leave(&near); /* the rights of in[] went with the gifts */
    leave(&far);
}

static void a_gift_on_its_way_is_given_to_who_cancels(void **state) {
    struct guest in[LIMIT], far;
    void *back;
    int gift;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    enter(&far, 'f', 1);
    assert_true(gate_pass(&gate, &loops[0], make_gift, &gift));
    assert_int_equal(gate_cancel(&far.ticket, &back), GATE_OWED);
    assert_ptr_equal(back, &gift);
    assert_int_equal(gate_cancel(&far.ticket, &back), GATE_CANCELLED);
    assert_null(back);
    gate_leave(&gate, NULL, &loops[1]);
    leave(&in[1]);
}

static void a_right_may_pass_without_a_gift(void **state) {
    struct guest in[LIMIT], near;

    for (unsigned i = 0; i < LIMIT; i++)
        enter(&in[i], 'i', 0);
    enter(&near, 'n', 0);
    assert_true(gate_pass(&gate, &loops[0], NULL, NULL));
    assert_null(near.gift);
    leave(&near);
    leave(&in[1]);
}

/* --- Threads --------------------------------------------------------------------------------- */

#define THREADS 4
#define TICKETS 6 /* of each thread */
#define VISITS 20000
#define STRESS_LIMIT 3

struct crowd {
    struct loop loop;
    struct gate_desk desk;
    struct guest guests[TICKETS];
    uint64_t seed;
    unsigned visits;
    uv_idle_t idle;
};

static struct crowd crowds[THREADS];
static _Atomic uint32_t inside;

static void come_in(struct gate_ticket *ticket, void *gift) {
    assert(atomic_fetch_add(&inside, 1) < STRESS_LIMIT);
    assert(!gift || gift == &gate);
    CONTAINER_OF(ticket, struct guest, ticket)->place = IN;
}

static void *make_gate_gift(void *ctx, struct gate_desk *to) {
    return &gate;
}

/* A visitor does one of the things that its state allows. */
static bool act(struct crowd *crowd, struct guest *guest) {
    bool is_over = crowd->visits >= VISITS;
    uint64_t choice = rnd(&crowd->seed) % 8;
    void *gift;

    switch (guest->place) {
    case AWAY:
        if (is_over)
            return false;
        crowd->visits++;
        switch (gate_enter(&crowd->desk, &guest->ticket)) {
        case GATE_IN:
            come_in(&guest->ticket, NULL);
            break;
        case GATE_WAIT:
            guest->place = WAITS;
            break;
        case GATE_FULL:
            break;
        }
        break;
    case IN:
        guest->place = AWAY;
        atomic_fetch_sub(&inside, 1);
        if (choice == 0 && gate_pass(&gate, &crowd->loop, make_gate_gift, NULL))
            guest->ticket.state = TICKET_OUT;
        else
            gate_leave(&gate, &guest->ticket, &crowd->loop);
        break;
    case WAITS:
        if (choice > 0 && !is_over)
            break;
        guest->place = AWAY;
        if (gate_cancel(&guest->ticket, &gift) == GATE_OWED)
            gate_leave(&gate, NULL, &crowd->loop);
        break;
    }
    return true;
}

static void on_idle(uv_idle_t *idle) {
    struct crowd *crowd = idle->data;
    bool is_busy = false;

    for (unsigned i = 0; i < TICKETS; i++)
        is_busy |= act(crowd, &crowd->guests[i]);
    if (!is_busy) {
        uv_close((uv_handle_t *)idle, NULL);
        loop_stop(&crowd->loop);
    }
}

static void *visit(void *ctx) {
    struct crowd *crowd = ctx;

    loop_run(&crowd->loop);
    return NULL;
}

static void no_right_is_lost_among_threads(void **state) {
    pthread_t threads[THREADS];

    gate_init(&gate, STRESS_LIMIT, 10);
    atomic_store(&inside, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        struct crowd *crowd = &crowds[i];

        assert_int_equal(loop_open(&crowd->loop, i), 0);
        gate_desk_init(&crowd->desk, &gate, &crowd->loop, come_in);
        crowd->seed = i + 1;
        crowd->idle.data = crowd;
        uv_idle_init(&crowd->loop.uv, &crowd->idle);
        uv_idle_start(&crowd->idle, on_idle);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &crowds[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(gate_taken(&gate), 0);
    assert_int_equal(atomic_load(&gate.waiting), 0);
    assert_int_equal(atomic_load(&inside), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(loop_close(&crowds[i].loop), 0);
    gate_deinit(&gate);
}

#define AT_GATE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        AT_GATE(the_bound_is_exact),
        AT_GATE(who_waits_longest_is_first_whatever_its_loop),
        AT_GATE(several_rights_travel_in_one_letter_and_in_order),
        AT_GATE(a_higher_limit_lets_in_who_waits_and_a_lower_one_waits_itself),
        AT_GATE(a_full_line_refuses),
        AT_GATE(a_line_that_just_moved_on_is_not_full),
        AT_GATE(without_a_line_it_is_in_or_full),
        AT_GATE(a_gate_of_none_lets_nobody_in),
        AT_GATE(nobody_overtakes_who_waits),
        AT_GATE(a_ticket_that_never_entered_can_be_cancelled),
        AT_GATE(a_cancelled_waiter_is_gone_at_once),
        AT_GATE(a_right_whose_ticket_is_cancelled_on_the_way_passes_on),
        AT_GATE(a_ticket_that_is_in_owes_its_right),
        AT_GATE(a_gift_comes_with_the_right),
        AT_GATE(a_gift_on_its_way_is_given_to_who_cancels),
        AT_GATE(a_right_may_pass_without_a_gift),
        cmocka_unit_test(no_right_is_lost_among_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
