/* The promises of proxy/upstream/pool.h over HTTP/2. The server accepts whatever comes; each of its
 * connections is a peer in the test's hand. */
#include "pool_world.h"
#include "support/h2_peer.h"
#include "upstream/pool_state.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define PEERS_MAX 8
#define TAKERS_MAX 16

static struct h2_peer *peers; /* PEERS_MAX; in the order of their coming */
static unsigned peer_count;
static int peers_max_streams; /* what they say in their SETTINGS */
static bool is_accepting;
static struct taker takers[TAKERS_MAX];

static void open_http2(unsigned connections, unsigned streams) {
    signal(SIGPIPE, SIG_IGN);
    world_open_http2(connections, streams);
    peers = calloc(PEERS_MAX, sizeof *peers);
    peer_count = 0;
    peers_max_streams = PEER_SAYS_NOTHING;
    is_accepting = true;
    memset(takers, 0, sizeof takers);
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < TAKERS_MAX; i++) {
        lease_end(&takers[i].lease);
        if (takers[i].x.loop)
            exchange_deinit(&takers[i].x);
    }
    for (unsigned i = 0; i < peer_count; i++)
        h2_peer_close(&peers[i]); /* or our side would wait for theirs to end */
    world_close();
    free(peers);
    return 0;
}

/* What the server does of itself. */
static bool turn(void) {
    while (is_accepting && server_has_client()) {
        assert_true(peer_count < PEERS_MAX);
        h2_peer_open(&peers[peer_count++], server_accept(), peers_max_streams, false);
    }
    for (unsigned i = 0; i < peer_count; i++) {
        h2_peer_turn(&peers[i]);
        if (peers[i].is_eof)
            h2_peer_close(&peers[i]);
    }
    return true;
}

#define SERVED_AWAIT(condition) ASK_AWAIT((turn(), condition))

static void settle(void) {
    for (unsigned i = 0; i < 5; i++) {
        settle_down(&world.loops[0], &world.loops[1]);
        turn();
    }
}

/* Asks for a lease and awaits it. */
static void have(unsigned i, unsigned at) {
    if (take(&takers[i], at) == POOL_WAIT)
        SERVED_AWAIT(takers[i].readies == 1);
    assert_int_equal(takers[i].fail, FAIL_NONE);
    assert_int_equal(takers[i].lease.state, LEASE_HELD);
}

static void leave(unsigned i) {
    lease_end(&takers[i].lease);
    settle();
}

static unsigned open_peers(void) {
    unsigned count = 0;

    for (unsigned i = 0; i < peer_count; i++)
        count += peers[i].fd >= 0;
    return count;
}

/* --- Streams ---------------------------------------------------------------------------------- */

static void a_second_connection_comes_when_the_streams_of_the_first_run_out(void **state) {
    open_http2(10, 3);
    for (unsigned i = 0; i < 3; i++)
        have(i, 0);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    assert_int_equal(atomic_load(&world.endpoint->streams), 3);
    assert_int_equal(take(&takers[3], 0), POOL_WAIT);
    SERVED_AWAIT(takers[3].readies == 1);
    assert_int_equal(OPEN_CONNECTIONS, 2);
    assert_ptr_not_equal(takers[3].lease.conn, takers[0].lease.conn);
    /* And what is free on the fuller one is taken before that. */
    leave(0);
    leave(3);
    assert_int_equal(take(&takers[4], 0), POOL_READY);
    assert_ptr_equal(takers[4].lease.conn, takers[1].lease.conn);
}

static void exchanges_go_over_their_streams(void **state) {
    open_http2(10, 100);
    have(0, 0);
    have(1, 0);
    exchange_start(&takers[0], 0);
    exchange_start(&takers[1], 0);
    SERVED_AWAIT(peers[0].requests == 2);
    h2_peer_answer(&peers[0], 3, "204", true);
    h2_peer_answer(&peers[0], 1, "204", true);
    SERVED_AWAIT(takers[0].x.events & EXCHANGE_UPSTREAM_DONE);
    SERVED_AWAIT(takers[1].x.events & EXCHANGE_UPSTREAM_DONE);
    leave(0);
    leave(1);
    assert_int_equal(atomic_load(&world.endpoint->streams), 0);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    assert_int_equal(take(&takers[2], 0), POOL_READY);
}

