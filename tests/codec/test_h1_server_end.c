/* The promises of proxy/codec/h1_server.h: early answers, broken ones, timeouts, clients that
 * leave, and draining. Timeouts are reached by moving the loop's time. */
#include "server_world.h"
#include "support/packets.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int set_up(void **state) {
    world_open(false);
    return 0;
}

static int set_up_tcp(void **state) {
    world_open(true);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

static struct request *request(unsigned n) {
    return &world.requests[n];
}

static void a_request_comes(const char *text) {
    CLIENT_SAYS(text);
    AWAIT_REQUESTS(1);
}

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST_100 "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello"

/* The kernel may add one to acknowledge what the client said, when it finds the time: not always.
 */
static void the_end_of_a_connection_is_no_packet_of_its_own(void **state) {
    unsigned packets = 0;

    for (unsigned i = 0; packets != 1; i++) {
        assert_true(i < 10);
        if (i > 0) {
            world_close();
            world_open(true);
        }
        a_request_comes("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        packets = packets_in(world.client);
        answer_whole(request(0), 200, "ok");
        AWAIT_END();
        assert_true(client_heard("\r\n\r\nok"));
        packets = packets_in(world.client) - packets;
    }
}

/* --- Answers that come early, or break off -----------------------------------------------------
 */

static void an_early_refusal_is_read_by_a_client_that_still_sends(void **state) {
    a_request_comes("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    answer_whole(request(0), 413, "too much");
    assert_true(request(0)->is_over);
    for (unsigned i = 0; i < 10; i++) {
        static const char some[1000];

        say(world.client, slice_of(some, sizeof some));
        spin(&world.loop, NULL);
    }
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_HEARD("\r\n\r\ntoo much");
    AWAIT_END();
    assert_true(world.is_eof); /* an end, no reset */
    assert_int_equal(world.count, 1);
}

static void an_early_answer_keeps_the_connection_if_the_content_is_whole_by_its_end(void **state) {
    a_request_comes(POST_100);
    answer(request(0), 200, OF_LENGTH(4), "do");
    AWAIT_HEARD("\r\n\r\ndo");
    assert_false(client_heard("Connection: close"));
    for (unsigned i = 0; i < 95; i++)
        CLIENT_SAYS("x");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    answer_more(request(0), "ne");
    answer_end(request(0));
    CLIENT_SAYS(GET);
    AWAIT_REQUESTS(2);
    answer_whole(request(1), 200, "");
}

static void an_answer_before_the_contents_end_closes_at_its_own(void **state) {
    a_request_comes(POST_100);
    answer_whole(request(0), 200, "enough");
    AWAIT_HEARD("\r\n\r\nenough");
    AWAIT_END();
    assert_true(world.is_eof);
}

/* The owner breaks off what it has begun. */
static void break_off(struct request *r) {
    body_reset(&r->x.response, FAIL_UPSTREAM_INCOMPLETE);
    r->x.client->abort(&r->x);
    finish(r);
}

static void a_broken_answer_never_ends_like_a_whole_one(void **state) {
    static const struct {
        const char *head;
        struct content content;
    } kinds[] = {
        {GET, {CONTENT_LENGTH, 100}},
        {GET, {CONTENT_CHUNKED, 0}},
        {"GET / HTTP/1.0\r\n\r\n", {CONTENT_CHUNKED, 0}},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", {CONTENT_LENGTH, 100}},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (i > 0)
            world_open(true);
        a_request_comes(kinds[i].head);
        answer(request(0), 200, kinds[i].content, "half");
        AWAIT_HEARD("half");
        break_off(request(0));
        AWAIT_END();
        assert_false(client_heard("\r\n0\r\n"));
        /* Where the end of the connection is the end of the content, it must not look like one. */
        if (i == 2)
            assert_int_equal(world.err, -ECONNRESET);
        else
            assert_true(world.is_eof);
        if (i + 1 < sizeof kinds / sizeof *kinds)
            world_close();
    }
}

static void more_than_was_announced_is_not_sent(void **state) {
    a_request_comes(GET);
    answer(request(0), 200, OF_LENGTH(4), "ab");
    AWAIT_HEARD("\r\n\r\nab");
    answer_more(request(0), "cdX");
    assert_int_equal(request(0)->x.response.state, BODY_RESET);
    assert_false(request(0)->is_over);
    break_off(request(0));
    AWAIT_END();
    assert_false(client_heard("cdX"));
}

/* --- Timeouts ----------------------------------------------------------------------------------
 */

static void half_a_head_is_refused_in_time(void **state) {
    CLIENT_SAYS("GET / HTTP/1.1\r\n");
    settle_down(&world.loop, NULL);
    CLIENT_SAYS("Host: "); /* a byte now and then is no head */
    settle_down(&world.loop, NULL);
    travel(&world.loop, world.settings.header_timeout_ns - NS_PER_S);
    assert_int_equal(world.refused, 0);
    travel(&world.loop, NS_PER_S + NS_PER_MS);
    assert_int_equal(world.refused, 1);
    assert_int_equal(world.refusal, FAIL_REQUEST_TIMEOUT);
    AWAIT_HEARD("400 Refused");
    AWAIT_END();
    assert_true(world.is_eof);
}

static void a_connection_without_a_request_ends_without_a_word(void **state) {
    settle_down(&world.loop, NULL);
    travel(&world.loop, world.settings.header_timeout_ns - NS_PER_S);
    client_reads();
    assert_false(world.is_eof);
    travel(&world.loop, NS_PER_S + NS_PER_MS);
    client_reads();
    assert_true(world.is_eof);
    assert_int_equal(world.heard.len, 0);
    assert_int_equal(world.refused, 0);
}

static void an_idle_connection_ends_after_its_own_timeout(void **state) {
    a_request_comes(GET);
    answer_whole(request(0), 200, "ok");
    travel(&world.loop, world.settings.idle_timeout_ns - NS_PER_S);
    client_reads();
    assert_false(world.is_eof);
    travel(&world.loop, NS_PER_S + NS_PER_MS);
    client_reads();
    assert_true(world.is_eof);
}

static void content_that_stops_coming_is_an_event_and_can_be_answered(void **state) {
    a_request_comes(POST_100);
    travel(&world.loop, world.settings.body_timeout_ns - NS_PER_S);
    assert_int_equal(request(0)->events, EXCHANGE_STARTED);
    travel(&world.loop, NS_PER_S + NS_PER_MS);
    assert_true(request(0)->events & EXCHANGE_CLIENT_FAIL);
    assert_int_equal(request(0)->x.client_fail, FAIL_REQUEST_TIMEOUT);
    assert_int_equal(request(0)->x.request.state, BODY_RESET);
    answer_whole(request(0), 408, "slow");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_END();
    assert_true(world.is_eof);
}

static void an_owner_that_takes_its_time_is_not_the_clients_fault(void **state) {
    a_request_comes(GET);
    for (unsigned i = 0; i < 10; i++)
        travel(&world.loop, world.settings.body_timeout_ns);
    assert_int_equal(request(0)->events, EXCHANGE_STARTED);
    answer_whole(request(0), 200, "at last");
    AWAIT_HEARD("at last");
    assert_false(world.is_eof);
}

static void a_client_that_takes_nothing_is_left(void **state) {
    static char much[4 * 1024 * 1024];

    memset(much, 'x', sizeof much - 1);
    a_request_comes(GET);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, much);
    travel(&world.loop, world.settings.body_timeout_ns - NS_PER_S);
    travel(&world.loop, NS_PER_S + NS_PER_MS); /* now it is seen to stand still */
    travel(&world.loop, world.settings.body_timeout_ns + NS_PER_MS);
    travel(&world.loop, world.settings.body_timeout_ns + NS_PER_MS);
    assert_true(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_CLIENT_SLOW);
}

static void a_stream_may_be_silent_for_a_while(void **state) {
    a_request_comes(GET);
    request(0)->x.is_stream = true;
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "data");
    for (unsigned i = 0; i < 5; i++) {
        travel(&world.loop, world.settings.stream_idle_timeout_ns - NS_PER_S);
        assert_false(request(0)->is_over);
        answer_more(request(0), "more");
    }
    travel(&world.loop, world.settings.stream_idle_timeout_ns - NS_PER_S);
    assert_false(request(0)->is_over);
    travel(&world.loop, NS_PER_S + NS_PER_MS);
    assert_true(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_STREAM_IDLE);
}

static void timeouts_of_zero_are_off(void **state) {
    world.settings.header_timeout_ns = world.settings.idle_timeout_ns = 0;
    CLIENT_SAYS("GET / HTTP/1.1\r\n");
    settle_down(&world.loop, NULL);
    for (unsigned i = 0; i < 10; i++)
        travel(&world.loop, 3600 * NS_PER_S);
    assert_int_equal(world.refused, 0);
    CLIENT_SAYS("Host: h\r\n\r\n");
    AWAIT_REQUESTS(1);
    answer_whole(request(0), 200, "");
}

/* --- Clients that leave ------------------------------------------------------------------------
 */

static void a_client_that_leaves_is_an_event(void **state) {
    a_request_comes(GET);
    client_leaves();
    AWAIT_THAT(request(0)->events & EXCHANGE_CLIENT_GONE);
    assert_int_equal(request(0)->x.client_fail, FAIL_CLIENT_GONE);
    assert_null(request(0)->x.client);
}

static void a_client_that_leaves_amid_its_content_is_an_event(void **state) {
    a_request_comes(POST_100);
    client_leaves();
    AWAIT_THAT(request(0)->events & EXCHANGE_CLIENT_GONE);
    assert_int_equal(request(0)->x.request.state, BODY_RESET);
}

static void a_client_that_resets_amid_its_answer_is_an_event(void **state) {
    a_request_comes(GET);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "data");
    AWAIT_HEARD("data");
    reset_socket(&world.client);
    AWAIT_THAT(request(0)->events & EXCHANGE_CLIENT_GONE);
}

