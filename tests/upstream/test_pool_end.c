/* The promises of proxy/upstream/pool.h: leases that are given up, and pools that close. */
#include "pool_world.h"

#include <unistd.h>

static int set_up(void **state) {
    world_open(4, 64);
    return 0;
}

static int set_up_one(void **state) {
    world_open(1, 64);
    return 0;
}

static int set_up_blocked(void **state) {
    world_open(4, 0);
    return 0;
}

static int tear_down(void **state) {
    world_close(); /* which checks that nothing is left behind */
    return 0;
}

static void close_pool(unsigned at) {
    pool_close(world.pools[at]);
    world.pools[at] = NULL;
}

/* --- A lease may end in every state ----------------------------------------------------------- */

static void a_lease_on_nothing_ends_harmlessly(void **state) {
    struct taker taker = {0};

    lease_end(&taker.lease);
    assert_int_equal(taker.lease.state, LEASE_NONE);
}

static void who_waits_in_line_may_leave_it(void **state) {
    struct taker held, waits, next;
    int server;

    hold(&held, 0);
    server = server_accept();
    assert_int_equal(take(&waits, 0), POOL_WAIT);
    assert_int_equal(take(&next, 1), POOL_WAIT);
    assert_int_equal(waits.lease.state, LEASE_WAITING);
    lease_end(&waits.lease);
    lease_end(&waits.lease);
    exchange_whole(&held, 0, server);
    ASK_AWAIT(next.readies == 1);
    assert_int_equal(waits.readies, 0);
    exchange_whole(&next, 1, server);
    close(server);
}

/* The connection is under way to the other loop as its receiver gives up. */
static void a_connection_on_its_way_to_nobody_is_kept(void **state) {
    struct taker held, waits, next;
    int server;

    hold(&held, 0);
    server = server_accept();
    assert_int_equal(take(&waits, 1), POOL_WAIT);
    exchange_start(&held, 0);
    SAY(server, "HTTP/1.1 204 No Content\r\n\r\n");
    AWAIT(&world.loops[0], NULL, held.x.events & EXCHANGE_UPSTREAM_DONE);
    exchange_end(&held);
    assert_int_equal(waits.lease.ticket.state, TICKET_PROMISED);
    lease_end(&waits.lease);
    settle_down(&world.loops[0], &world.loops[1]);
    assert_int_equal(waits.readies, 0);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    assert_int_equal(take(&next, 1), POOL_READY);
    lease_end(&next.lease);
    close(server);
}

/* A right without a connection is under way. */
static void a_right_on_its_way_to_nobody_is_given_back(void **state) {
    struct taker held, waits;
    int server;

    hold(&held, 0);
    server = server_accept();
    assert_int_equal(take(&waits, 1), POOL_WAIT);
    exchange_start(&held, 0);
    exchange_end(&held); /* broken */
    close(server);
    AWAIT(&world.loops[0], NULL, waits.lease.ticket.state == TICKET_PROMISED);
    lease_end(&waits.lease);
    assert_int_equal(OPEN_CONNECTIONS, 0);
    settle_down(&world.loops[0], &world.loops[1]);
    assert_int_equal(waits.readies, 0);
}

static void who_waits_to_dial_may_leave(void **state) {
    struct taker dials, waits;
    int block = server_block();

    world.settings.dials = 1;
    assert_int_equal(take(&dials, 0), POOL_WAIT);
    assert_int_equal(take(&waits, 0), POOL_WAIT);
    assert_int_equal(waits.lease.state, LEASE_DIAL_LINE);
    lease_end(&waits.lease);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    lease_end(&dials.lease);
    close(block);
}

