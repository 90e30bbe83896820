/* The promises of proxy/codec/h2_client.h: how streams and connections end, and what their
 * exchanges are told. */
#include "h2_client_world.h"

#include <stdlib.h>
#include <unistd.h>

#define CHUNKED ((struct content){CONTENT_CHUNKED, 0})
#define PEER_SAYS(text) SAY(peer.fd, text)

static int set_up(void **state) {
    world_open(PEER_SAYS_NOTHING, false);
    return 0;
}

static int tear_down(void **state) {
    world_close();
    return 0;
}

static void hang_up(void) {
    close(peer.fd);
    peer.fd = -1;
}

/* --- Streams ---------------------------------------------------------------------------------- */

static void codes_of_resets_are_told_apart(void **state) {
    static const struct {
        uint32_t code;
        enum fail fail;
    } cases[] = {
        {NGHTTP2_REFUSED_STREAM, FAIL_UPSTREAM_REFUSED},
        {NGHTTP2_INTERNAL_ERROR, FAIL_UPSTREAM_RESET},
        {NGHTTP2_CANCEL, FAIL_UPSTREAM_RESET},
        {NGHTTP2_NO_ERROR, FAIL_UPSTREAM_RESET},
        {NGHTTP2_PROTOCOL_ERROR, FAIL_UPSTREAM_MALFORMED},
        {NGHTTP2_ENHANCE_YOUR_CALM, FAIL_UPSTREAM_RESET},
        {0xbad, FAIL_UPSTREAM_RESET},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        get(i);
        AWAIT_PEER(peer.requests == i + 1);
        h2_peer_reset(&peer, peer.newest, cases[i].code);
        AWAIT_EVENT(i, EXCHANGE_UPSTREAM_FAIL);
        assert_int_equal(calls[i].x.upstream_fail, cases[i].fail);
        assert_non_null(calls[i].x.upstream_why);
        detach(i);
    }
    assert_int_equal(h2_client_room(client), 100); /* the connection is none the worse for it */
}

static void a_reset_behind_the_head_resets_the_response(void **state) {
    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "200", false);
    AWAIT_EVENT(0, EXCHANGE_RESPONSE_HEAD);
    h2_peer_reset(&peer, 1, NGHTTP2_REFUSED_STREAM); /* too late to be one */
    AWAIT_PEER(calls[0].x.response.state == BODY_RESET);
    assert_int_equal(calls[0].x.response.fail, FAIL_UPSTREAM_INCOMPLETE);
}

static void whoever_leaves_cancels(void **state) {
    size_t len = 200 * 1024;
    char *much = calloc(1, len);
    int32_t before;

    get(0);
    AWAIT_PEER(peer.requests == 1);
    before = nghttp2_session_get_remote_window_size(peer.ng);
    h2_peer_answer(&peer, 1, "200", false);
    h2_peer_content(&peer, 1, slice_of(much, len), false);
    AWAIT_PEER(body_waiting(&calls[0].x.response) > 0);
    detach(0);
    AWAIT_PEER(h2_peer_stream(&peer, 1)->is_reset);
    assert_int_equal(h2_peer_stream(&peer, 1)->code, NGHTTP2_CANCEL);
    AWAIT_PEER(h2_client_room(client) == 100);
    /* What nobody has taken is credited all the same: nghttp2 does so by halves of the window. */
    AWAIT_PEER(nghttp2_session_get_remote_window_size(peer.ng) > before / 2);
    free(much);
}

static void a_stream_that_is_cancelled_at_once_is_never_seen(void **state) {
    get(0);
    detach(0);
    get(1);
    AWAIT_PEER(peer.requests >= 1);
    settle_down(&loop, NULL);
    assert_int_equal(h2_client_used(client), 1);
}

static void a_reserved_stream_can_be_given_back(void **state) {
    struct h2_client_stream *stream = h2_client_reserve(client);

    assert_int_equal(h2_client_room(client), 99);
    h2_client_detach(stream);
    assert_int_equal(h2_client_room(client), 100);
}

