/* What a head loses and gains on its way through. */
#include "fixture.h"

#include <time.h>

static const char *const hop_by_hop[] = {
    "Connection", "Keep-Alive",     "Proxy-Connection",    "Transfer-Encoding",  "TE",
    "Upgrade",    "HTTP2-Settings", "Proxy-Authorization", "Proxy-Authenticate",
};
#define HOP_BY_HOP (sizeof hop_by_hop / sizeof *hop_by_hop)

static struct request_head sent;

static const struct fields *forward(struct fixture *f) {
    forward_request(f->c, &sent);
    return &sent.fields;
}

static const struct fields *answer(struct fixture *f) {
    forward_response(f->c);
    return &f->c->x.response_head.fields;
}

static void expect_authority(struct fixture *f, const char *text) {
    forward(f);
    assert_true(slice_equal(sent.authority, slice_str(text)));
}

static void hop_by_hop_fields_of_a_request_stay_behind(void **state) {
    struct fixture *f = *state;

    for (size_t i = 0; i < HOP_BY_HOP; i++)
        fixture_ask(f, hop_by_hop[i], "x");
    forward(f);
    for (size_t i = 0; i < HOP_BY_HOP; i++)
        EXPECT(f, &sent.fields, hop_by_hop[i], ABSENT);
}

static void what_connection_names_in_a_request_stays_behind(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Connection", "close, X-Hop");
    fixture_ask(f, "x-hop", "1");
    fixture_ask(f, "X-Second", "2");
    fixture_ask(f, "X-Kept", "3");
    fixture_ask(f, "connection", " , x-SECOND");
    forward(f);
    EXPECT(f, &sent.fields, "x-hop", ABSENT);
    EXPECT(f, &sent.fields, "x-second", ABSENT);
    EXPECT(f, &sent.fields, "connection", ABSENT);
    EXPECT(f, &sent.fields, "x-kept", "3");
}

static void connection_cannot_take_forwarding_fields_away(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Connection", "x-forwarded-for, forwarded, via, x-request-id");
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-for", "192.0.2.1");
    EXPECT(f, &sent.fields, "forwarded", "for=192.0.2.1;host=\"example.com\";proto=http");
    EXPECT(f, &sent.fields, "via", "1.1 weir");
    EXPECT(f, &sent.fields, "x-request-id", "id-1");
}

static void everything_else_passes_in_order_and_as_it_was(void **state) {
    struct fixture *f = *state;
    const struct fields *in = &f->c->x.request_head.fields;

    fixture_ask(f, "Accept", "*/*");
    fixture_ask(f, "X-CaSe", "A, b");
    fixture_ask(f, "Cookie", "a=1");
    fixture_ask(f, "Connection", "keep-alive");
    fixture_ask(f, "Cookie", "b=2");
    fixture_ask(f, "Content-Length", "0");
    f->c->x.request_head.path = SLICE("/a?b");
    forward(f);
    for (uint32_t i = 0, j = 0; i < in->count; i++) {
        if (in->list[i].id == FIELD_CONNECTION)
            continue;
        assert_true(slice_equal(sent.fields.list[j].name, in->list[i].name));
        assert_true(slice_equal(sent.fields.list[j].value, in->list[i].value));
        j++;
    }
    assert_int_equal(sent.method, METHOD_GET);
    assert_true(slice_equal(sent.path, SLICE("/a?b")));
    assert_int_equal(in->count, 6);
}

static void via_is_kept_and_added_to(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Via", "1.1 a");
    fixture_ask(f, "Via", "1.0 b");
    EXPECT(f, forward(f), "via", "1.1 a | 1.0 b | 1.1 weir");
}

static void via_tells_the_version_that_was_received(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.version = HTTP_1_0;
    EXPECT(f, forward(f), "via", "1.0 weir");
    f->c->x.response_head.version = HTTP_1_0;
    fixture_answer(f, "Via", "1.1 origin");
    EXPECT(f, answer(f), "via", "1.1 origin | 1.0 weir");
}

static void ask_with_forwarding_fields(struct fixture *f) {
    fixture_ask(f, "X-Forwarded-For", "198.51.100.7");
    fixture_ask(f, "X-Forwarded-Proto", "https");
    fixture_ask(f, "X-Forwarded-Host", "front.example");
    fixture_ask(f, "Forwarded", "for=198.51.100.7;proto=https");
}

