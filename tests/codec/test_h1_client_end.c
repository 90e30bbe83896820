/* The promises of proxy/codec/h1_client.h: how connections end, and tunnels. */
#include "client_world.h"

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

/* --- Ends ------------------------------------------------------------------------------------- */

static void how_a_connection_is_lost_is_told_apart(void **state) {
    static const struct {
        bool is_used;
        const char *text;
        enum fail fail;
    } ends[] = {
        {false, "", FAIL_UPSTREAM_RESET},
        {true, "", FAIL_UPSTREAM_STALE},
        {true, "HTTP/1.1 200", FAIL_UPSTREAM_RESET},
        {false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", FAIL_UPSTREAM_INCOMPLETE},
        {false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n",
         FAIL_UPSTREAM_INCOMPLETE},
        {false, "HTTP/1.1 100 Continue\r\n\r\n", FAIL_UPSTREAM_RESET},
    };

    for (size_t i = 0; i < 2 * sizeof ends / sizeof *ends; i++) {
        size_t n = i / 2;

        world_close();
        world_open(true, ends[n].is_used);
        start_get();
        AWAIT(&loop, NULL, upstream_heard("GET /p HTTP/1.1\r\nHost: here\r\n\r\n"));
        UPSTREAM_SAYS(ends[n].text);
        settle_down(&loop, NULL);
        if (i % 2) {
            reset_socket(&upstream);
        } else {
            close(upstream);
            upstream = -1;
        }
        AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
        assert_int_equal(x.upstream_fail, ends[n].fail);
        assert_true(x.response.state != BODY_ENDED);
        detach();
        assert_int_equal(end, H1_CLIENT_BROKEN);
    }
}

static void on_request_cut(uv_poll_t *poll, int status, int events) {
    uv_poll_stop(poll);
    assert_false(list_is_empty(&loop.ahead)); /* the answer */
    push_end();
    loop_turn(&loop);
}

/* The answer is read, and then, before it is told, the exchange fails of something else. */
static void an_answer_to_an_exchange_that_has_failed_is_nobodys(void **state) {
    static uv_poll_t other;
    int pair[2];

    start(METHOD_POST, OF_LENGTH(10));
    push("half");
    stream_pair(pair);
    uv_poll_init(&loop.uv, &other, pair[1]);
    uv_poll_start(&other, UV_READABLE, on_request_cut);
    settle_down(&loop, NULL); /* both are watched by now */
    UPSTREAM_SAYS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    SAY(pair[0], "later");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
    settle_down(&loop, NULL);
    assert_int_equal(x.upstream_fail, FAIL_INTERNAL);
    assert_false(x.events & EXCHANGE_RESPONSE_HEAD);
    detach();
    assert_int_equal(end, H1_CLIENT_BROKEN);
    uv_close((uv_handle_t *)&other, NULL);
    settle_down(&loop, NULL);
    close(pair[0]);
    close(pair[1]);
}

static void a_connection_that_was_used_once_may_be_stale_the_second_time(void **state) {
    start_get();
    UPSTREAM_SAYS("HTTP/1.1 204 No Content\r\n\r\n");
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    begin_again();
    start_get();
    close(upstream);
    upstream = -1;
    AWAIT_EVENT(EXCHANGE_UPSTREAM_FAIL);
    assert_int_equal(x.upstream_fail, FAIL_UPSTREAM_STALE);
}

static void bytes_behind_an_answer_make_the_connection_unusable(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
    };

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (i > 0) {
            world_close();
            world_open(false, false);
        }
        start_get();
        UPSTREAM_SAYS(answers[i]);
        AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
        detach();
        assert_int_equal(end, H1_CLIENT_FINISHED);
    }
}

static void bytes_while_idle_and_the_end_are_told(void **state) {
    UPSTREAM_SAYS("x");
    AWAIT(&loop, NULL, idles == 1);
    assert_int_equal(end, H1_CLIENT_BROKEN);
    world_close();
    world_open(false, false);
    close(upstream);
    upstream = -1;
    AWAIT(&loop, NULL, idles == 1);
    assert_int_equal(end, H1_CLIENT_BROKEN);
}

static void an_exported_connection_can_be_used_elsewhere(void **state) {
    struct conn_parcel parcel;
    char text[64];

    assert_int_equal(h1_client_export(client, &parcel), 0);
    AWAIT(&loop, NULL, !client);
    SAY(parcel.fd, "from elsewhere");
    assert_int_equal(hear(upstream, text, sizeof text), 14);
    close(parcel.fd);
    fds_release(&fds, FD_UPSTREAM);
}

/* --- Tunnels ---------------------------------------------------------------------------------- */

static void start_tunnel(void) {
    fields_add(&x.request_head.fields, &x.arena, FIELD_UPGRADE, SLICE("Upgrade"), SLICE("x"));
    start_get();
    UPSTREAM_SAYS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
                  "early");
    AWAIT_EVENT(EXCHANGE_RESPONSE_HEAD);
    x.request.state = BODY_OPEN; /* as the client's codec does */
    heard.len = 0;
    upstream_heard("");
    heard.len = 0;
}

static void a_tunnel_carries_bytes_both_ways(void **state) {
    start_tunnel();
    AWAIT(&loop, NULL, content_is("early"));
    push("ping");
    AWAIT(&loop, NULL, upstream_heard("ping"));
    UPSTREAM_SAYS(" pong");
    AWAIT(&loop, NULL, content_is("early pong"));
    push_end(); /* our half */
    AWAIT(&loop, NULL, hear(upstream, (char[8]){0}, 8) == 0);
    assert_false(x.events & EXCHANGE_UPSTREAM_DONE);
    UPSTREAM_SAYS(" bye");
    close(upstream);
    upstream = -1;
    AWAIT_EVENT(EXCHANGE_UPSTREAM_DONE);
    assert_true(content_is("early pong bye"));
    detach();
    assert_int_equal(end, H1_CLIENT_FINISHED);
}

/* Bytes that wait as the upstream ends its half are taken later: the other half must not suffer. */
static void a_tunnel_whose_upstream_half_has_ended_still_carries_the_other(void **state) {
    start_tunnel();
    shutdown(upstream, SHUT_WR);
    AWAIT(&loop, NULL, x.response.state == BODY_ENDED);
    assert_true(content_is("early"));
    settle_down(&loop, NULL);
    assert_false(x.events & EXCHANGE_UPSTREAM_DONE);
    push("still here");
    AWAIT(&loop, NULL, upstream_heard("still here"));
    push_end();
    assert_true(x.events & EXCHANGE_UPSTREAM_DONE);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define OVER_TCP(test) cmocka_unit_test_setup_teardown(test, set_up_tcp, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        OVER_TCP(how_a_connection_is_lost_is_told_apart),
        WITH(an_answer_to_an_exchange_that_has_failed_is_nobodys),
        WITH(a_connection_that_was_used_once_may_be_stale_the_second_time),
        WITH(bytes_behind_an_answer_make_the_connection_unusable),
        WITH(bytes_while_idle_and_the_end_are_told),
        WITH(an_exported_connection_can_be_used_elsewhere),
        WITH(a_tunnel_carries_bytes_both_ways),
        WITH(a_tunnel_whose_upstream_half_has_ended_still_carries_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
