/* The promises of proxy/upstream/pool.h and endpoint.h: leases. How a pool ends is in
 * test_pool_end.c. */
#include "pool_world.h"

#include <stdlib.h>
#include <unistd.h>

static int with(unsigned connections, int backlog) {
    world_open(connections, backlog);
    return 0;
}

static int set_up(void **state) {
    return with(4, 64);
}

static int set_up_one(void **state) {
    return with(1, 64);
}

static int set_up_refusing(void **state) {
    return with(4, -1);
}

static int set_up_blocked(void **state) {
    return with(10, 0);
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

static void a_connection_is_dialled_once_and_used_again(void **state) {
    struct taker taker;
    int server;

    assert_int_equal(take(&taker, 0), POOL_WAIT);
    ASK_AWAIT(taker.readies == 1);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(take(&taker, 0), POOL_READY);
        assert_int_equal(atomic_load(&world.endpoint->inflight), 1);
        exchange_whole(&taker, 0, server);
        assert_int_equal(atomic_load(&world.endpoint->inflight), 0);
    }
    assert_false(server_has_client());
    assert_int_equal(OPEN_CONNECTIONS, 1);
    assert_int_equal(atomic_load(&world.endpoint->dialled[DIAL_OK]), 1);
    close(server);
}

static void what_was_used_last_is_used_first(void **state) {
    struct taker a, b, c;
    int first, second;

    hold(&a, 0);
    first = server_accept();
    hold(&b, 0);
    second = server_accept();
    exchange_whole(&b, 0, second);
    exchange_whole(&a, 0, first);
    hold(&c, 0);
    exchange_whole(&c, 0, first);
    close(first);
    close(second);
}

static void a_fresh_one_is_dialled_though_others_are_idle(void **state) {
    struct taker taker;
    int first, second;

    hold(&taker, 0);
    first = server_accept();
    exchange_whole(&taker, 0, first);
    taker = (struct taker){.lease.ready = taker.lease.ready};
    assert_int_equal(pool_lease(world.pools[0], &taker.lease, true, &taker.fail), POOL_WAIT);
    ASK_AWAIT(taker.readies == 1);
    second = server_accept();
    exchange_whole(&taker, 0, second);
    assert_int_equal(OPEN_CONNECTIONS, 2);
    close(first);
    close(second);
}

static void at_the_bound_a_fresh_one_may_be_an_idle_one(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    taker = (struct taker){.lease.ready = taker.lease.ready};
    assert_int_equal(pool_lease(world.pools[0], &taker.lease, true, &taker.fail), POOL_READY);
    exchange_whole(&taker, 0, server);
    close(server);
}

static void the_bound_holds_over_all_loops(void **state) {
    struct taker held[4], more[2];
    int servers[4];

    for (unsigned i = 0; i < 4; i++) {
        hold(&held[i], i % 2);
        servers[i] = server_accept();
    }
    assert_int_equal(take(&more[0], 0), POOL_WAIT);
    assert_int_equal(take(&more[1], 1), POOL_WAIT);
    settle_down(&world.loops[0], &world.loops[1]);
    assert_int_equal(more[0].readies + more[1].readies, 0);
    assert_false(server_has_client());
    exchange_whole(&held[1], 1, servers[1]); /* on loop 1, but loop 0 waits longer */
    ASK_AWAIT(more[0].readies == 1);
    assert_int_equal(more[1].readies, 0);
    exchange_whole(&more[0], 0, servers[1]);
    ASK_AWAIT(more[1].readies == 1);
    exchange_whole(&more[1], 1, servers[1]);
    assert_int_equal(OPEN_CONNECTIONS, 4);
    assert_false(server_has_client());
    for (unsigned i = 0; i < 4; i++)
        if (i != 1)
            exchange_whole(&held[i], i % 2, servers[i]);
    for (unsigned i = 0; i < 4; i++)
        close(servers[i]);
}

static void an_idle_connection_goes_to_the_loop_that_waits(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    for (unsigned i = 1; i < 5; i++) {
        hold(&taker, i % 2);
        exchange_whole(&taker, i % 2, server);
        settle_down(&world.loops[0], &world.loops[1]);
        assert_int_equal(OPEN_CONNECTIONS, 1);
        assert_int_equal(fds_used(&world.fds, FD_UPSTREAM), 1);
    }
    assert_false(server_has_client());
    close(server);
}

