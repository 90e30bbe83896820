/* The gateway's counters: which families and series there are, by listener, route and pipeline, and
 * where in the segment. Made from the configuration alone, so that whoever provides the segment's
 * memory knows its size before the gateway exists. Immutable afterwards. */
#pragma once

#include "config/config.h"
#include "exchange/exchange.h"
#include "handler/call.h"
#include "metrics/metrics.h"
#include "transport/handshakes.h"

#define COUNTERS_BOUNDS 16

extern const int64_t counters_bounds_ns[COUNTERS_BOUNDS];

struct counters;

/* Series that a segment can describe, with some to spare for what is not counted per route. */
#define COUNTERS_SERIES_MAX 1000000

/* How many series @config asks for: mostly 149 for each route of each listener. More than
 * COUNTERS_SERIES_MAX cannot be had. */
size_t counters_series(const struct config *config);

struct counters *counters_new(const struct config *config);
void counters_free(struct counters *counters);
const struct metrics_builder *counters_builder(const struct counters *counters);

#define COUNTERS_NO_ROUTE SIZE_MAX
#define COUNTERS_NO_PIPELINE SIZE_MAX

enum counters_protocol { COUNTERS_HTTP1, COUNTERS_HTTP2, COUNTERS_PROTOCOLS };

/* What one finished exchange adds. */
struct counters_exchange {
    size_t listener;
    size_t route;                    /* COUNTERS_NO_ROUTE: none was found */
    size_t pipeline;                 /* COUNTERS_NO_PIPELINE */
    enum counters_protocol protocol; /* one that the listener speaks */
    unsigned status;                 /* what the client got, or would have got */
    int64_t duration_ns;
    int64_t first_byte_ns;               /* from start to response head; -1: none */
    int64_t queue_wait_ns;               /* -1: never reached the queue */
    enum fail fail;                      /* weir's own answer, or why it ended early; FAIL_NONE */
    uint64_t received_bytes, sent_bytes; /* content */
    unsigned retries;
    bool has_no_budget; /* it would have been tried once more */
    bool was_held;
    int grpc_status; /* -1: no gRPC call */
};

void counters_count(const struct counters *counters, struct metrics metrics,
                    const struct counters_exchange *done);

void counters_exchange_active(const struct counters *counters, struct metrics metrics, int by);
void counters_stream_active(const struct counters *counters, struct metrics metrics, bool is_tunnel,
                            int by);
void counters_connection(const struct counters *counters, struct metrics metrics, size_t listener);
void counters_handshake(const struct counters *counters, struct metrics metrics, size_t listener,
                        enum handshake_result result);
/* @count idle connections were closed to make room. */
void counters_evicted(const struct counters *counters, struct metrics metrics, size_t listener,
                      unsigned count);
void counters_accept_error(const struct counters *counters, struct metrics metrics, size_t listener,
                           int err);

/* One call of a handler is over, @duration_ns after it was asked for. */
void counters_handler(const struct counters *counters, struct metrics metrics, size_t handler,
                      enum call_outcome outcome, int64_t duration_ns);

/* How often a handler has failed since the gateway began, by enum fault_kind, and in all with doubt
 * about the process. By one loop only. */
void counters_handler_faults(const struct counters *counters, struct metrics metrics,
                             size_t handler, unsigned kind, uint64_t total);
void counters_handler_dirty(const struct counters *counters, struct metrics metrics, size_t handler,
                            uint64_t total);

/* Sums over all loops, for the status page. */
int64_t counters_accepted(const struct counters *counters, const struct metrics_segment *segment,
                          size_t listener);
int64_t counters_requests(const struct counters *counters, const struct metrics_segment *segment,
                          size_t listener);
int64_t counters_active(const struct counters *counters, const struct metrics_segment *segment);