static void heads_beyond_the_limits_fail_their_exchange_only(void **state) {
    char large[5000];
    nghttp2_nv head[40];

    memset(large, 'x', sizeof large);
    head[0] = (nghttp2_nv){(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0};
    head[1] = (nghttp2_nv){(uint8_t *)"x", (uint8_t *)large, 1, sizeof large, 0};
    for (unsigned i = 2; i < 40; i++)
        head[i] = (nghttp2_nv){(uint8_t *)"y", (uint8_t *)"z", 1, 1, 0};
    get(0);
    get(1);
    get(2);
    AWAIT_PEER(peer.requests == 3);
    nghttp2_submit_headers(peer.ng, NGHTTP2_FLAG_END_STREAM, 1, NULL, head, 2, NULL);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[0].x.upstream_fail, FAIL_UPSTREAM_HEAD_LARGE);
    head[1] = head[2];
    nghttp2_submit_headers(peer.ng, NGHTTP2_FLAG_END_STREAM, 3, NULL, head, 40, NULL);
    AWAIT_EVENT(1, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[1].x.upstream_fail, FAIL_UPSTREAM_HEAD_LARGE);
    h2_peer_answer(&peer, 5, "200", true);
    AWAIT_EVENT(2, EXCHANGE_UPSTREAM_DONE);
}

static void a_malformed_head_fails_its_exchange_only(void **state) {
    const nghttp2_nv head[] = {
        {(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0},
        {(uint8_t *)"connection", (uint8_t *)"close", 10, 5, 0},
    };

    get(0);
    get(1);
    AWAIT_PEER(peer.requests == 2);
    nghttp2_submit_headers(peer.ng, NGHTTP2_FLAG_END_STREAM, 1, NULL, head, 2, NULL);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[0].x.upstream_fail, FAIL_UPSTREAM_MALFORMED);
    h2_peer_answer(&peer, 3, "200", true);
    AWAIT_EVENT(1, EXCHANGE_UPSTREAM_DONE);
}

/* --- GOAWAY ----------------------------------------------------------------------------------- */

static void streams_up_to_the_last_id_finish_and_others_were_never_seen(void **state) {
    for (unsigned i = 0; i < 3; i++)
        get(i);
    AWAIT_PEER(peer.requests == 3);
    h2_peer_goaway(&peer, 3, NGHTTP2_NO_ERROR);
    AWAIT_EVENT(2, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[2].x.upstream_fail, FAIL_UPSTREAM_GOAWAY);
    assert_int_equal(h2_client_state(client), H2_CLIENT_ENDING);
    assert_int_equal(h2_client_room(client), 0);
    detach(2);
    for (unsigned i = 0; i < 2; i++) {
        h2_peer_answer(&peer, (int32_t)(2 * i + 1), "200", true);
        AWAIT_EVENT(i, EXCHANGE_UPSTREAM_DONE);
        detach(i);
    }
    AWAIT_PEER(h2_client_state(client) == H2_CLIENT_OVER);
    h2_client_close(client, false);
    AWAIT_PEER(peer.is_eof);
}

static void an_announced_end_takes_no_new_streams(void **state) {
    struct h2_client_stream *reserved = h2_client_reserve(client);

    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_goaway(&peer, INT32_MAX, NGHTTP2_NO_ERROR);
    AWAIT_PEER(h2_client_state(client) == H2_CLIENT_ENDING);
    /* Who had reserved one is told as if it had come too late. */
    make(1);
    body_end(&calls[1].x.request);
    calls[1].stream = reserved;
    h2_client_start(reserved, &calls[1].x, &calls[0].x.request_head,
                    (struct content){CONTENT_NONE, 0});
    assert_int_equal(calls[1].x.upstream_fail, FAIL_UPSTREAM_GOAWAY);
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
}

