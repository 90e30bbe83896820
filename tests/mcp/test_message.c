/* JSON-RPC messages: what is found in them, what is refused, and what is written. */
#include "mcp/message.h"
#include "support/unit.h"

#include <stdio.h>
#include <stdlib.h>

#define DEPTH 8

static enum message_fault read_text(struct message *m, const char *text) {
    const char *why;

    return message_read(m, slice_str(text), DEPTH, &why);
}

#define assert_slice(slice, text) assert_true(slice_equal(slice, SLICE(text)))

static void a_request_is_understood(void **state) {
    struct message m;

    assert_int_equal(read_text(&m, " {\"jsonrpc\": \"2.0\", \"id\": \"a\\\"b\", \"method\": "
                                   "\"tools\\/call\", \"params\": {\"name\": \"x\", \"_meta\": "
                                   "{\"o\": [1], \"progressToken\" : 7 }, \"uri\": \"u:1\"}}\r\n"),
                     MESSAGE_SOUND);
    assert_int_equal(m.kind, MESSAGE_REQUEST);
    assert_slice(m.id, "\"a\\\"b\"");
    assert_slice(m.meta_token, "7");
    assert_slice(m.uri, "u:1");
    assert_true(message_is(&m, "tools/call"));
    assert_false(message_is(&m, "tools/calls"));
    assert_false(message_is(&m, "tools/cal"));
}

static void ids_elsewhere_are_none(void **state) {
    struct message m;

    assert_int_equal(read_text(&m, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"id\":1,"
                                   "\"arguments\":{\"progressToken\":2,\"requestId\":3,\"_meta\":"
                                   "{\"progressToken\":4}}}}"),
                     MESSAGE_SOUND);
    assert_int_equal(m.kind, MESSAGE_NOTIFICATION);
    assert_null(m.id.base);
    assert_null(m.token.base);
    assert_null(m.meta_token.base);
    assert_null(m.request_id.base);
}

static void responses_are_results_or_errors(void **state) {
    struct message m;

    assert_int_equal(read_text(&m, "{\"result\":{},\"jsonrpc\":\"2.0\",\"id\":12}"), MESSAGE_SOUND);
    assert_int_equal(m.kind, MESSAGE_RESPONSE);
    assert_slice(m.id, "12");
    assert_slice(m.result, "{}");
    assert_int_equal(read_text(&m, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}"),
                     MESSAGE_SOUND);
    assert_null(m.result.base);
    assert_int_equal(read_text(&m, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null,\"result\":1}"),
                     MESSAGE_SOUND);
}

static void what_is_no_message_is_refused(void **state) {
    static const struct {
        const char *text;
        int fault;
    } cases[] = {
        {"", MESSAGE_PARSE_ERROR},
        {"42", MESSAGE_INVALID_REQUEST},
        {"42 x", MESSAGE_PARSE_ERROR},
        {"\"", MESSAGE_PARSE_ERROR},
        {"{", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\"", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\"}}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\" \"method\":\"m\"}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":01}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":1.}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":nul}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":\"\\x\"}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":\"\\u12g4\"}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":\"a\nb\"}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":\"\xff\"}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":[1,2}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":[1,]}", MESSAGE_PARSE_ERROR},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"id\":2}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"i\\u0064\":2}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"1.0\",\"method\":\"m\"}", MESSAGE_INVALID_REQUEST},
        {"{\"method\":\"m\"}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"method\":1}", MESSAGE_INVALID_REQUEST},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\"}]", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"m\"}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"result\":1}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}", MESSAGE_INVALID_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"result\":1}", MESSAGE_INVALID_REQUEST},
    };
    struct message m;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if ((int)read_text(&m, cases[i].text) != cases[i].fault)
            fail_msg("%s", cases[i].text);
}

static void a_progress_token_is_a_string_or_a_number(void **state) {
    static const struct {
        const char *text;
        bool is_one;
    } tokens[] = {{"\"t\"", true}, {"7", true}, {"null", false}, {"{\"a\":1}", false}};
    struct message m;
    char text[128];

    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"_meta\":{"
                 "\"progressToken\":%s}}}",
                 tokens[i].text);
        assert_int_equal(read_text(&m, text), MESSAGE_SOUND);
        assert_true(
            slice_equal(m.meta_token, tokens[i].is_one ? slice_str(tokens[i].text) : SLICE_NONE));
    }
}