static void a_half_close_is_a_leaving_unless_it_is_allowed(void **state) {
    a_request_comes(GET);
    shutdown(world.client, SHUT_WR);
    AWAIT_THAT(request(0)->events & EXCHANGE_CLIENT_GONE);
    world_close();
    world_open(false);
    world.settings.half_close = true;
    a_request_comes(GET);
    shutdown(world.client, SHUT_WR);
    settle_down(&world.loop, NULL);
    assert_int_equal(request(0)->events, EXCHANGE_STARTED);
    answer_whole(request(0), 200, "all the same");
    AWAIT_HEARD("all the same");
    AWAIT_END();
    assert_true(world.is_eof);
}

static void a_half_closed_client_gets_even_a_long_answer_whole(void **state) {
    size_t len = 400 * 1024; /* more than the socket takes at once */
    char *much = calloc(1, len + 1);

    memset(much, 'x', len);
    world.settings.half_close = true;
    a_request_comes(GET);
    shutdown(world.client, SHUT_WR);
    settle_down(&world.loop, NULL);
    answer_whole(request(0), 200, much);
    AWAIT_END();
    assert_true(world.is_eof);
    assert_true(world.heard.len > len);
    free(much);
}

static void requests_that_were_pipelined_before_a_half_close_are_answered(void **state) {
    world.settings.half_close = true;
    a_request_comes(GET GET GET);
    shutdown(world.client, SHUT_WR);
    settle_down(&world.loop, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(world.count, i + 1);
        answer_whole(request(i), 200, "ok");
    }
    AWAIT_END();
    assert_true(world.is_eof);
}

