/* The promises of plugins/headers: edits, templates, and CORS in all combinations. */
#include "plugins/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct host_field none[] = {{NULL, NULL}};

static int set_up(void **state) {
    host_open("headers");
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

static void test_fields_of_requests_are_edited(void **state) {
    host_init("{\"request\": {\"set\": {\"x-a\": \"1\"}, \"add\": {\"x-b\": \"2\"}, "
              "\"remove\": [\"X-C\", \"x-d-*\"]}}");
    assert_int_equal(RUN(.fields = {{"X-A", "old"},
                                    {"x-a", "older"},
                                    {"x-b", "1"},
                                    {"x-c", "c"},
                                    {"X-D-1", "d"},
                                    {"x-d-2", "d"},
                                    {"x-d", "stays"}}),
                     WEIR_CONTINUE);
    assert_string_equal(host_sent("x-a"), "1");
    assert_string_equal(host_sent("x-b"), "1, 2");
    assert_null(host_sent("x-c"));
    assert_null(host_sent("x-d-1"));
    assert_null(host_sent("x-d-2"));
    assert_string_equal(host_sent("x-d"), "stays");
}

static void test_fields_of_responses_are_edited(void **state) {
    const struct host_field fields[] = {{"server", "x"}, {"x-powered-by", "y"}, {NULL, NULL}};

    host_init("{\"response\": {\"set\": {\"server\": \"weir\", \"strict-transport-security\": "
              "\"max-age=63072000\"}, \"remove\": [\"x-powered-by\"]}}");
    RUN(.path = "/");
    host_respond(200, fields);
    assert_string_equal(host_sent("server"), "weir");
    assert_string_equal(host_sent("strict-transport-security"), "max-age=63072000");
    assert_null(host_sent("x-powered-by"));
    assert_null(host_sent("access-control-allow-origin"));
    assert_null(host_sent("vary"));
}

/* A field that is removed and set is set: what clients send under it does not count. */
static void test_removed_first_then_set(void **state) {
    host_init("{\"request\": {\"remove\": [\"x-internal-*\"], \"set\": {\"x-internal-client\": "
              "\"${client_address}\"}}}");
    RUN(.fields = {{"x-internal-client", "forged"}, {"x-internal-b", "forged"}});
    assert_string_equal(host_sent("x-internal-client"), "192.0.2.7");
    assert_null(host_sent("x-internal-b"));
}

static void test_templates(void **state) {
    static const struct {
        const char *template, *value;
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"$$5", "$5"},
        {"a${method}b", "aPUTb"},
        {"${scheme}://${authority}${path}", "http://example.org/p?q=1"},
        {"${listener}/${route}/${request_id}", "http/a-route/id-1"},
        {"[${client_subject}]", "[]"},
        {"${variable:user}-${variable:other}", "alice-"},
        {"${field:X-In} ${field:none}", "in"},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[200];

        snprintf(config, sizeof config, "{\"request\": {\"set\": {\"x-out\": \"%s\"}}}",
                 cases[i].template);
        host_init(config);
        RUN(.method = "PUT", .path = "/p?q=1", .fields = {{"x-in", "in"}},
            .variables = {{"user", "alice"}});
        assert_string_equal(host_sent("x-out"), cases[i].value);
    }
}

static void test_a_value_that_grows_too_long_is_not_set(void **state) {
    char *value = calloc(1, 5000);

    memset(value, 'x', 4999);
    host_init("{\"request\": {\"set\": {\"x-out\": \"${field:x-in}${field:x-in}\", \"x-b\": "
              "\"b\"}}}");
    assert_int_equal(RUN(.fields = {{"x-in", value}}), WEIR_CONTINUE);
    assert_null(host_sent("x-out"));
    assert_string_equal(host_sent("x-b"), "b");
    assert_int_equal(host_events[1], 1);
    free(value);
}

static void test_what_may_not_be_edited_is_told(void **state) {
    host_init("{\"request\": {\"set\": {\"host\": \"x\"}}}");
    assert_int_equal(RUN(.path = "/"), WEIR_CONTINUE);
    assert_non_null(strstr(host_last_log, "a field was not edited"));
    assert_int_equal(host_events[1], 1);
}