/* Every cut of a good message is a bad one, and reading it stays inside (ASan looks). */
static void no_beginning_of_a_message_is_one(void **state) {
    static const char text[] =
        "{\"jsonrpc\":\"2.0\",\"id\":\"x\\u00e9\",\"method\":\"m\",\"params\":"
        "{\"a\":[1,-2.5e+3,true,{\"b\":null}],\"_meta\":{\"progressToken\":"
        "\"t\"},\"uri\":\"\"}}";

    for (size_t len = 0; len < sizeof text; len++) {
        char *cut = malloc(len + 1);
        struct message m;
        const char *why;

        memcpy(cut, text, len);
        assert_int_equal(message_read(&m, slice_of(cut, len), DEPTH, &why) == MESSAGE_SOUND,
                         len == sizeof text - 1);
        free(cut);
    }
}

static void nesting_is_bounded(void **state) {
    static const char *const good[] = {
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":[[[[[[[1]]]]]]]}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"x\":"
        "[[[[[[1]]]]]]}}"};
    static const char *const deep[] = {
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"x\":[[[[[[[[1]]]]]]]]}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"x\":[[[[[[[1]]]]]]]}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"_meta\":{\"x\":[[[[[[1]]]]]]}}}"};
    struct message m;
    const char *why;

    for (size_t i = 0; i < 2; i++)
        assert_int_equal(read_text(&m, good[i]), MESSAGE_SOUND);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(message_read(&m, slice_str(deep[i]), DEPTH, &why), MESSAGE_PARSE_ERROR);
        assert_non_null(strstr(why, "deep"));
    }
}

static void long_ids_are_refused(void **state) {
    char text[MESSAGE_ID_MAX + 128];
    struct message m;

    for (int over = 0; over < 2; over++) {
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"%0*d\"}",
                 MESSAGE_ID_MAX - 2 + over, 1);
        assert_int_equal(read_text(&m, text), over ? MESSAGE_INVALID_REQUEST : MESSAGE_SOUND);
    }
}

static void a_message_is_written_on_one_line_with_other_ids(void **state) {
    struct buffer out = {0};
    struct message m;

    assert_int_equal(read_text(&m, "{\"jsonrpc\":\"2.0\",\r\n \"params\":{\"_meta\":"
                                   "{\"progressToken\":\"p\"},\"n\":12345678901234567890.10},\n"
                                   "\"method\":\"m\",\"id\":3}\n"),
                     MESSAGE_SOUND);
    message_write(&out, &m,
                  (const struct message_edit[]){{m.id, SLICE("900")}, {m.meta_token, SLICE("901")}},
                  2);
    assert_slice(buffer_slice(&out),
                 "{\"jsonrpc\":\"2.0\",   \"params\":{\"_meta\":{\"progressToken\":901},\"n\":"
                 "12345678901234567890.10}, \"method\":\"m\",\"id\":900}\n");
    out.len = 0;
    message_write(&out, &m,
                  (const struct message_edit[]){{m.request_id, SLICE("1")}, {m.id, SLICE("4")}}, 2);
    assert_non_null(memmem(out.base, out.len, "\"id\":4}\n", 8));
    out.len = 0;
    message_write_error(&out, SLICE_NONE, MESSAGE_BUSY, "too \"much\"", SLICE(" of it"));
    assert_slice(buffer_slice(&out), "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32002,"
                                     "\"message\":\"too \\\"much\\\" of it\"}}");
    buffer_deinit(&out);
}

static void names_are_compared_as_they_are_meant(void **state) {
    assert_true(message_text_is(SLICE("ping"), "ping"));
    assert_true(message_text_is(SLICE("p\\u0069ng"), "ping"));
    assert_false(message_text_is(SLICE("p\\u0169ng"), "ping"));
    assert_false(message_text_is(SLICE("pi\\ng"), "ping"));
    assert_false(message_text_is(SLICE_NONE, "ping"));
    assert_false(message_text_is(SLICE("pin"), "ping"));
    assert_false(message_text_is(SLICE("pings"), "ping"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_understood),
        cmocka_unit_test(ids_elsewhere_are_none),
        cmocka_unit_test(responses_are_results_or_errors),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(a_progress_token_is_a_string_or_a_number),
        cmocka_unit_test(no_beginning_of_a_message_is_one),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(long_ids_are_refused),
        cmocka_unit_test(a_message_is_written_on_one_line_with_other_ids),
        cmocka_unit_test(names_are_compared_as_they_are_meant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
