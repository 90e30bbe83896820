/* Which series there are, and what one exchange adds to them. */
#include "gateway/counters.h"

#include "handler/guest.h"
#include "support/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LISTENERS                                  \
    "[[listener]]\nname = 'a'\nlisten = ':8080'\n" \
    "[[listener]]\nname = 'b'\nlisten = ':8081'\n"
#define PIPELINE "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:90']\n"
#define ROUTE "[[route]]\nname = 'any'\npipeline = 'p'\n"
#define ROUTE_A "[[route]]\nname = 'only-a'\nlistener = 'a'\npipeline = 'p'\nmatch.path = '/only'\n"
#define ROUTE_ALL "[[route]]\nname = 'all'\npipeline = 'p'\nmatch.path = '/all'\n"
#define WRITERS 2

static struct {
    struct config *config;
    struct counters *counters;
    struct metrics_segment *segment;
    struct metrics one, two; /* rows of two loops */
    struct buffer text;
} made;

static struct config *parse(const char *text) {
    const struct config_options options = {.fd_limit = 1024, .cores = 2};
    struct config_errors errors = {0};
    struct config *config = NULL;

    if (config_parse(&config, "t", text, strlen(text), &options, &errors))
        fail_msg("%s", errors.text);
    return config;
}

static int set_up(void **state) {
    const struct metrics_builder *builder;
    size_t size;

    memset(&made, 0, sizeof made);
    made.config = parse(LISTENERS PIPELINE ROUTE ROUTE_A);
    made.counters = counters_new(made.config);
    builder = counters_builder(made.counters);
    size = metrics_segment_size(builder, WRITERS);
    made.segment = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(made.segment, 0, size);
    metrics_segment_init(made.segment, size, builder, WRITERS);
    made.one = metrics_open(made.segment, 0);
    made.two = metrics_open(made.segment, 1);
    return 0;
}

static int tear_down(void **state) {
    buffer_deinit(&made.text);
    free(made.segment);
    counters_free(made.counters);
    config_free(made.config);
    return 0;
}

/* Is the line @series @value in the text that is scraped? */
static bool reads(const char *series, const char *value) {
    char line[300];

    snprintf(line, sizeof line, "\n%s %s\n", series, value);
    made.text.len = 0;
    metrics_render(made.segment, &made.text);
    buffer_append_char(&made.text, '\0');
    return strstr(made.text.base, line) != NULL;
}

static bool is_mentioned(const char *text) {
    reads("", "");
    return strstr(made.text.base, text) != NULL;
}

/* Of listener a, no route and no pipeline, without any failure. */
static struct counters_exchange plain(unsigned status) {
    return (struct counters_exchange){.route = COUNTERS_NO_ROUTE,
                                      .pipeline = COUNTERS_NO_PIPELINE,
                                      .status = status,
                                      .duration_ns = NS_PER_MS,
                                      .first_byte_ns = -1,
                                      .queue_wait_ns = -1};
}

static void an_exchange_counts_where_it_belongs(void **state) {
    struct counters_exchange done = plain(200);

    done.route = 1;
    done.pipeline = 0;
    done.first_byte_ns = 2 * NS_PER_MS;
    done.queue_wait_ns = 3 * NS_PER_MS;
    done.received_bytes = 10;
    done.sent_bytes = 20;
    done.retries = 2;
    counters_count(made.counters, made.one, &done);
#define LABELS "listener=\"a\",route=\"only-a\""
    assert_true(reads("weir_requests_total{" LABELS ",protocol=\"http1\",code=\"200\"}", "1"));
    assert_true(reads("weir_request_duration_seconds_count{" LABELS "}", "1"));
    assert_true(reads("weir_time_to_first_byte_seconds_count{" LABELS "}", "1"));
    assert_true(reads("weir_received_bytes_total{" LABELS "}", "10"));
    assert_true(reads("weir_sent_bytes_total{" LABELS "}", "20"));
#undef LABELS
    assert_true(reads("weir_pipeline_queue_wait_seconds_count{pipeline=\"p\"}", "1"));
    assert_true(reads("weir_pipeline_retries_total{pipeline=\"p\",result=\"ok\"}", "2"));
    assert_false(is_mentioned("weir_rejected_total{"));
    assert_true(reads("weir_sent_bytes_total{listener=\"b\",route=\"any\"}", "0"));
}

