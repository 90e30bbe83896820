/* The promises of proxy/codec/h2_message.h. What nghttp2 checks is tested over a session, in
 * test_h2_server.c. */
#include "codec/h2_message.h"

#include "support/unit.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    struct arena arena;
    char memory[4096];
    struct h1_limits limits;
    struct h2_reading reading;
    struct request_head request;
    struct response_head response;
    struct content content;
    const char *why;
    struct h2_block block;
    struct buffer text;
} t;

static int set_up(void **state) {
    memset(&t, 0, sizeof t);
    t.limits = (struct h1_limits){.head_bytes = 1000, .target_bytes = 20, .fields = 4};
    arena_init(&t.arena, t.memory, sizeof t.memory);
    h2_read_begin(&t.reading, &t.limits, &t.arena);
    return 0;
}

static int tear_down(void **state) {
    arena_deinit(&t.arena);
    h2_block_deinit(&t.block);
    buffer_deinit(&t.text);
    return 0;
}

/* Fields in pairs, up to NULL. */
static void read_all(const char *const *fields) {
    h2_read_begin(&t.reading, &t.limits, &t.arena);
    for (; *fields; fields += 2)
        assert_true(h2_read_field(&t.reading, slice_str(fields[0]), slice_str(fields[1]), 0));
}

#define READ(...) read_all((const char *const[]){__VA_ARGS__, NULL})
#define HEAD(method, authority, path) \
    ":method", method, ":scheme", "http", ":authority", authority, ":path", path

static enum h1_outcome request(bool is_end) {
    t.why = NULL;
    return h2_read_request(&t.reading, is_end, &t.request, &t.content, &t.why);
}

static enum h1_outcome response(enum method method, bool is_end) {
    t.why = NULL;
    return h2_read_response(&t.reading, method, is_end, &t.response, &t.content, &t.why);
}

static bool is(struct slice s, const char *text) {
    return slice_equal(s, slice_str(text));
}

/* "name=value, ..." of what is to be submitted. */
static const char *written(void) {
    const nghttp2_nv *list = h2_block_list(&t.block);

    t.text.len = 0;
    for (size_t i = 0; i < h2_block_count(&t.block); i++)
        buffer_printf(&t.text, "%s%.*s=%.*s", i ? ", " : "", (int)list[i].namelen, list[i].name,
                      (int)list[i].valuelen, list[i].value);
    buffer_append_char(&t.text, '\0');
    return t.text.base;
}

/* --- Requests -------------------------------------------------------------------------------- */

static void a_request_is_read(void **state) {
    READ(HEAD("POST", "here:80", "/a?b"), "user-agent", "me", "x-other", "y");
    assert_int_equal(request(false), H1_DONE);
    assert_int_equal(t.request.method, METHOD_POST);
    assert_int_equal(t.request.version, HTTP_2);
    assert_int_equal(t.request.form, TARGET_ORIGIN);
    assert_true(is(t.request.method_text, "POST") && is(t.request.scheme, "http"));
    assert_true(is(t.request.authority, "here:80") && is(t.request.path, "/a?b"));
    assert_int_equal(t.request.fields.count, 2);
    assert_int_equal(t.request.fields.list[0].id, FIELD_USER_AGENT);
    assert_true(is(t.request.fields.list[1].name, "x-other"));
    assert_int_equal(t.content.kind, CONTENT_CHUNKED);
}

static void content_is_framed_by_its_length_or_by_the_end_of_the_stream(void **state) {
    READ(HEAD("GET", "h", "/"));
    assert_int_equal(request(true), H1_DONE);
    assert_int_equal(t.content.kind, CONTENT_NONE);
    READ(HEAD("POST", "h", "/"), "content-length", "5");
    assert_int_equal(request(false), H1_DONE);
    assert_int_equal(t.content.kind, CONTENT_LENGTH);
    assert_int_equal(t.content.length, 5);
    READ(HEAD("POST", "h", "/"), "content-length", "-5");
    assert_int_equal(request(false), H1_BAD);
}

