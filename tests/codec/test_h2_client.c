/* The promises of proxy/codec/h2_client.h: exchanges over streams. How streams and connections end
 * otherwise is in test_h2_client_end.c. */
#include "h2_client_world.h"

#include <stdlib.h>

#define CHUNKED ((struct content){CONTENT_CHUNKED, 0})

static int set_up(void **state) {
    world_open(PEER_SAYS_NOTHING, false);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

static void it_is_open_once_settings_have_come(void **state) {
    world_open_silently(3, false);
    settle_down(&loop, NULL);
    assert_int_equal(h2_client_state(client), H2_CLIENT_OPENING);
    assert_int_equal(h2_client_room(client), 0);
    AWAIT_PEER(h2_client_state(client) == H2_CLIENT_OPEN);
    assert_true(changes > 0);
    assert_int_equal(h2_client_room(client), 3);
    assert_int_equal(h2_client_streams_max(client), 3);
}

static void a_request_goes_out_and_its_answer_comes_back(void **state) {
    get(0);
    AWAIT_PEER(peer.requests == 1);
    assert_true(h2_peer_has(&peer, 1, ":method: GET"));
    assert_true(h2_peer_has(&peer, 1, ":scheme: http"));
    assert_true(h2_peer_has(&peer, 1, ":authority: here"));
    assert_true(h2_peer_has(&peer, 1, ":path: /p"));
    assert_true(h2_peer_stream(&peer, 1)->is_ended);
    h2_peer_answer(&peer, 1, "200", false);
    h2_peer_content(&peer, 1, SLICE("hello"), true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    assert_true(calls[0].x.events & EXCHANGE_RESPONSE_HEAD);
    assert_int_equal(calls[0].x.response_head.status, 200);
    assert_int_equal(calls[0].x.response_head.version, HTTP_2);
    assert_int_equal(calls[0].x.response_head.fields.count, 1);
    assert_true(content_is(0, "hello"));
    assert_true(body_is_done(&calls[0].x.response));
    assert_int_equal(calls[0].x.response.trailers.count, 1);
    assert_int_equal(h2_client_used(client), 1);
    detach(0);
    assert_int_equal(h2_client_used(client), 0);
    settle_down(&loop, NULL);
    h2_peer_turn(&peer);
    assert_false(h2_peer_stream(&peer, 1)->is_reset);
}

static void an_answer_without_content_ends_with_its_head(void **state) {
    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "204", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    assert_int_equal(calls[0].x.response_content.kind, CONTENT_NONE);
    assert_true(body_is_done(&calls[0].x.response));
}

static void exchanges_share_the_connection(void **state) {
    for (unsigned i = 0; i < CALLS_MAX; i++)
        get(i);
    AWAIT_PEER(peer.requests == CALLS_MAX);
    assert_int_equal(h2_client_used(client), CALLS_MAX);
    assert_int_equal(h2_client_room(client), 100 - CALLS_MAX);
    for (unsigned i = CALLS_MAX; i-- > 0;) {
        char text[2] = {(char)('a' + i), 0};

        h2_peer_answer(&peer, (int32_t)(2 * i + 1), "200", false);
        h2_peer_content(&peer, (int32_t)(2 * i + 1), slice_str(text), false);
        AWAIT_EVENT(i, EXCHANGE_UPSTREAM_DONE);
        assert_true(content_is(i, text));
        detach(i);
    }
    assert_int_equal(h2_client_room(client), 100);
}

static void content_flows_both_ways_at_once(void **state) {
    start(0, METHOD_POST, CHUNKED);
    push(0, SLICE("one"));
    AWAIT_PEER(h2_peer_stream(&peer, 1)->content.len == 3);
    assert_false(h2_peer_stream(&peer, 1)->is_ended);
    h2_peer_answer(&peer, 1, "200", false);
    h2_peer_content(&peer, 1, SLICE("answer"), false);
    AWAIT_EVENT(0, EXCHANGE_RESPONSE_HEAD);
    AWAIT_PEER(calls[0].x.response.state == BODY_ENDED);
    assert_true(content_is(0, "answer"));
    assert_false(calls[0].x.events & EXCHANGE_UPSTREAM_DONE); /* half-closed */
    push(0, SLICE("two"));
    AWAIT_PEER(h2_peer_stream(&peer, 1)->content.len == 6);
    push_end(0);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_ended);
}

static void trailers_of_a_request_go_out(void **state) {
    struct exchange *x = &calls[0].x;

    start(0, METHOD_POST, CHUNKED);
    push(0, SLICE("one"));
    fields_add(&x->request.trailers, &x->arena, FIELD_OTHER, SLICE("X-Sum"), SLICE("1"));
    push_end(0);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_ended);
    assert_true(
        slice_equal(buffer_slice(&h2_peer_stream(&peer, 1)->trailers), SLICE("x-sum: 1\n")));
}

