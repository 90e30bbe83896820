/* Tests of the counters: what is printed, who may write at once, and what a damaged segment does.
 */
#include "metrics/metrics.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t bounds[] = {5 * NS_PER_MS, NS_PER_S, 2500 * NS_PER_MS};
#define BOUNDS (sizeof bounds / sizeof bounds[0])

static struct {
    struct metrics_segment *segment;
    size_t size;
    metrics_cell ok, bad, active, empty, latency, plain;
} made;

static int set_up(void **state) {
    struct metrics_builder *builder = metrics_builder_new();
    struct buffer labels = {0};
    unsigned requests, active, errors, latency, none;

    requests =
        metrics_family(builder, METRICS_COUNTER, "weir_requests_total", "Requests\\\nended.");
    active = metrics_family(builder, METRICS_GAUGE, "weir_exchanges_active", "Exchanges.");
    none = metrics_family(builder, METRICS_COUNTER, "weir_nothing_total", "No series.");
    errors = metrics_family(builder, METRICS_COUNTER, "weir_errors_total", "Errors.");
    latency = metrics_family(builder, METRICS_HISTOGRAM, "weir_request_duration_seconds", "Time.");
    (void)none;
    metrics_label(&labels, "listener", "a\"b\\c\nd");
    metrics_label(&labels, "code", "200");
    buffer_append_char(&labels, '\0');

    made.ok = metrics_series(builder, requests, labels.base);
    made.active = metrics_series(builder, active, "");
    made.latency = metrics_histogram(builder, latency, "route=\"x\"", bounds, BOUNDS);
    made.bad = metrics_series_sparse(builder, requests, "code=\"500\"");
    made.empty = metrics_series_sparse(builder, errors, "kind=\"x\"");
    made.plain = metrics_histogram(builder, latency, "", bounds, BOUNDS);

    made.size = metrics_segment_size(builder, 4);
    made.segment = aligned_alloc(64, made.size);
    memset(made.segment, 0, made.size);
    metrics_segment_init(made.segment, made.size, builder, 4);
    metrics_builder_free(builder);
    buffer_deinit(&labels);
    return 0;
}

static int tear_down(void **state) {
    free(made.segment);
    return 0;
}

static void rows_are_summed_and_the_text_is_exact(void **state) {
    struct metrics a = metrics_open(made.segment, 0), b = metrics_open(made.segment, 3);
    struct buffer text = {0};

    metrics_add(a, made.ok, 2);
    metrics_add(b, made.ok, 40);
    metrics_set(a, made.active, 7);
    metrics_add(b, made.active, -9);
    metrics_observe(a, made.latency, bounds, BOUNDS, 5 * NS_PER_MS);
    metrics_observe(b, made.latency, bounds, BOUNDS, 5 * NS_PER_MS + 1);
    metrics_observe(b, made.latency, bounds, BOUNDS, 3 * NS_PER_S);

    assert_int_equal(metrics_read(made.segment, made.ok), 42);
    assert_int_equal(metrics_read(made.segment, made.active), -2);
    assert_int_equal(metrics_read(made.segment, made.latency), 3);

    metrics_render(made.segment, &text);
    buffer_append_char(&text, '\0');
    assert_string_equal(text.base,
                        "# HELP weir_requests_total Requests\\\\\\nended.\n"
                        "# TYPE weir_requests_total counter\n"
                        "weir_requests_total{listener=\"a\\\"b\\\\c\\nd\",code=\"200\"} 42\n"
                        "# HELP weir_exchanges_active Exchanges.\n"
                        "# TYPE weir_exchanges_active gauge\n"
                        "weir_exchanges_active -2\n"
                        "# HELP weir_nothing_total No series.\n"
                        "# TYPE weir_nothing_total counter\n"
                        "# HELP weir_errors_total Errors.\n"
                        "# TYPE weir_errors_total counter\n"
                        "# HELP weir_request_duration_seconds Time.\n"
                        "# TYPE weir_request_duration_seconds histogram\n"
                        "weir_request_duration_seconds_bucket{route=\"x\",le=\"0.005\"} 1\n"
                        "weir_request_duration_seconds_bucket{route=\"x\",le=\"1\"} 2\n"
                        "weir_request_duration_seconds_bucket{route=\"x\",le=\"2.5\"} 2\n"
                        "weir_request_duration_seconds_bucket{route=\"x\",le=\"+Inf\"} 3\n"
                        "weir_request_duration_seconds_sum{route=\"x\"} 3.010000001\n"
                        "weir_request_duration_seconds_count{route=\"x\"} 3\n"
                        "weir_request_duration_seconds_bucket{le=\"0.005\"} 0\n"
                        "weir_request_duration_seconds_bucket{le=\"1\"} 0\n"
                        "weir_request_duration_seconds_bucket{le=\"2.5\"} 0\n"
                        "weir_request_duration_seconds_bucket{le=\"+Inf\"} 0\n"
                        "weir_request_duration_seconds_sum 0\n"
                        "weir_request_duration_seconds_count 0\n");
    buffer_deinit(&text);
}