static void a_dial_that_nobody_waits_for_becomes_an_idle_connection(void **state) {
    struct taker taker;
    int server;

    assert_int_equal(take(&taker, 0), POOL_WAIT);
    assert_int_equal(taker.lease.state, LEASE_DIALLING);
    lease_end(&taker.lease);
    server = server_accept();
    ASK_AWAIT(atomic_load(&world.pools[0]->idle_count) == 1);
    assert_int_equal(taker.readies, 0);
    assert_int_equal(take(&taker, 0), POOL_READY);
    exchange_whole(&taker, 0, server);
    close(server);
}

static void a_held_connection_that_was_not_used_goes_back(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    lease_end(&taker.lease);
    assert_int_equal(atomic_load(&world.pools[0]->idle_count), 1);
    assert_int_equal(take(&taker, 0), POOL_READY);
    lease_end(&taker.lease);
    assert_int_equal(take(&taker, 0), POOL_READY);
    exchange_whole(&taker, 0, server);
    close(server);
}

static void a_held_connection_that_ends_before_its_use_stays_the_holders(void **state) {
    struct taker unused, used;

    hold(&unused, 0);
    close(server_accept());
    hold(&used, 0);
    close(server_accept());
    settle_down(&world.loops[0], &world.loops[1]);
    exchange_start(&used, 0);
    exchange_end(&used);
    lease_end(&unused.lease);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
}

static void a_held_connection_in_mid_message_is_closed(void **state) {
    struct taker taker;
    char text[256];
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_start(&taker, 0);
    ASK_AWAIT(hear(server, text, sizeof text) > 0);
    exchange_end(&taker);
    ASK_AWAIT(hear(server, text, sizeof text) == 0);
    assert_int_equal(atomic_load(&world.pools[0]->idle_count), 0);
    close(server);
}

/* --- A pool closes ---------------------------------------------------------------------------- */

static void a_closing_pool_closes_its_idle_connections(void **state) {
    struct taker taker;
    char text[8];
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    close_pool(0);
    ASK_AWAIT(hear(server, text, sizeof text) == 0);
    close(server);
}