static void without_a_route_an_exchange_counts_as_none(void **state) {
    struct counters_exchange done = plain(404);

    done.listener = 1;
    done.fail = FAIL_ROUTE_NONE;
    counters_count(made.counters, made.one, &done);
    assert_true(reads(
        "weir_requests_total{listener=\"b\",route=\"none\",protocol=\"http1\",code=\"404\"}", "1"));
    assert_true(
        reads("weir_rejected_total{listener=\"b\",pipeline=\"none\",reason=\"route_none\"}", "1"));
}

static void what_did_not_happen_is_not_observed(void **state) {
    struct counters_exchange done = plain(503);

    done.pipeline = 0;
    done.route = 0;
    done.fail = FAIL_QUEUE_FULL;
    counters_count(made.counters, made.one, &done);
    assert_true(reads("weir_time_to_first_byte_seconds_count{listener=\"a\",route=\"any\"}", "0"));
    assert_true(reads("weir_pipeline_queue_wait_seconds_count{pipeline=\"p\"}", "0"));
    assert_true(reads("weir_pipeline_retries_total{pipeline=\"p\",result=\"failed\"}", "0"));
    assert_true(
        reads("weir_rejected_total{listener=\"a\",pipeline=\"p\",reason=\"queue_full\"}", "1"));
}

static void every_failure_has_a_reason_of_its_own(void **state) {
    for (unsigned fail = FAIL_NONE + 1; fail < FAILS; fail++) {
        struct counters_exchange done = plain(fail_row(fail)->http);
        char series[200];

        done.fail = fail;
        counters_count(made.counters, made.one, &done);
        snprintf(series, sizeof series,
                 "weir_rejected_total{listener=\"a\",pipeline=\"none\",reason=\"%s\"}",
                 fail_row(fail)->reason);
        assert_true(reads(series, "1"));
    }
    assert_false(is_mentioned("code=\"other\""));
}

static void an_unknown_status_is_other(void **state) {
    static const unsigned unknown[] = {0, 99, 199, 299, 512, 999};
    const size_t count = sizeof unknown / sizeof *unknown;
    char text[8];

    for (size_t i = 0; i < count; i++) {
        struct counters_exchange done = plain(unknown[i]);

        counters_count(made.counters, made.one, &done);
    }
    snprintf(text, sizeof text, "%zu", count);
    assert_true(reads(
        "weir_requests_total{listener=\"a\",route=\"none\",protocol=\"http1\",code=\"other\"}",
        text));
}

static void a_route_of_one_listener_has_no_series_at_another(void **state) {
    assert_true(is_mentioned("listener=\"a\",route=\"only-a\""));
    assert_false(is_mentioned("listener=\"b\",route=\"only-a\""));
    assert_true(is_mentioned("listener=\"b\",route=\"any\""));
}

static void requests_are_summed_over_routes_and_loops(void **state) {
    for (size_t route = 0; route < 2; route++) {
        struct counters_exchange done = plain(200);

        done.route = route;
        counters_count(made.counters, made.one, &done);
        counters_count(made.counters, made.two, &done);
    }
    for (size_t listener = 0; listener < 2; listener++) {
        struct counters_exchange done = plain(404);

        done.listener = listener;
        counters_count(made.counters, made.two, &done);
    }
    assert_int_equal(counters_requests(made.counters, made.segment, 0), 5);
    assert_int_equal(counters_requests(made.counters, made.segment, 1), 1);
}

static void accepted_connections_are_summed_by_listener(void **state) {
    counters_connection(made.counters, made.one, 0);
    counters_connection(made.counters, made.two, 0);
    counters_connection(made.counters, made.two, 1);
    assert_int_equal(counters_accepted(made.counters, made.segment, 0), 2);
    assert_int_equal(counters_accepted(made.counters, made.segment, 1), 1);
}

static void active_exchanges_go_up_and_down(void **state) {
    counters_exchange_active(made.counters, made.one, 1);
    counters_exchange_active(made.counters, made.two, 1);
    counters_exchange_active(made.counters, made.two, 1);
    assert_int_equal(counters_active(made.counters, made.segment), 3);
    counters_exchange_active(made.counters, made.one, -1);
    assert_int_equal(counters_active(made.counters, made.segment), 2);
    assert_true(reads("weir_exchanges_active", "2"));
}

static void streams_and_tunnels_are_told_apart(void **state) {
    counters_stream_active(made.counters, made.one, false, 1);
    counters_stream_active(made.counters, made.one, true, 1);
    counters_stream_active(made.counters, made.two, true, 1);
    assert_true(reads("weir_streams_active{kind=\"response\"}", "1"));
    assert_true(reads("weir_streams_active{kind=\"tunnel\"}", "2"));
    counters_stream_active(made.counters, made.one, true, -1);
    assert_true(reads("weir_streams_active{kind=\"tunnel\"}", "1"));
}