#define CORS(rest) \
    "{\"cors\": {\"origins\": [\"https://a.example\", \"https://*.b.example\"]" rest "}}"

static enum weir_verdict preflight(const char *origin, const char *method, const char *headers) {
    return RUN(.method = "OPTIONS",
               .fields = {{"origin", origin},
                          {"access-control-request-method", method},
                          {headers ? "access-control-request-headers" : NULL, headers}});
}

static void test_a_preflight_is_answered(void **state) {
    host_init(CORS(", \"methods\": [\"PUT\", \"DELETE\"], \"headers\": [\"Content-Type\", "
                   "\"x-a\"], \"credentials\": true, \"max_age\": \"2h\""));
    assert_int_equal(preflight("https://a.example", "PUT", "content-type,x-a"), WEIR_RESPOND);
    assert_int_equal(host_status(), 204);
    assert_false(host_is_refusal());
    assert_string_equal(host_content(), "");
    assert_string_equal(host_answer_field("access-control-allow-origin"), "https://a.example");
    assert_string_equal(host_answer_field("access-control-allow-methods"), "PUT, DELETE");
    assert_string_equal(host_answer_field("access-control-allow-headers"), "content-type,x-a");
    assert_string_equal(host_answer_field("access-control-allow-credentials"), "true");
    assert_string_equal(host_answer_field("access-control-max-age"), "7200");
    assert_string_equal(host_answer_field("vary"), "Origin, Access-Control-Request-Method, "
                                                   "Access-Control-Request-Headers");
    assert_int_equal(host_events[0], 1);
}

/* Origin x method x headers: what is refused, and that everything else is not. */
static void test_preflights_in_all_combinations(void **state) {
    static const struct {
        const char *text;
        bool is_good;
    } origins[] =
        {
            {"https://a.example", true},
            {"HTTPS://A.EXAMPLE", true},
            {"https://x.b.example", true},
            {"https://x.y.b.example", true},
            {"https://b.example", false},
            {"https://.b.example", false},
            {"https://xb.example", false},
            {"http://a.example", false},
            {"https://a.example:8443", false},
            {"https://a.example.evil", false},
            {"https://evil/x.b.example", false},
            {"https://evil:1.b.example", false},
            {"null", false},
            {"", false},
        },
      methods[] = {{"GET", true},  {"HEAD", true},    {"POST", true},  {"PUT", true},
                   {"put", false}, {"DELETE", false}, {"PATCH", false}},
      headers[] = {{NULL, true},          {"", true},     {"X-A", true},       {"x-a, x-b", true},
                   {" x-a ,,x-b,", true}, {"x-c", false}, {"x-a, x-c", false}, {"x-", false},
                   {"x-a x", false}};

    host_init(CORS(", \"methods\": [\"PUT\"], \"headers\": [\"x-a\", \"x-b\"]"));
    for (unsigned o = 0; o < sizeof origins / sizeof *origins; o++)
        for (unsigned m = 0; m < sizeof methods / sizeof *methods; m++)
            for (unsigned h = 0; h < sizeof headers / sizeof *headers; h++) {
                bool is_good = origins[o].is_good && methods[m].is_good && headers[h].is_good;

                assert_int_equal(preflight(origins[o].text, methods[m].text, headers[h].text),
                                 WEIR_RESPOND);
                assert_int_equal(host_status(), is_good ? 204 : 403);
                assert_int_equal(host_answer_field("access-control-allow-origin") != NULL, is_good);
                assert_null(host_answer_field("access-control-allow-credentials"));
            }
}