static void a_length_is_announced(void **state) {
    start(0, METHOD_POST, (struct content){CONTENT_LENGTH, 3});
    push(0, SLICE("abc"));
    push_end(0);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_ended);
    assert_true(h2_peer_has(&peer, 1, "content-length: 3"));
}

static void interim_answers_are_passed_on_within_bounds(void **state) {
    get(0);
    get(1);
    AWAIT_PEER(peer.requests == 2);
    h2_peer_interim(&peer, 1, "103");
    AWAIT_PEER(calls[0].informational == 103);
    h2_peer_interim(&peer, 1, "103");
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    for (unsigned i = 0; i < 3; i++)
        h2_peer_interim(&peer, 3, "103");
    AWAIT_EVENT(1, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[1].x.upstream_fail, FAIL_UPSTREAM_MALFORMED);
}

/* RFC 9113 section 8.1: the whole answer, then RST_STREAM(NO_ERROR) for the rest of the request. */
static void an_early_answer_is_no_failure(void **state) {
    start(0, METHOD_POST, CHUNKED);
    push(0, SLICE("some"));
    AWAIT_PEER(h2_peer_stream(&peer, 1)->content.len == 4);
    h2_peer_answer(&peer, 1, "413", true);
    h2_peer_reset(&peer, 1, NGHTTP2_NO_ERROR);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    assert_false(calls[0].x.events & EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[0].x.response_head.status, 413);
    push(0, SLICE("for nobody"));
    settle_down(&loop, NULL);
}

static void a_slow_reader_holds_a_window_and_nobody_else_up(void **state) {
    size_t len = 1024 * 1024;
    char *much = calloc(1, len);

    for (unsigned i = 0; i < CALLS_MAX; i++)
        get(i);
    AWAIT_PEER(peer.requests == CALLS_MAX);
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        h2_peer_answer(&peer, (int32_t)(2 * i + 1), "200", false);
        h2_peer_content(&peer, (int32_t)(2 * i + 1), slice_of(much, len), false);
    }
    AWAIT_PEER(calls[0].x.response.pushed == H2_STREAM_WINDOW);
    for (unsigned i = 0; i < 20; i++) {
        settle_down(&loop, NULL);
        h2_peer_turn(&peer);
    }
    for (unsigned i = 0; i < CALLS_MAX; i++)
        assert_int_equal(body_waiting(&calls[i].x.response), H2_STREAM_WINDOW);
    assert_true(atomic_load(&loop.buffered_bytes) <= CALLS_MAX * H2_STREAM_WINDOW);
    /* The last one reads; the others still do not. */
    AWAIT_PEER((take_content(CALLS_MAX - 1), calls[CALLS_MAX - 1].content.len == len));
    assert_int_equal(calls[0].x.response.pushed, H2_STREAM_WINDOW);
    free(much);
}

/* More streams than the bound on a connection's window would let: 16 x 64 KiB fill 1 MiB. */
static void stuck_streams_up_to_the_limit_leave_credit_for_the_last(void **state) {
    struct h2_client_stream *held[99];

    assert_int_equal(h2_client_room(client), 100);
    for (unsigned i = 0; i < 99; i++)
        held[i] = h2_client_reserve(client);
    assert_int_equal(h2_client_room(client), 1);
    for (unsigned i = 0; i < 99; i++)
        h2_client_detach(held[i]);
    h2_peer_turn(&peer);
    AWAIT_PEER(nghttp2_session_get_remote_window_size(peer.ng) >= 100 * H2_STREAM_WINDOW);
}

static void a_slow_upstream_gets_all_content_in_order(void **state) {
    size_t len = 900 * 1024;
    char *much = malloc(len);

    for (size_t i = 0; i < len; i++)
        much[i] = (char)(i % 251);
    start(0, METHOD_POST, CHUNKED);
    push(0, slice_of(much, len));
    push_end(0);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_ended);
    assert_int_equal(h2_peer_stream(&peer, 1)->content.len, len);
    assert_memory_equal(h2_peer_stream(&peer, 1)->content.base, much, len);
    free(much);
}

static void an_upstream_that_gives_no_credit_holds_content_back(void **state) {
    size_t len = 300 * 1024;
    char *much = calloc(1, len);

    peer.is_stingy = true;
    start(0, METHOD_POST, CHUNKED);
    push(0, slice_of(much, len));
    AWAIT_PEER(h2_peer_stream(&peer, 1)->content.len == 65535);
    settle_down(&loop, NULL);
    assert_int_equal(body_waiting(&calls[0].x.request), len - 65535);
    assert_false(body_has_room(&calls[0].x.request));
    free(much);
}