static void accept_errors_are_counted_by_name(void **state) {
    counters_accept_error(made.counters, made.one, 0, EMFILE);
    counters_accept_error(made.counters, made.one, 0, EMFILE);
    counters_accept_error(made.counters, made.one, 1, EISDIR);
    assert_true(reads("weir_listener_accept_errors_total{listener=\"a\",errno=\"EMFILE\"}", "2"));
    assert_true(reads("weir_listener_accept_errors_total{listener=\"b\",errno=\"other\"}", "1"));
    assert_false(is_mentioned("errno=\"ENFILE\""));
}

static size_t series_of(const char *text) {
    struct config *config = parse(text);
    size_t series = counters_series(config);

    config_free(config);
    return series;
}

static void each_route_of_each_listener_asks_for_149_series(void **state) {
    size_t base = series_of(LISTENERS PIPELINE ROUTE);

    assert_int_equal(series_of(LISTENERS PIPELINE ROUTE ROUTE_A) - base, 149);
    assert_int_equal(series_of(LISTENERS PIPELINE ROUTE ROUTE_ALL) - base, 2 * 149);
    assert_true(base < COUNTERS_SERIES_MAX);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void calls_of_handlers_are_counted_by_what_came_of_them(void **state) {
    const struct metrics_builder *builder;
    size_t size, series;

    tear_down(NULL);
    memset(&made, 0, sizeof made);
    /* Any file that can be read will do: nobody loads it here. */
    made.config =
        parse(LISTENERS PIPELINE "[[handler]]\nname = 'h'\nplugin = '/proc/self/exe'\n"
                                 "[[handler]]\nname = 'i'\nplugin = '/proc/self/exe'\n" ROUTE
                                 "handlers = ['h']\n");
    series = counters_series(made.config);
    made.counters = counters_new(made.config);
    builder = counters_builder(made.counters);
    size = metrics_segment_size(builder, WRITERS);
    made.segment = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(made.segment, 0, size);
    metrics_segment_init(made.segment, size, builder, WRITERS);
    made.one = metrics_open(made.segment, 0);
    counters_handler(made.counters, made.one, 0, CALL_CONTINUE, 3 * NS_PER_MS);
    counters_handler(made.counters, made.one, 0, CALL_CONTINUE, 3 * NS_PER_MS);
    counters_handler(made.counters, made.one, 1, CALL_FULL, 3 * NS_PER_MS);
    assert_true(reads("weir_handler_calls_total{handler=\"h\",outcome=\"continue\"}", "2"));
    assert_true(reads("weir_handler_calls_total{handler=\"h\",outcome=\"hang\"}", "0"));
    assert_true(reads("weir_handler_calls_total{handler=\"i\",outcome=\"full\"}", "1"));
    assert_true(reads("weir_handler_duration_seconds_bucket{handler=\"h\",le=\"0.0025\"}", "0"));
    assert_true(reads("weir_handler_duration_seconds_bucket{handler=\"h\",le=\"0.005\"}", "2"));
    assert_true(reads("weir_handler_duration_seconds_count{handler=\"i\"}", "1"));
    counters_handler_faults(made.counters, made.one, 1, FAULT_SEGV, 1);
    counters_handler_faults(made.counters, made.one, 1, FAULT_SEGV, 3);
    counters_handler_dirty(made.counters, made.one, 1, 2);
    assert_true(reads("weir_handler_faults_total{handler=\"i\",kind=\"segv\"}", "3"));
    assert_true(reads("weir_handler_faults_total{handler=\"h\",kind=\"hang\"}", "0"));
    assert_true(reads("weir_handler_dirty_faults_total{handler=\"i\"}", "2"));
    config_free(made.config);
    made.config = parse(LISTENERS PIPELINE ROUTE);
    assert_true(series > counters_series(made.config));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(an_exchange_counts_where_it_belongs),
        T(without_a_route_an_exchange_counts_as_none),
        T(what_did_not_happen_is_not_observed),
        T(every_failure_has_a_reason_of_its_own),
        T(an_unknown_status_is_other),
        T(a_route_of_one_listener_has_no_series_at_another),
        T(requests_are_summed_over_routes_and_loops),
        T(accepted_connections_are_summed_by_listener),
        T(active_exchanges_go_up_and_down),
        T(streams_and_tunnels_are_told_apart),
        T(accept_errors_are_counted_by_name),
        T(calls_of_handlers_are_counted_by_what_came_of_them),
        cmocka_unit_test(each_route_of_each_listener_asks_for_149_series),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