static void a_trusted_clients_forwarding_fields_are_added_to(void **state) {
    struct fixture *f = *state;

    f->c->is_trusted = true;
    ask_with_forwarding_fields(f);
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-for", "198.51.100.7, 192.0.2.1");
    EXPECT(f, &sent.fields, "x-forwarded-proto", "https");
    EXPECT(f, &sent.fields, "x-forwarded-host", "front.example");
    EXPECT(f, &sent.fields, "forwarded",
           "for=198.51.100.7;proto=https, for=192.0.2.1;host=\"example.com\";proto=http");
}

static void repeated_lines_of_a_trusted_list_keep_their_order(void **state) {
    struct fixture *f = *state;

    f->c->is_trusted = true;
    fixture_ask(f, "X-Forwarded-For", "10.0.0.1");
    fixture_ask(f, "X-Forwarded-For", "10.0.0.2");
    EXPECT(f, forward(f), "x-forwarded-for", "10.0.0.1, 10.0.0.2, 192.0.2.1");
}

static void an_untrusted_clients_forwarding_fields_are_replaced(void **state) {
    struct fixture *f = *state;

    ask_with_forwarding_fields(f);
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-for", "192.0.2.1");
    EXPECT(f, &sent.fields, "x-forwarded-proto", "http");
    EXPECT(f, &sent.fields, "x-forwarded-host", "example.com");
    EXPECT(f, &sent.fields, "forwarded", "for=192.0.2.1;host=\"example.com\";proto=http");
}

static void an_empty_trusted_list_adds_no_comma(void **state) {
    struct fixture *f = *state;

    f->c->is_trusted = true;
    fixture_ask(f, "X-Forwarded-For", "");
    EXPECT(f, forward(f), "x-forwarded-for", "192.0.2.1");
}

static void without_an_authority_no_host_is_claimed(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.authority = SLICE_NONE;
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-host", ABSENT);
    EXPECT(f, &sent.fields, "forwarded", "for=192.0.2.1;proto=http");
}

static void an_ipv6_node_is_in_brackets_and_quotes(void **state) {
    struct fixture *f = *state;

    fixture_client_is(f, AF_INET6, "2001:db8::1");
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-for", "2001:db8::1");
    EXPECT(f, &sent.fields, "forwarded", "for=\"[2001:db8::1]\";host=\"example.com\";proto=http");
}

static void a_mapped_address_is_told_as_ipv4(void **state) {
    struct fixture *f = *state;

    fixture_client_is(f, AF_INET6, "::ffff:192.0.2.3");
    forward(f);
    EXPECT(f, &sent.fields, "x-forwarded-for", "192.0.2.3");
    EXPECT(f, &sent.fields, "forwarded", "for=192.0.2.3;host=\"example.com\";proto=http");
}

static void a_client_on_a_unix_socket_is_an_unknown_node(void **state) {
    struct fixture *f = *state;

    fixture_client_is(f, AF_UNSPEC, NULL);
    EXPECT(f, forward(f), "forwarded", "for=unknown;host=\"example.com\";proto=http");
}

static void te_is_passed_on_for_trailers_alone(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "TE", "gzip, Trailers");
    fixture_ask(f, "Connection", "TE");
    forward(f);
    EXPECT(f, &sent.fields, "te", "trailers");
    EXPECT(f, &sent.fields, "connection", "te");
}

static void an_upgrade_that_connection_names_is_asked_for_again(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Upgrade", "websocket");
    fixture_ask(f, "Connection", "keep-alive, Upgrade");
    forward(f);
    EXPECT(f, &sent.fields, "upgrade", "websocket");
    EXPECT(f, &sent.fields, "connection", "upgrade");
}

static void an_upgrade_and_trailers_go_together(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Upgrade", "a/1");
    fixture_ask(f, "Upgrade", "b");
    fixture_ask(f, "TE", "trailers");
    fixture_ask(f, "Connection", "te, upgrade");
    forward(f);
    EXPECT(f, &sent.fields, "upgrade", "a/1 | b");
    EXPECT(f, &sent.fields, "te", "trailers");
    EXPECT(f, &sent.fields, "connection", "upgrade, te");
}

static void an_upgrade_that_connection_does_not_name_is_dropped(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Upgrade", "websocket");
    fixture_ask(f, "Connection", "keep-alive");
    forward(f);
    EXPECT(f, &sent.fields, "upgrade", ABSENT);
    EXPECT(f, &sent.fields, "connection", ABSENT);
}

