/* The promises of proxy/codec/h1_server.h: requests, their content, and answers. How connections
 * end is in test_h1_server_end.c. */
#include "server_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct buffer content;

static int set_up(void **state) {
    world_open(false);
    content = (struct buffer){0};
    return 0;
}

static int tear_down(void **state) {
    world_close();
    buffer_deinit(&content);
    return 0;
}

/* The @n-th exchange. */
static struct request *request(unsigned n) {
    return &world.requests[n];
}

static bool content_is(const char *text) {
    return content.len == strlen(text) && memcmp(content.base, text, content.len) == 0;
}

static void assert_heard(const char *text) {
    client_reads();
    assert_int_equal(world.heard.len, strlen(text));
    assert_memory_equal(world.heard.base, text, world.heard.len);
}

/* --- Requests -------------------------------------------------------------------------------- */

static void a_request_becomes_an_exchange(void **state) {
    const struct request_head *head = &request(0)->x.request_head;

    CLIENT_SAYS("GET /a?b HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n");
    AWAIT_REQUESTS(1);
    assert_int_equal(request(0)->events, EXCHANGE_STARTED);
    assert_int_equal(head->method, METHOD_GET);
    assert_true(slice_equal(head->path, SLICE("/a?b")));
    assert_true(slice_equal(head->authority, SLICE("here")));
    assert_int_equal(head->fields.count, 1);
    assert_true(body_is_done(&request(0)->x.request));
    assert_int_equal(request(0)->x.client_address->sa_family, AF_UNSPEC);
    assert_int_equal(atomic_load(&world.shared.active), 1);
    answer_whole(request(0), 200, "ok");
    assert_true(request(0)->is_over);
    assert_int_equal(atomic_load(&world.shared.active), 0);
    assert_heard("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void a_head_may_come_in_any_pieces(void **state) {
    static const char text[] = "POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello";

    for (unsigned i = 0; i < sizeof text - 1; i++) {
        say(world.client, slice_of(text + i, 1));
        spin(&world.loop, NULL);
    }
    AWAIT_REQUESTS(1);
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    take_content(request(0), &content);
    assert_true(content_is("hello"));
    answer_whole(request(0), 200, "");
}

static void pipelined_requests_run_one_at_a_time_and_in_order(void **state) {
    CLIENT_SAYS("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
                "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                "GET /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HT");
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    for (unsigned n = 0; n < 3; n++) {
        char path[] = {'/', (char)('1' + n), 0};

        assert_int_equal(world.count, n + 1);
        assert_true(slice_equal(request(n)->x.request_head.path, slice_str(path)));
        take_content(request(n), &content);
        answer_whole(request(n), 200, path);
    }
    assert_true(content_is("abc"));
    assert_int_equal(world.count, 3);
    CLIENT_SAYS("TP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_REQUESTS(4);
    answer_whole(request(3), 200, "/4");
    client_reads();
    assert_true(client_heard("/1HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/2HTTP"));
    assert_true(client_heard("/3HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/4"));
}

#define PIPELINED 30000

static void a_flood_of_pipelined_requests_is_held_back_and_answered(void **state) {
    static const char text[] = "GET /yes HTTP/1.1\r\nHost: here.example\r\n\r\n";
    size_t len = PIPELINED * (sizeof text - 1), sent = 0, answers = 0;
    char *all = malloc(len);

    for (unsigned i = 0; i < PIPELINED; i++)
        memcpy(all + i * (sizeof text - 1), text, sizeof text - 1);
    CLIENT_SAYS("GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_REQUESTS(1);
    for (unsigned i = 0; i < 1000; i++) {
        ssize_t n = send(world.client, all + sent, len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += n > 0 ? (size_t)n : 0;
        spin(&world.loop, NULL);
        if (n < 0)
            break;
    }
    assert_true(sent < len); /* the socket is full: nobody reads any more */
    world.is_answering = true;
    answer_whole(request(0), 200, "first");
    while (answers < PIPELINED) {
        ssize_t n = send(world.client, all + sent, len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += n > 0 ? (size_t)n : 0;
        spin(&world.loop, NULL);
        client_reads();
        answers = world.heard.len / (sizeof "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n/yes" - 1);
    }
    AWAIT_REQUESTS(PIPELINED + 1);
    assert_false(world.is_eof || world.err);
    free(all);
}

static void broken_heads_are_refused_without_an_exchange(void **state) {
    static const struct {
        const char *head;
        enum fail fail;
    } heads[] = {
        {"GET /\r\nHost: h\r\n\r\n", FAIL_REQUEST_MALFORMED},
        {"GET / HTTP/1.1\r\n\r\n", FAIL_REQUEST_MALFORMED},
        {"GET / HTTP/1.1\r\nHost: h\r\nBad : x\r\n\r\n", FAIL_REQUEST_MALFORMED},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", FAIL_VERSION},
        {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
         FAIL_TRANSFER_CODING},
        {"GET / HTTP/1.1\r\nHost: h\r\nExpect: much\r\n\r\n", FAIL_EXPECTATION},
    };

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (i > 0)
            world_open(false);
        CLIENT_SAYS(heads[i].head);
        AWAIT_HEARD("HTTP/1.1 400 Refused");
        AWAIT_END();
        assert_true(world.is_eof);
        assert_int_equal(world.refusal, heads[i].fail);
        assert_int_equal(world.refused, 1);
        assert_int_equal(world.count, 0);
        if (i + 1 < sizeof heads / sizeof *heads)
            world_close();
    }
}

static void heads_beyond_the_limits_are_refused_before_they_are_whole(void **state) {
    char target[400];

    CLIENT_SAYS("GET / HTTP/1.1\r\nHost: h\r\n");
    for (unsigned i = 0; i < 200 && !world.refused; i++) {
        CLIENT_SAYS("X-Field: some value\r\n");
        spin(&world.loop, NULL);
    }
    AWAIT_HEARD("HTTP/1.1 400 Refused");
    assert_int_equal(world.refusal, FAIL_HEAD_LARGE);
    world_close();
    world_open(false);
    snprintf(target, sizeof target, "GET /%0300d HTTP/1.1\r\nHost: h\r\n\r\n", 0);
    CLIENT_SAYS(target);
    AWAIT_HEARD("HTTP/1.1 400 Refused");
    assert_int_equal(world.refusal, FAIL_TARGET_LONG);
}

/* --- Content --------------------------------------------------------------------------------- */

static void chunked_content_comes_without_its_chunks_and_with_its_trailers(void **state) {
    CLIENT_SAYS("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5;a=b\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Sum: 7\r\n\r\n"
                "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_REQUESTS(1);
    assert_int_equal(request(0)->x.request_content.kind, CONTENT_CHUNKED);
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    take_content(request(0), &content);
    assert_true(content_is("hello world"));
    assert_int_equal(request(0)->x.request.trailers.count, 1);
    assert_true(slice_equal(request(0)->x.request.trailers.list[0].value, SLICE("7")));
    answer_whole(request(0), 200, "");
    AWAIT_REQUESTS(2);
    answer_whole(request(1), 200, "");
}

static void chunked_content_may_come_in_any_pieces(void **state) {
    static const char text[] = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "5\r\nhello\r\n006\r\n world\r\n0\r\n\r\n";

    for (unsigned i = 0; i < sizeof text - 1; i++) {
        say(world.client, slice_of(text + i, 1));
        spin(&world.loop, NULL);
    }
    AWAIT_THAT(world.count == 1 && request(0)->x.request.state == BODY_ENDED);
    take_content(request(0), &content);
    assert_true(content_is("hello world"));
    answer_whole(request(0), 200, "");
}

static void broken_chunks_are_an_event_and_can_still_be_answered(void **state) {
    CLIENT_SAYS("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n");
    AWAIT_THAT(world.count == 1 && request(0)->events & EXCHANGE_CLIENT_FAIL);
    assert_int_equal(request(0)->x.client_fail, FAIL_REQUEST_MALFORMED);
    assert_int_equal(request(0)->x.request.state, BODY_RESET);
    answer_whole(request(0), 400, "no");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_HEARD("\r\n\r\nno");
    AWAIT_END();
    assert_true(world.is_eof);
}

#define UPLOAD_BYTES (2 * 1024 * 1024)

static void a_reader_that_does_not_take_content_holds_the_client_back(void **state) {
    static char some[64 * 1024];
    size_t sent = 0, got = 0;
    char head[128];

    snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n",
             UPLOAD_BYTES);
    CLIENT_SAYS(head);
    AWAIT_REQUESTS(1);
    for (unsigned quiet = 0; quiet < 10; quiet++) {
        ssize_t n = send(world.client, some, sizeof some, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            sent += (size_t)n;
            quiet = 0;
        }
        assert_true(sent < UPLOAD_BYTES);
        spin(&world.loop, NULL);
    }
    assert_true(body_waiting(&request(0)->x.request) >= BODY_WINDOW_BYTES);
    assert_true(body_waiting(&request(0)->x.request) <= BODY_WINDOW_BYTES + LOOP_READ_BYTES);
    while (got < UPLOAD_BYTES) {
        size_t want = UPLOAD_BYTES - sent < sizeof some ? UPLOAD_BYTES - sent : sizeof some;
        ssize_t n = send(world.client, some, want, MSG_NOSIGNAL | MSG_DONTWAIT);

        sent += n > 0 ? (size_t)n : 0;
        spin(&world.loop, NULL);
        content.len = 0;
        take_content(request(0), &content);
        got += content.len;
    }
    assert_true(body_is_done(&request(0)->x.request));
    answer_whole(request(0), 200, "");
}

/* --- Answers --------------------------------------------------------------------------------- */

static void interim_answers_pass_to_http_1_1_only(void **state) {
    struct response_head interim = {
        .status = 100, .version = HTTP_1_1, .reason = SLICE("Continue")};

    CLIENT_SAYS("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    AWAIT_REQUESTS(1);
    request(0)->x.client->send_informational(&request(0)->x, &interim);
    assert_heard("HTTP/1.1 100 Continue\r\n\r\n");
    CLIENT_SAYS("ok");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    answer_whole(request(0), 200, "");
    client_forgets();
    CLIENT_SAYS("GET / HTTP/1.0\r\n\r\n");
    AWAIT_REQUESTS(2);
    request(1)->x.client->send_informational(&request(1)->x, &interim);
    client_reads();
    assert_int_equal(world.heard.len, 0);
    answer_whole(request(1), 200, "");
}

static void content_of_unknown_length_is_chunked_and_may_have_trailers(void **state) {
    struct exchange *x = &request(0)->x;

    CLIENT_SAYS("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_REQUESTS(1);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "hello");
    answer_more(request(0), " world of chunks");
    fields_add(&x->response.trailers, &x->arena, FIELD_OTHER, SLICE("X-Sum"), SLICE("7"));
    answer_end(request(0));
    assert_true(request(0)->is_over);
    assert_heard("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\nhello\r\n10\r\n world of chunks\r\n0\r\nX-Sum: 7\r\n\r\n");
}

static void http_1_0_reads_content_of_unknown_length_to_the_end(void **state) {
    CLIENT_SAYS("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    AWAIT_REQUESTS(1);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "hello");
    answer_more(request(0), " world");
    answer_end(request(0));
    AWAIT_END();
    assert_true(world.is_eof);
    assert_heard("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world");
}

static void some_answers_have_no_content(void **state) {
    static const struct {
        const char *method;
        unsigned status;
        const char *heard;
    } answers[] = {
        {"HEAD", 200, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
        {"GET", 304, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
        {"GET", 204, "HTTP/1.1 204 No Content\r\n\r\n"},
    };

    for (unsigned i = 0; i < 3; i++) {
        struct exchange *x = &request(i)->x;
        char text[64];

        snprintf(text, sizeof text, "%s / HTTP/1.1\r\nHost: h\r\n\r\n", answers[i].method);
        CLIENT_SAYS(text);
        AWAIT_REQUESTS(i + 1);
        fields_add(&x->response_head.fields, &x->arena, FIELD_CONTENT_LENGTH,
                   SLICE("Content-Length"), SLICE("5"));
        answer(request(i), answers[i].status, OF_NONE, "");
        assert_true(request(i)->is_over);
        assert_heard(answers[i].heard);
        client_forgets();
    }
}

static void connections_persist_as_the_request_says(void **state) {
    static const struct {
        const char *head, *option;
        bool stays;
    } rules[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", true},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", "", true},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", "Connection: close\r\n",
         false},
        {"GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "Connection: keep-alive\r\n", true},
    };

    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (i > 0)
            world_open(false);
        CLIENT_SAYS(rules[i].head);
        AWAIT_REQUESTS(1);
        answer_whole(request(0), 200, "ok");
        AWAIT_HEARD("\r\n\r\nok");
        assert_true(client_heard(rules[i].option));
        assert_int_equal(client_heard("Connection"), *rules[i].option != 0);
        if (rules[i].stays) {
            CLIENT_SAYS(rules[i].head);
            AWAIT_REQUESTS(2);
            answer_whole(request(1), 200, "");
            assert_false(world.is_eof);
        } else {
            AWAIT_END();
            assert_true(world.is_eof);
        }
        if (i + 1 < sizeof rules / sizeof *rules)
            world_close();
    }
}

static void the_last_request_that_is_allowed_is_answered_with_close(void **state) {
    world.settings.max_requests = 2;
    world.is_answering = true;
    CLIENT_SAYS("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_HEARD("/1");
    assert_false(client_heard("close"));
    CLIENT_SAYS("GET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
    AWAIT_HEARD("Connection: close\r\n");
    AWAIT_END();
    assert_true(world.is_eof); /* and no reset, though /3 was not read */
    assert_int_equal(world.count, 2);
}

/* --- Tunnels --------------------------------------------------------------------------------- */

static void a_tunnel_carries_bytes_both_ways_till_both_sides_have_ended(void **state) {
    CLIENT_SAYS("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly ");
    AWAIT_REQUESTS(1);
    answer(request(0), 101, (struct content){CONTENT_TUNNEL, 0}, "");
    AWAIT_HEARD("HTTP/1.1 101 Switching Protocols\r\n");
    assert_true(client_heard("Connection: upgrade\r\n"));
    CLIENT_SAYS("bird");
    AWAIT_THAT(body_waiting(&request(0)->x.request) == 10);
    take_content(request(0), &content);
    assert_true(content_is("early bird"));
    answer_more(request(0), "worm");
    AWAIT_HEARD("\r\n\r\nworm");
    shutdown(world.client, SHUT_WR);
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    assert_false(request(0)->events & EXCHANGE_CLIENT_GONE);
    answer_more(request(0), " and more");
    answer_end(request(0));
    AWAIT_HEARD("worm and more");
    AWAIT_END();
    assert_true(world.is_eof);
    assert_true(request(0)->events & EXCHANGE_RESPONSE_SENT);
    finish(request(0));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH(a_request_becomes_an_exchange),
        WITH(a_head_may_come_in_any_pieces),
        WITH(pipelined_requests_run_one_at_a_time_and_in_order),
        WITH(a_flood_of_pipelined_requests_is_held_back_and_answered),
        WITH(broken_heads_are_refused_without_an_exchange),
        WITH(heads_beyond_the_limits_are_refused_before_they_are_whole),
        WITH(chunked_content_comes_without_its_chunks_and_with_its_trailers),
        WITH(chunked_content_may_come_in_any_pieces),
        WITH(broken_chunks_are_an_event_and_can_still_be_answered),
        WITH(a_reader_that_does_not_take_content_holds_the_client_back),
        WITH(interim_answers_pass_to_http_1_1_only),
        WITH(content_of_unknown_length_is_chunked_and_may_have_trailers),
        WITH(http_1_0_reads_content_of_unknown_length_to_the_end),
        WITH(some_answers_have_no_content),
        WITH(connections_persist_as_the_request_says),
        WITH(the_last_request_that_is_allowed_is_answered_with_close),
        WITH(a_tunnel_carries_bytes_both_ways_till_both_sides_have_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