static void half_a_request_and_the_end_is_no_request(void **state) {
    CLIENT_SAYS("GET / HTTP/1.1\r\nHo");
    shutdown(world.client, SHUT_WR);
    AWAIT_END();
    assert_true(world.is_eof);
    assert_int_equal(world.heard.len, 0);
    assert_int_equal(world.count, 0);
}

/* --- Draining ----------------------------------------------------------------------------------
 */

static void draining_closes_who_is_idle_and_tells_the_others(void **state) {
    a_request_comes(GET);
    h1_server_drain(&world.shared);
    settle_down(&world.loop, NULL);
    client_reads();
    assert_false(world.is_eof);
    answer_whole(request(0), 200, "last");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_HEARD("last");
    AWAIT_END();
    assert_true(world.is_eof);
    world_close();
    world_open(false);
    world.is_answering = true;
    CLIENT_SAYS(GET);
    AWAIT_HEARD("200 OK");
    h1_server_drain(&world.shared);
    AWAIT_END();
    assert_true(world.is_eof);
}

static void evicting_takes_who_is_idle_long_enough_and_nobody_else(void **state) {
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 10), 0); /* it has just come */
    a_request_comes(GET);
    world.loop.now_ns += 2 * NS_PER_S;
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 10), 0); /* it is busy */
    answer_whole(request(0), 200, "answer");
    AWAIT_HEARD("answer");
    CLIENT_SAYS("GET / HTTP");
    settle_down(&world.loop, NULL);
    world.loop.now_ns += 2 * NS_PER_S;
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 10), 0); /* it has begun to ask */
    world.is_answering = true;
    CLIENT_SAYS("/1.1\r\nHost: h\r\n\r\n");
    AWAIT_REQUESTS(2);
    settle_down(&world.loop, NULL);
    world.loop.now_ns += 2 * NS_PER_S;
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 0), 0);
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 10), 1);
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 10), 0); /* it is on its way */
    AWAIT_END();
    assert_true(world.is_eof);
}