static void a_connection_that_was_handed_over_is_not_new(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    hold(&taker, 1);
    exchange_start(&taker, 1);
    close(server); /* without a byte: it may have been idle for too long */
    ASK_AWAIT(taker.x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(taker.x.upstream_fail, FAIL_UPSTREAM_STALE);
    exchange_end(&taker);
}

static void a_broken_exchange_frees_its_place_only_after_the_close(void **state) {
    struct taker first, second;
    int server, other;

    hold(&first, 0);
    server = server_accept();
    exchange_start(&first, 0);
    assert_int_equal(take(&second, 1), POOL_WAIT);
    exchange_end(&first); /* in mid-message */
    settle_down(&world.loops[0], &world.loops[1]);
    assert_int_equal(second.readies, 0); /* the server still has the old one */
    assert_int_equal(OPEN_CONNECTIONS, 1);
    close(server);
    ASK_AWAIT(second.readies == 1);
    other = server_accept();
    exchange_whole(&second, 1, other);
    close(other);
}

static void a_connection_that_ends_while_idle_is_never_leased(void **state) {
    struct taker taker;
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    close(server);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
    assert_int_equal(take(&taker, 0), POOL_WAIT);
    ASK_AWAIT(taker.readies == 1);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    close(server);
}

static void bytes_that_nobody_asked_for_end_an_idle_connection(void **state) {
    struct taker taker;
    int server;
    char text[8];

    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    SAY(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    ASK_AWAIT(hear(server, text, sizeof text) == 0);
    assert_int_equal(take(&taker, 0), POOL_WAIT);
    ASK_AWAIT(taker.readies == 1);
    close(server);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    close(server);
}

static void an_idle_connection_is_closed_after_its_timeout(void **state) {
    struct taker taker;
    char text[8];
    int server;

    world.settings.idle_timeout_ns = 10 * NS_PER_MS;
    hold(&taker, 0);
    server = server_accept();
    exchange_whole(&taker, 0, server);
    ASK_AWAIT(hear(server, text, sizeof text) == 0);
    assert_int_equal(OPEN_CONNECTIONS, 1); /* till the server has let go */
    close(server);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
}

/* An answer so long that reading was paused: its exchange still has it, the connection is free. */
static void a_connection_is_read_again_however_it_was_left(void **state) {
    static char some[60000];
    struct taker taker;
    char head[100];
    int server;

    hold(&taker, 0);
    server = server_accept();
    exchange_start_upload(&taker, 0);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", 2 * sizeof some);
    SAY(server, head);
    say(server, slice_of(some, sizeof some));
    settle_down(&world.loops[0], NULL);
    say(server, slice_of(some, sizeof some));
    ASK_AWAIT(taker.x.response.state == BODY_ENDED);
    settle_down(&world.loops[0], NULL); /* more than the window holds */
    body_end(&taker.x.request);
    body_flush(&taker.x.request);
    assert_true(taker.x.events & EXCHANGE_UPSTREAM_DONE);
    hear(server, some, sizeof some);
    exchange_end(&taker);
    assert_int_equal(take(&taker, 0), POOL_READY);
    exchange_whole(&taker, 0, server);
    close(server);
}

/* --- Dials ----------------------------------------------------------------------------------- */

static void a_refused_dial_is_told_and_backed_off_from(void **state) {
    struct taker taker;

    assert_int_equal(take(&taker, 0), POOL_WAIT);
    ASK_AWAIT(taker.readies == 1);
    assert_int_equal(taker.fail, FAIL_CONNECT_REFUSED);
    assert_int_equal(taker.lease.state, LEASE_NONE);
    assert_int_equal(atomic_load(&world.endpoint->dialled[DIAL_REFUSED]), 1);
    atomic_store(&world.endpoint->dial_after_ns, clock_now_ns() + 3600 * NS_PER_S);
    assert_int_equal(take(&taker, 1), POOL_FAILED); /* the other loop knows too */
    assert_int_equal(taker.fail, FAIL_CONNECT_REFUSED);
    assert_int_equal(atomic_load(&world.endpoint->inflight), 0);
    atomic_store(&world.endpoint->dial_after_ns, clock_now_ns() - 1);
    assert_int_equal(listen(world.listener, 4), 0);
    hold(&taker, 1);
    assert_int_equal(atomic_load(&world.endpoint->dial_failures), 0);
    lease_end(&taker.lease);
}

static void backoff_doubles_up_to_its_bound_and_one_success_ends_it(void **state) {
    int64_t limit_ns = ENDPOINT_BACKOFF_MIN_NS, now_ns = 1;

    for (unsigned i = 0; i < 40; i++) {
        int64_t wait_ns;

        endpoint_dial_failed(world.endpoint, FAIL_CONNECT_REFUSED, now_ns);
        wait_ns = atomic_load(&world.endpoint->dial_after_ns) - now_ns;
        assert_true(wait_ns >= limit_ns / 2 && wait_ns <= limit_ns);
        assert_false(endpoint_may_dial(world.endpoint, now_ns));
        assert_false(endpoint_may_dial(world.endpoint, now_ns + wait_ns - 1));
        assert_true(endpoint_may_dial(world.endpoint, now_ns + wait_ns));
        limit_ns = limit_ns * 2 < ENDPOINT_BACKOFF_MAX_NS ? limit_ns * 2 : ENDPOINT_BACKOFF_MAX_NS;
        now_ns += wait_ns;
    }
    endpoint_dial_succeeded(world.endpoint);
    assert_true(endpoint_may_dial(world.endpoint, 0));
}

static void a_dial_without_an_answer_ends_after_its_timeout(void **state) {
    int block = server_block();
    struct taker taker;

    world.settings.dial_timeout_ns = 20 * NS_PER_MS;
    assert_int_equal(take(&taker, 0), POOL_WAIT);
    assert_int_equal(taker.lease.state, LEASE_DIALLING);
    ASK_AWAIT(taker.readies == 1);
    assert_int_equal(taker.fail, FAIL_CONNECT_TIMEOUT);
    assert_int_equal(atomic_load(&world.endpoint->dialled[DIAL_TIMEOUT]), 1);
    close(block);
}

static void so_many_dials_are_under_way_and_the_rest_waits(void **state) {
    struct taker takers[5];
    unsigned ready = 0;

    world_close();
    world_open(10, 64);
    world.settings.dials = 2;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(takers[i].lease.state, i < 2 ? LEASE_DIALLING : LEASE_DIAL_LINE);
    assert_int_equal(world.pools[0]->dialling, 2);
    assert_int_equal(atomic_load(&world.endpoint->dials), 2);
    while (ready < 5) {
        spin(&world.loops[0], NULL);
        ready = 0;
        for (unsigned i = 0; i < 5; i++)
            ready += takers[i].readies;
        assert_true(world.pools[0]->dialling <= 2);
    }
    assert_int_equal(OPEN_CONNECTIONS, 5);
    for (unsigned i = 0; i < 5; i++) {
        exchange_start(&takers[i], 0);
        close(server_accept());
        exchange_end(&takers[i]);
    }
}

static void dials_that_fail_make_room_for_the_next_ones(void **state) {
    int block = server_block();
    struct taker takers[5];

    world.settings.dials = 2;
    world.settings.dial_timeout_ns = 20 * NS_PER_MS;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    for (unsigned i = 0; i < 5; i++) {
        ASK_AWAIT(takers[i].readies == 1);
        assert_int_equal(takers[i].fail, FAIL_CONNECT_TIMEOUT);
    }
    assert_int_equal(world.pools[0]->dialling, 0);
    assert_int_equal(atomic_load(&world.endpoint->dials), 0);
    close(block);
}

static void a_connection_that_comes_free_serves_who_waits_to_dial(void **state) {
    struct taker held, dials, waits, next;
    int server, block;

    world.settings.dials = 1;
    hold(&held, 0);
    server = server_accept();
    block = server_block();
    assert_int_equal(take(&dials, 0), POOL_WAIT);
    assert_int_equal(take(&waits, 0), POOL_WAIT);
    assert_int_equal(waits.lease.state, LEASE_DIAL_LINE);
    exchange_whole(&held, 0, server);
    assert_int_equal(waits.readies, 1);
    exchange_whole(&waits, 0, server);
    assert_int_equal(take(&next, 0), POOL_READY); /* and it is still good */
    exchange_whole(&next, 0, server);
    assert_int_equal(OPEN_CONNECTIONS, 2); /* and the one that still dials */
    lease_end(&dials.lease);
    close(server);
    close(block);
}

static void without_a_free_fd_there_is_no_dial(void **state) {
    struct taker taker;

    world.fds.limit[FD_UPSTREAM] = 0;
    assert_int_equal(take(&taker, 0), POOL_WAIT);
    assert_int_equal(taker.readies, 1);
    assert_int_equal(taker.fail, FAIL_FDS_USED_UP);
    assert_int_equal(taker.lease.state, LEASE_NONE);
    assert_int_equal(OPEN_CONNECTIONS, 0);
    assert_true(endpoint_may_dial(world.endpoint, clock_now_ns())); /* it is not at fault */
}

#define CROWD 20000

static void a_crowd_that_is_refused_at_once_costs_no_stack(void **state) {
    struct taker first, *crowd = calloc(CROWD, sizeof *crowd);

    assert_int_equal(take(&first, 0), POOL_WAIT);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(take(&crowd[i], 0), POOL_WAIT);
    ASK_AWAIT(crowd[CROWD - 1].readies == 1);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(crowd[i].readies, 1);
        assert_int_equal(crowd[i].fail, FAIL_CONNECT_REFUSED);
    }
    assert_int_equal(atomic_load(&world.endpoint->dialled[DIAL_REFUSED]), 1);
    free(crowd);
}

static int set_up_one_refusing(void **state) {
    return with(1, -1);
}

static void an_endpoint_reads_as_text_and_knows_its_address(void **state) {
    struct sockaddr_storage other = world.endpoint->address;
    char text[64];

    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(world.address.sin_port));
    assert_string_equal(world.endpoint->text, text);
    assert_true(endpoint_is_at(world.endpoint, &other));
    ((struct sockaddr_in *)&other)->sin_port ^= 1;
    assert_false(endpoint_is_at(world.endpoint, &other));
    for (enum dial_result i = 0; i < DIAL_RESULTS; i++)
        assert_non_null(endpoint_dial_result_name(i));
}

