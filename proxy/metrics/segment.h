/* The layout of a segment, shared by those who make, read and print one; nobody else includes it.
 *
 *     header | families | series, grouped by family | bounds | text | row | row | ...
 *
 * All places follow from the counts in the header, so there are no offsets to distrust. Texts are
 * NUL-terminated and named by their distance from the start of the text. A row holds one 64-bit
 * cell per series; a histogram's series has HISTOGRAM_BUCKETS + bounds cells: the number of
 * observations, their sum in ns, and the observations per bucket, not added up. */
#pragma once

#include "metrics/metrics.h"

#include <stdbool.h>

#define SEGMENT_MAGIC UINT64_C(0x77656972636e7473) /* "weircnts" */
#define SEGMENT_VERSION 1
#define SEGMENT_LINE 64 /* bytes of a cache line */

#define SEGMENT_FAMILIES_MAX 1024
#define SEGMENT_SERIES_MAX (1 << 20)
#define SEGMENT_BOUNDS_MAX (1 << 14)
#define SEGMENT_TEXT_MAX (1 << 28)
#define SEGMENT_CELLS_MAX (1 << 24)
#define SEGMENT_WRITERS_MAX 1024

enum histogram_cell { HISTOGRAM_COUNT, HISTOGRAM_SUM, HISTOGRAM_BUCKETS };

/* The header. */
struct metrics_segment {
    uint64_t magic;
    uint32_t version;
    uint32_t families;
    uint32_t series;
    uint32_t bounds;
    uint32_t text_bytes;
    uint32_t cells; /* of a row */
    uint32_t writers;
    uint32_t reserved; /* 0 */
    uint64_t size;     /* bytes of all */
};

struct segment_family {
    uint32_t kind; /* enum metrics_kind */
    uint32_t name, help;
    uint32_t first_series, series;
    uint32_t first_bound, bounds; /* METRICS_HISTOGRAM */
};

struct segment_series {
    uint32_t labels;
    uint32_t cell;
    uint32_t is_sparse;
};

struct segment_layout {
    struct segment_family *families;
    struct segment_series *series;
    int64_t *bounds;
    char *text;
    char *rows;
    size_t row_bytes;
    size_t size;
};

/* Where everything is, from the counts alone. False when a count is beyond its limit. */
bool segment_layout(struct metrics_segment *segment, struct segment_layout *layout);

/* The cells that one series of @family takes. */
uint32_t segment_family_cells(const struct segment_family *family);

/* Can what was described be laid out? */
bool metrics_builder_fits(const struct metrics_builder *builder, unsigned writers);

bool segment_name_is_valid(const char *name);
/* A finished list of labels: name="value",... */
bool segment_labels_are_valid(const char *labels);