static void evicting_takes_the_longest_idle_first(void **state) {
    enum { OTHERS = 5 };
    struct conn_account account = {&world.fds, FD_CLIENT, NULL};
    int fds[OTHERS][2];

    for (unsigned i = 0; i < OTHERS; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        fds_force(&world.fds, FD_CLIENT);
        world.loop.now_ns += NS_PER_S;
        h1_server_open(&world.shared, conn_open(&world.loop, fds[i][0], true, NULL, &account));
    }
    /* The world's own client and the first of the others are the two that came first. */
    world.loop.now_ns += 10 * NS_PER_S;
    assert_int_equal(h1_server_evict(&world.shared, NS_PER_S, 2), 2);
    AWAIT_END();
    assert_true(world.is_eof);
    for (unsigned i = 0; i < OTHERS; i++) {
        char byte;

        settle_down(&world.loop, NULL);
        assert_int_equal(read(fds[i][1], &byte, 1), i == 0 ? 0 : -1);
        close(fds[i][1]);
    }
}

static void who_is_pressed_is_told_to_close(void **state) {
    world.shared.is_pressed = true;
    a_request_comes(GET);
    answer_whole(request(0), 200, "answer");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_HEARD("answer");
    AWAIT_END();
    assert_true(world.is_eof);
}

static void who_is_refused_unheard_reads_why(void **state) {
    struct conn_account account = {&world.fds, FD_CLIENT, NULL};
    char answer[256];
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    SAY(fds[1], GET);
    fds_force(&world.fds, FD_CLIENT);
    h1_server_refuse(&world.shared, conn_open(&world.loop, fds[0], true, NULL, &account),
                     FAIL_ADDRESS_CONNECTIONS, "too many");
    assert_int_equal(world.refused, 1);
    assert_int_equal(world.refusal, FAIL_ADDRESS_CONNECTIONS);
    assert_true(read(fds[1], answer, sizeof answer) > 0);
    settle_down(&world.loop, NULL);
    assert_int_equal(world.count, 0);
    assert_int_equal(world.shared.count, 2); /* it waits for us to read, and not for ever */
    world.loop.now_ns += NS_PER_S;
    AWAIT_THAT(world.shared.count == 1);
    close(fds[1]);
    client_leaves();
}