static void a_closing_pool_waits_for_its_leases(void **state) {
    struct taker taker;
    char text[256];
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_start(&taker, 0);
    close_pool(0);
    settle_down(&world.loops[0], &world.loops[1]);
    ASK_AWAIT(hear(server, text, sizeof text) > 0);
    SAY(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    ASK_AWAIT(taker.x.events & EXCHANGE_UPSTREAM_DONE);
    exchange_end(&taker);
    ASK_AWAIT(hear(server, text, sizeof text) == 0); /* at once, though the server is slow */
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
    close(server);
}

static void a_closing_pool_gives_back_a_lease_that_was_not_used(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    close_pool(0);
    lease_end(&taker.lease);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
    close(server);
}

static void a_closing_pool_cancels_its_dials_and_refuses_who_waits_to(void **state) {
    struct taker dials, waits;
    int block = server_block();

    world.settings.dials = 1;
    assert_int_equal(take(&dials, 0), POOL_WAIT);
    assert_int_equal(take(&waits, 0), POOL_WAIT);
    close_pool(0);
    assert_int_equal(dials.readies, 1);
    assert_int_equal(dials.fail, FAIL_ENDPOINT_NONE);
    assert_int_equal(waits.readies, 1);
    assert_int_equal(waits.fail, FAIL_ENDPOINT_NONE);
    assert_true(endpoint_may_dial(world.endpoint, clock_now_ns())); /* nothing was wrong with it */
    close(block);
}

static void who_waits_for_a_closing_pool_is_told_when_his_turn_comes(void **state) {
    struct taker held, waits;
    int server;

    hold(&held, 0);
    server = server_accept();
    assert_int_equal(take(&waits, 1), POOL_WAIT);
    close_pool(1);
    exchange_start(&held, 0);
    exchange_end(&held);
    close(server);
    ASK_AWAIT(waits.readies == 1);
    assert_int_equal(waits.fail, FAIL_ENDPOINT_NONE);
}

static void a_connection_on_its_way_to_a_closing_pool_is_closed(void **state) {
    struct taker held, waits;
    int server;

    hold(&held, 0);
    server = server_accept();
    assert_int_equal(take(&waits, 1), POOL_WAIT);
    close_pool(1);
    exchange_start(&held, 0);
    SAY(server, "HTTP/1.1 204 No Content\r\n\r\n");
    AWAIT(&world.loops[0], NULL, held.x.events & EXCHANGE_UPSTREAM_DONE);
    exchange_end(&held);
    assert_int_equal(waits.lease.ticket.state, TICKET_PROMISED);
    lease_end(&waits.lease);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
    close(server);
}

static void letters_on_their_way_outlive_a_closing_pool(void **state) {
    struct taker idles, waits;
    int server;

    hold(&idles, 0);
    server = server_accept();
    exchange_whole(&idles, 0, server);
    assert_int_equal(take(&waits, 1), POOL_WAIT); /* asks loop 0 by letter */
    assert_true(atomic_load(&world.pools[0]->is_asked));
    close_pool(0);
    close(server);
    ASK_AWAIT(waits.readies == 1); /* the idle one was closed, so it dials */
    server = server_accept();
    exchange_whole(&waits, 1, server);
    close(server);
}

/* A pool that looks by itself whether others wait must not forget that a letter to it is under way:
 * a second one would tie the mailbox into a knot. */
static void a_letter_is_not_sent_twice(void **state) {
    struct taker taker, other;
    int server;

    hold(&taker, 0);
    server = server_accept();
    hold(&other, 0);
    close(server_accept());
    exchange_start(&taker, 0);
    SAY(server, "HTTP/1.1 204 No Content\r\n\r\n");
    AWAIT(&world.loops[0], NULL, taker.x.events & EXCHANGE_UPSTREAM_DONE);
    atomic_store(&world.pools[0]->is_asked, true);
    loop_post(&world.loops[0], &world.pools[0]->asked);
    /* Somebody has just begun to wait, and has left again: offer() sees only the first. */
    atomic_fetch_add(&world.endpoint->connections.waiting, 1);
    exchange_end(&taker);
    atomic_fetch_sub(&world.endpoint->connections.waiting, 1);
    assert_true(atomic_load(&world.pools[0]->is_asked));
    ASK_AWAIT(!atomic_load(&world.pools[0]->is_asked));
    exchange_start(&other, 0);
    exchange_end(&other);
    close(server);
}

#define WITH(set_up_, test) cmocka_unit_test_setup_teardown(test, set_up_, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(set_up, a_lease_on_nothing_ends_harmlessly),
        WITH(set_up_one, who_waits_in_line_may_leave_it),
        WITH(set_up_one, a_connection_on_its_way_to_nobody_is_kept),
        WITH(set_up_one, a_right_on_its_way_to_nobody_is_given_back),
        WITH(set_up_blocked, who_waits_to_dial_may_leave),
        WITH(set_up, a_dial_that_nobody_waits_for_becomes_an_idle_connection),
        WITH(set_up, a_held_connection_that_was_not_used_goes_back),
        WITH(set_up, a_held_connection_that_ends_before_its_use_stays_the_holders),
        WITH(set_up, a_held_connection_in_mid_message_is_closed),
        WITH(set_up, a_closing_pool_closes_its_idle_connections),
        WITH(set_up, a_closing_pool_waits_for_its_leases),
        WITH(set_up, a_closing_pool_gives_back_a_lease_that_was_not_used),
        WITH(set_up_blocked, a_closing_pool_cancels_its_dials_and_refuses_who_waits_to),
        WITH(set_up_one, who_waits_for_a_closing_pool_is_told_when_his_turn_comes),
        WITH(set_up_one, a_connection_on_its_way_to_a_closing_pool_is_closed),
        WITH(set_up_one, letters_on_their_way_outlive_a_closing_pool),
        WITH(set_up, a_letter_is_not_sent_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
