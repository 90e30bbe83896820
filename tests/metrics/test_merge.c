/* Tests of the sum of segments. */
#include "metrics/metrics.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t bounds[] = {NS_PER_MS, NS_PER_S};
static const int64_t other_bounds[] = {NS_PER_MS, 2 * NS_PER_S};

struct made {
    struct metrics_segment *segment;
    metrics_cell a, b, gauge, latency;
};

/* A segment with series a and @b of one family, a gauge and a histogram. */
static struct made make(const char *b, const int64_t *with, enum metrics_kind kind) {
    struct metrics_builder *builder = metrics_builder_new();
    struct made made;
    unsigned requests, gauge, latency;
    size_t size;

    requests = metrics_family(builder, METRICS_COUNTER, "weir_requests_total", "Requests.");
    gauge = metrics_family(builder, kind, "weir_active", "Active.");
    latency = metrics_family(builder, METRICS_HISTOGRAM, "weir_seconds", "Time.");
    made.b = metrics_series(builder, requests, b);
    made.gauge = metrics_series(builder, gauge, "");
    made.a = metrics_series_sparse(builder, requests, "l=\"a\"");
    made.latency = metrics_histogram(builder, latency, "", with, 2);
    size = (metrics_segment_size(builder, 1) + 63) / 64 * 64;
    made.segment = aligned_alloc(64, size);
    memset(made.segment, 0, size);
    metrics_segment_init(made.segment, size, builder, 1);
    metrics_builder_free(builder);
    return made;
}

static void count(const struct made *made, int64_t a, int64_t b, int64_t gauge) {
    struct metrics metrics = metrics_open(made->segment, 0);

    metrics_add(metrics, made->a, a);
    metrics_add(metrics, made->b, b);
    metrics_set(metrics, made->gauge, gauge);
    metrics_observe(metrics, made->latency, bounds, 2, 2 * NS_PER_MS);
}

static char *render(const struct made *x, const struct made *y, bool has_gauges) {
    const struct metrics_segment *parts[] = {x->segment, y->segment};
    struct buffer text = {0};
    size_t size;
    struct metrics_segment *sum = metrics_merge(parts, 2, has_gauges, &size);

    assert_non_null(sum);
    assert_ptr_equal(metrics_segment_attach(sum, size), sum);
    metrics_render(sum, &text);
    buffer_append_char(&text, '\0');
    free(sum);
    free(x->segment);
    free(y->segment);
    return text.base;
}

static unsigned occurrences(const char *text, const char *what) {
    unsigned n = 0;

    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static void series_are_added_by_name_wherever_they_stand(void **state) {
    struct made x = make("l=\"b\"", bounds, METRICS_GAUGE);
    struct made y = make("l=\"c\"", bounds, METRICS_GAUGE);
    char *text;

    count(&x, 1, 10, 3);
    count(&y, 2, 20, 4);
    text = render(&x, &y, true);
    assert_non_null(strstr(text, "weir_requests_total{l=\"a\"} 3\n"));
    assert_non_null(strstr(text, "weir_requests_total{l=\"b\"} 10\n"));
    assert_non_null(strstr(text, "weir_requests_total{l=\"c\"} 20\n"));
    assert_non_null(strstr(text, "weir_active 7\n"));
    assert_non_null(strstr(text, "weir_seconds_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(text, "weir_seconds_bucket{le=\"1\"} 2\n"));
    assert_non_null(strstr(text, "weir_seconds_sum 0.004\n"));
    assert_non_null(strstr(text, "weir_seconds_count 2\n"));
    assert_int_equal(occurrences(text, "# TYPE weir_requests_total counter\n"), 1);
    free(text);
}

static void gauges_die_with_their_process(void **state) {
    struct made x = make("l=\"b\"", bounds, METRICS_GAUGE);
    struct made y = make("l=\"b\"", bounds, METRICS_GAUGE);
    char *text;

    count(&x, 1, 1, 3);
    count(&y, 1, 1, 4);
    text = render(&x, &y, false);
    assert_null(strstr(text, "weir_active"));
    assert_non_null(strstr(text, "weir_requests_total{l=\"b\"} 2\n"));
    free(text);
}

static void what_counts_otherwise_is_left_out(void **state) {
    struct made x = make("l=\"b\"", bounds, METRICS_GAUGE);
    struct made y = make("l=\"b\"", other_bounds, METRICS_COUNTER);
    char *text;

    count(&x, 1, 1, 3);
    count(&y, 1, 1, 4);
    text = render(&x, &y, true);
    assert_non_null(strstr(text, "weir_active 3\n"));
    assert_non_null(strstr(text, "weir_seconds_count 1\n"));
    assert_non_null(strstr(text, "weir_requests_total{l=\"b\"} 2\n"));
    free(text);
}

/* Enough series that the table in which they are found has many chains. */
static void many_series_keep_apart(void **state) {
    enum { MANY = 5000 };
    struct metrics_builder *builder = metrics_builder_new();
    unsigned family = metrics_family(builder, METRICS_COUNTER, "weir_many_total", "Many.");
    metrics_cell cells[MANY];
    const struct metrics_segment *parts[3];
    struct metrics_segment *segment, *sum;
    size_t size;

    for (unsigned i = 0; i < MANY; i++) {
        char labels[32];

        snprintf(labels, sizeof labels, "n=\"%u\"", i);
        cells[i] = metrics_series(builder, family, labels);
    }
    size = (metrics_segment_size(builder, 1) + 63) / 64 * 64;
    segment = aligned_alloc(64, size);
    memset(segment, 0, size);
    metrics_segment_init(segment, size, builder, 1);
    for (unsigned i = 0; i < MANY; i++)
        metrics_add(metrics_open(segment, 0), cells[i], i);
    parts[0] = parts[1] = parts[2] = segment;
    sum = metrics_merge(parts, 3, false, &size);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(metrics_read(sum, cells[i]), 3 * i); /* the same order */
    free(sum);
    free(segment);
    metrics_builder_free(builder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_are_added_by_name_wherever_they_stand),
        cmocka_unit_test(gauges_die_with_their_process),
        cmocka_unit_test(what_counts_otherwise_is_left_out),
        cmocka_unit_test(many_series_keep_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
