/* The promises of proxy/codec/h2_server.h: streams, their content, answers, and how they end. What
 * ends a connection for abuse is in test_h2_abuse.c. */
#include "h2_world.h"

#include <stdio.h>
#include <stdlib.h>

static struct buffer content;

static int set_up(void **state) {
    world_init();
    world_open();
    client_greets();
    content = (struct buffer){0};
    return 0;
}

static int tear_down(void **state) {
    world_close();
    buffer_deinit(&content);
    return 0;
}

/* The @n-th exchange. */
static struct h2_request *request(unsigned n) {
    return &world.requests[n];
}

static bool content_is(const char *text) {
    return content.len == strlen(text) && memcmp(content.base, text, content.len) == 0;
}

/* --- Requests -------------------------------------------------------------------------------- */

static void a_stream_becomes_an_exchange(void **state) {
    const struct request_head *head = &request(0)->x.request_head;

    client_asks(1, END, GET("/a?b") "accept: */*\n");
    AWAIT_REQUESTS(1);
    AWAIT_THAT(request(0)->events == EXCHANGE_STARTED);
    assert_int_equal(head->method, METHOD_GET);
    assert_int_equal(head->version, HTTP_2);
    assert_true(slice_equal(head->path, SLICE("/a?b")));
    assert_true(slice_equal(head->authority, SLICE("here")));
    assert_int_equal(head->fields.count, 1);
    assert_true(body_is_done(&request(0)->x.request));
    assert_int_equal(atomic_load(&world.shared.active), 1);
    answer(request(0), 200, OF_LENGTH(2), "ok");
    AWAIT_THAT(request(0)->is_over);
    assert_int_equal(atomic_load(&world.shared.active), 0);
    AWAIT_HEARD("DATA 1 2 END_STREAM ok");
    assert_true(HEARD("HEADERS 1 :status=200, content-length=2\n"));
    settle_down(&world.loop, NULL);
    assert_false(HEARD("RST_STREAM"));
}

