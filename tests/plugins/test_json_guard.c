/* The promises of plugins/json_guard. */
#include "plugins/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state) {
    host_open("json_guard");
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

static enum weir_verdict run(const char *body, size_t len) {
    return RUN(.body = body, .body_len = len, .fields = {{"Content-Type", "application/json"}});
}

static bool passes(const char *body) {
    return run(body, 0) == WEIR_CONTINUE;
}

static void assert_refused(const char *body, unsigned status, const char *phrase) {
    assert_false(passes(body));
    assert_int_equal(host_status(), status);
    if (!strstr(host_content(), phrase))
        fail_msg("'%s' does not say '%s'", host_content(), phrase);
}

/* @open and @close, @n times around "1". */
static char *nest(const char *open, const char *close, unsigned n) {
    char *text = calloc(1, n * (strlen(open) + strlen(close)) + 2);

    for (unsigned i = 0; i < n; i++)
        strcat(text, open);
    strcat(text, "1");
    for (unsigned i = 0; i < n; i++)
        strcat(text, close);
    return text;
}

static void test_json_passes(void **state) {
    static const char *const good[] = {
        "{}",
        "[]",
        "5",
        "\"text\"",
        "null",
        " { \"a\" : [ 1.5e3 , true , { } ] } \n",
        "{\"a\":\"\\ud83d\\ude00 \\\" \\\\\",\"b\":\"\xf0\x9f\x98\x80\"}",
        "123456789012345678901234567890", /* larger than 64 bits */
        "[\"{[{[{[{[\"]",
    };

    host_init("{}");
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(passes(good[i]));
    assert_int_equal(host_events[0], sizeof good / sizeof *good);
}

static void test_what_is_no_json_is_refused(void **state) {
    static const char *const bad[] = {
        "{",
        "}",
        "{\"a\":1,}",
        "[1,]",
        "{a:1}",
        "{'a':1}",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "01",
        "1.",
        "+1",
        "0x10",
        "1e99999",
        "\"\x01\"",
        "\"\\x41\"",
        "\"\\ud800\"",
        "\"\xff\"",             /* no UTF-8 */
        "\"\xc0\xaf\"",         /* overlong */
        "\"\xed\xa0\x80\"",     /* a surrogate */
        "\"\xf4\x90\x80\x80\"", /* above U+10FFFF */
        "\xef\xbb\xbf{}",       /* a byte order mark */
        "{} {}",
        "{}x",
        "// comment\n{}",
        "\"a",
        "\"\\",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"\\u0062\":2}}", /* the same key in other words */
        "{\"a\\u0000b\":1}",
    };

    host_init("{}");
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i], 400, "the content is no JSON: line 1, ");
    assert_int_equal(run("{}\0", 3), WEIR_RESPOND);
    assert_int_equal(run("\0", 1), WEIR_RESPOND);
    assert_int_equal(host_events[1], sizeof bad / sizeof *bad + 2);
}

static void test_depth_is_bounded(void **state) {
    char *fits = nest("[", "]", 5), *deep = nest("[", "]", 6), *mixed = nest("{\"a\":[", "]}", 3);
    char *deepest = nest("[", "]", 64), *abyss = nest("{\"a\":", "}", 100000);

    host_init("{\"max_depth\": 5}");
    assert_true(passes(fits));
    assert_refused(deep, 413, "nested too deeply");
    assert_refused(mixed, 413, "nested too deeply");
    assert_true(passes("[[],[],[],[],[],[],[]]")); /* beside each other */
    host_init("{\"max_depth\": 64}");
    assert_true(passes(deepest));
    assert_refused(abyss, 413, "nested too deeply");
    free(fits);
    free(deep);
    free(mixed);
    free(deepest);
    free(abyss);
}

static void test_keys_are_bounded_for_each_object(void **state) {
    host_init("{\"max_keys\": 2}");
    assert_true(passes("{\"a\":{\"a\":1,\"b\":2},\"b\":{\"a\":1,\"b\":2}}"));
    assert_refused("[{\"a\":1,\"b\":2,\"c\":3}]", 413, "too many keys");
    assert_refused("{\"a\":{\"x\":1,\"y\":1},\"b\":1,\"c\":1}", 413, "too many keys");
    assert_true(passes("[\":::::\"]"));
}

static void test_values_are_bounded(void **state) {
    host_init("{\"max_values\": 5}");
    assert_true(passes("[1,2,3]"));
    assert_refused("[1,2,3,4,5]", 413, "too many values");
    assert_refused("[[[[[]]]]]", 413, "too many values");
    assert_true(passes("[\",,,,,,,,\"]"));
}

static void test_texts_are_bounded(void **state) {
    host_init("{\"max_string\": 5}");
    assert_true(passes("[\"12345\",\"\"]"));
    assert_refused("[\"123456\"]", 413, "too long");
    assert_refused("{\"123456\":1}", 413, "too long");
    assert_refused("[\"\\\"\\\"\\\"\"]", 413, "too long");
}

