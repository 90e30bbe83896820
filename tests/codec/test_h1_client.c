/* The promises of proxy/codec/h1_client.h: requests and their answers. How connections end, and
 * tunnels, are in test_h1_client_end.c. */
#include "client_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int set_up(void **state) {
    world_open(false, false);
    return 0;
}

static int set_up_tcp(void **state) {
    world_open(true, false);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

/* --- Requests --------------------------------------------------------------------------------- */

static void a_request_goes_out_and_its_answer_comes_back(void **state) {
    start_get();
    assert_true(upstream_heard("GET /p HTTP/1.1\r\nHost: here\r\n\r\n"));
    UPSTREAM_SAYS("HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX: y\r\n\r\nhello");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_true(x.events & EXCHANGE_RESPONSE_HEAD);
    assert_int_equal(x.response_head.status, 200);
    assert_true(slice_equal(x.response_head.reason, SLICE("Fine")));
    assert_int_equal(x.response_content.length, 5);
    assert_true(content_is("hello"));
    assert_true(body_is_done(&x.response));
    assert_int_equal(idles, 0);
    detach();
    assert_int_equal(idles, 1);
    assert_int_equal(end, H1_CLIENT_REUSABLE);
}

static void content_goes_out_as_it_comes(void **state) {
    start(METHOD_POST, OF_LENGTH(10));
    push("hello");
    assert_true(
        upstream_heard("POST /p HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nhello"));
    push("world");
    push_end();
    UPSTREAM_SAYS("HTTP/1.1 204 No Content\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    begin_again();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
    start(METHOD_POST, CHUNKED);
    push("hello");
    push_end();
    assert_true(
        upstream_heard("POST /p HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "5\r\nhello\r\n0\r\n\r\n"));
}

static void a_slow_upstream_gets_all_content_in_order(void **state) {
    size_t len = 300 * 1024, got = 0;
    char *much = malloc(len + 1);

    memset(much, 'x', len);
    much[len] = 0;
    start(METHOD_POST, OF_LENGTH(2 * len));
    push(much);
    push(much);
    push_end();
    while (got < 2 * len) {
        heard.len = 0;
        upstream_heard("");
        got += heard.len;
        spin(&loop, NULL);
    }
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    free(much);
}

static void a_broken_request_never_ends_like_a_whole_one(void **state) {
    start(METHOD_POST, CHUNKED);
    push("half");
    body_reset(&x.request, FAIL_CLIENT_GONE);
    detach();
    assert_int_equal(end, H1_CLIENT_BROKEN);
    assert_false(upstream_heard(""));
    assert_null(memmem(heard.base, heard.len, "\r\n0\r\n", 5));
}

/* --- Answers ---------------------------------------------------------------------------------- */

static void answers_may_come_in_any_pieces(void **state) {
    static const char text[] = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                               "6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n";

    start_get();
    for (unsigned i = 0; i < sizeof text - 1; i++) {
        say(upstream, slice_of(text + i, 1));
        spin(&loop, NULL);
        take_content();
    }
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_int_equal(informational, 1);
    assert_true(content_is("hello world"));
    assert_int_equal(x.response.trailers.count, 1);
    begin_again();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
    start_get();
    for (unsigned i = 0; i < sizeof text - 1; i += 50) {
        say(upstream, slice_of(text + i, sizeof text - 1 - i < 50 ? sizeof text - 1 - i : 50));
        spin(&loop, NULL);
    }
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_true(content_is("hello world"));
}

static void some_answers_have_no_content_whatever_they_say(void **state) {
    start(METHOD_HEAD, (struct content){CONTENT_NONE, 0});
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    begin_again();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
    start_get();
    UPSTREAM_SAYS("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    detach();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
}

static void without_a_length_content_ends_with_the_connection(void **state) {
    start_get();
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\n\r\nhello");
    AWAIT(&loop, NULL, content_is("hello"));
    assert_int_equal(x.response.state, BODY_OPEN);
    UPSTREAM_SAYS(" world");
    shutdown(upstream, SHUT_WR);
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_true(content_is("hello world"));
    assert_true(body_is_done(&x.response));
    detach();
    assert_int_equal(end, H1_CLIENT_FINISHED);
}

static void the_answer_says_whether_the_connection_persists(void **state) {
    static const struct {
        const char *head;
        enum h1_client_end end;
    } answers[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", H1_CLIENT_REUSABLE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", H1_CLIENT_FINISHED},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", H1_CLIENT_FINISHED},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
         H1_CLIENT_REUSABLE},
    };

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (i > 0) {
            world_close();
            world_open(false, false);
        }
        start_get();
        UPSTREAM_SAYS(answers[i].head);
        AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
        detach();
        assert_int_equal(end, answers[i].end);
    }
}

static void interim_answers_are_passed_on_up_to_a_limit(void **state) {
    start_get();
    UPSTREAM_SAYS("HTTP/1.1 100 Continue\r\n\r\n");
    AWAIT(&loop, NULL, informational == 1);
    UPSTREAM_SAYS("HTTP/1.1 103 Early Hints\r\n\r\n");
    AWAIT(&loop, NULL, informational == 2);
    assert_int_equal(last_informational, 103);
    assert_false(x.events & EXCHANGE_RESPONSE_HEAD);
    UPSTREAM_SAYS("HTTP/1.1 103 Early Hints\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_UPSTREAM_MALFORMED);
    assert_int_equal(informational, 2);
}

static void broken_answers_are_told_apart(void **state) {
    static const struct {
        const char *text;
        enum fail fail;
        bool has_head;
    } answers[] = {
        {"nonsense\r\n\r\n", FAIL_UPSTREAM_MALFORMED, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
         FAIL_UPSTREAM_MALFORMED, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", FAIL_UPSTREAM_MALFORMED,
         true},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
         FAIL_UPSTREAM_UPGRADE, false},
    };
    char field[100];

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (i > 0) {
            world_close();
            world_open(false, false);
        }
        start_get();
        UPSTREAM_SAYS(answers[i].text);
        AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
        assert_int_equal(x.upstream_fail, answers[i].fail);
        assert_int_equal((x.events & EXCHANGE_RESPONSE_HEAD) != 0, answers[i].has_head);
        detach();
        assert_int_equal(end, H1_CLIENT_BROKEN);
    }
    world_close();
    world_open(false, false);
    start_get();
    snprintf(field, sizeof field, "X: %080d\r\n", 0);
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; i < 50; i++)
        UPSTREAM_SAYS(field);
    AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_UPSTREAM_HEAD_LARGE);
}

