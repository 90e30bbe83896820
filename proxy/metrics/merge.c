/* The sum of several segments, series by series: what a dead process has counted, and what several
 * live ones count at the same time. */
#include "base/alloc.h"
#include "metrics/segment.h"

#include <stdlib.h>

#define NO_FAMILY UINT32_MAX

/* A series of the union; found by its family and its labels. */
struct merged_series {
    const char *labels; /* borrowed: a segment; NULL: the place is free */
    uint32_t family;
    metrics_cell cell;
};

struct merge {
    struct metrics_builder *builder;
    bool has_gauges;
    struct segment_family families[SEGMENT_FAMILIES_MAX]; /* of the union; .name is not used */
    const char *names[SEGMENT_FAMILIES_MAX];              /* borrowed: a segment */
    const int64_t *bounds[SEGMENT_FAMILIES_MAX];          /* borrowed: a segment; histograms */
    uint32_t family_count;
    struct merged_series *series; /* an open hash table, at most half full */
    size_t places;                /* a power of two */
};

static void describe(struct merge *merge, const struct metrics_segment *segment);
static void add_up(struct merge *merge, struct metrics to, const struct metrics_segment *segment);
static uint32_t find_family(const struct merge *merge, const struct segment_layout *layout,
                            const struct segment_family *family);
static uint32_t add_family(struct merge *merge, const struct segment_layout *layout,
                           const struct segment_family *family);
static struct merged_series *find_series(const struct merge *merge, uint32_t family,
                                         const char *labels);

struct metrics_segment *metrics_merge(const struct metrics_segment *const *segments, size_t count,
                                      bool has_gauges, size_t *size) {
    struct merge *merge = xcalloc(1, sizeof *merge);
    struct metrics_segment *result = NULL;
    size_t total = 0;

    merge->builder = metrics_builder_new();
    merge->has_gauges = has_gauges;
    merge->places = 64;
    for (size_t i = 0; i < count; i++)
        total += segments[i]->series;
    while (merge->places < 2 * total)
        merge->places *= 2;
    merge->series = xcalloc(merge->places, sizeof *merge->series);
    for (size_t i = 0; i < count; i++)
        describe(merge, segments[i]);
    if (metrics_builder_fits(merge->builder, 1)) {
        *size = metrics_segment_size(merge->builder, 1);
        *size = (*size + SEGMENT_LINE - 1) / SEGMENT_LINE * SEGMENT_LINE;
        result = aligned_alloc(SEGMENT_LINE, *size);
        if (!result)
            abort(); /* out of memory */
        memset(result, 0, *size);
        metrics_segment_init(result, *size, merge->builder, 1);
        for (size_t i = 0; i < count; i++)
            add_up(merge, metrics_open(result, 0), segments[i]);
    }
    metrics_builder_free(merge->builder);
    free(merge->series);
    free(merge);
    return result;
}

static void describe(struct merge *merge, const struct metrics_segment *segment) {
    struct segment_layout layout;

    segment_layout((struct metrics_segment *)segment, &layout);
    for (uint32_t i = 0; i < segment->families; i++) {
        const struct segment_family *family = &layout.families[i];
        uint32_t index = add_family(merge, &layout, family);

        for (uint32_t j = 0; index != NO_FAMILY && j < family->series; j++) {
            const struct segment_series *series = &layout.series[family->first_series + j];
            const char *labels = layout.text + series->labels;
            struct merged_series *place = find_series(merge, index, labels);

            if (place->labels)
                continue;
            *place = (struct merged_series){labels, index, 0};
            if (family->kind == METRICS_HISTOGRAM)
                place->cell = metrics_histogram(merge->builder, index, labels, merge->bounds[index],
                                                family->bounds);
            else if (series->is_sparse)
                place->cell = metrics_series_sparse(merge->builder, index, labels);
            else
                place->cell = metrics_series(merge->builder, index, labels);
        }
    }
}

static void add_up(struct merge *merge, struct metrics to, const struct metrics_segment *segment) {
    struct segment_layout layout;

    segment_layout((struct metrics_segment *)segment, &layout);
    for (uint32_t i = 0; i < segment->families; i++) {
        const struct segment_family *family = &layout.families[i];
        uint32_t index = find_family(merge, &layout, family);
        uint32_t cells = segment_family_cells(family);

        for (uint32_t j = 0; index != NO_FAMILY && j < family->series; j++) {
            const struct segment_series *series = &layout.series[family->first_series + j];
            metrics_cell cell = find_series(merge, index, layout.text + series->labels)->cell;

            for (uint32_t k = 0; k < cells; k++)
                metrics_add(to, cell + k, metrics_read(segment, series->cell + k));
        }
    }
}

/* NO_FAMILY: there is none that is counted alike. */
static uint32_t find_family(const struct merge *merge, const struct segment_layout *layout,
                            const struct segment_family *family) {
    const char *name = layout->text + family->name;

    for (uint32_t i = 0; i < merge->family_count; i++) {
        const struct segment_family *known = &merge->families[i];

        if (strcmp(merge->names[i], name) != 0)
            continue;
        if (known->kind != family->kind)
            return NO_FAMILY;
        if (family->kind == METRICS_HISTOGRAM && family->series > 0 && known->bounds > 0 &&
            (known->bounds != family->bounds ||
             memcmp(merge->bounds[i], layout->bounds + family->first_bound,
                    family->bounds * sizeof(int64_t)) != 0))
            return NO_FAMILY;
        return i;
    }
    return NO_FAMILY;
}

static uint32_t add_family(struct merge *merge, const struct segment_layout *layout,
                           const struct segment_family *family) {
    const char *name = layout->text + family->name;
    uint32_t index = NO_FAMILY;

    if (family->kind == METRICS_GAUGE && !merge->has_gauges)
        return NO_FAMILY;
    for (uint32_t i = 0; i < merge->family_count && index == NO_FAMILY; i++)
        if (strcmp(merge->names[i], name) == 0)
            index = i;
    if (index == NO_FAMILY) {
        if (merge->family_count == SEGMENT_FAMILIES_MAX)
            return NO_FAMILY;
        index = merge->family_count++;
        merge->names[index] = name;
        merge->families[index].kind = family->kind;
        metrics_family(merge->builder, family->kind, name, layout->text + family->help);
    }
    index = find_family(merge, layout, family);
    if (index != NO_FAMILY && family->series > 0 && merge->families[index].bounds == 0) {
        merge->families[index].bounds = family->bounds;
        merge->bounds[index] = layout->bounds + family->first_bound;
    }
    return index;
}

/* Its place, or the free one that it would take. */
static struct merged_series *find_series(const struct merge *merge, uint32_t family,
                                         const char *labels) {
    uint64_t hash = UINT64_C(14695981039346656037) ^ family; /* FNV-1a */

    for (const char *at = labels; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    for (size_t at = hash & (merge->places - 1);; at = (at + 1) & (merge->places - 1)) {
        struct merged_series *place = &merge->series[at];

        if (!place->labels || (place->family == family && strcmp(place->labels, labels) == 0))
            return place;
    }
}