static void test_size_is_bounded(void **state) {
    char body[102];

    memset(body, ' ', sizeof body);
    memcpy(body, "{}", 2);
    host_init("{\"max_bytes\": 100}");
    assert_int_equal(run(body, 100), WEIR_CONTINUE);
    assert_int_equal(run(body, 101), WEIR_RESPOND);
    assert_int_equal(host_status(), 413);
    assert_int_equal(host_events[2], 1);
}

/* Memory for what passes is bounded by the settings, not by the sender. */
static void test_a_megabyte_of_brackets_costs_nothing(void **state) {
    size_t len = 1 << 20;
    char *body = malloc(len);

    memset(body, '[', len);
    host_init("{}");
    assert_int_equal(run(body, len), WEIR_RESPOND);
    memset(body, ',', len);
    assert_int_equal(run(body, len), WEIR_RESPOND);
    memset(body, '"', len);
    assert_int_equal(run(body, len), WEIR_RESPOND);
    memset(body, '\\', len);
    assert_int_equal(run(body, len), WEIR_RESPOND);
    memset(body, ':', len);
    assert_int_equal(run(body, len), WEIR_RESPOND);
    free(body);
}

static enum weir_verdict run_type(const char *type) {
    return RUN(.body = "{}", .fields = {{"content-type", type}});
}

static void test_the_type_must_be_json(void **state) {
    host_init("{}");
    assert_int_equal(run_type("application/json"), WEIR_CONTINUE);
    assert_int_equal(run_type("Application/JSON; charset=utf-8"), WEIR_CONTINUE);
    assert_int_equal(run_type("application/problem+json"), WEIR_CONTINUE);
    assert_int_equal(run_type("text/plain"), WEIR_RESPOND);
    assert_int_equal(host_status(), 415);
    assert_int_equal(run_type("application/jsonp"), WEIR_RESPOND);
    assert_int_equal(run_type("application/json, text/plain"), WEIR_RESPOND);
    assert_int_equal(run_type(""), WEIR_RESPOND);
    assert_int_equal(RUN(.body = "{}"), WEIR_RESPOND);
    assert_int_equal(RUN(.body = "{}", .fields = {{"content-type", "application/json"},
                                                  {"content-type", "text/plain"}}),
                     WEIR_RESPOND);
    host_init("{\"pass_other_types\": true}");
    assert_int_equal(run_type("text/plain"), WEIR_CONTINUE);
    host_init("{\"types\": [\"application/csp-report\"]}");
    assert_int_equal(run_type("application/csp-report"), WEIR_CONTINUE);
    assert_int_equal(run_type("application/json"), WEIR_RESPOND);
}

static void test_what_is_compressed_cannot_be_looked_at(void **state) {
    host_init("{}");
    assert_int_equal(RUN(.body = "{}", .fields = {{"content-type", "application/json"},
                                                  {"content-encoding", "gzip"}}),
                     WEIR_RESPOND);
    assert_int_equal(host_status(), 415);
    assert_int_equal(RUN(.body = "{}", .fields = {{"content-type", "application/json"},
                                                  {"content-encoding", "identity"}}),
                     WEIR_CONTINUE);
}

static void test_keys_that_must_be_there(void **state) {
    host_init("{\"required\": [\"name\", \"id\"]}");
    assert_true(passes("{\"id\":null,\"name\":\"\"}"));
    assert_refused("{\"name\":1}", 400, "the key \"id\" is missing");
    assert_refused("{\"a\":{\"id\":1,\"name\":1}}", 400, "the key \"name\" is missing");
    assert_refused("[]", 400, "the key \"name\" is missing");
    assert_int_equal(RUN(.method = "POST"), WEIR_RESPOND);
    assert_int_equal(host_status(), 400);
    assert_int_equal(RUN(.method = "GET"), WEIR_CONTINUE);
    assert_true(host_plugin()->flags & WEIR_WANTS_BODY);
    assert_false(host_plugin()->flags & (WEIR_SKIPPABLE | WEIR_TAKES_TRUNCATED));
}

#define MCP                                                                         \
    "{\"json_rpc\": {\"methods\": [\"initialize\", \"ping\", \"notifications/*\", " \
    "\"tools/*\"], \"tools\": [\"search\", \"read_*\"], \"batch_max\": 3}}"

static void test_methods_that_may_be_called(void **state) {
    host_init(MCP);
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}"));
    assert_string_equal(host_variable("rpc_method"), "ping");
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\"}"));
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tools/call\","
                       "\"params\":{\"name\":\"read_file\"}}"));
    assert_string_equal(host_variable("rpc_method"), "tools/call");
    assert_string_equal(host_variable("rpc_tool"), "read_file");
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"));
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"\"}}"));
    assert_int_equal(host_events[0], 5);
}