static void host_stands_in_for_authority_and_must_agree_with_it(void **state) {
    READ(":method", "GET", ":scheme", "https", ":path", "/", "host", "Here:1");
    assert_int_equal(request(true), H1_DONE);
    assert_true(is(t.request.authority, "Here:1"));
    assert_int_equal(t.request.fields.count, 0);
    READ(HEAD("GET", "here:1", "/"), "host", "HERE:1");
    assert_int_equal(request(true), H1_DONE);
    READ(HEAD("GET", "here:1", "/"), "host", "here");
    assert_int_equal(request(true), H1_BAD);
    assert_string_equal(t.why, "Host differs from :authority");
    READ(HEAD("GET", "here", "/"), "host", "");
    assert_int_equal(request(true), H1_BAD);
}

static void targets_that_mean_something_else_elsewhere_are_refused(void **state) {
    static const struct {
        const char *method, *scheme, *authority, *path;
    } bad[] = {
        {"GET", "http", "h", ""},         {"GET", "http", "h", "a"},
        {"GET", "http", "h", "?a"},       {"GET", "http", "h", "/a#b"},
        {"GET", "http", "h", "/a b"},     {"GET", "http", "h", "*"},
        {"GET", "http", "u@h", "/"},      {"GET", "http", "h:x", "/"},
        {"GET", "http", "h/x", "/"},      {"GET", "http", "[::1", "/"},
        {"GET", "ftp", "h", "/"},         {"GET", "", "h", "/"},
        {"GET", "http", "h", "http://h"}, {"GET", "http", "h:99999", "/"},
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        READ(":method", bad[i].method, ":scheme", bad[i].scheme, ":authority", bad[i].authority,
             ":path", bad[i].path);
        assert_int_equal(request(true), H1_BAD);
        assert_non_null(t.why);
    }
    READ(HEAD("OPTIONS", "h", "*"));
    assert_int_equal(request(true), H1_DONE);
    assert_int_equal(t.request.form, TARGET_ASTERISK);
    READ(HEAD("GET", "h", "/23456789012345678901"));
    assert_int_equal(request(true), H1_TARGET_LONG);
    READ(HEAD("GET", "h", "/2345678901234567890"));
    assert_int_equal(request(true), H1_DONE);
    READ(HEAD("A23456789012345678901234567890123456789012345678901234567890123456789", "h", "/"));
    assert_int_equal(request(true), H1_BAD);
}

static void other_expectations_are_refused(void **state) {
    READ(HEAD("POST", "h", "/"), "expect", "100-continue");
    assert_int_equal(request(false), H1_DONE);
    READ(HEAD("POST", "h", "/"), "expect", "200-ok");
    assert_int_equal(request(false), H1_EXPECT);
}

static void crumbs_of_a_cookie_are_joined(void **state) {
    t.limits.fields = 5;
    READ(HEAD("GET", "h", "/"), "cookie", "a=1", "x", "y", "cookie", "", "cookie", "b=2", "cookie",
         "");
    assert_int_equal(request(true), H1_DONE);
    assert_int_equal(t.request.fields.count, 2);
    assert_int_equal(t.request.fields.list[0].id, FIELD_COOKIE);
    assert_true(is(t.request.fields.list[0].value, "a=1; b=2"));
    assert_true(is(t.request.fields.list[1].name, "x"));
}

static void a_section_has_as_many_fields_and_bytes_as_allowed(void **state) {
    static char value[2000];

    memset(value, 'x', sizeof value);
    READ(HEAD("GET", "h", "/"), "a", "1", "b", "2", "c", "3", "d", "4");
    assert_int_equal(request(true), H1_DONE);
    READ(HEAD("GET", "h", "/"), "a", "1", "b", "2", "c", "3", "d", "4", "e", "5");
    assert_int_equal(request(true), H1_HEAD_LARGE);
    assert_string_equal(t.why, "header section has too many fields");
    assert_true(is(t.request.path, "/")); /* for the log */

    /* RFC 9113 section 6.5.2: 32 bytes more for each. */
    h2_read_begin(&t.reading, &t.limits, &t.arena);
    for (unsigned i = 0; i < 2; i++)
        h2_read_field(&t.reading, SLICE("a"), slice_of(value, 1000 / 2 - 33), 0);
    assert_false(t.reading.is_large);
    h2_read_field(&t.reading, SLICE("a"), SLICE_NONE, 0);
    assert_true(t.reading.is_large);
    assert_int_equal(t.reading.fields.count, 2);
    while (t.reading.bytes + 2033 <= H2_SECTION_EXCESS * t.limits.head_bytes)
        assert_true(h2_read_field(&t.reading, SLICE("a"), slice_of(value, sizeof value), 0));
    assert_false(h2_read_field(&t.reading, SLICE("a"), slice_of(value, sizeof value), 0));
}

