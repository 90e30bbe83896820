/* What no single key can know. */
#include "config/check.h"

#include "expect.h"

static void names_are_unique(void **state) {
    expect_errors(LISTENER "[[listener]]\nname = 'l'\nlisten = ':81'\n" PIPELINE PIPELINE ROUTE,
                  "t:5:8: listener.name: found \"l\", expected another name than in line 2\n"
                  "t:11:8: pipeline.name: found \"p\", expected another name than in line 8\n");
    expect_errors(LISTENER PIPELINE ROUTE "name = 'r'\n" ROUTE "name = 'r'\nmatch.path = '/a'\n",
                  "t:12:8: route.name: found \"r\", expected another name than in line 9\n");
}

static void two_listeners_do_not_share_an_address(void **state) {
    expect_errors(LISTENER "[[listener]]\nname = 'm'\nlisten = '127.0.0.1:80'\n" PIPELINE ROUTE,
                  "t:6:10: listener.listen: found \"127.0.0.1:80\", expected another address than "
                  "\":80\" in line 3\n");
    expect_errors("[admin]\nlisten = ':80'" REST,
                  "t:5:10: listener.listen: found \":80\", expected another address than the admin "
                  "listener's \":80\"\n");
    expect_errors("[[listener]]\nname = 'm'\nlisten = '[::]:9901'\n" PIPELINE ROUTE,
                  "t:3:10: listener.listen: found \"[::]:9901\", expected another address than the "
                  "admin listener's \"127.0.0.1:9901\"\n");
    config_free(
        parse("[admin]\nlisten = 'off'\n[[listener]]\nname = 'm'\nlisten = ':9901'\n" REST));
}

static void a_reference_leads_somewhere(void **state) {
    expect_errors(LISTENER "[[pipeline]]\nname = 'engine'\nendpoints = ['a:1']\n"
                           "[[route]]\npipeline = 'engin'\nlistener = 'http'\n"
                           "[[route]]\npipeline = ''\n",
                  "t:8:12: route.pipeline: found \"engin\" (string), expected the name of a "
                  "[[pipeline]]; did you mean \"engine\"?\n"
                  "t:9:12: route.listener: found \"http\" (string), expected the name of a "
                  "[[listener]]\n"
                  "t:11:12: route.pipeline: found \"\" (string), expected the name of a "
                  "[[pipeline]]\n");
}

static void path_and_exact_contradict_each_other(void **state) {
    expect_errors(LISTENER PIPELINE ROUTE "match = { path = '/a', exact = '/a' }\n",
                  "t:9:9: route.match: found both path and exact, expected only one of them\n");
}

static void a_target_fits_into_its_head(void **state) {
    expect_errors("[[listener]]\nname = 'l'\nlisten = ':80'\nlimits = { head = '1KiB', "
                  "target = '2KiB' }\n" PIPELINE ROUTE,
                  "t:4:36: listener.limits.target: found \"2KiB\" (string), expected at most the "
                  "size of head, 1024\n");
    /* Said once. */
    expect_errors("[[listener]]\nname = 'l'\nlisten = ':80'\nlimits = { head = '1KiB', "
                  "target = '2KB' }\n" PIPELINE ROUTE,
                  "t:4:36: listener.limits.target: found \"2KB\" (string), expected a size from 64 "
                  "to 1MiB; did you mean \"2KiB\"?\n");
}

static void settings_of_http2_need_http2(void **state) {
    expect_errors(LISTENER ROUTE PIPELINE "limits = { streams_per_connection = 9 }\n"
                                          "timeouts = { ping = '1s', pong = '1s' }\n",
                  "t:9:37: pipeline.limits.streams_per_connection: found with protocol = "
                  "\"http1\", expected only with \"http2\"\n"
                  "t:10:21: pipeline.timeouts.ping: found with protocol = \"http1\", expected only "
                  "with \"http2\"\n"
                  "t:10:34: pipeline.timeouts.pong: found with protocol = \"http1\", expected only "
                  "with \"http2\"\n");
    config_free(parse(LISTENER ROUTE PIPELINE "protocol = 'http2'\n"
                                              "limits.streams_per_connection = 9\n"
                                              "timeouts = { ping = 0, pong = '1s' }\n"));
}

static void bounds_of_concurrency_need_auto_and_make_sense(void **state) {
    expect_errors(LISTENER ROUTE PIPELINE "limits = { concurrency = 9, concurrency_max = 10 }\n",
                  "t:9:47: pipeline.limits.concurrency_max: found with concurrency = 9, expected "
                  "only with \"auto\"\n");
    expect_errors(LISTENER ROUTE PIPELINE
                  "limits = { concurrency = 'auto', concurrency_min = 10, concurrency_max = 9 }\n",
                  "t:9:52: pipeline.limits: found concurrency_min = 10, expected at most "
                  "concurrency_max, 9\n");
}

static void fields_of_a_queue_have_names(void **state) {
    expect_errors(
        LISTENER ROUTE PIPELINE "queue = { fair_by = 'a b', priority_field = '' }\n",
        "t:9:21: pipeline.queue.fair_by: found \"a b\" (string), expected \"client\", "
        "\"none\" or the name of a field\n"
        "t:9:45: pipeline.queue.priority_field: found \"\" (string), expected the name of "
        "a field such as \"x-priority\"\n");
}

