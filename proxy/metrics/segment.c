/* A segment in memory: its layout, the check of one that somebody else laid out, and the cells. */
#include "metrics/segment.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

static bool family_is_valid(const struct metrics_segment *segment,
                            const struct segment_layout *layout,
                            const struct segment_family *family);
static size_t round_up(size_t n, size_t to);
static bool is_name_char(char c, bool is_first);

bool segment_layout(struct metrics_segment *segment, struct segment_layout *layout) {
    char *base = (char *)segment;
    size_t at = round_up(sizeof *segment, SEGMENT_LINE);

    if (segment->families > SEGMENT_FAMILIES_MAX || segment->series > SEGMENT_SERIES_MAX ||
        segment->bounds > SEGMENT_BOUNDS_MAX || segment->text_bytes > SEGMENT_TEXT_MAX ||
        segment->cells > SEGMENT_CELLS_MAX || segment->writers > SEGMENT_WRITERS_MAX)
        return false;
    layout->families = (void *)(base + at);
    at += segment->families * sizeof *layout->families;
    layout->series = (void *)(base + at);
    at = round_up(at + segment->series * sizeof *layout->series, alignof(int64_t));
    layout->bounds = (void *)(base + at);
    at += segment->bounds * sizeof *layout->bounds;
    layout->text = base + at;
    at = round_up(at + segment->text_bytes, SEGMENT_LINE);
    layout->rows = base + at;
    layout->row_bytes = round_up(segment->cells * sizeof(uint64_t), SEGMENT_LINE);
    layout->size = at + layout->row_bytes * segment->writers;
    return true;
}

uint32_t segment_family_cells(const struct segment_family *family) {
    return family->kind == METRICS_HISTOGRAM ? HISTOGRAM_BUCKETS + family->bounds : 1;
}

struct metrics_segment *metrics_segment_attach(void *memory, size_t size) {
    struct metrics_segment *segment = memory;
    struct segment_layout layout;

    if ((uintptr_t)memory % SEGMENT_LINE != 0 || size < sizeof *segment ||
        segment->magic != SEGMENT_MAGIC || segment->version != SEGMENT_VERSION ||
        !segment_layout(segment, &layout) || segment->size != layout.size || layout.size > size ||
        segment->writers == 0)
        return NULL;
    if (segment->text_bytes > 0 && layout.text[segment->text_bytes - 1] != '\0')
        return NULL;
    for (uint32_t i = 0; i < segment->bounds; i++)
        if (layout.bounds[i] < 0)
            return NULL;
    for (uint32_t i = 0; i < segment->families; i++)
        if (!family_is_valid(segment, &layout, &layout.families[i]))
            return NULL;
    return segment;
}

struct metrics metrics_open(struct metrics_segment *segment, unsigned writer) {
    struct segment_layout layout;

    assert(writer < segment->writers);
    if (!segment_layout(segment, &layout))
        abort(); /* it was sound when it was made or attached */
    return (struct metrics){(void *)(layout.rows + writer * layout.row_bytes)};
}

void metrics_observe(struct metrics metrics, metrics_cell cell, const int64_t *bounds,
                     unsigned count, int64_t value_ns) {
    unsigned bucket = 0;

    while (bucket < count && value_ns > bounds[bucket])
        bucket++;
    if (bucket < count)
        metrics_add(metrics, cell + HISTOGRAM_BUCKETS + bucket, 1);
    metrics_add(metrics, cell + HISTOGRAM_SUM, value_ns);
    metrics_add(metrics, cell + HISTOGRAM_COUNT, 1);
}

int64_t metrics_read(const struct metrics_segment *segment, metrics_cell cell) {
    struct segment_layout layout;
    uint64_t sum = 0;

    assert(cell < segment->cells);
    if (!segment_layout((struct metrics_segment *)segment, &layout))
        abort(); /* as above */
    for (uint32_t i = 0; i < segment->writers; i++) {
        _Atomic uint64_t *row = (void *)(layout.rows + i * layout.row_bytes);

        sum += atomic_load_explicit(&row[cell], memory_order_relaxed);
    }
    return (int64_t)sum;
}

bool segment_name_is_valid(const char *name) {
    size_t i;

    for (i = 0; name[i]; i++)
        if (!is_name_char(name[i], i == 0) && name[i] != ':')
            return false;
    return i > 0;
}

bool segment_labels_are_valid(const char *labels) {
    const char *at = labels;

    while (*at) {
        if (at != labels && *at++ != ',')
            return false;
        if (!is_name_char(*at++, true))
            return false;
        while (is_name_char(*at, false))
            at++;
        if (*at++ != '=')
            return false;
        if (*at++ != '"')
            return false;
        for (; *at != '"'; at++) {
            if (*at == '\\') {
                at++;
                if (*at != '\\' && *at != '"' && *at != 'n')
                    return false;
            }
            if (*at == '\0' || *at == '\n')
                return false;
        }
        at++;
    }
    return true;
}

static bool family_is_valid(const struct metrics_segment *segment,
                            const struct segment_layout *layout,
                            const struct segment_family *family) {
    uint64_t cells = segment_family_cells(family);

    /* The text's last byte is known to be NUL: what starts inside it ends inside it. */
    if (family->kind > METRICS_HISTOGRAM || family->name >= segment->text_bytes ||
        family->help >= segment->text_bytes ||
        !segment_name_is_valid(layout->text + family->name) ||
        (uint64_t)family->first_series + family->series > segment->series ||
        (uint64_t)family->first_bound + family->bounds > segment->bounds)
        return false;
    if (family->kind == METRICS_HISTOGRAM && family->series > 0 && family->bounds == 0)
        return false;
    for (uint32_t i = 1; i < family->bounds; i++)
        if (layout->bounds[family->first_bound + i] <= layout->bounds[family->first_bound + i - 1])
            return false;
    for (uint32_t i = 0; i < family->series; i++) {
        const struct segment_series *series = &layout->series[family->first_series + i];

        if (series->labels >= segment->text_bytes ||
            !segment_labels_are_valid(layout->text + series->labels) ||
            series->cell + cells > segment->cells)
            return false;
    }
    return true;
}

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static bool is_name_char(char c, bool is_first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}