static void content_arrives_and_ends(void **state) {
    client_asks(1, 0, POST("/") "content-length: 8\n");
    client_data(1, 0, "some");
    AWAIT_THAT(request(0)->x.request.pushed == 4);
    assert_int_equal(request(0)->x.request_content.kind, CONTENT_LENGTH);
    assert_int_equal(request(0)->x.request_content.length, 8);
    client_data(1, END, "more");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    take_content(request(0), &content);
    assert_true(content_is("somemore"));
    answer(request(0), 204, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=204\n");
}

static void content_of_unknown_length_may_have_trailers(void **state) {
    client_asks(1, 0, POST("/"));
    client_data(1, 0, "x");
    client_asks(1, END, "a: 1\nauthorization: dropped\nb: 2\n");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    assert_int_equal(request(0)->x.request_content.kind, CONTENT_CHUNKED);
    assert_int_equal(request(0)->x.request.trailers.count, 2);
    assert_true(slice_equal(request(0)->x.request.trailers.list[1].name, SLICE("b")));
    answer(request(0), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=200\n");
}

static void many_streams_run_at_once_and_are_answered_in_any_order(void **state) {
    for (uint32_t i = 0; i < 20; i++)
        h2_head(&world.out, 1 + 2 * i, END, GET("/"));
    client_sends();
    AWAIT_REQUESTS(20);
    AWAIT_THAT(world_server()->exchanges == 20);
    assert_int_equal(atomic_load(&world.shared.active), 1);
    for (unsigned i = 20; i-- > 0;)
        answer(request(i), 200, OF_LENGTH(1), "x");
    AWAIT_THAT(HEARD_TIMES("DATA ") == 20);
    assert_int_equal(world_server()->exchanges, 0);
}

static void a_stream_beyond_the_limit_is_refused(void **state) {
    for (uint32_t i = 0; i < 21; i++)
        h2_head(&world.out, 1 + 2 * i, END, GET("/"));
    client_sends();
    AWAIT_THAT((client_reads(), world.is_eof)); /* it had acknowledged the limit */
    assert_true(world.count == 20);
    assert_non_null(strstr(world.reader.log.base, "GOAWAY 39 PROTOCOL_ERROR\n"));
}

static void a_refused_head_is_answered_by_its_exchange(void **state) {
    client_asks(1, END, GET("/") "expect: more\n");
    AWAIT_REQUESTS(1);
    AWAIT_THAT(request(0)->events == (EXCHANGE_STARTED | EXCHANGE_CLIENT_FAIL));
    assert_int_equal(request(0)->x.client_fail, FAIL_EXPECTATION);
    assert_non_null(request(0)->x.client_why);
    answer(request(0), 417, OF_LENGTH(2), "no");
    AWAIT_HEARD("DATA 1 2 END_STREAM no");
}

static void a_large_head_is_answered_too(void **state) {
    static char value[1800];
    struct buffer lines = {0};

    memset(value, 'x', sizeof value);
    buffer_printf(&lines, "%sa: %.*s\nb: %.*s\n%c", GET("/"), 1500, value, 1500, value, 0);
    client_asks(1, END, lines.base);
    AWAIT_REQUESTS(1);
    AWAIT_THAT(request(0)->events & EXCHANGE_CLIENT_FAIL);
    assert_int_equal(request(0)->x.client_fail, FAIL_HEAD_LARGE);
    answer(request(0), 431, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=431");
    buffer_deinit(&lines);
}

static void a_malformed_request_resets_its_stream_only(void **state) {
    static const char *const heads[] = {
        ":method: GET\n:scheme: http\n:path: /\n",                      /* no authority */
        ":method: GET\n:authority: h\n:path: /\n",                      /* no scheme */
        ":method: GET\n:scheme: http\n:authority: h\n",                 /* no path */
        GET("/") ":path: /\n",                                          /* twice */
        GET("/") ":status: 200\n",                                      /* of responses */
        GET("/") ":other: x\n",                                         /* unknown */
        ":method: GET\n:scheme: http\na: b\n:authority: h\n:path: /\n", /* behind a field */
        GET("/") "Upper: x\n",
        GET("/") "a b: x\n",
        GET("/") "a: x\\ny\n",
        GET("/") "a: x\\ry\n",
        GET("/") "a: x\\0y\n",
        GET("/") "a:  x\n",
        GET("/") "a: x \n",
        GET("/") "connection: close\n",
        GET("/") "keep-alive: 1\n",
        GET("/") "proxy-connection: close\n",
        GET("/") "transfer-encoding: chunked\n",
        GET("/") "upgrade: h2c\n",
        GET("/") "te: gzip\n",
        GET("/") "content-length: 1\n", /* and END_STREAM */
        GET("/") "content-length: 1, 1\n",
        GET("/") "content-length: 0\ncontent-length: 0\n",
        ":method: CONNECT\n:protocol: websocket\n:authority: h\n", /* no scheme and path */
        ":method: CONNECT\n:scheme: http\n:authority: h:1\n:path: /\n",
        ":method: GET\n:protocol: websocket\n:scheme: http\n:authority: h\n:path: /\n",
    };
    const uint32_t n = sizeof heads / sizeof *heads;
    char text[64];

    for (uint32_t i = 0; i < n; i++) {
        client_asks(1 + 2 * i, END, heads[i]);
        snprintf(text, sizeof text, "RST_STREAM %u PROTOCOL_ERROR\n", 1 + 2 * i);
        AWAIT_HEARD(text);
        assert_int_equal(world.dropped, i + 1);
        assert_int_equal(world.refused, i + 1);
        assert_int_equal(world.refusal, FAIL_REQUEST_MALFORMED);
    }
    client_asks(1 + 2 * n, END, GET("/"));
    AWAIT_REQUESTS(n + 1);
    AWAIT_THAT(request(n)->events == EXCHANGE_STARTED);
    answer(request(n), 200, OF_NONE, "");
}

static void content_that_is_not_as_long_as_announced_resets_the_stream(void **state) {
    client_asks(1, 0, POST("/") "content-length: 5\n");
    client_data(1, END, "four");
    AWAIT_HEARD("RST_STREAM 1 PROTOCOL_ERROR");
    assert_int_equal(request(0)->x.request.state, BODY_RESET);
    client_asks(3, 0, POST("/") "content-length: 3\n");
    client_data(3, 0, "four");
    AWAIT_HEARD("RST_STREAM 3 PROTOCOL_ERROR");
    AWAIT_THAT(request(1)->is_over);
    assert_int_equal(request(1)->x.client_fail, FAIL_REQUEST_MALFORMED);
}

/* --- Answers --------------------------------------------------------------------------------- */

static void an_answer_streams_and_ends_with_trailers(void **state) {
    struct fields trailers = {0};

    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "one");
    AWAIT_HEARD("DATA 1 3 one");
    answer_more(request(0), "two");
    AWAIT_HEARD("DATA 1 3 two");
    fields_add(&trailers, &request(0)->x.arena, FIELD_OTHER, SLICE("grpc-status"), SLICE("0"));
    request(0)->x.response.trailers = trailers;
    answer_end(request(0));
    AWAIT_HEARD("HEADERS 1 END_STREAM grpc-status=0\n");
    assert_int_equal(HEARD_TIMES("DATA "), 2);
    assert_true(request(0)->is_over);
}

static void trailers_without_content_follow_the_head(void **state) {
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    fields_add(&request(0)->x.response.trailers, &request(0)->x.arena, FIELD_OTHER, SLICE("T"),
               SLICE("0"));
    body_end(&request(0)->x.response);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM t=0\n");
    assert_true(HEARD("HEADERS 1 :status=200\n"));
}

static void interim_responses_come_before_the_final_one(void **state) {
    struct response_head early = {.status = 103, .version = HTTP_1_1};

    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    request(0)->x.client->send_informational(&request(0)->x, &early);
    AWAIT_HEARD("HEADERS 1 :status=103\n");
    answer(request(0), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=200\n");
}

static void answers_to_head_and_304_tell_a_length_and_send_nothing(void **state) {
    for (unsigned i = 0; i < 2; i++) {
        client_asks(1 + 2 * i, END,
                    i ? GET("/") : ":method: HEAD\n:scheme: http\n:authority: h\n:path: /\n");
        AWAIT_REQUESTS(i + 1);
        settle_down(&world.loop, NULL);
        fields_add(&request(i)->x.response_head.fields, &request(i)->x.arena, FIELD_CONTENT_LENGTH,
                   SLICE("content-length"), SLICE("7"));
        answer(request(i), i ? 304 : 200, OF_NONE, "");
    }
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=200, content-length=7\n");
    AWAIT_HEARD("HEADERS 3 END_STREAM :status=304, content-length=7\n");
}

static void an_early_answer_is_whole_and_then_the_request_is_reset_without_error(void **state) {
    client_asks(1, 0, POST("/"));
    client_data(1, 0, "some");
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 403, OF_LENGTH(2), "no");
    AWAIT_HEARD("RST_STREAM 1 NO_ERROR");
    assert_true(strstr(world.reader.log.base, "DATA 1 2 END_STREAM no\nRST_STREAM 1 NO_ERROR\n"));
    assert_true(request(0)->is_over);
    /* What was under way does no harm, and is credited. */
    client_data(1, 0, "more");
    client_asks(3, END, GET("/"));
    AWAIT_REQUESTS(2);
    settle_down(&world.loop, NULL);
    answer(request(1), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 3 END_STREAM");
}

static void both_directions_flow_at_once(void **state) {
    client_asks(1, 0, POST("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "");
    AWAIT_HEARD("HEADERS 1 :status=200\n");
    client_data(1, 0, "ping");
    AWAIT_THAT(request(0)->x.request.pushed == 4);
    answer_more(request(0), "pong");
    AWAIT_HEARD("DATA 1 4 pong");
    client_data(1, END, "");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    answer_more(request(0), "last");
    AWAIT_HEARD("DATA 1 4 last");
    answer_end(request(0));
    AWAIT_HEARD("DATA 1 0 END_STREAM");
    assert_false(HEARD("RST_STREAM"));
}

/* --- Ends ------------------------------------------------------------------------------------ */

static void a_reset_by_the_client_cancels_its_exchange(void **state) {
    client_asks(1, END, GET("/"));
    client_asks(3, END, GET("/"));
    AWAIT_REQUESTS(2);
    h2_rst(&world.out, 1, NGHTTP2_CANCEL);
    client_sends();
    AWAIT_THAT(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_CLIENT_GONE);
    assert_false(request(1)->is_over);
    answer(request(1), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 3 END_STREAM");
}

static void a_reset_of_an_answer_under_way_cancels_too(void **state) {
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "some");
    AWAIT_HEARD("DATA 1 4 some");
    h2_rst(&world.out, 1, NGHTTP2_CANCEL);
    client_sends();
    AWAIT_THAT(request(0)->is_over);
    assert_true(request(0)->events & EXCHANGE_CLIENT_GONE);
}

static void a_response_that_breaks_off_resets_the_stream(void **state) {
    static const struct {
        enum fail fail;
        const char *heard;
    } ends[] = {
        {FAIL_UPSTREAM_INCOMPLETE, "RST_STREAM 1 INTERNAL_ERROR"},
        {FAIL_STREAM_IDLE, "RST_STREAM 3 CANCEL"},
    };

    for (unsigned i = 0; i < 2; i++) {
        client_asks(1 + 2 * i, END, GET("/"));
        AWAIT_REQUESTS(i + 1);
        settle_down(&world.loop, NULL);
        answer(request(i), 200, OF_LENGTH(10), "some");
        body_reset(&request(i)->x.response, ends[i].fail);
        AWAIT_HEARD(ends[i].heard);
        assert_true(request(i)->is_over);
    }
}

static void a_client_that_leaves_cancels_all(void **state) {
    client_asks(1, END, GET("/"));
    client_asks(3, 0, POST("/"));
    AWAIT_REQUESTS(2);
    client_leaves();
    AWAIT_THAT(request(0)->is_over && request(1)->is_over);
    assert_int_equal(request(1)->x.client_fail, FAIL_CLIENT_GONE);
}

static void a_half_read_head_dies_with_its_connection(void **state) {
    struct buffer section = {0};

    h2_section(&section, GET("/"));
    h2_frame(&world.out, NGHTTP2_HEADERS, END, 1, buffer_slice(&section));
    client_sends();
    AWAIT_REQUESTS(1);
    client_leaves();
    AWAIT_THAT(world.dropped == 1);
    buffer_deinit(&section);
}

static void a_drain_lets_streams_finish_and_takes_those_that_cross_it(void **state) {
    world.is_polite = false;
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    h2_server_drain(&world.shared);
    AWAIT_HEARD("GOAWAY 2147483647 NO_ERROR");
    AWAIT_HEARD("PING");
    client_asks(3, END, GET("/")); /* sent before it was read */
    AWAIT_REQUESTS(2);
    world.is_polite = true;
    AWAIT_HEARD("GOAWAY 3 NO_ERROR");
    answer(request(0), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM");
    settle_down(&world.loop, NULL);
    assert_false(world.is_eof);
    answer(request(1), 200, OF_NONE, "");
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("HEADERS 3 END_STREAM"));
}

static void a_drain_does_not_wait_for_a_client_that_answers_no_ping(void **state) {
    world.is_polite = false;
    h2_server_drain(&world.shared);
    AWAIT_HEARD("GOAWAY 2147483647 NO_ERROR");
    settle_down(&world.loop, NULL);
    assert_false(HEARD("GOAWAY 0 NO_ERROR"));
    travel(&world.loop, H2_NOTICE_NS + NS_PER_MS);
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 0 NO_ERROR"));
}

static void evicting_takes_who_is_idle_long_enough_and_nobody_else(void **state) {
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    world.loop.now_ns += 2 * NS_PER_S;
    assert_int_equal(h2_server_evict(&world.shared, NS_PER_S, 10), 0); /* it is busy */
    answer(request(0), 200, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM");
    assert_int_equal(h2_server_evict(&world.shared, NS_PER_S, 10), 0); /* only just idle */
    world.loop.now_ns += 10 * NS_PER_S;
    assert_int_equal(h2_server_evict(&world.shared, NS_PER_S, 0), 0);
    assert_int_equal(h2_server_evict(&world.shared, NS_PER_S, 10), 1);
    assert_int_equal(h2_server_evict(&world.shared, NS_PER_S, 10), 0); /* it is on its way */
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 1 NO_ERROR"));
}

static void retiring_lets_streams_finish(void **state) {
    h2_server_retire(&world.shared, 10); /* it has asked for nothing yet */
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    assert_false(HEARD("GOAWAY 2147483647 NO_ERROR"));
    h2_server_retire(&world.shared, 10);
    AWAIT_HEARD("GOAWAY 1 NO_ERROR");
    answer(request(0), 200, OF_NONE, "");
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("HEADERS 1 END_STREAM"));
}

static void a_client_that_says_goodbye_is_served_to_the_end(void **state) {
    client_asks(1, END, GET("/"));
    AWAIT_REQUESTS(1);
    h2_frame(&world.out, NGHTTP2_GOAWAY, 0, 0, slice_of("\0\0\0\0\0\0\0\0", 8));
    client_sends();
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_NONE, "");
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("HEADERS 1 END_STREAM"));
}

static void no_more_requests_than_allowed_come_on_a_connection(void **state) {
    world.settings.max_requests = 2;
    client_asks(1, END, GET("/"));
    client_asks(3, END, GET("/"));
    AWAIT_REQUESTS(2);
    AWAIT_HEARD("GOAWAY 3 NO_ERROR");
    answer(request(0), 200, OF_NONE, "");
    answer(request(1), 200, OF_NONE, "");
    AWAIT_THAT((client_reads(), world.is_eof));
}

#define TEST(promise) cmocka_unit_test_setup_teardown(promise, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_stream_becomes_an_exchange),
        TEST(content_arrives_and_ends),
        TEST(content_of_unknown_length_may_have_trailers),
        TEST(many_streams_run_at_once_and_are_answered_in_any_order),
        TEST(a_stream_beyond_the_limit_is_refused),
        TEST(a_refused_head_is_answered_by_its_exchange),
        TEST(a_large_head_is_answered_too),
        TEST(a_malformed_request_resets_its_stream_only),
        TEST(content_that_is_not_as_long_as_announced_resets_the_stream),
        TEST(an_answer_streams_and_ends_with_trailers),
        TEST(trailers_without_content_follow_the_head),
        TEST(interim_responses_come_before_the_final_one),
        TEST(answers_to_head_and_304_tell_a_length_and_send_nothing),
        TEST(an_early_answer_is_whole_and_then_the_request_is_reset_without_error),
        TEST(both_directions_flow_at_once),
        TEST(a_reset_by_the_client_cancels_its_exchange),
        TEST(a_reset_of_an_answer_under_way_cancels_too),
        TEST(a_response_that_breaks_off_resets_the_stream),
        TEST(a_client_that_leaves_cancels_all),
        TEST(a_half_read_head_dies_with_its_connection),
        TEST(a_drain_lets_streams_finish_and_takes_those_that_cross_it),
        TEST(a_drain_does_not_wait_for_a_client_that_answers_no_ping),
        TEST(evicting_takes_who_is_idle_long_enough_and_nobody_else),
        TEST(retiring_lets_streams_finish),
        TEST(a_client_that_says_goodbye_is_served_to_the_end),
        TEST(no_more_requests_than_allowed_come_on_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
