/* The promises of proxy/codec/h2_server.h about content: windows in both directions, timeouts and
 * tunnels. */
#include "h2_world.h"

#include <stdio.h>
#include <stdlib.h>

#define LATER NS_PER_MS

static struct buffer content;
static char many[100000];

static int set_up(void **state) {
    world_init();
    world_open();
    client_greets();
    content = (struct buffer){0};
    memset(many, 'x', sizeof many - 1);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    buffer_deinit(&content);
    return 0;
}

static struct h2_request *request(unsigned n) {
    return &world.requests[n];
}

static void client_pours(uint32_t stream_id, size_t bytes) {
    while (bytes > 0) {
        size_t n = bytes < 16384 ? bytes : 16384;

        h2_data(&world.out, stream_id, 0, slice_of(many, n));
        bytes -= n;
    }
    client_sends();
}

static void start(uint32_t stream_id, unsigned n, uint8_t flags) {
    client_asks(stream_id, flags, POST("/"));
    AWAIT_REQUESTS(n + 1);
    AWAIT_THAT(request(n)->events & EXCHANGE_STARTED);
}

/* --- Windows --------------------------------------------------------------------------------- */

static void a_client_gets_no_more_than_its_window(void **state) {
    start(1, 0, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, many);
    answer_end(request(0));
    AWAIT_THAT((client_reads(), world.reader.content.len == 65535));
    settle_down(&world.loop, NULL);
    client_reads();
    assert_int_equal(world.reader.content.len, 65535);
    assert_int_equal(body_waiting(&request(0)->x.response), sizeof many - 1 - 65535);
    assert_true(conn_is_drained(world_server()->conn));
    h2_window_update(&world.out, 1, sizeof many);
    client_sends();
    settle_down(&world.loop, NULL);
    client_reads();
    assert_int_equal(world.reader.content.len, 65535); /* the connection's is used up too */
    h2_window_update(&world.out, 0, sizeof many);
    client_sends();
    AWAIT_THAT((client_reads(), world.reader.content.len == sizeof many - 1));
    assert_true(request(0)->is_over);
}

static void a_stream_without_window_does_not_hold_back_another(void **state) {
    h2_settings(&world.out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 10);
    client_sends();
    start(1, 0, END);
    start(3, 1, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "0123456789abc");
    AWAIT_HEARD("DATA 1 10 ");
    answer(request(1), 200, OF_LENGTH(5), "short");
    AWAIT_HEARD("DATA 3 5 END_STREAM short");
    h2_window_update(&world.out, 1, 3);
    client_sends();
    AWAIT_HEARD("DATA 1 3 abc");
    answer_end(request(0));
}

