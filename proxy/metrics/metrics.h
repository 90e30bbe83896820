/* Counters in one self-describing segment of shared memory.
 *
 * A segment is made for one gateway. It holds a description (families and series, as text offsets)
 * and, for each writer (a loop thread, the admin thread, ...), its own row of 64-bit cells on cache
 * lines of its own. A writer adds to its row with plain relaxed stores; whoever renders sums the
 * rows. Nothing is ever locked, and a reader needs no knowledge of what the series mean: a later
 * process can fold a dead gateway's segment into its base. */
#pragma once

#include "base/buffer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

/* A series: index of its (first) cell in every row. */
typedef uint32_t metrics_cell;
#define METRICS_NONE UINT32_MAX

struct metrics_builder;
struct metrics_segment;

/* Home of a row: the thread that it was opened for, nobody else writes it. */
struct metrics {
    _Atomic uint64_t *cells; /* borrowed: the segment */
};

/* 1. Describe. Families first, their series behind them. Names are full ("weir_requests_total"). */
struct metrics_builder *metrics_builder_new(void);
void metrics_builder_free(struct metrics_builder *builder);
unsigned metrics_family(struct metrics_builder *builder, enum metrics_kind kind, const char *name,
                        const char *help);
/* @labels is a finished Prometheus label list without braces ("a=\"b\",c=\"d\"") or "". Values must
 * have gone through metrics_label(). */
metrics_cell metrics_series(struct metrics_builder *builder, unsigned family, const char *labels);
/* A histogram's series; @bounds are upper bounds in ns, ascending; rendered in seconds. All series
 * of one family have the same bounds. */
metrics_cell metrics_histogram(struct metrics_builder *builder, unsigned family, const char *labels,
                               const int64_t *bounds, unsigned count);
/* Series that are left out of the text while they are 0: for label sets that are large and sparse,
 * as status codes are. */
metrics_cell metrics_series_sparse(struct metrics_builder *builder, unsigned family,
                                   const char *labels);
/* Appends name="value" with the value escaped; a comma first when the buffer is not empty. */
void metrics_label(struct buffer *labels, const char *name, const char *value);

/* 2. Size, and lay out in memory that the caller provides (zeroed, page aligned: a memfd mapping).
 */
size_t metrics_segment_size(const struct metrics_builder *builder, unsigned writers);
struct metrics_segment *metrics_segment_init(void *memory, size_t size,
                                             const struct metrics_builder *builder,
                                             unsigned writers);
/* Looks at memory that somebody else laid out; NULL when it is none, damaged, or of another
 * version. Trusts nothing in it, but it must not change under a later reader: where its writer
 * lives and might be damaged, attach to a copy. */
struct metrics_segment *metrics_segment_attach(void *memory, size_t size);

/* 3. Write. */
struct metrics metrics_open(struct metrics_segment *segment, unsigned writer);

static inline void metrics_add(struct metrics metrics, metrics_cell cell, int64_t n) {
    _Atomic uint64_t *at = &metrics.cells[cell];

    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + (uint64_t)n,
                          memory_order_relaxed);
}

/* A gauge of this writer; what is rendered is the sum over writers. */
static inline void metrics_set(struct metrics metrics, metrics_cell cell, int64_t n) {
    atomic_store_explicit(&metrics.cells[cell], (uint64_t)n, memory_order_relaxed);
}

/* @bounds and @count as given to metrics_histogram(). */
void metrics_observe(struct metrics metrics, metrics_cell cell, const int64_t *bounds,
                     unsigned count, int64_t value_ns);

/* The value over all writers (histograms: the count of observations). */
int64_t metrics_read(const struct metrics_segment *segment, metrics_cell cell);

/* Sums @count segments that stand still or change by their writers only: the union of their series
 * in a new segment of one row, *@size bytes, which the caller frees. What a later segment calls
 * otherwise than an earlier one (kind, bounds) is left out. Without @has_gauges gauges are left
 * out: they died with their process, counters stay. NULL when the union is beyond what a segment
 * can hold. */
struct metrics_segment *metrics_merge(const struct metrics_segment *const *segments, size_t count,
                                      bool has_gauges, size_t *size);

/* 4. Render the segment as Prometheus text (version 0.0.4): HELP and TYPE once per family. */
void metrics_render(const struct metrics_segment *segment, struct buffer *out);