static void what_the_upstream_allows_is_what_a_connection_takes(void **state) {
    open_http2(3, 100);
    peers_max_streams = 1;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    SERVED_AWAIT(takers[0].readies + takers[1].readies + takers[2].readies == 3);
    settle();
    assert_int_equal(OPEN_CONNECTIONS, 3);
    assert_int_equal(takers[3].readies + takers[4].readies, 0);
    /* The bound is reached: who waits gets what comes free, in order. */
    leave(1);
    SERVED_AWAIT(takers[3].readies == 1);
    assert_int_equal(takers[4].readies, 0);
    leave(0);
    SERVED_AWAIT(takers[4].readies == 1);
    assert_int_equal(OPEN_CONNECTIONS, 3);
    assert_int_equal(peer_count, 3);
}

static void an_upstream_that_allows_nothing_is_not_dialled_again_and_again(void **state) {
    open_http2(10, 100);
    peers_max_streams = 0;
    assert_int_equal(take(&takers[0], 0), POOL_WAIT);
    SERVED_AWAIT(peer_count == 1);
    settle();
    assert_int_equal(peer_count, 1);
    h2_peer_set_max(&peers[0], 1);
    SERVED_AWAIT(takers[0].readies == 1);
    assert_int_equal(takers[0].fail, FAIL_NONE);
}