static void grpc_web_needs_a_pipeline_over_http2(void **state) {
    expect_errors(LISTENER PIPELINE ROUTE "grpc_web = true\n",
                  "t:9:12: route.grpc_web: found with pipeline = \"p\", expected one with protocol "
                  "= \"http2\", which gRPC needs\n");
    config_free(parse(LISTENER ROUTE "grpc_web = true\n" PIPELINE "protocol = 'http2'\n"));
    config_free(parse(LISTENER PIPELINE ROUTE "grpc_web = false\n"));
}

static void what_contradicts_itself_in_balance_and_retry_is_refused(void **state) {
    expect_errors(
        LISTENER ROUTE PIPELINE "balance = { hash = 'client' }\n"
                                "retry = { timeout = '1s' }\n",
        "t:9:20: pipeline.balance.hash: found with another by, expected only with "
        "\"hash\"\n"
        "t:10:21: pipeline.retry.timeout: found without \"timeout\" in retry.on, expected "
        "both or neither\n");
    expect_errors(LISTENER ROUTE PIPELINE "retry = { on = ['timeout'] }\n",
                  "t:9:16: pipeline.retry.on: found \"timeout\" without retry.timeout, expected "
                  "both or neither\n");
    config_free(parse(LISTENER ROUTE PIPELINE "balance = { by = 'hash', hash = 'cookie:Sid' }\n"
                                              "retry = { on = ['timeout'], timeout = '1s' }\n"));
}

static void what_contradicts_itself_in_an_affinity_is_refused(void **state) {
    expect_errors(LISTENER PIPELINE ROUTE "affinity = { header = 'a', cookie = 'b' }\n",
                  "t:9:37: route.affinity: found both header and cookie, expected only one of "
                  "them\n");
    expect_errors(LISTENER PIPELINE ROUTE "affinity = { cookie = 'b', learn = 'response' }\n",
                  "t:9:36: route.affinity.learn: found without header\n");
    expect_errors(LISTENER PIPELINE ROUTE "affinity = { header = 'b', strict = true }\n",
                  "t:9:37: route.affinity.strict: found without learn and without cookie, expected "
                  "with one of them: a header that was not learned has no endpoint of its own\n");
    config_free(parse(LISTENER PIPELINE ROUTE
                      "affinity = { header = 'a', learn = 'response', strict = true }\n"));
}

static void two_routes_do_not_match_the_same(void **state) {
    expect_errors(LISTENER PIPELINE ROUTE ROUTE,
                  "t:9:1: route.match: found the same as in line 7, expected each route to match "
                  "something else\n");
    expect_errors(LISTENER PIPELINE ROUTE
                  "match = { host = 'A.b', path = '/x', method = ['GET', 'PUT'], header = { a = "
                  "'1', b = true } }\n" ROUTE
                  "match = { host = 'a.b', path = '/x', method = ['PUT', 'GET'], header = { B = "
                  "true, A = '1' } }\n",
                  "t:12:9: route.match: found the same as in line 9, expected each route to match "
                  "something else\n");
}

static void routes_that_differ_in_one_thing_are_two(void **state) {
    config_free(parse(
        LISTENER PIPELINE ROUTE ROUTE
        "listener = 'l'\n" ROUTE "match = { path = '/' }\n" ROUTE "match = { exact = '/' }\n" ROUTE
        "match = { host = 'a' }\n" ROUTE "match = { method = 'GET' }\n" ROUTE
        "match = { method = 'PUT' }\n" ROUTE "match = { method = ['GET', 'PUT'] }\n" ROUTE
        "match = { header = { a = true } }\n" ROUTE "match = { header = { a = '1' } }\n" ROUTE
        "match = { header = { a = '2' } }\n" ROUTE "match = { header = { b = '1' } }\n"));
}

static void what_was_refused_already_is_no_duplicate(void **state) {
    expect_errors(LISTENER PIPELINE ROUTE ROUTE "match = { path = 'x' }\n" ROUTE
                                                "match = { method = 'get' }\n",
                  "t:11:18: route.match.path: found \"x\" (string), expected a path that begins "
                  "with '/'\n"
                  "t:14:20: route.match.method: found \"get\" (string), expected a method in upper "
                  "case of at most 63 letters; did you mean \"GET\"?\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(two_listeners_do_not_share_an_address),
        cmocka_unit_test(a_reference_leads_somewhere),
        cmocka_unit_test(path_and_exact_contradict_each_other),
        cmocka_unit_test(a_target_fits_into_its_head),
        cmocka_unit_test(settings_of_http2_need_http2),
        cmocka_unit_test(bounds_of_concurrency_need_auto_and_make_sense),
        cmocka_unit_test(fields_of_a_queue_have_names),
        cmocka_unit_test(grpc_web_needs_a_pipeline_over_http2),
        cmocka_unit_test(what_contradicts_itself_in_balance_and_retry_is_refused),
        cmocka_unit_test(what_contradicts_itself_in_an_affinity_is_refused),
        cmocka_unit_test(two_routes_do_not_match_the_same),
        cmocka_unit_test(routes_that_differ_in_one_thing_are_two),
        cmocka_unit_test(what_was_refused_already_is_no_duplicate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