static void streams_are_served_in_turns(void **state) {
    h2_settings(&world.out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    start(1, 0, END);
    start(3, 1, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, many);
    answer(request(1), 200, OF_UNKNOWN_LENGTH, many);
    h2_settings(&world.out, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535);
    h2_window_update(&world.out, 0, 1000000);
    client_sends();
    AWAIT_THAT(HEARD_TIMES("DATA 1 16384") >= 3 && HEARD_TIMES("DATA 3 16384") >= 3);
    /* Not one after the other. */
    assert_true(strstr(world.reader.log.base, "DATA 3 ") <
                strstr(strstr(world.reader.log.base, "DATA 1 ") + 1, "DATA 1 "));
    answer_end(request(0));
    answer_end(request(1));
    h2_rst(&world.out, 1, NGHTTP2_CANCEL);
    h2_rst(&world.out, 3, NGHTTP2_CANCEL);
    client_sends();
    AWAIT_THAT(request(0)->is_over && request(1)->is_over);
}

static void a_window_comes_back_as_content_is_taken(void **state) {
    start(1, 0, 0);
    client_pours(1, H2_STREAM_WINDOW);
    AWAIT_THAT(request(0)->x.request.pushed == H2_STREAM_WINDOW);
    settle_down(&world.loop, NULL);
    assert_false(HEARD("WINDOW_UPDATE 1"));
    take_content(request(0), &content);
    AWAIT_HEARD("WINDOW_UPDATE 1 ");
    answer(request(0), 200, OF_NONE, "");
}

static void a_client_that_exceeds_its_window_loses_the_stream(void **state) {
    start(1, 0, 0);
    client_pours(1, H2_STREAM_WINDOW + 1);
    AWAIT_HEARD("RST_STREAM 1 FLOW_CONTROL_ERROR");
    AWAIT_THAT(request(0)->is_over);
}

static void streams_that_end_untaken_give_their_window_back_to_the_connection(void **state) {
    /* More than the connection's window in all. */
    for (unsigned i = 0; i < 20; i++) {
        start(1 + 2 * i, i, 0);
        client_pours(1 + 2 * i, H2_STREAM_WINDOW);
        if (i % 2 == 0) {
            h2_rst(&world.out, 1 + 2 * i, NGHTTP2_CANCEL);
            client_sends();
        } else {
            AWAIT_THAT(request(i)->x.request.pushed == H2_STREAM_WINDOW);
            answer(request(i), 200, OF_NONE, "");
        }
        AWAIT_THAT(request(i)->is_over);
    }
    AWAIT_THAT(HEARD_TIMES("WINDOW_UPDATE 0 ") >= 3); /* the first is the opening of it */
    assert_false(HEARD("GOAWAY"));
}

/* --- Turns ----------------------------------------------------------------------------------- */

static size_t frames_made(void) {
    return world_server()->session.out.bytes;
}

static void a_small_answer_waits_for_the_end_of_the_batch(void **state) {
    start(1, 0, END);
    answer(request(0), 200, OF_LENGTH(1), "x");
    assert_int_equal(frames_made(), 0);
    assert_false(request(0)->is_over);
    AWAIT_HEARD("DATA 1 1 END_STREAM x");
}

static void large_content_becomes_frames_in_its_turn(void **state) {
    start(1, 0, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "x");
    AWAIT_HEARD("DATA 1 1 x");
    many[H2_COPY_BYTES] = '\0';
    answer_more(request(0), many);
    assert_int_equal(frames_made(), 0);
    AWAIT_THAT((client_reads(), world.reader.content.len == 1 + H2_COPY_BYTES));
    many[H2_COPY_BYTES] = 'x';
    many[H2_COPY_BYTES + 1] = '\0';
    answer_more(request(0), many);
    assert_true(frames_made() > H2_COPY_BYTES);
    answer_end(request(0));
    AWAIT_HEARD("DATA 1 0 END_STREAM");
}

static void many_answers_of_a_turn_become_frames_in_it(void **state) {
    const struct content none = {CONTENT_NONE, 0};

    for (unsigned i = 0; i < H2_FILL_TOUCHES; i++)
        start(1 + 2 * i, i, END);
    settle_down(&world.loop, NULL);
    for (unsigned i = 0; i < H2_FILL_TOUCHES; i++) {
        struct exchange *x = &request(i)->x;

        x->response_head.status = 200;
        x->is_response_begun = true;
        body_end(&x->response);
        x->client->send_response(x, none);
    }
    assert_int_equal(frames_made(), 0);
    loop_turn(&world.loop);
    assert_true(frames_made() > 0);
    AWAIT_THAT((client_reads(), request(H2_FILL_TOUCHES - 1)->is_over));
}

/* --- Timeouts -------------------------------------------------------------------------------- */

static void a_head_must_be_complete_in_time(void **state) {
    struct buffer section = {0};

    h2_section(&section, GET("/"));
    h2_frame(&world.out, NGHTTP2_HEADERS, END, 1, buffer_slice(&section));
    client_sends();
    AWAIT_REQUESTS(1);
    travel(&world.loop, world.settings.header_timeout_ns + LATER);
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 1 ENHANCE_YOUR_CALM"));
    assert_int_equal(world.refusal, FAIL_REQUEST_TIMEOUT);
    buffer_deinit(&section);
}

static void a_connection_without_a_request_is_closed(void **state) {
    travel(&world.loop, world.settings.header_timeout_ns + LATER);
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 2147483647 NO_ERROR"));
    assert_true(HEARD("GOAWAY 0 NO_ERROR"));
}

static void an_idle_connection_is_closed_later(void **state) {
    world.is_answering = true;
    client_asks(1, END, GET("/"));
    AWAIT_HEARD("HEADERS 1 END_STREAM");
    travel(&world.loop, world.settings.header_timeout_ns + LATER);
    assert_false(world_server()->session.is_shutting_down);
    travel(&world.loop, world.settings.idle_timeout_ns + LATER);
    AWAIT_THAT((client_reads(), world.is_eof));
    assert_true(HEARD("GOAWAY 1 NO_ERROR"));
}

static void content_that_stops_coming_fails_the_request(void **state) {
    start(1, 0, 0);
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_true(request(0)->events & EXCHANGE_CLIENT_FAIL);
    assert_int_equal(request(0)->x.client_fail, FAIL_REQUEST_TIMEOUT);
    answer(request(0), 408, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=408");
    AWAIT_HEARD("RST_STREAM 1 NO_ERROR");
}

static void ready(struct body *body) {
}

static void content_that_is_not_taken_fails_the_request(void **state) {
    static const struct body_sink_ops sink = {.ready = ready};

    start(1, 0, 0);
    client_data(1, 0, "x");
    AWAIT_THAT(request(0)->x.request.pushed == 1);
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_int_equal(request(0)->x.client_fail, FAIL_NONE); /* it still waits for an upstream */
    body_attach_sink(&request(0)->x.request, &sink, NULL);
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_int_equal(request(0)->x.client_fail, FAIL_UPSTREAM_STALLED);
    answer(request(0), 504, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=504");
}

static void an_answer_that_is_not_read_is_broken_off(void **state) {
    start(1, 0, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, many);
    AWAIT_THAT((client_reads(), world.reader.content.len == 65535));
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_true(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_CLIENT_SLOW);
    AWAIT_HEARD("RST_STREAM 1 CANCEL");
}

static void an_answer_may_pause_while_it_is_read(void **state) {
    start(1, 0, END);
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "some");
    AWAIT_HEARD("DATA 1 4 some");
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_false(request(0)->is_over);
    answer_end(request(0));
}

static void a_silent_stream_ends_after_its_own_time(void **state) {
    start(1, 0, 0);
    request(0)->x.is_stream = true;
    answer(request(0), 200, OF_UNKNOWN_LENGTH, "");
    AWAIT_HEARD("HEADERS 1 ");
    travel(&world.loop, world.settings.body_timeout_ns + LATER);
    assert_false(request(0)->is_over);
    travel(&world.loop, world.settings.stream_idle_timeout_ns + LATER);
    assert_true(request(0)->is_over);
    assert_int_equal(request(0)->x.client_fail, FAIL_STREAM_IDLE);
    AWAIT_HEARD("RST_STREAM 1 CANCEL");
}

/* --- Tunnels --------------------------------------------------------------------------------- */

#define CONNECT                                                                            \
    ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:authority: here\n:path: /w\n" \
    "sec-websocket-version: 13\n"

static void tunnel(void) {
    struct fields *fields = &request(0)->x.response_head.fields;

    fields_add(fields, &request(0)->x.arena, FIELD_UPGRADE, SLICE("Upgrade"), SLICE("websocket"));
    fields_add(fields, &request(0)->x.arena, FIELD_SEC_WEBSOCKET_ACCEPT,
               SLICE("Sec-WebSocket-Accept"), SLICE("x"));
    request(0)->x.is_tunnel = request(0)->x.is_stream = true;
    answer(request(0), 101, (struct content){CONTENT_TUNNEL, 0}, "");
}

static void an_extended_connect_becomes_an_upgrade_and_a_tunnel(void **state) {
    const struct request_head *head = &request(0)->x.request_head;
    const struct field *key;

    client_asks(1, 0, CONNECT);
    AWAIT_REQUESTS(1);
    AWAIT_THAT(request(0)->events == EXCHANGE_STARTED);
    assert_int_equal(head->method, METHOD_GET);
    assert_true(slice_equal(head->path, SLICE("/w")));
    assert_true(fields_list_has(&head->fields, FIELD_CONNECTION, SLICE("upgrade")));
    assert_true(fields_list_has(&head->fields, FIELD_UPGRADE, SLICE("websocket")));
    key = fields_find(&head->fields, FIELD_SEC_WEBSOCKET_KEY);
    assert_non_null(key);
    assert_int_equal(key->value.len, 24);
    assert_int_equal(request(0)->x.request_content.kind, CONTENT_NONE);
    client_data(1, 0, "early"); /* waits for the tunnel */
    AWAIT_THAT(request(0)->x.request.pushed == 5);
    tunnel();
    AWAIT_HEARD("HEADERS 1 :status=200\n");
    take_content(request(0), &content);
    assert_int_equal(content.len, 5);
    answer_more(request(0), "down");
    AWAIT_HEARD("DATA 1 4 down");
    client_data(1, END, "up");
    AWAIT_THAT(request(0)->x.request.state == BODY_ENDED);
    take_content(request(0), &content);
    assert_memory_equal(content.base, "earlyup", 7);
    answer_more(request(0), "still");
    AWAIT_HEARD("DATA 1 5 still");
    answer_end(request(0));
    AWAIT_HEARD("DATA 1 0 END_STREAM");
    AWAIT_THAT(request(0)->x.client == NULL); /* its stream is closed */
    assert_false(request(0)->events & EXCHANGE_CLIENT_GONE);
    travel(&world.loop, world.settings.stream_idle_timeout_ns + LATER);
    assert_true(request(0)->events & EXCHANGE_DEADLINE); /* nor is the rest waited for any longer */
    finish(request(0));
}

static void the_upstream_may_end_its_half_of_a_tunnel_first(void **state) {
    client_asks(1, 0, CONNECT);
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    tunnel();
    answer_end(request(0));
    AWAIT_HEARD("DATA 1 0 END_STREAM");
    client_data(1, 0, "up");
    AWAIT_THAT(request(0)->x.request.pushed == 2);
    h2_rst(&world.out, 1, NGHTTP2_CANCEL);
    client_sends();
    AWAIT_THAT(request(0)->is_over);
    assert_true(request(0)->events & EXCHANGE_CLIENT_GONE);
    assert_int_equal(request(0)->x.request.state, BODY_RESET);
}

static bool is_told_of_the_end;

static void note_the_end(struct body *body) {
    is_told_of_the_end |= body->state == BODY_ENDED;
}

/* The stream is gone with the same frame that ends the request. */
static void the_last_end_of_a_stream_reaches_the_upstream(void **state) {
    static const struct body_sink_ops sink = {.ready = note_the_end};

    is_told_of_the_end = false;
    client_asks(1, 0, CONNECT);
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    tunnel();
    body_attach_sink(&request(0)->x.request, &sink, NULL);
    answer_end(request(0));
    AWAIT_HEARD("DATA 1 0 END_STREAM");
    client_data(1, END, "");
    AWAIT_THAT(request(0)->x.client == NULL);
    assert_true(is_told_of_the_end);
    request(0)->x.request.sink = NULL;
    finish(request(0));
}

static void a_declined_upgrade_is_an_ordinary_answer(void **state) {
    client_asks(1, 0, CONNECT);
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 403, OF_LENGTH(2), "no");
    AWAIT_HEARD("HEADERS 1 :status=403, content-length=2\n");
    AWAIT_HEARD("RST_STREAM 1 NO_ERROR");
}

static void a_2xx_never_passes_for_a_tunnel(void **state) {
    client_asks(1, 0, CONNECT);
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    answer(request(0), 200, OF_LENGTH(2), "no");
    AWAIT_HEARD("RST_STREAM 1 INTERNAL_ERROR");
    assert_false(HEARD("HEADERS"));
}

static void a_plain_connect_comes_as_one(void **state) {
    client_asks(1, 0, ":method: CONNECT\n:authority: there:443\n");
    AWAIT_REQUESTS(1);
    settle_down(&world.loop, NULL);
    assert_int_equal(request(0)->x.request_head.method, METHOD_CONNECT);
    assert_int_equal(request(0)->x.request_head.form, TARGET_AUTHORITY);
    answer(request(0), 501, OF_NONE, "");
    AWAIT_HEARD("HEADERS 1 END_STREAM :status=501\n");
}

#define TEST(promise) cmocka_unit_test_setup_teardown(promise, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_client_gets_no_more_than_its_window),
        TEST(a_stream_without_window_does_not_hold_back_another),
        TEST(streams_are_served_in_turns),
        TEST(a_window_comes_back_as_content_is_taken),
        TEST(a_client_that_exceeds_its_window_loses_the_stream),
        TEST(streams_that_end_untaken_give_their_window_back_to_the_connection),
        TEST(a_small_answer_waits_for_the_end_of_the_batch),
        TEST(large_content_becomes_frames_in_its_turn),
        TEST(many_answers_of_a_turn_become_frames_in_it),
        TEST(a_head_must_be_complete_in_time),
        TEST(a_connection_without_a_request_is_closed),
        TEST(an_idle_connection_is_closed_later),
        TEST(content_that_stops_coming_fails_the_request),
        TEST(content_that_is_not_taken_fails_the_request),
        TEST(an_answer_that_is_not_read_is_broken_off),
        TEST(an_answer_may_pause_while_it_is_read),
        TEST(a_silent_stream_ends_after_its_own_time),
        TEST(an_extended_connect_becomes_an_upgrade_and_a_tunnel),
        TEST(the_upstream_may_end_its_half_of_a_tunnel_first),
        TEST(the_last_end_of_a_stream_reaches_the_upstream),
        TEST(a_declined_upgrade_is_an_ordinary_answer),
        TEST(a_2xx_never_passes_for_a_tunnel),
        TEST(a_plain_connect_comes_as_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
