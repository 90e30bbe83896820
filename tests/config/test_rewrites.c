/* [[route]] rewrite_urls: what arrives, what follows from the pipeline, and what is refused. */
#include "config/rewrites.h"

#include "expect.h"

#include <stdio.h>

#define HEAD LISTENER PIPELINE ROUTE

static void expect_url(const struct config_url *url, bool is_secure, const char *rest,
                       bool has_port) {
    assert_string_equal(url->rest, rest);
    assert_int_equal(url->is_secure, is_secure);
    assert_int_equal(url->has_port, has_port);
    assert_int_equal(url->authority, strcspn(rest, "/"));
}

static void all_keys_arrive(void **state) {
    struct config *config =
        parse(HEAD "rewrite_urls = { inner = ['http://LocalHost:8080/Api/', 'HTTPS://[::1]:443'], "
                   "outer = 'https://example.org:80/engine//', "
                   "bodies = ['Application/JSON', 'text/event-stream'], requests = true }\n");
    const struct config_rewrite *r = config->routes[0].rewrite;

    assert_int_equal(r->inner_count, 2);
    expect_url(&r->inner[0], false, "localhost:8080/Api", true);
    expect_url(&r->inner[1], true, "[::1]", false);
    expect_url(&r->outer, true, "example.org:80/engine", true);
    assert_int_equal(r->body_count, 2);
    assert_string_equal(r->bodies[0], "application/json");
    assert_string_equal(r->bodies[1], "text/event-stream");
    assert_true(r->has_requests);
    config_free(config);
}

static void inner_may_be_one(void **state) {
    struct config *config = parse(HEAD "rewrite_urls = { inner = 'http://0.0.0.0:80/' }\n");

    assert_int_equal(config->routes[0].rewrite->inner_count, 1);
    expect_url(&config->routes[0].rewrite->inner[0], false, "0.0.0.0", false);
    config_free(config);
}

/* Under whatever name a program on this host may know itself, and as it is dialled. */
static void inner_is_by_default_what_the_endpoints_are_called(void **state) {
    static const char *const names[] = {"localhost:90",   "127.0.0.1:90",     "[::1]:90",
                                        "0.0.0.0:90",     "[::]:90",          "localhost:8080",
                                        "127.0.0.1:8080", "[::1]:8080",       "0.0.0.0:8080",
                                        "[::]:8080",      "app.internal:8080"};
    struct config *config = parse(
        LISTENER "[[pipeline]]\nname = 'p'\ntls = { verify = false }\nendpoints = ['127.0.0.1:90', "
                 "'unix:/x', 'App.internal:8080', '[::1]:90']\n" ROUTE "rewrite_urls = {}\n");
    const struct config_rewrite *r = config->routes[0].rewrite;

    assert_int_equal(r->inner_count, sizeof names / sizeof *names);
    for (size_t i = 0; i < r->inner_count; i++)
        expect_url(&r->inner[i], true, names[i], true);
    assert_null(r->outer.rest);
    assert_int_equal(r->body_count, 0);
    assert_false(r->has_requests);
    config_free(config);
}

static void without_the_key_nothing_is_rewritten(void **state) {
    struct config *config = parse(HEAD);

    assert_null(config->routes[0].rewrite);
    config_free(config);
}

#define NO_URL                                                                  \
    "expected a URL of at most 256 bytes such as \"http://localhost:8080\" or " \
    "\"https://example.org/engine\", without user, query and fragment\n"

static void what_is_no_base_url_is_refused(void **state) {
    static const char *const bad[] = {
        "",
        "localhost:8080",
        "ftp://localhost",
        "http:/localhost",
        "http://",
        "http://:80",
        "http://unix:80",
        "http://a b",
        "http://user@host",
        "http://host:0",
        "http://host:65536",
        "http://host/?a",
        "http://host/#a",
        "http://host/\\\"",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512], expected[512];

        snprintf(text, sizeof text, HEAD "rewrite_urls = { outer = \"%s\" }\n", bad[i]);
        snprintf(expected, sizeof expected,
                 "t:9:26: route.rewrite_urls.outer: found \"%s\" (string), " NO_URL, bad[i]);
        expect_errors(text, expected);
    }
    expect_errors(HEAD "rewrite_urls = { inner = [1] }\n",
                  "t:9:27: route.rewrite_urls.inner: found 1 (integer), " NO_URL);
}

