/* What a pipeline says of active checks, breakers and slow starts. */
#include "expect.h"

#include "base/clock.h"

#define WITH(text) LISTENER ROUTE PIPELINE text "\n"

static void there_are_none_unless_asked_for(void **state) {
    struct config *config = parse(WITH(""));

    assert_int_equal(config->pipelines[0].health.kind, HEALTH_OFF);
    assert_int_equal(config->pipelines[0].slow_start_ns, 0);
    assert_int_equal(config->pipelines[0].breaker.in_a_row, 5);
    assert_int_equal(config->pipelines[0].breaker.open_for_ns, 10 * NS_PER_S);
    assert_int_equal(config->pipelines[0].breaker.on, BREAKER_ON_CONNECT | BREAKER_ON_RESET |
                                                          BREAKER_ON_TIMEOUT | BREAKER_ON_502 |
                                                          BREAKER_ON_503 | BREAKER_ON_504);
    config_free(config);
}

static void what_is_asked_makes_their_kind(void **state) {
    struct config *config = parse(WITH("health = { path = '/healthz?x=%20y', host = 'e:1' }"));

    assert_int_equal(config->pipelines[0].health.kind, HEALTH_HTTP);
    assert_string_equal(config->pipelines[0].health.path, "/healthz?x=%20y");
    assert_string_equal(config->pipelines[0].health.host, "e:1");
    assert_int_equal(config->pipelines[0].health.status_count, 1);
    assert_int_equal(config->pipelines[0].health.statuses[0].first, 200);
    assert_int_equal(config->pipelines[0].health.statuses[0].last, 399);
    config_free(config);
    config = parse(WITH("protocol = 'http2'\nhealth = { grpc_service = '' }"));
    assert_int_equal(config->pipelines[0].health.kind, HEALTH_GRPC);
    assert_string_equal(config->pipelines[0].health.grpc_service, "");
    config_free(config);
    config = parse(WITH("health = { connect = true, interval = '100ms' }"));
    assert_int_equal(config->pipelines[0].health.kind, HEALTH_CONNECT);
    assert_int_equal(config->pipelines[0].health.interval_ns, 100 * NS_PER_MS);
    config_free(config);
}

static void statuses_are_numbers_and_ranges(void **state) {
    struct config *config =
        parse(WITH("health = { path = '/', status = [204, '300-302', '418'] }"));
    const struct config_health *health = &config->pipelines[0].health;

    assert_int_equal(health->status_count, 3);
    assert_true(health->statuses[0].first == 204 && health->statuses[0].last == 204);
    assert_true(health->statuses[1].first == 300 && health->statuses[1].last == 302);
    assert_true(health->statuses[2].first == 418 && health->statuses[2].last == 418);
    config_free(config);
}

#define REFUSED "expected a status from 100 to 599 such as 204, or a range such as \"200-399\"\n"

static void wrong_ones_are_told(void **state) {
    expect_errors(WITH("health = { path = '/', status = 99 }"),
                  "t:9:33: pipeline.health.status: found 99 (integer), " REFUSED);
    expect_errors(WITH("health = { path = '/', status = '399-200' }"),
                  "t:9:33: pipeline.health.status: found \"399-200\" (string), " REFUSED);
    expect_errors(WITH("health = { path = '/', status = ['2xx', '200-'] }"),
                  "t:9:34: pipeline.health.status: found \"2xx\" (string), " REFUSED
                  "t:9:41: pipeline.health.status: found \"200-\" (string), " REFUSED);
    expect_errors(WITH("health = { path = '/', status = [] }"),
                  "t:9:33: pipeline.health.status: found an array, expected 1 to 8 statuses or "
                  "ranges\n");
    expect_errors(WITH("health = { path = 'healthz' }"),
                  "t:9:19: pipeline.health.path: found \"healthz\" (string), expected a path, with "
                  "its query if any, such as \"/healthz\"\n");
}

static void exactly_one_kind_is_asked_for(void **state) {
    expect_errors(WITH("health = { interval = '1s' }"),
                  "t:9:10: pipeline.health: found none of path, grpc_service and connect, expected "
                  "exactly one\n");
    expect_errors(WITH("health = { path = '/', connect = true }"),
                  "t:9:10: pipeline.health: found several of path, grpc_service and connect, "
                  "expected exactly one\n");
    expect_errors(WITH("health = { grpc_service = 'a b' }\nprotocol = 'http2'"),
                  "t:9:27: pipeline.health.grpc_service: found \"a b\" (string), expected \"\", or "
                  "a gRPC service such as \"package.Service\"\n");
}

static void what_would_never_apply_is_an_error(void **state) {
    expect_errors(WITH("health = { grpc_service = '' }"),
                  "t:9:27: pipeline.health.grpc_service: found with protocol = \"http1\", expected "
                  "only with \"http2\"\n");
    expect_errors(WITH("health = { connect = true, host = 'e', status = 200 }"),
                  "t:9:35: pipeline.health.host: found without path, expected with it\n"
                  "t:9:49: pipeline.health.status: found without path, expected with it\n");
}

static void a_short_bound_gives_way(void **state) {
    struct config *config = parse(WITH("breaker = { open_for = '10m' }"));

    assert_int_equal(config->pipelines[0].breaker.open_max_ns, 600 * NS_PER_S);
    config_free(config);
}

/* The sum must hold a connection for each check. */
static void checks_have_fds_of_their_own(void **state) {
    struct config *with = parse(WITH("health = { connect = true }\nlimits = { connections = 10 }"));
    struct config *without = parse(WITH("limits = { connections = 10 }"));

    assert_int_equal(with->admission.fd_upstream, 11);
    assert_int_equal(without->admission.fd_upstream, 10);
    assert_int_equal(with->admission.max_connections + 1, without->admission.max_connections);
    config_free(with);
    config_free(without);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_are_none_unless_asked_for),
        cmocka_unit_test(what_is_asked_makes_their_kind),
        cmocka_unit_test(statuses_are_numbers_and_ranges),
        cmocka_unit_test(wrong_ones_are_told),
        cmocka_unit_test(exactly_one_kind_is_asked_for),
        cmocka_unit_test(what_would_never_apply_is_an_error),
        cmocka_unit_test(a_short_bound_gives_way),
        cmocka_unit_test(checks_have_fds_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
