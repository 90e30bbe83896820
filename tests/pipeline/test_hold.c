/* The promises of proxy/pipeline/hold.h. The loops' time is moved by hand, so that nothing but a
 * probe's dial takes real time. */
#include "world.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUESTS 40
#define LOOK_NS (HOLD_LOOK_NS + NS_PER_MS) /* a timer may be late by a tick */

struct guest {
    struct hold_ticket ticket;
    struct permit permit;
    struct pipeline_loop *home;
    unsigned let_go; /* when: 1 is the first of all; 0: not yet */
};

static struct guest guests[GUESTS];
static unsigned let_go_count;
static struct pipeline_loop *const part = &world.parts[0], *const far = &world.parts[1];

static void on_granted(struct gate_ticket *ticket, void *gift) {
    fail_msg("nobody stands in a queue");
}

static void on_let_go(struct hold_ticket *ticket) {
    struct guest *guest = CONTAINER_OF(ticket, struct guest, ticket);

    assert_int_equal(guest->let_go, 0);
    assert_int_equal(guest->permit.kind, PERMIT_CONCURRENCY);
    guest->let_go = ++let_go_count;
}

static int set_up(void **state) {
    world_configure();
    world.config.limits.concurrency = 12;
    world.config.queue.size = GUESTS;
    world_open(on_granted, on_let_go);
    memset(guests, 0, sizeof guests);
    let_go_count = 0;
    for (unsigned i = 0; i < ENDPOINTS; i++)
        fail_dial(i);
    return 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < ENDPOINTS; i++)
        fail_dial(i); /* nobody is let go from here on */
    for (unsigned i = 0; i < GUESTS; i++) {
        if (!guests[i].home)
            continue;
        permit_release(guests[i].home, &guests[i].permit);
        hold_leave(guests[i].home, &guests[i].ticket, false);
    }
    world_close();
    return 0;
}

static bool enter(struct pipeline_loop *home, unsigned i) {
    guests[i].home = home;
    return hold_enter(home, &guests[i].ticket, &guests[i].permit);
}

static void enter_all(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        assert_true(enter(part, i));
}

/* It has had its answer, and leaves. */
static void answer(struct pipeline_loop *home, unsigned i) {
    permit_release(home, &guests[i].permit);
    hold_leave(home, &guests[i].ticket, true);
}

/* An endpoint is back; the loops find out at their next look. */
static void come_back(void) {
    endpoint_dial_succeeded(endpoint(0));
}

static uint64_t dials(void) {
    uint64_t sum = 0;

    for (unsigned i = 0; i < ENDPOINTS; i++)
        for (unsigned r = 0; r < DIAL_RESULTS; r++)
            sum += atomic_load(&endpoint(i)->dialled[r]);
    return sum;
}

static void an_outage_is_due_unless_it_is_tls(void **state) {
    assert_true(hold_is_due(part));
    for (unsigned i = 0; i < ENDPOINTS; i++)
        endpoint_dial_failed(endpoint(i), FAIL_TLS_CERTIFICATE, 0);
    assert_false(hold_is_due(part));
    come_back();
    assert_false(hold_is_due(part));
}

static void nobody_is_let_go_before_an_endpoint_is_back(void **state) {
    enter_all(3);
    for (unsigned i = 0; i < 100; i++)
        travel(&world.loops[0], LOOK_NS);
    assert_int_equal(let_go_count, 0);
    assert_int_equal(atomic_load(&world.pipeline->hold.held), 3);
    come_back();
    travel(&world.loops[0], LOOK_NS);
    assert_int_equal(let_go_count, 3);
    assert_int_equal(atomic_load(&world.pipeline->hold.held), 0);
}

static void the_oldest_goes_first(void **state) {
    enter_all(HOLD_FIRST + 2);
    come_back();
    travel(&world.loops[0], LOOK_NS);
    for (unsigned i = 0; i < HOLD_FIRST; i++)
        assert_int_equal(guests[i].let_go, i + 1);
    assert_int_equal(guests[HOLD_FIRST].let_go, 0);
}

static void each_answer_lets_two_more_go(void **state) {
    enter_all(GUESTS);
    come_back();
    travel(&world.loops[0], LOOK_NS);
    assert_int_equal(let_go_count, HOLD_FIRST);
    answer(part, 0);
    assert_int_equal(let_go_count, HOLD_FIRST + 2);
    answer(part, 1);
    assert_int_equal(let_go_count, HOLD_FIRST + 4);
    for (unsigned i = 2; i < 8; i++)
        answer(part, i);
    assert_int_equal(let_go_count, 8 + 12); /* 12 permits are all there are */
    assert_int_equal(gate_taken(&world.pipeline->concurrency), 12);
}