static void an_extended_connect_is_an_upgrade(void **state) {
    struct slice key, first;

    READ(HEAD("CONNECT", "h", "/chat"), ":protocol", "websocket", "sec-websocket-version", "13");
    assert_int_equal(request(false), H1_DONE);
    assert_int_equal(t.request.method, METHOD_GET);
    assert_true(is(t.request.method_text, "GET"));
    assert_int_equal(t.content.kind, CONTENT_NONE);
    assert_true(h2_is_upgrade(&t.request));
    assert_true(fields_list_has(&t.request.fields, FIELD_CONNECTION, SLICE("upgrade")));
    assert_true(is(fields_find(&t.request.fields, FIELD_UPGRADE)->value, "websocket"));
    key = fields_find(&t.request.fields, FIELD_SEC_WEBSOCKET_KEY)->value;
    assert_int_equal(key.len, 24);
    assert_memory_equal(key.base + 22, "==", 2);
    assert_non_null(memchr("AQgw", key.base[21], 4)); /* 16 bytes, no bit more */
    first = key;
    READ(HEAD("CONNECT", "h", "/chat"), ":protocol", "websocket");
    assert_int_equal(request(false), H1_DONE);
    key = fields_find(&t.request.fields, FIELD_SEC_WEBSOCKET_KEY)->value;
    assert_false(slice_equal(key, first));
    READ(HEAD("CONNECT", "h", "/chat"), ":protocol", "websocket", "content-length", "0");
    assert_int_equal(request(false), H1_BAD);
    READ(HEAD("CONNECT", "h", "/chat"), ":protocol", "other");
    assert_int_equal(request(false), H1_DONE);
    assert_null(fields_find(&t.request.fields, FIELD_SEC_WEBSOCKET_KEY));
    READ(":method", "CONNECT", ":authority", "h:443");
    assert_int_equal(request(false), H1_DONE);
    assert_int_equal(t.request.method, METHOD_CONNECT);
}

/* --- Responses and trailers ------------------------------------------------------------------ */

static void a_response_is_read(void **state) {
    READ(":status", "404", "content-type", "text/plain");
    assert_int_equal(response(METHOD_GET, false), H1_DONE);
    assert_int_equal(t.response.status, 404);
    assert_int_equal(t.response.version, HTTP_2);
    assert_true(is(t.response.reason, "Not Found"));
    assert_int_equal(t.response.fields.count, 1);
    assert_int_equal(t.content.kind, CONTENT_CHUNKED);
    READ(":status", "200", "content-length", "3");
    assert_int_equal(response(METHOD_GET, false), H1_DONE);
    assert_int_equal(t.content.length, 3);
    assert_int_equal(response(METHOD_HEAD, true), H1_DONE);
    assert_int_equal(t.content.kind, CONTENT_NONE);
    READ(":status", "200");
    assert_int_equal(response(METHOD_GET, true), H1_DONE);
    assert_int_equal(t.content.kind, CONTENT_NONE);
    READ(":status", "103");
    assert_int_equal(response(METHOD_GET, false), H1_DONE);
    assert_int_equal(response(METHOD_GET, true), H1_BAD); /* never the last one */
    READ(":status", "099");
    assert_int_equal(response(METHOD_GET, true), H1_BAD);
    READ(":status", "20");
    assert_int_equal(response(METHOD_GET, true), H1_BAD);
    READ(":status", "200", "a", "", "b", "", "c", "", "d", "", "e", "");
    assert_int_equal(response(METHOD_GET, true), H1_HEAD_LARGE);
}

static void trailers_keep_what_has_a_meaning_there(void **state) {
    struct fields trailers = {0};

    READ("grpc-status", "0", "set-cookie", "a", "grpc-message", "");
    assert_int_equal(h2_read_trailers(&t.reading, &trailers, &t.why), H1_DONE);
    assert_int_equal(trailers.count, 2);
    READ("content-length", "5");
    assert_int_equal(h2_read_trailers(&t.reading, &trailers, &t.why), H1_BAD);
    READ("host", "h");
    assert_int_equal(h2_read_trailers(&t.reading, &trailers, &t.why), H1_BAD);
    READ("a", "", "b", "", "c", "", "d", "", "e", "");
    assert_int_equal(h2_read_trailers(&t.reading, &trailers, &t.why), H1_HEAD_LARGE);
}