static void test_what_is_no_preflight_goes_on(void **state) {
    host_init(CORS(""));
    assert_int_equal(RUN(.method = "OPTIONS"), WEIR_CONTINUE);
    assert_int_equal(RUN(.method = "OPTIONS", .fields = {{"origin", "https://a.example"}}),
                     WEIR_CONTINUE);
    assert_int_equal(RUN(.method = "OPTIONS", .fields = {{"access-control-request-method", "PUT"}}),
                     WEIR_CONTINUE);
    assert_int_equal(RUN(.method = "PUT", .fields = {{"origin", "https://a.example"},
                                                     {"access-control-request-method", "PUT"}}),
                     WEIR_CONTINUE);
    host_init("{}");
    assert_int_equal(preflight("https://a.example", "PUT", NULL), WEIR_CONTINUE);
}

static void test_responses_say_who_may_read_them(void **state) {
    const struct host_field fields[] = {{"access-control-allow-origin", "*"},
                                        {"access-control-allow-credentials", "true"},
                                        {"access-control-expose-headers", "x"},
                                        {"vary", "Accept-Encoding"},
                                        {NULL, NULL}};

    host_init(CORS(", \"credentials\": true, \"expose\": [\"grpc-status\", \"grpc-message\"]"));
    RUN(.fields = {{"origin", "https://x.b.example"}});
    host_respond(200, fields);
    assert_string_equal(host_sent("access-control-allow-origin"), "https://x.b.example");
    assert_string_equal(host_sent("access-control-allow-credentials"), "true");
    assert_string_equal(host_sent("access-control-expose-headers"), "grpc-status, grpc-message");
    assert_string_equal(host_sent("vary"), "Accept-Encoding, Origin");
    RUN(.fields = {{"origin", "https://evil.example"}});
    host_respond(200, fields);
    assert_null(host_sent("access-control-allow-origin"));
    assert_null(host_sent("access-control-allow-credentials"));
    assert_null(host_sent("access-control-expose-headers"));
    assert_string_equal(host_sent("vary"), "Accept-Encoding, Origin");
    RUN(.path = "/"); /* a cache may keep it for others */
    host_respond(200, none);
    assert_null(host_sent("access-control-allow-origin"));
    assert_string_equal(host_sent("vary"), "Origin");
    RUN(.fields = {{"origin", "https://a.example"}, {"origin", "https://a.example"}});
    host_respond(200, none);
    assert_null(host_sent("access-control-allow-origin"));
}

static void test_answers_in_the_servers_place_say_so_too(void **state) {
    host_init(CORS(", \"credentials\": true, \"expose\": [\"retry-after\"]"));
    assert_int_equal(RUN(.fields = {{"origin", "https://a.example"}}), WEIR_CONTINUE);
    assert_string_equal(host_answer_field("access-control-allow-origin"), "https://a.example");
    assert_string_equal(host_answer_field("access-control-allow-credentials"), "true");
    assert_string_equal(host_answer_field("access-control-expose-headers"), "retry-after");
    assert_string_equal(host_answer_field("vary"), "Origin");
    RUN(.fields = {{"origin", "https://evil.example"}});
    assert_null(host_answer_field("access-control-allow-origin"));
    assert_null(host_answer_field("access-control-allow-credentials"));
    assert_string_equal(host_answer_field("vary"), "Origin");
    host_init("{}");
    RUN(.fields = {{"origin", "https://a.example"}});
    assert_null(host_answer_field("access-control-allow-origin"));
}

static void test_vary_is_said_once(void **state) {
    static const char *const lists[] = {"Origin", "accept, origin", "*"};

    host_init(CORS(""));
    for (unsigned i = 0; i < 3; i++) {
        const struct host_field fields[] = {{"vary", lists[i]}, {NULL, NULL}};

        RUN(.path = "/");
        host_respond(200, fields);
        assert_string_equal(host_sent("vary"), lists[i]);
    }
}

