/* Collects families and series before a segment is laid out. All of it comes from the config, so
 * what is wrong here is our own mistake. */
#include "base/alloc.h"
#include "metrics/segment.h"

#include <assert.h>
#include <stdlib.h>

struct built_series {
    struct segment_series series;
    uint32_t family;
};

struct metrics_builder {
    struct segment_family *families; /* owned */
    struct built_series *series;     /* owned; in order of arrival */
    int64_t *bounds;                 /* owned */
    struct buffer text;              /* owned */
    struct metrics_segment counts;
};

static uint32_t add_text(struct metrics_builder *builder, const char *text);
static metrics_cell add_series(struct metrics_builder *builder, unsigned family, const char *labels,
                               bool is_sparse);
static void *grow(void *array, uint32_t count, size_t item);

struct metrics_builder *metrics_builder_new(void) {
    return xcalloc(1, sizeof(struct metrics_builder));
}

void metrics_builder_free(struct metrics_builder *builder) {
    if (!builder)
        return;
    free(builder->families);
    free(builder->series);
    free(builder->bounds);
    buffer_deinit(&builder->text);
    free(builder);
}

unsigned metrics_family(struct metrics_builder *builder, enum metrics_kind kind, const char *name,
                        const char *help) {
    uint32_t index = builder->counts.families;

    assert(segment_name_is_valid(name));
    builder->families = grow(builder->families, index, sizeof *builder->families);
    builder->families[index] = (struct segment_family){
        .kind = kind, .name = add_text(builder, name), .help = add_text(builder, help)};
    builder->counts.families++;
    return index;
}

metrics_cell metrics_series(struct metrics_builder *builder, unsigned family, const char *labels) {
    assert(builder->families[family].kind != METRICS_HISTOGRAM);
    return add_series(builder, family, labels, false);
}

metrics_cell metrics_series_sparse(struct metrics_builder *builder, unsigned family,
                                   const char *labels) {
    assert(builder->families[family].kind != METRICS_HISTOGRAM);
    return add_series(builder, family, labels, true);
}

metrics_cell metrics_histogram(struct metrics_builder *builder, unsigned family, const char *labels,
                               const int64_t *bounds, unsigned count) {
    struct segment_family *f = &builder->families[family];

    assert(f->kind == METRICS_HISTOGRAM && count > 0);
    if (f->bounds == 0) {
        f->first_bound = builder->counts.bounds;
        f->bounds = count;
        for (unsigned i = 0; i < count; i++) {
            assert(i == 0 || bounds[i] > bounds[i - 1]);
            builder->bounds =
                grow(builder->bounds, builder->counts.bounds, sizeof *builder->bounds);
            builder->bounds[builder->counts.bounds++] = bounds[i];
        }
    }
    assert(f->bounds == count &&
           memcmp(builder->bounds + f->first_bound, bounds, count * sizeof *bounds) == 0);
    return add_series(builder, family, labels, false);
}

void metrics_label(struct buffer *labels, const char *name, const char *value) {
    if (labels->len > 0)
        buffer_append_char(labels, ',');
    buffer_append(labels, slice_str(name));
    buffer_append(labels, SLICE("=\""));
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            buffer_append_char(labels, '\\');
        if (*value == '\n')
            buffer_append(labels, SLICE("\\n"));
        else
            buffer_append_char(labels, *value);
    }
    buffer_append_char(labels, '"');
}

bool metrics_builder_fits(const struct metrics_builder *builder, unsigned writers) {
    struct metrics_segment counts = builder->counts;
    struct segment_layout layout;

    counts.text_bytes = (uint32_t)builder->text.len;
    counts.writers = writers;
    return builder->text.len <= SEGMENT_TEXT_MAX && segment_layout(&counts, &layout);
}

size_t metrics_segment_size(const struct metrics_builder *builder, unsigned writers) {
    struct metrics_segment counts = builder->counts;
    struct segment_layout layout;
    bool is_possible;

    counts.text_bytes = (uint32_t)builder->text.len;
    counts.writers = writers;
    is_possible = segment_layout(&counts, &layout);
    assert(is_possible);
    return layout.size;
}

struct metrics_segment *metrics_segment_init(void *memory, size_t size,
                                             const struct metrics_builder *builder,
                                             unsigned writers) {
    struct metrics_segment *segment = memory;
    struct segment_layout layout;
    uint32_t next = 0;

    assert(size >= metrics_segment_size(builder, writers));
    *segment = builder->counts;
    segment->version = SEGMENT_VERSION;
    segment->text_bytes = (uint32_t)builder->text.len;
    segment->writers = writers;
    segment_layout(segment, &layout);
    segment->size = layout.size;
    for (uint32_t f = 0; f < segment->families; f++) {
        layout.families[f] = builder->families[f];
        layout.families[f].first_series = next;
        for (uint32_t i = 0; i < segment->series; i++)
            if (builder->series[i].family == f)
                layout.series[next++] = builder->series[i].series;
    }
    if (segment->bounds > 0)
        memcpy(layout.bounds, builder->bounds, segment->bounds * sizeof *layout.bounds);
    if (segment->text_bytes > 0)
        memcpy(layout.text, builder->text.base, segment->text_bytes);
    segment->magic = SEGMENT_MAGIC; /* last: what has a magic is complete */
    return segment;
}

static uint32_t add_text(struct metrics_builder *builder, const char *text) {
    uint32_t at = (uint32_t)builder->text.len;

    buffer_append(&builder->text, slice_of(text, strlen(text) + 1));
    return at;
}

static metrics_cell add_series(struct metrics_builder *builder, unsigned family, const char *labels,
                               bool is_sparse) {
    uint32_t index = builder->counts.series, cell = builder->counts.cells;

    assert(family < builder->counts.families && segment_labels_are_valid(labels));
    builder->series = grow(builder->series, index, sizeof *builder->series);
    builder->series[index] = (struct built_series){
        {.labels = add_text(builder, labels), .cell = cell, .is_sparse = is_sparse}, family};
    builder->families[family].series++;
    builder->counts.series++;
    builder->counts.cells += segment_family_cells(&builder->families[family]);
    return cell;
}

/* Room for one more behind @count items: the array doubles at every power of two. */
static void *grow(void *array, uint32_t count, size_t item) {
    if ((count & (count - 1)) != 0)
        return array;
    return xrealloc(array, (count ? (size_t)count * 2 : 1) * item);
}