static void a_url_has_at_most_so_many_bytes(void **state) {
    char url[300], text[512];
    struct config *config;

    for (size_t len = REWRITES_URL_MAX; len <= REWRITES_URL_MAX + 1; len++) {
        memset(url, 'a', len);
        memcpy(url, "http://h/", 9);
        url[len] = '\0';
        snprintf(text, sizeof text, HEAD "rewrite_urls = { outer = '%s' }\n", url);
        if (len == REWRITES_URL_MAX) {
            config = parse(text);
            assert_string_equal(config->routes[0].rewrite->outer.rest, url + strlen("http://"));
            config_free(config);
        } else {
            struct config_errors errors;

            assert_int_equal(
                config_parse(&config, "t", text, strlen(text), &options_2_cores, &errors), -EINVAL);
            assert_non_null(strstr(errors.text, NO_URL));
            config_errors_deinit(&errors);
        }
    }
}

static void lists_have_bounds(void **state) {
    expect_errors(HEAD "rewrite_urls = { inner = [] }\n",
                  "t:9:26: route.rewrite_urls.inner: found a list of 0, expected 1 to 16 base "
                  "URLs\n");
    expect_errors(HEAD "rewrite_urls = { inner = ['','','','','','','','','','','','','','','','',"
                       "''] }\n",
                  "t:9:26: route.rewrite_urls.inner: found a list of 17, expected 1 to 16 base "
                  "URLs\n");
    expect_errors(
        HEAD "rewrite_urls = { bodies = ['','','','','','','','','','','','','','','',''"
             ",''] }\n",
        "t:9:27: route.rewrite_urls.bodies: found an array, expected a list of at most 16 "
        "media types such as [ \"application/json\" ]\n");
}

static void bodies_are_media_types(void **state) {
    static const char *const bad[] = {
        "json", "*/*", "text/*", "a/b; c=d", "application/grpc+proto", "application/grpc-web"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512], expected[512];

        snprintf(text, sizeof text, HEAD "rewrite_urls = { bodies = ['%s'] }\n", bad[i]);
        snprintf(expected, sizeof expected,
                 "t:9:28: route.rewrite_urls.bodies: found \"%s\" (string), expected a media type "
                 "such as \"application/json\", none of gRPC\n",
                 bad[i]);
        expect_errors(text, expected);
    }
}

static void what_would_not_work_together_is_refused(void **state) {
    expect_errors(LISTENER ROUTE "match = { grpc = '*' }\nrewrite_urls = {}\n" PIPELINE,
                  "t:7:16: route.rewrite_urls: found in a route of gRPC calls, expected none: they "
                  "are never rewritten\n");
    expect_errors(LISTENER ROUTE "rewrite_urls = {}\n"
                                 "[[pipeline]]\nname = 'p'\nendpoints = ['unix:/x']\n",
                  "t:6:16: route.rewrite_urls.inner: found nothing, expected the engine's own base "
                  "URLs, since pipeline \"p\" has no endpoint with a port\n");
    for (int i = 0; i < 2; i++) {
        char text[512];

        snprintf(text, sizeof text, HEAD "rewrite_urls = { requests = true, %s = 'http://h' }\n",
                 i ? "inner" : "outer");
        expect_errors(text, "t:9:29: route.rewrite_urls.requests: found without inner or outer, "
                            "expected both beside it\n");
    }
    expect_errors(HEAD "rewrite_urls = true\n",
                  "t:9:16: route.rewrite_urls: found true (boolean), expected a table such as { "
                  "outer = \"https://example.org\" }\n");
    expect_errors(HEAD "rewrite_urls = { from = 1 }\n",
                  "t:9:18: route.rewrite_urls.from: found an unknown key, expected one of inner, "
                  "outer, bodies, requests\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_arrive),
        cmocka_unit_test(inner_may_be_one),
        cmocka_unit_test(inner_is_by_default_what_the_endpoints_are_called),
        cmocka_unit_test(without_the_key_nothing_is_rewritten),
        cmocka_unit_test(what_is_no_base_url_is_refused),
        cmocka_unit_test(a_url_has_at_most_so_many_bytes),
        cmocka_unit_test(lists_have_bounds),
        cmocka_unit_test(bodies_are_media_types),
        cmocka_unit_test(what_would_not_work_together_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