static void one_dial_serves_all_that_fit_on_its_connection(void **state) {
    open_http2(10, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    assert_int_equal(atomic_load(&world.endpoint->dials), 1);
    assert_int_equal(take(&takers[10], 0), POOL_WAIT);
    assert_int_equal(atomic_load(&world.endpoint->dials), 2);
    for (unsigned i = 0; i <= 10; i++)
        SERVED_AWAIT(takers[i].readies == 1);
}

static void dials_are_bounded(void **state) {
    open_http2(100, 1);
    is_accepting = false;
    for (unsigned i = 0; i < TAKERS_MAX; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    assert_int_equal(atomic_load(&world.endpoint->dials), world.settings.dials);
    assert_int_equal(OPEN_CONNECTIONS, world.settings.dials);
}

static void who_leaves_the_line_takes_what_was_wanted_for_it_along(void **state) {
    open_http2(1, 1);
    have(0, 0);
    assert_int_equal(take(&takers[1], 0), POOL_WAIT);
    assert_int_equal(atomic_load(&world.endpoint->connections.waiting), 1);
    leave(1);
    assert_int_equal(atomic_load(&world.endpoint->connections.waiting), 0);
    assert_int_equal(takers[1].readies, 0);
}

/* --- Dials ------------------------------------------------------------------------------------ */

static void a_refused_dial_fails_everybody_in_line(void **state) {
    open_http2(10, 10);
    is_accepting = false;
    close(world.listener);
    world.listener = dup(STDIN_FILENO); /* for world_close() */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(take(&takers[i], 0), POOL_WAIT);
    for (unsigned i = 0; i < 3; i++) {
        SERVED_AWAIT(takers[i].readies == 1);
        assert_int_equal(takers[i].fail, FAIL_CONNECT_REFUSED);
        assert_int_equal(takers[i].lease.state, LEASE_NONE);
    }
    assert_int_equal(take(&takers[3], 0), POOL_FAILED); /* backoff */
    assert_int_equal(takers[3].fail, FAIL_CONNECT_REFUSED);
}

static void a_dial_lasts_until_settings_have_come(void **state) {
    open_http2(10, 10);
    world.settings.dial_timeout_ns = 50 * NS_PER_MS;
    is_accepting = false;
    assert_int_equal(take(&takers[0], 0), POOL_WAIT);
    ASK_AWAIT(takers[0].readies == 1);
    assert_int_equal(takers[0].fail, FAIL_CONNECT_TIMEOUT);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
    assert_int_equal(atomic_load(&world.endpoint->dialled[DIAL_TIMEOUT]), 1);
}

static void a_server_of_another_protocol_is_a_failed_dial(void **state) {
    int server;

    open_http2(10, 10);
    is_accepting = false;
    assert_int_equal(take(&takers[0], 0), POOL_WAIT);
    server = server_accept();
    SAY(server, "HTTP/1.1 400 Bad Request\r\n\r\n");
    ASK_AWAIT(takers[0].readies == 1);
    assert_int_equal(takers[0].fail, FAIL_UPSTREAM_MALFORMED);
    assert_false(endpoint_may_dial(world.endpoint, world.loops[0].now_ns));
    close(server);
}

static void fds_that_are_used_up_fail_who_has_no_connection(void **state) {
    open_http2(10, 1);
    have(0, 0);
    world.fds.limit[FD_UPSTREAM] = 1;
    assert_int_equal(take(&takers[1], 0), POOL_WAIT);
    settle();
    assert_int_equal(takers[1].readies, 0);            /* a stream may come free */
    assert_true(list_is_empty(&world.loops[0].ready)); /* and we do not turn in circles for it */
    leave(0);
    SERVED_AWAIT(takers[1].readies == 1);
    assert_int_equal(takers[1].fail, FAIL_NONE);
    assert_int_equal(take(&takers[2], 1), POOL_WAIT);
    SERVED_AWAIT(takers[2].readies == 1);
    assert_int_equal(takers[2].fail, FAIL_FDS_USED_UP);
}

/* --- Ends ------------------------------------------------------------------------------------- */

static void a_connection_that_says_goaway_is_replaced(void **state) {
    open_http2(10, 100);
    have(0, 0);
    exchange_start(&takers[0], 0);
    SERVED_AWAIT(peers[0].requests == 1);
    h2_peer_goaway(&peers[0], 1, NGHTTP2_NO_ERROR);
    settle();
    have(1, 0);
    assert_int_equal(peer_count, 2);
    assert_int_equal(OPEN_CONNECTIONS, 2);
    h2_peer_answer(&peers[0], 1, "204", true);
    SERVED_AWAIT(takers[0].x.events & EXCHANGE_UPSTREAM_DONE);
    leave(0);
    SERVED_AWAIT(OPEN_CONNECTIONS == 1);
}

static void a_connection_that_breaks_in_use_is_closed_when_all_have_left(void **state) {
    open_http2(10, 100);
    have(0, 0);
    have(1, 0);
    exchange_start(&takers[0], 0);
    SERVED_AWAIT(peers[0].requests == 1);
    h2_peer_close(&peers[0]);
    SERVED_AWAIT(takers[0].x.events & EXCHANGE_UPSTREAM_FAIL);
    exchange_start(&takers[1], 0); /* reserved before that */
    assert_int_equal(takers[1].x.upstream_fail, FAIL_UPSTREAM_GOAWAY);
    have(2, 0);
    assert_int_equal(peer_count, 2);
    leave(0);
    assert_int_equal(OPEN_CONNECTIONS, 2);
    leave(1);
    SERVED_AWAIT(OPEN_CONNECTIONS == 1);
}

static void an_idle_connection_ends_after_its_time(void **state) {
    open_http2(10, 100);
    world.settings.idle_timeout_ns = 20 * NS_PER_MS;
    have(0, 0);
    settle();
    assert_int_equal(OPEN_CONNECTIONS, 1);
    leave(0);
    SERVED_AWAIT(OPEN_CONNECTIONS == 0);
    assert_int_equal(open_peers(), 0);
}

static void a_closing_pool_refuses_its_line_and_waits_for_its_streams(void **state) {
    open_http2(1, 1);
    have(0, 0);
    assert_int_equal(take(&takers[1], 0), POOL_WAIT);
    pool_close(world.pools[0]);
    world.pools[0] = NULL;
    SERVED_AWAIT(takers[1].readies == 1);
    assert_int_equal(takers[1].fail, FAIL_ENDPOINT_NONE);
    settle();
    assert_int_equal(OPEN_CONNECTIONS, 1);
    leave(0);
    SERVED_AWAIT(OPEN_CONNECTIONS == 0);
}

static void a_closing_pool_cancels_its_dials(void **state) {
    open_http2(10, 10);
    is_accepting = false;
    assert_int_equal(take(&takers[0], 0), POOL_WAIT);
    settle();
    pool_close(world.pools[0]);
    world.pools[0] = NULL;
    ASK_AWAIT(takers[0].readies == 1);
    assert_int_equal(takers[0].fail, FAIL_ENDPOINT_NONE);
    ASK_AWAIT(OPEN_CONNECTIONS == 0);
}

/* --- Loops ------------------------------------------------------------------------------------ */

static void each_loop_has_its_own(void **state) {
    open_http2(10, 100);
    have(0, 0);
    have(1, 1);
    assert_int_equal(OPEN_CONNECTIONS, 2);
}

static void an_idle_connection_ends_for_another_loop(void **state) {
    open_http2(1, 100);
    have(0, 0);
    leave(0);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    have(1, 1);
    assert_int_equal(OPEN_CONNECTIONS, 1);
    assert_int_equal(peer_count, 2);
}

static void a_connection_that_becomes_idle_ends_for_another_loop(void **state) {
    open_http2(1, 100);
    have(0, 0);
    assert_int_equal(take(&takers[1], 1), POOL_WAIT);
    settle();
    assert_int_equal(takers[1].readies, 0);
    leave(0);
    SERVED_AWAIT(takers[1].readies == 1);
    assert_int_equal(takers[1].fail, FAIL_NONE);
}

/* A loop that is always busy lets another one have its turn. */
static void a_busy_connection_makes_way_for_a_loop_without(void **state) {
    open_http2(1, 100);
    have(0, 0);
    have(1, 0);
    assert_int_equal(take(&takers[2], 1), POOL_WAIT);
    SERVED_AWAIT(takers[0].lease.conn->is_yielding);
    assert_int_equal(take(&takers[3], 0), POOL_WAIT); /* no new ones */
    leave(0);
    lease_end(&takers[1].lease);
    SERVED_AWAIT(takers[2].readies == 1);
    assert_int_equal(takers[2].fail, FAIL_NONE);
    assert_int_equal(takers[3].readies, 0);
    leave(2); /* and back */
    SERVED_AWAIT(takers[3].readies == 1);
    assert_int_equal(takers[3].fail, FAIL_NONE);
}

static void a_connection_that_stays_busy_is_used_again(void **state) {
    open_http2(1, 100);
    have(0, 0);
    assert_int_equal(take(&takers[1], 1), POOL_WAIT);
    SERVED_AWAIT(takers[0].lease.conn->is_yielding);
    assert_int_equal(take(&takers[2], 0), POOL_WAIT);
    SERVED_AWAIT(takers[2].readies == 1); /* after POOL_YIELD_NS */
    assert_ptr_equal(takers[2].lease.conn, takers[0].lease.conn);
    assert_int_equal(takers[1].readies, 0);
    lease_end(&takers[2].lease);
    leave(0);
    SERVED_AWAIT(takers[1].readies == 1);
}

#define IN_OWN_WORLD(test) cmocka_unit_test_teardown(test, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_OWN_WORLD(a_second_connection_comes_when_the_streams_of_the_first_run_out),
        IN_OWN_WORLD(exchanges_go_over_their_streams),
        IN_OWN_WORLD(what_the_upstream_allows_is_what_a_connection_takes),
        IN_OWN_WORLD(an_upstream_that_allows_nothing_is_not_dialled_again_and_again),
        IN_OWN_WORLD(one_dial_serves_all_that_fit_on_its_connection),
        IN_OWN_WORLD(dials_are_bounded),
        IN_OWN_WORLD(who_leaves_the_line_takes_what_was_wanted_for_it_along),
        IN_OWN_WORLD(a_refused_dial_fails_everybody_in_line),
        IN_OWN_WORLD(a_dial_lasts_until_settings_have_come),
        IN_OWN_WORLD(a_server_of_another_protocol_is_a_failed_dial),
        IN_OWN_WORLD(fds_that_are_used_up_fail_who_has_no_connection),
        IN_OWN_WORLD(a_connection_that_says_goaway_is_replaced),
        IN_OWN_WORLD(a_connection_that_breaks_in_use_is_closed_when_all_have_left),
        IN_OWN_WORLD(an_idle_connection_ends_after_its_time),
        IN_OWN_WORLD(a_closing_pool_refuses_its_line_and_waits_for_its_streams),
        IN_OWN_WORLD(a_closing_pool_cancels_its_dials),
        IN_OWN_WORLD(each_loop_has_its_own),
        IN_OWN_WORLD(an_idle_connection_ends_for_another_loop),
        IN_OWN_WORLD(a_connection_that_becomes_idle_ends_for_another_loop),
        IN_OWN_WORLD(a_busy_connection_makes_way_for_a_loop_without),
        IN_OWN_WORLD(a_connection_that_stays_busy_is_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