static void a_sparse_series_shows_once_it_counts(void **state) {
    struct buffer text = {0};

    metrics_add(metrics_open(made.segment, 1), made.bad, 1);
    metrics_render(made.segment, &text);
    buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.base, "\nweir_requests_total{code=\"500\"} 1\n"));
    assert_null(strstr(text.base, "weir_errors_total{"));
    buffer_deinit(&text);
}

static void *count_up(void *arg) {
    struct metrics metrics = metrics_open(made.segment, *(unsigned *)arg);

    for (unsigned i = 0; i < 100000; i++) {
        metrics_add(metrics, made.ok, 1);
        metrics_observe(metrics, made.latency, bounds, BOUNDS, NS_PER_MS);
    }
    return NULL;
}

static void writers_and_a_reader_go_on_at_once(void **state) {
    unsigned writers[4] = {0, 1, 2, 3};
    pthread_t threads[4];

    for (unsigned i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count_up, &writers[i]);
    for (unsigned i = 0; i < 10; i++) {
        struct buffer text = {0};

        metrics_render(made.segment, &text);
        buffer_deinit(&text);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metrics_read(made.segment, made.ok), 400000);
    assert_int_equal(metrics_read(made.segment, made.latency), 400000);
}

static void another_process_reads_the_same(void **state) {
    struct buffer ours = {0}, theirs = {0};
    void *copy = aligned_alloc(64, made.size);
    struct metrics_segment *attached;

    metrics_add(metrics_open(made.segment, 2), made.ok, 5);
    memcpy(copy, made.segment, made.size);
    attached = metrics_segment_attach(copy, made.size);
    assert_non_null(attached);
    metrics_render(made.segment, &ours);
    metrics_render(attached, &theirs);
    assert_true(slice_equal(buffer_slice(&ours), buffer_slice(&theirs)));
    assert_null(metrics_segment_attach(copy, made.size - 1));
    assert_null(metrics_segment_attach(copy, 8));
    assert_null(metrics_segment_attach((char *)copy + 8, made.size - 8));
    memset(copy, 0, made.size);
    assert_null(metrics_segment_attach(copy, made.size));
    buffer_deinit(&ours);
    buffer_deinit(&theirs);
    free(copy);
}

/* Every byte of the description is set to each of a few values: what is still accepted must be
 * readable without a step outside (the sanitizers watch). */
static void a_damaged_segment_is_refused_or_harmless(void **state) {
    static const unsigned char values[] = {0x00, 0x01, 0x20, 0x22, 0x7f, 0x80, 0xff};
    unsigned char *copy = aligned_alloc(64, made.size);
    unsigned refused = 0;

    for (size_t at = 0; at < made.size; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            struct metrics_segment *attached;

            memcpy(copy, made.segment, made.size);
            copy[at] = values[v];
            attached = metrics_segment_attach(copy, made.size);
            if (attached) {
                struct buffer text = {0};

                metrics_render(attached, &text);
                buffer_deinit(&text);
            } else {
                refused++;
            }
        }
    }
    assert_true(refused > 500);
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_are_summed_and_the_text_is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sparse_series_shows_once_it_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writers_and_a_reader_go_on_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_process_reads_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_segment_is_refused_or_harmless, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