/* --- Writing --------------------------------------------------------------------------------- */

static void add(struct fields *fields, const char *name, const char *value) {
    fields_add(fields, &t.arena, field_id_of(slice_str(name)), slice_str(name), slice_str(value));
}

static void a_request_is_written_without_what_is_of_a_connection(void **state) {
    struct request_head head = {.method = METHOD_PUT,
                                .method_text = SLICE("PUT"),
                                .authority = SLICE("h"),
                                .path = SLICE("/p")};

    add(&head.fields, "Connection", "te");
    add(&head.fields, "TE", "trailers");
    add(&head.fields, "Keep-Alive", "1");
    add(&head.fields, "Transfer-Encoding", "chunked");
    add(&head.fields, "Content-Length", "9");
    add(&head.fields, "A", "b");
    h2_write_request(&t.block, &head, (struct content){CONTENT_LENGTH, 7}, false);
    assert_string_equal(written(), ":method=PUT, :scheme=http, :authority=h, :path=/p, "
                                   "TE=trailers, A=b, content-length=7");
    head.fields.count = 0;
    add(&head.fields, "TE", "gzip");
    head.scheme = SLICE("https");
    h2_write_request(&t.block, &head, (struct content){CONTENT_CHUNKED, 0}, false);
    assert_string_equal(written(), ":method=PUT, :scheme=https, :authority=h, :path=/p");
}

static void an_upgrade_is_written_as_an_extended_connect(void **state) {
    READ(HEAD("CONNECT", "h", "/chat"), ":protocol", "websocket", "sec-websocket-version", "13");
    assert_int_equal(request(false), H1_DONE);
    h2_write_request(&t.block, &t.request, t.content, false);
    assert_string_equal(written(), ":method=CONNECT, :protocol=websocket, :scheme=http, "
                                   ":authority=h, :path=/chat, sec-websocket-version=13");
}

static void a_response_is_written(void **state) {
    struct response_head head = {.status = 200};

    add(&head.fields, "Date", "now");
    add(&head.fields, "Content-Length", "3");
    h2_write_response(&t.block, &head, (struct content){CONTENT_LENGTH, 18446744073709551615u},
                      false);
    assert_string_equal(written(), ":status=200, Date=now, content-length=18446744073709551615");
    h2_write_response(&t.block, &head, (struct content){CONTENT_NONE, 0}, true);
    assert_string_equal(written(), ":status=200, Date=now, Content-Length=3");
    head.status = 101;
    head.fields.count = 0;
    add(&head.fields, "Upgrade", "websocket");
    add(&head.fields, "Sec-WebSocket-Accept", "x");
    add(&head.fields, "Sec-WebSocket-Protocol", "p");
    h2_write_response(&t.block, &head, (struct content){CONTENT_TUNNEL, 0}, false);
    assert_string_equal(written(), ":status=200, Sec-WebSocket-Protocol=p");
}

static void trailers_are_written(void **state) {
    struct fields trailers = {0};

    add(&trailers, "Grpc-Status", "0");
    h2_write_trailers(&t.block, &trailers);
    assert_string_equal(written(), "Grpc-Status=0");
    h2_write_trailers(&t.block, &(struct fields){0});
    assert_int_equal(h2_block_count(&t.block), 0);
}

#define TEST(promise) cmocka_unit_test_setup_teardown(promise, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_read),
        TEST(content_is_framed_by_its_length_or_by_the_end_of_the_stream),
        TEST(host_stands_in_for_authority_and_must_agree_with_it),
        TEST(targets_that_mean_something_else_elsewhere_are_refused),
        TEST(other_expectations_are_refused),
        TEST(crumbs_of_a_cookie_are_joined),
        TEST(a_section_has_as_many_fields_and_bytes_as_allowed),
        TEST(an_extended_connect_is_an_upgrade),
        TEST(a_response_is_read),
        TEST(trailers_keep_what_has_a_meaning_there),
        TEST(a_request_is_written_without_what_is_of_a_connection),
        TEST(an_upgrade_is_written_as_an_extended_connect),
        TEST(a_response_is_written),
        TEST(trailers_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
