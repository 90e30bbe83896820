/* Prometheus text, version 0.0.4, from a segment. */
#include "base/clock.h"
#include "metrics/segment.h"

#include <inttypes.h>

static void render_family(const struct metrics_segment *segment,
                          const struct segment_layout *layout, const struct segment_family *family,
                          struct buffer *out);
static void render_histogram(const struct metrics_segment *segment, const char *name,
                             const char *labels, metrics_cell cell, const int64_t *bounds,
                             uint32_t count, struct buffer *out);
static void append_name(struct buffer *out, const char *name, const char *suffix,
                        const char *labels);
static void append_seconds(struct buffer *out, int64_t ns);

void metrics_render(const struct metrics_segment *segment, struct buffer *out) {
    struct segment_layout layout;

    segment_layout((struct metrics_segment *)segment, &layout);
    for (uint32_t i = 0; i < segment->families; i++)
        render_family(segment, &layout, &layout.families[i], out);
}

static void render_family(const struct metrics_segment *segment,
                          const struct segment_layout *layout, const struct segment_family *family,
                          struct buffer *out) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    const char *name = layout->text + family->name;

    buffer_printf(out, "# HELP %s ", name);
    for (const char *at = layout->text + family->help; *at; at++) {
        if (*at == '\n')
            buffer_append(out, SLICE("\\n"));
        else if (*at == '\\')
            buffer_append(out, SLICE("\\\\"));
        else
            buffer_append_char(out, *at);
    }
    buffer_printf(out, "\n# TYPE %s %s\n", name, kinds[family->kind]);

    for (uint32_t i = 0; i < family->series; i++) {
        const struct segment_series *series = &layout->series[family->first_series + i];
        const char *labels = layout->text + series->labels;
        int64_t value;

        if (family->kind == METRICS_HISTOGRAM) {
            render_histogram(segment, name, labels, series->cell,
                             layout->bounds + family->first_bound, family->bounds, out);
            continue;
        }
        value = metrics_read(segment, series->cell);
        if (value == 0 && series->is_sparse)
            continue;
        append_name(out, name, "", labels);
        if (family->kind == METRICS_GAUGE)
            buffer_printf(out, "%" PRId64 "\n", value);
        else
            buffer_printf(out, "%" PRIu64 "\n", (uint64_t)value);
    }
}

/* The writers go on meanwhile: the total is never less than its parts. */
static void render_histogram(const struct metrics_segment *segment, const char *name,
                             const char *labels, metrics_cell cell, const int64_t *bounds,
                             uint32_t count, struct buffer *out) {
    int64_t total = metrics_read(segment, cell + HISTOGRAM_COUNT), below = 0;
    const char *comma = *labels ? "," : "";

    for (uint32_t i = 0; i < count; i++) {
        below += metrics_read(segment, cell + HISTOGRAM_BUCKETS + i);
        buffer_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        append_seconds(out, bounds[i]);
        buffer_printf(out, "\"} %" PRIu64 "\n", (uint64_t)below);
    }
    if (total < below)
        total = below;
    buffer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma,
                  (uint64_t)total);
    append_name(out, name, "_sum", labels);
    append_seconds(out, metrics_read(segment, cell + HISTOGRAM_SUM));
    buffer_append_char(out, '\n');
    append_name(out, name, "_count", labels);
    buffer_printf(out, "%" PRIu64 "\n", (uint64_t)total);
}

static void append_name(struct buffer *out, const char *name, const char *suffix,
                        const char *labels) {
    if (*labels)
        buffer_printf(out, "%s%s{%s} ", name, suffix, labels);
    else
        buffer_printf(out, "%s%s ", name, suffix);
}

/* Exact, without trailing zeros: 0.005, 1, 2.5. */
static void append_seconds(struct buffer *out, int64_t ns) {
    uint64_t n = (uint64_t)ns;

    buffer_printf(out, "%" PRIu64 ".%09" PRIu64, n / NS_PER_S, n % NS_PER_S);
    while (out->base[out->len - 1] == '0')
        out->len--;
    if (out->base[out->len - 1] == '.')
        out->len--;
}