/* Within a turn it is only held, and whether the socket takes it is known at the end of the batch.
 */
static void an_answer_that_a_full_socket_does_not_take_is_sent_before_the_end(void **state) {
    const struct h1_server *server;

    a_request_comes(GET);
    server = request(0)->x.client_ctx;
    fill_socket(server->conn->fd);
    world.loop.in_turn = true;
    answer(request(0), 200, OF_LENGTH(2), "ok");
    h1_server_drain(&world.shared);
    finish(request(0));
    world.loop.in_turn = false;
    AWAIT_END();
    assert_true(world.is_eof);
    assert_memory_equal(world.heard.base + world.heard.len - 6, "\r\n\r\nok", 6);
}

static void a_request_that_has_begun_is_answered_in_a_drain(void **state) {
    CLIENT_SAYS("GET / HTTP");
    settle_down(&world.loop, NULL);
    h1_server_drain(&world.shared);
    settle_down(&world.loop, NULL);
    world.is_answering = true;
    CLIENT_SAYS("/1.1\r\nHost: h\r\n\r\n");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_END();
    assert_true(world.is_eof);
}

static void abort_all_breaks_off_every_connection(void **state) {
    a_request_comes(GET);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "half");
    h1_server_abort_all(&world.shared);
    AWAIT_THAT(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_DRAINING);
    AWAIT_END();
    assert_false(client_heard("0\r\n\r\n"));
    world_close();
    world_open(false);
    h1_server_abort_all(&world.shared);
    AWAIT_END();
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define OVER_TCP(test) cmocka_unit_test_setup_teardown(test, set_up_tcp, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        OVER_TCP(the_end_of_a_connection_is_no_packet_of_its_own),
        OVER_TCP(an_early_refusal_is_read_by_a_client_that_still_sends),
        WITH(an_early_answer_keeps_the_connection_if_the_content_is_whole_by_its_end),
        OVER_TCP(an_answer_before_the_contents_end_closes_at_its_own),
        OVER_TCP(a_broken_answer_never_ends_like_a_whole_one),
        WITH(more_than_was_announced_is_not_sent),
        WITH(half_a_head_is_refused_in_time),
        WITH(a_connection_without_a_request_ends_without_a_word),
        WITH(an_idle_connection_ends_after_its_own_timeout),
        WITH(content_that_stops_coming_is_an_event_and_can_be_answered),
        WITH(an_owner_that_takes_its_time_is_not_the_clients_fault),
        WITH(a_client_that_takes_nothing_is_left),
        WITH(a_stream_may_be_silent_for_a_while),
        WITH(timeouts_of_zero_are_off),
        WITH(a_client_that_leaves_is_an_event),
        WITH(a_client_that_leaves_amid_its_content_is_an_event),
        OVER_TCP(a_client_that_resets_amid_its_answer_is_an_event),
        WITH(a_half_close_is_a_leaving_unless_it_is_allowed),
        WITH(a_half_closed_client_gets_even_a_long_answer_whole),
        WITH(requests_that_were_pipelined_before_a_half_close_are_answered),
        WITH(half_a_request_and_the_end_is_no_request),
        WITH(draining_closes_who_is_idle_and_tells_the_others),
        WITH(an_answer_that_a_full_socket_does_not_take_is_sent_before_the_end),
        WITH(a_request_that_has_begun_is_answered_in_a_drain),
        WITH(evicting_takes_who_is_idle_long_enough_and_nobody_else),
        WITH(evicting_takes_the_longest_idle_first),
        WITH(who_is_pressed_is_told_to_close),
        WITH(who_is_refused_unheard_reads_why),
        WITH(abort_all_breaks_off_every_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