static void an_upgrade_in_http_1_0_is_dropped(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.version = HTTP_1_0;
    fixture_ask(f, "Upgrade", "websocket");
    fixture_ask(f, "Connection", "upgrade");
    forward(f);
    EXPECT(f, &sent.fields, "upgrade", ABSENT);
    EXPECT(f, &sent.fields, "connection", ABSENT);
}

static void connection_alone_asks_for_no_upgrade(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Connection", "upgrade");
    EXPECT(f, forward(f), "connection", ABSENT);
}

static void max_forwards_is_counted_down_for_trace_and_options(void **state) {
    static const enum method methods[] = {METHOD_TRACE, METHOD_OPTIONS};
    struct fixture *f = *state;

    fixture_ask(f, "Max-Forwards", "10");
    for (size_t i = 0; i < 2; i++) {
        f->c->x.request_head.method = methods[i];
        assert_false(forward_is_stopped(f->c));
        EXPECT(f, forward(f), "max-forwards", "9");
    }
}

static void max_forwards_of_other_methods_is_left_alone(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "Max-Forwards", "0");
    assert_false(forward_is_stopped(f->c));
    EXPECT(f, forward(f), "max-forwards", "0");
}

static void max_forwards_that_is_no_number_passes_as_it_is(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.method = METHOD_TRACE;
    fixture_ask(f, "Max-Forwards", "-1");
    assert_false(forward_is_stopped(f->c));
    EXPECT(f, forward(f), "max-forwards", "-1");
}

static void max_forwards_of_0_stops_trace_and_options(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.method = METHOD_TRACE;
    assert_false(forward_is_stopped(f->c));
    fixture_ask(f, "Max-Forwards", "0");
    assert_true(forward_is_stopped(f->c));
    f->c->x.request_head.method = METHOD_OPTIONS;
    assert_true(forward_is_stopped(f->c));
}

static void the_host_is_the_clients_unless_one_is_set(void **state) {
    struct fixture *f = *state;

    expect_authority(f, "example.com");
    f->pipeline_config.host = (char *)"inner.example:81";
    expect_authority(f, "inner.example:81");
    EXPECT(f, &sent.fields, "x-forwarded-host", "example.com");
}

static void without_a_host_it_is_the_endpoints_address(void **state) {
    struct fixture *f = *state;

    f->c->x.request_head.authority = SLICE_NONE;
    expect_authority(f, "192.0.2.80:8080");
    fixture_endpoint_is(f, AF_INET6, "2001:db8::2", 81);
    expect_authority(f, "[2001:db8::2]:81");
    fixture_endpoint_is(f, AF_UNIX, "/run/engine", 0);
    expect_authority(f, "localhost");
}

static void the_request_id_is_sent_once(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "X-Request-Id", "theirs");
    fixture_ask(f, "X-Request-Id", "another");
    EXPECT(f, forward(f), "x-request-id", "id-1");
}

static void expect_new_id(struct fixture *f) {
    struct slice id = forward_request_id(f->c), next = forward_request_id(f->c);

    assert_int_equal(id.len, REQUEST_ID_BYTES);
    for (size_t i = 0; i < id.len; i++)
        assert_non_null(memchr("0123456789abcdef", id.base[i], 16));
    assert_false(slice_equal(id, next));
}

static void a_sound_request_id_of_a_trusted_client_is_kept(void **state) {
    char longest[129] = "";
    struct fixture *f = *state;
    struct slice id;

    f->c->is_trusted = true;
    memset(longest, '~', 128);
    fixture_ask(f, "X-Request-Id", longest);
    id = forward_request_id(f->c);
    assert_true(slice_equal(id, slice_str(longest)));
}

static void an_untrusted_clients_request_id_is_not_kept(void **state) {
    struct fixture *f = *state;

    fixture_ask(f, "X-Request-Id", "0123456789abcdef0123456789abcdef");
    expect_new_id(f);
    assert_false(slice_equal(forward_request_id(f->c), SLICE("0123456789abcdef0123456789abcdef")));
}

static void an_unsound_request_id_is_not_kept(void **state) {
    char too_long[130] = "";
    const char *const unsound[] = {"", "a b", "a\tb", "a\x7f", "\xc3\xa4", too_long};
    struct fixture *f = *state;

    memset(too_long, 'a', 129);
    f->c->is_trusted = true;
    expect_new_id(f);
    for (size_t i = 0; i < sizeof unsound / sizeof *unsound; i++) {
        f->c->x.request_head.fields.count = 0;
        fixture_ask(f, "X-Request-Id", unsound[i]);
        expect_new_id(f);
    }
}