static void assert_denied(const char *body, unsigned status, const char *reply) {
    assert_false(passes(body));
    assert_int_equal(host_status(), status);
    assert_false(host_is_refusal());
    assert_string_equal(host_answer_field("content-type"), "application/json");
    assert_string_equal(host_content(), reply);
}

static void test_methods_that_may_not_be_called(void **state) {
    host_init(MCP);
    assert_denied("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"resources/list\"}", 403,
                  "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32601,\"message\":\"this "
                  "method may not be called\",\"data\":\"resources/list\"}}");
    assert_denied("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/call\",\"params\":{"
                  "\"name\":\"delete\"}}",
                  403,
                  "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"error\":{\"code\":-32601,\"message\":\"this "
                  "tool may not be called\",\"data\":\"delete\"}}");
    assert_denied("{\"jsonrpc\":\"2.0\",\"method\":\"pin\"}", 403,
                  "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32601,\"message\":\"this "
                  "method may not be called\",\"data\":\"pin\"}}");
    assert_int_equal(host_events[3], 3);
    assert_false(passes("{\"jsonrpc\":\"2.0\",\"method\":\"PING\"}"));
    assert_false(passes("{\"jsonrpc\":\"2.0\",\"method\":\"notification\"}"));
    assert_false(passes("{\"jsonrpc\":\"2.0\",\"method\":\"ping\\u0000x\"}"));
}

static void test_broken_messages_are_refused(void **state) {
    static const char *const cases[][2] = {
        {"5", "a message is an object"},
        {"{}", "jsonrpc is not"},
        {"{\"jsonrpc\":\"1.0\",\"method\":\"ping\"}", "jsonrpc is not"},
        {"{\"jsonrpc\":\"2.0\"}", "there is no method"},
        {"{\"jsonrpc\":\"2.0\",\"method\":5}", "method is no text"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":[]}", "id is neither"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"params\":5}", "params is neither"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"result\":5}", "both a request and a response"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"Method\":\"tools/call\"}", "in case only"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\"}", "params.name is missing"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":5}}", "params.name"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"search\","
         "\"NAME\":\"delete\"}}",
         "params.name"},
        {"[]", "an empty batch"},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"ping\"},[]]", "a message is an object"},
        {"[1,2,3,4]", "too many messages"},
    };

    host_init(MCP);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_refused(cases[i][0], 400, cases[i][1]);
        assert_non_null(strstr(host_content(), "\"code\":-32600"));
    }
    assert_refused("{\"jsonrpc\":", 400, "\"code\":-32700");
    assert_int_equal(RUN(.method = "POST"), WEIR_RESPOND);
    assert_int_equal(RUN(.method = "GET"), WEIR_CONTINUE);
    assert_int_equal(RUN(.method = "DELETE"), WEIR_CONTINUE);
}

static void test_batches(void **state) {
#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}"
    host_init(MCP);
    assert_true(passes("[" PING "," PING "," PING "]"));
    assert_string_equal(host_variable("rpc_method"), "");
    assert_false(passes("[" PING ",{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"x\"}]"));
    assert_int_equal(host_status(), 403);
    assert_non_null(strstr(host_content(), "\"id\":2,"));
    host_init("{\"json_rpc\": {}}");
    assert_refused("[" PING "]", 400, "batches are not accepted");
    assert_true(passes("{\"jsonrpc\":\"2.0\",\"method\":\"whatever\"}"));
    host_init("{\"json_rpc\": {\"responses\": false}}");
    assert_refused("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}", 400, "responses are not");
}

static void test_settings_are_checked(void **state) {
    static const char *const cases[][2] = {
        {"{\"max_depth\": 65}", "max_depth: found 65, expected an integer from 1 to 64"},
        {"{\"max_depth\": \"5\"}", "max_depth: found \"5\""},
        {"{\"required\": \"id\"}", "required: found \"id\", expected a list"},
        {"{\"json_rpc\": []}", "json_rpc: found [], expected a table"},
        {"{\"json_rpc\": {\"method\": []}}",
         "json_rpc.method: is not a setting; there are methods"},
        {"{\"json_rpc\": {\"batch_max\": -1}}", "json_rpc.batch_max: found -1"},
        {"{\"mcp\": {}}", "mcp: is not a setting"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        host_init_fails(cases[i][0], cases[i][1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_json_passes),
        TEST(test_what_is_no_json_is_refused),
        TEST(test_depth_is_bounded),
        TEST(test_keys_are_bounded_for_each_object),
        TEST(test_values_are_bounded),
        TEST(test_texts_are_bounded),
        TEST(test_size_is_bounded),
        TEST(test_a_megabyte_of_brackets_costs_nothing),
        TEST(test_the_type_must_be_json),
        TEST(test_what_is_compressed_cannot_be_looked_at),
        TEST(test_keys_that_must_be_there),
        TEST(test_methods_that_may_be_called),
        TEST(test_methods_that_may_not_be_called),
        TEST(test_broken_messages_are_refused),
        TEST(test_batches),
        TEST(test_settings_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