static void the_upstream_may_allow_more_or_less_later(void **state) {
    h2_peer_set_max(&peer, 1);
    AWAIT_PEER(h2_client_room(client) == 1);
    get(0);
    assert_int_equal(h2_client_room(client), 0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_set_max(&peer, 0);
    AWAIT_PEER(h2_client_streams_max(client) == 0);
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    detach(0);
    assert_int_equal(h2_client_room(client), 0);
    h2_peer_set_max(&peer, 1000);
    AWAIT_PEER(h2_client_room(client) == 100);
}

static void a_websocket_is_an_extended_connect(void **state) {
    struct exchange *x = &calls[0].x;
    struct fields *fields = &x->request_head.fields;
    const struct field *accept;

    world_open(PEER_SAYS_NOTHING, true);
    make(0);
    fields_add(fields, &x->arena, FIELD_UPGRADE, SLICE("upgrade"), SLICE("websocket"));
    fields_add(fields, &x->arena, FIELD_CONNECTION, SLICE("connection"), SLICE("upgrade"));
    fields_add(fields, &x->arena, FIELD_SEC_WEBSOCKET_KEY, SLICE("sec-websocket-key"),
               SLICE("dGhlIHNhbXBsZSBub25jZQ=="));
    get(0);
    AWAIT_PEER(peer.requests == 1);
    assert_true(h2_peer_has(&peer, 1, ":method: CONNECT"));
    assert_true(h2_peer_has(&peer, 1, ":protocol: websocket"));
    assert_false(h2_peer_has(&peer, 1, "upgrade: websocket"));
    assert_false(h2_peer_stream(&peer, 1)->is_ended);
    h2_peer_answer(&peer, 1, "200", false);
    AWAIT_PEER(x->response_head.status == 101);
    assert_int_equal(x->response_content.kind, CONTENT_TUNNEL);
    accept = fields_find(&x->response_head.fields, FIELD_SEC_WEBSOCKET_ACCEPT);
    assert_non_null(accept); /* the example of RFC 6455 section 1.3 */
    assert_true(slice_equal(accept->value, SLICE("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    settle_down(&loop, NULL);
    x->request.state = BODY_OPEN; /* the client's side is a tunnel from here on */
    push(0, SLICE("ping"));
    AWAIT_PEER(h2_peer_stream(&peer, 1)->content.len == 4);
    h2_peer_content(&peer, 1, SLICE("pong"), false);
    AWAIT_PEER(x->response.state == BODY_ENDED);
    assert_true(content_is(0, "pong"));
    assert_false(x->events & EXCHANGE_UPSTREAM_DONE);
    push_end(0);
    AWAIT_PEER(x->events & EXCHANGE_UPSTREAM_DONE);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_ended);
}

static void a_websocket_to_an_upstream_without_is_refused(void **state) {
    struct exchange *x = &calls[0].x;

    make(0);
    fields_add(&x->request_head.fields, &x->arena, FIELD_UPGRADE, SLICE("upgrade"),
               SLICE("websocket"));
    get(0);
    assert_int_equal(x->upstream_fail, FAIL_UPSTREAM_TUNNEL);
    detach(0);
    settle_down(&loop, NULL);
    h2_peer_turn(&peer);
    assert_int_equal(peer.requests, 0);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define IN_OWN_WORLD(test) cmocka_unit_test_teardown(test, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_OWN_WORLD(it_is_open_once_settings_have_come),
        IN_WORLD(a_request_goes_out_and_its_answer_comes_back),
        IN_WORLD(an_answer_without_content_ends_with_its_head),
        IN_WORLD(exchanges_share_the_connection),
        IN_WORLD(content_flows_both_ways_at_once),
        IN_WORLD(trailers_of_a_request_go_out),
        IN_WORLD(a_length_is_announced),
        IN_WORLD(interim_answers_are_passed_on_within_bounds),
        IN_WORLD(an_early_answer_is_no_failure),
        IN_WORLD(a_slow_reader_holds_a_window_and_nobody_else_up),
        IN_WORLD(stuck_streams_up_to_the_limit_leave_credit_for_the_last),
        IN_WORLD(a_slow_upstream_gets_all_content_in_order),
        IN_WORLD(an_upstream_that_gives_no_credit_holds_content_back),
        IN_WORLD(the_upstream_may_allow_more_or_less_later),
        IN_OWN_WORLD(a_websocket_is_an_extended_connect),
        IN_WORLD(a_websocket_to_an_upstream_without_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