static void ours_is_said_before_the_end(void **state) {
    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    detach(0);
    h2_client_close(client, false);
    AWAIT_PEER(peer.is_eof);
    assert_int_equal(peer.goaways, 1);
    hang_up();
    AWAIT(&loop, NULL, !client);
}

static void an_upstream_that_does_not_read_our_last_word_is_not_waited_for(void **state) {
    h2_client_close(client, false);
    settle_down(&loop, NULL);
    AWAIT(&loop, NULL, hear(peer.fd, (char[4096]){0}, 4096) == 0); /* our FIN; it stays silent */
    travel(&loop, H2_CLIENT_END_NS + CONN_LINGER_NS);
    AWAIT(&loop, NULL, !client);
}

/* --- The connection --------------------------------------------------------------------------- */

static void how_a_connection_is_lost_is_told_apart(void **state) {
    /* Before the first answer on a fresh one. */
    get(0);
    get(1);
    AWAIT_PEER(peer.requests == 2);
    h2_peer_answer(&peer, 1, "200", false);
    AWAIT_EVENT(0, EXCHANGE_RESPONSE_HEAD);
    hang_up();
    AWAIT_EVENT(1, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[1].x.upstream_fail, FAIL_UPSTREAM_RESET);
    assert_int_equal(calls[0].x.response.fail, FAIL_UPSTREAM_INCOMPLETE);
    assert_int_equal(h2_client_state(client), H2_CLIENT_OVER);
}

static void a_used_connection_that_ends_as_it_is_used_again_is_a_race(void **state) {
    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    detach(0);
    settle_down(&loop, NULL);
    h2_peer_turn(&peer);
    get(1);
    settle_down(&loop, NULL);
    hang_up();
    AWAIT_EVENT(1, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(calls[1].x.upstream_fail, FAIL_UPSTREAM_STALE);
}

static void a_response_that_was_whole_when_the_connection_ended_is_whole(void **state) {
    start(0, METHOD_POST, CHUNKED);
    push(0, SLICE("x"));
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "200", true);
    hang_up();
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    assert_false(calls[0].x.events & EXCHANGE_UPSTREAM_FAIL);
}

static void what_is_not_http2_is_said_so(void **state) {
    world_open_silently(PEER_SAYS_NOTHING, false);
    PEER_SAYS("HTTP/1.1 400 Bad Request\r\n\r\n");
    AWAIT(&loop, NULL, h2_client_state(client) == H2_CLIENT_OVER);
    assert_int_equal(h2_client_fail(client), FAIL_UPSTREAM_MALFORMED);
}

static void an_end_before_settings_is_none_of_ours(void **state) {
    world_open_silently(PEER_SAYS_NOTHING, false);
    hang_up();
    AWAIT(&loop, NULL, h2_client_state(client) == H2_CLIENT_OVER);
    assert_int_equal(h2_client_fail(client), FAIL_UPSTREAM_RESET);
}

/* --- Signs of life ---------------------------------------------------------------------------- */

#define PING_NS (10 * NS_PER_S)

/* Time stands still but for travel(): the peer and the conn's writes are turned by hand. */
static void turn_by_hand(void) {
    for (unsigned i = 0; i < 3; i++) {
        int64_t now_ns = loop.now_ns;

        spin(&loop, NULL);
        h2_peer_turn(&peer);
        spin(&loop, NULL);
        loop.now_ns = now_ns > loop.now_ns ? now_ns : loop.now_ns;
    }
}

static void silence_is_asked_and_an_answer_suffices(void **state) {
    settings.ping_ns = PING_NS;
    get(0);
    AWAIT_PEER(peer.requests == 1);
    travel(&loop, PING_NS - NS_PER_S);
    turn_by_hand();
    assert_int_equal(peer.pings, 0);
    loop.now_ns = clock_now_ns() + PING_NS;
    travel(&loop, NS_PER_S);
    turn_by_hand();
    assert_int_equal(peer.pings, 1);
    travel(&loop, 30 * NS_PER_S);
    assert_false(calls[0].x.events & EXCHANGE_UPSTREAM_FAIL);
    detach(0);
}