static void one_that_finds_it_gone_comes_back_to_its_place(void **state) {
    enter_all(HOLD_FIRST);
    world.loops[0].now_ns += 1;
    for (unsigned i = HOLD_FIRST; i < 20; i++)
        assert_true(enter(part, i));
    come_back();
    travel(&world.loops[0], LOOK_NS);
    assert_int_equal(let_go_count, HOLD_FIRST);
    fail_dial(0);
    for (unsigned i = 0; i < HOLD_FIRST; i++) {
        permit_release(part, &guests[i].permit);
        hold_leave(part, &guests[i].ticket, false);
        guests[i].let_go = 0;
        assert_true(enter(part, i));
    }
    let_go_count = 0;
    come_back();
    travel(&world.loops[0], LOOK_NS);
    for (unsigned i = 0; i < HOLD_FIRST; i++)
        assert_int_equal(guests[i].let_go, i + 1);
    assert_int_equal(let_go_count, HOLD_FIRST); /* and it begins anew, with as many */
}

static void who_comes_now_goes_first(void **state) {
    struct permit taken[12] = {0};

    enter_all(6);
    for (unsigned i = 0; i < 12; i++)
        assert_true(permit_try(part, &taken[i]));
    come_back();
    travel(&world.loops[0], LOOK_NS);
    assert_int_equal(let_go_count, 0); /* no permit is spare */
    permit_release(part, &taken[0]);
    hold_look(part);
    assert_int_equal(let_go_count, 1);
    for (unsigned i = 1; i < 12; i++)
        permit_release(part, &taken[i]);
}

static void loops_share_the_permits(void **state) {
    unsigned here = 0, there = 0;

    for (unsigned i = 0; i < GUESTS; i++)
        assert_true(enter(i % 2 ? far : part, i));
    come_back();
    travel(&world.loops[0], LOOK_NS);
    for (unsigned i = 0; i < 16; i += 2) /* one loop has its answers sooner */
        answer(part, i);
    travel(&world.loops[1], LOOK_NS);
    for (unsigned i = 0; i < GUESTS; i++) {
        here += i % 2 == 0 && guests[i].permit.kind == PERMIT_CONCURRENCY;
        there += i % 2 == 1 && guests[i].permit.kind == PERMIT_CONCURRENCY;
    }
    assert_int_equal(here, 6);
    assert_int_equal(there, HOLD_FIRST);
}

static void no_more_are_held_than_may_be(void **state) {
    struct guest over = {0};

    for (unsigned i = 0; i < GUESTS; i++)
        assert_true(enter(i % 2 ? far : part, i));
    assert_false(hold_enter(part, &over.ticket, &over.permit));
    assert_int_equal(over.ticket.state, HOLD_NONE);
    hold_leave(far, &guests[1].ticket, false);
    assert_true(hold_enter(part, &over.ticket, &over.permit));
    hold_leave(part, &over.ticket, false);
}

static void one_dial_in_a_while_over_all_loops(void **state) {
    uint64_t before;

    enter_all(10);
    for (unsigned i = 10; i < 20; i++)
        assert_true(enter(far, i));
    AWAIT(&world.loops[0], &world.loops[1], dials() >= ENDPOINTS + 1);
    before = dials();
    for (unsigned i = 0; i < 100; i++) { /* a second, in which the dials' own time stands still */
        travel(&world.loops[0], LOOK_NS);
        travel(&world.loops[1], LOOK_NS);
        settle_down(&world.loops[0], &world.loops[1]);
    }
    assert_in_range(dials() - before, 1, 1 * NS_PER_S / (HOLD_PROBE_NS * 3 / 4) + 1);
}

static void a_probe_finds_it_back_whatever_the_backoff_says(void **state) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    memcpy(&endpoint(1)->address, &at, sizeof at);
    enter_all(1);
    AWAIT(&world.loops[0], NULL, let_go_count == 1); /* the next one to be probed may be another */
    assert_true(endpoint_is_up(endpoint(1)));
    assert_true(pool_is_connected(part->pools[1])); /* and its connection is there to be used */
    close(listener);
}

static void nobody_probes_what_was_taken_out_of_service(void **state) {
    uint64_t before = dials();

    for (unsigned i = 0; i < ENDPOINTS; i++)
        endpoint_change(endpoint(i), i ? ENDPOINT_DISABLED : ENDPOINT_DRAINED, 0, 1);
    enter_all(1);
    for (unsigned i = 0; i < 50; i++) {
        travel(&world.loops[0], LOOK_NS);
        settle_down(&world.loops[0], NULL);
    }
    assert_int_equal(dials(), before);
    assert_int_equal(let_go_count, 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(an_outage_is_due_unless_it_is_tls),
        WITH(nobody_is_let_go_before_an_endpoint_is_back),
        WITH(the_oldest_goes_first),
        WITH(each_answer_lets_two_more_go),
        WITH(one_that_finds_it_gone_comes_back_to_its_place),
        WITH(who_comes_now_goes_first),
        WITH(loops_share_the_permits),
        WITH(no_more_are_held_than_may_be),
        WITH(one_dial_in_a_while_over_all_loops),
        WITH(a_probe_finds_it_back_whatever_the_backoff_says),
        WITH(nobody_probes_what_was_taken_out_of_service),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