static void test_for_all_origins(void **state) {
    host_init("{\"cors\": {\"origins\": [\"*\"], \"headers\": [\"*\"]}}");
    preflight("https://any.example", "POST", "x-whatever, content-type");
    assert_int_equal(host_status(), 204);
    assert_string_equal(host_answer_field("access-control-allow-origin"), "*");
    assert_string_equal(host_answer_field("access-control-allow-headers"),
                        "x-whatever, content-type");
    assert_string_equal(host_answer_field("access-control-allow-methods"), "GET, HEAD, POST");
    assert_string_equal(host_answer_field("access-control-max-age"), "600");
    preflight("https://any.example", "PUT", NULL);
    assert_int_equal(host_status(), 403);
    preflight("https://any.example", "POST", "a b");
    assert_int_equal(host_status(), 403);
    RUN(.fields = {{"origin", "null"}});
    host_respond(200, none);
    assert_string_equal(host_sent("access-control-allow-origin"), "*");
    assert_null(host_sent("vary"));
}

static void test_the_null_origin_must_be_named(void **state) {
    host_init("{\"cors\": {\"origins\": [\"null\"]}}");
    preflight("null", "POST", NULL);
    assert_string_equal(host_answer_field("access-control-allow-origin"), "null");
}

static void test_settings_are_checked(void **state) {
    static const char *const cases[][2] = {
        {"{\"request\": []}", "request: found [], expected a table"},
        {"{\"requests\": {}}", "requests: is not a setting; there are request, response, cors"},
        {"{\"request\": {\"put\": {}}}", "request.put: is not a setting"},
        {"{\"request\": {\"set\": {\"a b\": \"x\"}}}", "request.set: found \"a b\""},
        {"{\"request\": {\"set\": {\"a\": 5}}}", "request.set.a: expected a text"},
        {"{\"response\": {\"add\": {\"a\": \"$x\"}}}", "response.add.a: expected ${name} or $$"},
        {"{\"response\": {\"add\": {\"a\": \"x$\"}}}", "response.add.a: expected ${name} or $$"},
        {"{\"response\": {\"add\": {\"a\": \"${x\"}}}", "response.add.a: expected ${name} or $$"},
        {"{\"response\": {\"add\": {\"a\": \"${x}\"}}}", "expected ${request_id}, method"},
        {"{\"response\": {\"add\": {\"a\": \"${field:}\"}}}", "expected ${request_id}, method"},
        {"{\"response\": {\"add\": {\"a\": \"b\\nc\"}}}", "expected no control characters"},
        {"{\"response\": {\"remove\": [\"*\"]}}", "response.remove: found \"*\""},
        {"{\"response\": {\"remove\": [\"a b\"]}}", "response.remove: found \"a b\""},
        {"{\"cors\": {}}", "cors.origins: is missing"},
        {"{\"cors\": {\"origins\": [\"a.example\"]}}", "cors.origins: found \"a.example\""},
        {"{\"cors\": {\"origins\": [\"https://a/\"]}}", "cors.origins: found \"https://a/\""},
        {"{\"cors\": {\"origins\": [\"https://a.*.b\"]}}", "cors.origins: found"},
        {"{\"cors\": {\"origins\": [\"https://*\"]}}", "cors.origins: found"},
        {"{\"cors\": {\"origins\": [\"*\"], \"credentials\": true}}",
         "cors.credentials: expected false"},
        {"{\"cors\": {\"origins\": [\"*\"], \"methods\": [\"A B\"]}}",
         "cors.methods: found \"A B\""},
        {"{\"cors\": {\"origins\": [\"*\"], \"max_age\": \"2d\"}}", "cors.max_age: found \"2d\""},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        host_init_fails(cases[i][0], cases[i][1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_fields_of_requests_are_edited),
        TEST(test_fields_of_responses_are_edited),
        TEST(test_removed_first_then_set),
        TEST(test_templates),
        TEST(test_a_value_that_grows_too_long_is_not_set),
        TEST(test_what_may_not_be_edited_is_told),
        TEST(test_a_preflight_is_answered),
        TEST(test_preflights_in_all_combinations),
        TEST(test_what_is_no_preflight_goes_on),
        TEST(test_responses_say_who_may_read_them),
        TEST(test_answers_in_the_servers_place_say_so_too),
        TEST(test_vary_is_said_once),
        TEST(test_for_all_origins),
        TEST(test_the_null_origin_must_be_named),
        TEST(test_settings_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