static void hop_by_hop_fields_of_a_response_stay_behind(void **state) {
    struct fixture *f = *state;

    for (size_t i = 0; i < HOP_BY_HOP; i++)
        fixture_answer(f, hop_by_hop[i], "x-hop");
    fixture_answer(f, "X-Hop", "1");
    fixture_answer(f, "Content-Type", "text/plain");
    fixture_answer(f, "Set-Cookie", "a");
    fixture_answer(f, "Set-Cookie", "b");
    answer(f);
    for (size_t i = 0; i < HOP_BY_HOP; i++)
        EXPECT(f, &f->c->x.response_head.fields, hop_by_hop[i], ABSENT);
    EXPECT(f, &f->c->x.response_head.fields, "x-hop", ABSENT);
    EXPECT(f, &f->c->x.response_head.fields, "content-type", "text/plain");
    EXPECT(f, &f->c->x.response_head.fields, "set-cookie", "a | b");
    EXPECT(f, &f->c->x.response_head.fields, "via", "1.1 weir");
}

static void a_101_keeps_its_upgrade(void **state) {
    struct fixture *f = *state;

    f->c->x.response_head.status = 101;
    fixture_answer(f, "Upgrade", "websocket");
    fixture_answer(f, "Connection", "Upgrade");
    EXPECT(f, answer(f), "upgrade", "websocket");
}

static void a_426_says_what_to_upgrade_to(void **state) {
    struct fixture *f = *state;

    f->c->x.response_head.status = 426;
    fixture_answer(f, "Connection", "close, Upgrade");
    EXPECT(f, answer(f), "connection", ABSENT);
    fixture_answer(f, "Upgrade", "websocket");
    EXPECT(f, answer(f), "upgrade", "websocket");
    EXPECT(f, &f->c->x.response_head.fields, "connection", "upgrade");
}

static void a_response_without_a_date_gets_one(void **state) {
    struct fixture *f = *state;
    const char *text = fixture_values(f, answer(f), "date");
    struct tm tm = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    time_t now = time(NULL);

    assert_non_null(end);
    assert_int_equal(*end, '\0');
    assert_in_range(now - timegm(&tm) + 1, 0, 60);
}

static void a_responses_own_date_is_kept(void **state) {
    struct fixture *f = *state;

    fixture_answer(f, "Date", "Thu, 01 Jan 1970 00:00:00 GMT");
    EXPECT(f, answer(f), "date", "Thu, 01 Jan 1970 00:00:00 GMT");
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(hop_by_hop_fields_of_a_request_stay_behind),
        T(what_connection_names_in_a_request_stays_behind),
        T(connection_cannot_take_forwarding_fields_away),
        T(everything_else_passes_in_order_and_as_it_was),
        T(via_is_kept_and_added_to),
        T(via_tells_the_version_that_was_received),
        T(a_trusted_clients_forwarding_fields_are_added_to),
        T(an_untrusted_clients_forwarding_fields_are_replaced),
        T(an_empty_trusted_list_adds_no_comma),
        T(without_an_authority_no_host_is_claimed),
        T(an_ipv6_node_is_in_brackets_and_quotes),
        T(a_mapped_address_is_told_as_ipv4),
        T(a_client_on_a_unix_socket_is_an_unknown_node),
        T(te_is_passed_on_for_trailers_alone),
        T(an_upgrade_that_connection_names_is_asked_for_again),
        T(an_upgrade_and_trailers_go_together),
        T(an_upgrade_that_connection_does_not_name_is_dropped),
        T(an_upgrade_in_http_1_0_is_dropped),
        T(connection_alone_asks_for_no_upgrade),
        T(max_forwards_is_counted_down_for_trace_and_options),
        T(max_forwards_of_other_methods_is_left_alone),
        T(repeated_lines_of_a_trusted_list_keep_their_order),
        T(max_forwards_that_is_no_number_passes_as_it_is),
        T(max_forwards_of_0_stops_trace_and_options),
        T(the_host_is_the_clients_unless_one_is_set),
        T(without_a_host_it_is_the_endpoints_address),
        T(the_request_id_is_sent_once),
        T(a_sound_request_id_of_a_trusted_client_is_kept),
        T(an_untrusted_clients_request_id_is_not_kept),
        T(an_unsound_request_id_is_not_kept),
        T(hop_by_hop_fields_of_a_response_stay_behind),
        T(a_101_keeps_its_upgrade),
        T(a_426_says_what_to_upgrade_to),
        T(a_response_without_a_date_gets_one),
        T(a_responses_own_date_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