static void without_an_answer_the_connection_is_dead(void **state) {
    settings.ping_ns = 5 * NS_PER_MS;
    settings.pong_timeout_ns = 20 * NS_PER_MS;
    peer.is_silent = true;
    get(0);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(peer.pings, 1);
    assert_int_equal(calls[0].x.upstream_fail, FAIL_UPSTREAM_RESET);
    assert_string_equal(calls[0].x.upstream_why, "no answer to a PING");
    assert_int_equal(h2_client_state(client), H2_CLIENT_OVER);
}

/* What gRPC's servers tolerate: one ping, and another one after heads or content, or five minutes.
 */
static void pings_are_no_more_frequent_than_upstreams_tolerate(void **state) {
    settings.ping_ns = NS_PER_MS;
    get(0);
    AWAIT_PEER(peer.pings == 1);
    for (unsigned i = 0; i < 20; i++) {
        settle_down(&loop, NULL);
        h2_peer_turn(&peer);
    }
    assert_int_equal(peer.pings, 1);
    h2_peer_interim(&peer, 1, "103"); /* a head */
    AWAIT_PEER(peer.pings == 2);
    for (unsigned i = 0; i < 20; i++) {
        settle_down(&loop, NULL);
        h2_peer_turn(&peer);
    }
    assert_int_equal(peer.pings, 2);
    travel(&loop, H2_PING_SILENT_NS + NS_PER_S);
    AWAIT_PEER(peer.pings == 3);
}

static void a_connection_without_exchanges_is_left_alone(void **state) {
    settings.ping_ns = NS_PER_MS;
    get(0);
    AWAIT_PEER(peer.requests == 1);
    h2_peer_answer(&peer, 1, "200", true);
    AWAIT_EVENT(0, EXCHANGE_UPSTREAM_DONE);
    detach(0);
    peer.pings = 0;
    for (unsigned i = 0; i < 20; i++) {
        settle_down(&loop, NULL);
        h2_peer_turn(&peer);
    }
    assert_int_equal(peer.pings, 0);
    assert_int_equal(loop.wheel.running, 0);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define IN_OWN_WORLD(test) cmocka_unit_test_teardown(test, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_WORLD(codes_of_resets_are_told_apart),
        IN_WORLD(a_reset_behind_the_head_resets_the_response),
        IN_WORLD(whoever_leaves_cancels),
        IN_WORLD(a_stream_that_is_cancelled_at_once_is_never_seen),
        IN_WORLD(a_reserved_stream_can_be_given_back),
        IN_WORLD(heads_beyond_the_limits_fail_their_exchange_only),
        IN_WORLD(a_malformed_head_fails_its_exchange_only),
        IN_WORLD(streams_up_to_the_last_id_finish_and_others_were_never_seen),
        IN_WORLD(an_announced_end_takes_no_new_streams),
        IN_WORLD(ours_is_said_before_the_end),
        IN_WORLD(an_upstream_that_does_not_read_our_last_word_is_not_waited_for),
        IN_WORLD(how_a_connection_is_lost_is_told_apart),
        IN_WORLD(a_used_connection_that_ends_as_it_is_used_again_is_a_race),
        IN_WORLD(a_response_that_was_whole_when_the_connection_ended_is_whole),
        IN_OWN_WORLD(what_is_not_http2_is_said_so),
        IN_OWN_WORLD(an_end_before_settings_is_none_of_ours),
        IN_WORLD(silence_is_asked_and_an_answer_suffices),
        IN_WORLD(without_an_answer_the_connection_is_dead),
        IN_WORLD(pings_are_no_more_frequent_than_upstreams_tolerate),
        IN_WORLD(a_connection_without_exchanges_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