#define WITH(set_up_, test) cmocka_unit_test_setup_teardown(test, set_up_, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(set_up, a_connection_is_dialled_once_and_used_again),
        WITH(set_up, what_was_used_last_is_used_first),
        WITH(set_up, a_fresh_one_is_dialled_though_others_are_idle),
        WITH(set_up_one, at_the_bound_a_fresh_one_may_be_an_idle_one),
        WITH(set_up, the_bound_holds_over_all_loops),
        WITH(set_up_one, an_idle_connection_goes_to_the_loop_that_waits),
        WITH(set_up_one, a_connection_that_was_handed_over_is_not_new),
        WITH(set_up_one, a_broken_exchange_frees_its_place_only_after_the_close),
        WITH(set_up, a_connection_that_ends_while_idle_is_never_leased),
        WITH(set_up, bytes_that_nobody_asked_for_end_an_idle_connection),
        WITH(set_up, an_idle_connection_is_closed_after_its_timeout),
        WITH(set_up, a_connection_is_read_again_however_it_was_left),
        WITH(set_up_refusing, a_refused_dial_is_told_and_backed_off_from),
        WITH(set_up, backoff_doubles_up_to_its_bound_and_one_success_ends_it),
        WITH(set_up_blocked, a_dial_without_an_answer_ends_after_its_timeout),
        WITH(set_up, so_many_dials_are_under_way_and_the_rest_waits),
        WITH(set_up_blocked, dials_that_fail_make_room_for_the_next_ones),
        WITH(set_up_blocked, a_connection_that_comes_free_serves_who_waits_to_dial),
        WITH(set_up, without_a_free_fd_there_is_no_dial),
        WITH(set_up_one_refusing, a_crowd_that_is_refused_at_once_costs_no_stack),
        WITH(set_up, an_endpoint_reads_as_text_and_knows_its_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