static void a_sink_that_takes_nothing_holds_the_upstream_back(void **state) {
    static char some[64 * 1024];
    size_t sent = 0, total = 2 * 1024 * 1024, got = 0;
    char head[100];

    start_get();
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", total);
    UPSTREAM_SAYS(head);
    for (unsigned quiet = 0; quiet < 10; quiet++) {
        ssize_t n = send(upstream, some, sizeof some, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            sent += (size_t)n;
            quiet = 0;
        }
        assert_true(sent < total);
        spin(&loop, NULL);
    }
    assert_true(body_waiting(&x.response) >= BODY_WINDOW_BYTES);
    assert_true(body_waiting(&x.response) <= BODY_WINDOW_BYTES + LOOP_READ_BYTES);
    while (got < total) {
        size_t want = total - sent < sizeof some ? total - sent : sizeof some;
        ssize_t n = send(upstream, some, want, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += n > 0 ? (size_t)n : 0;
        spin(&loop, NULL);
        content.len = 0;
        take_content();
        got += content.len;
    }
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    detach();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
}

/* --- Early answers -----------------------------------------------------------------------------
 */

static void an_early_answer_is_whole_and_the_request_goes_on(void **state) {
    start(METHOD_POST, OF_LENGTH(10));
    push("hello");
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    AWAIT(&loop, NULL, content_is("ok") && body_is_done(&x.response));
    assert_false(x.events & EXCHANGE_UPSTREAM_DONE);
    push("world");
    push_end();
    assert_true(x.events & EXCHANGE_UPSTREAM_DONE);
    detach();
    assert_int_equal(end, H1_CLIENT_REUSABLE);
}

static void an_early_answer_and_the_end_is_an_answer(void **state) {
    start(METHOD_POST, OF_LENGTH(10));
    push("hello");
    UPSTREAM_SAYS("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    close(upstream);
    upstream = -1;
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_false(x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.response_head.status, 413);
    assert_true(content_is("no"));
    detach();
    assert_int_equal(end, H1_CLIENT_BROKEN); /* the request was not sent whole */
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define OVER_TCP(test) cmocka_unit_test_setup_teardown(test, set_up_tcp, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(a_request_goes_out_and_its_answer_comes_back),
        WITH(content_goes_out_as_it_comes),
        WITH(a_slow_upstream_gets_all_content_in_order),
        WITH(a_broken_request_never_ends_like_a_whole_one),
        WITH(answers_may_come_in_any_pieces),
        WITH(some_answers_have_no_content_whatever_they_say),
        WITH(without_a_length_content_ends_with_the_connection),
        WITH(the_answer_says_whether_the_connection_persists),
        WITH(interim_answers_are_passed_on_up_to_a_limit),
        WITH(broken_answers_are_told_apart),
        WITH(a_sink_that_takes_nothing_holds_the_upstream_back),
        WITH(an_early_answer_is_whole_and_the_request_goes_on),
        OVER_TCP(an_early_answer_and_the_end_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
