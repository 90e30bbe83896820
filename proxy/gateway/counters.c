/* The gateway's counters; see counters.h. */
#include "gateway/counters.h"

#include "codec/grpc.h"

#include "base/alloc.h"
#include "handler/guest.h"

#include <errno.h>
#include <stdlib.h>

const int64_t counters_bounds_ns[COUNTERS_BOUNDS] = {
    500 * NS_PER_US, 1 * NS_PER_MS,   2500 * NS_PER_US, 5 * NS_PER_MS,
    10 * NS_PER_MS,  25 * NS_PER_MS,  50 * NS_PER_MS,   100 * NS_PER_MS,
    250 * NS_PER_MS, 500 * NS_PER_MS, 1 * NS_PER_S,     2500 * NS_PER_MS,
    5 * NS_PER_S,    10 * NS_PER_S,   30 * NS_PER_S,    60 * NS_PER_S,
};

/* Status codes with a series of their own; all others are "other". */
static const uint16_t codes[] = {
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301,
    302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409,
    410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428,
    429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
};
#define CODES (sizeof codes / sizeof *codes)
#define PRIORITIES (PRIORITY_BACKGROUND + 1)
#define STATUS_END 600

static const struct {
    int err;
    const char *name;
} accept_errors[] = {
    {EMFILE, "EMFILE"}, {ENFILE, "ENFILE"}, {ENOBUFS, "ENOBUFS"},
    {ENOMEM, "ENOMEM"}, {EPERM, "EPERM"},   {ECONNABORTED, "ECONNABORTED"},
    {EPROTO, "EPROTO"}, {EINTR, "EINTR"},   {0, "other"},
};
#define ACCEPT_ERRORS (sizeof accept_errors / sizeof *accept_errors)

struct per_route {
    metrics_cell codes[COUNTERS_PROTOCOLS][CODES + 1];
    metrics_cell duration, first_byte;
    metrics_cell received, sent;
    metrics_cell grpc[GRPC_STATUSES];
};

struct per_listener {
    metrics_cell accepted, evicted;
    metrics_cell errors[ACCEPT_ERRORS];
    metrics_cell handshakes[HANDSHAKE_RESULTS]; /* of a listener with TLS */
};

/* As in enum call_outcome. */
static const char *const outcomes[] = {"continue", "respond",     "refuse",   "fault",
                                       "hang",     "quarantined", "bypassed", "full"};
#define OUTCOMES (sizeof outcomes / sizeof *outcomes)

struct per_handler {
    metrics_cell calls[OUTCOMES];
    metrics_cell faults[FAULT_KINDS]; /* the first one is none */
    metrics_cell duration, dirty;
};

struct per_pipeline {
    metrics_cell queue_wait;
    metrics_cell retried_well, retried_badly, no_budget;
    metrics_cell held;
    metrics_cell dropped[PRIORITIES];
};

struct counters {
    struct metrics_builder *builder; /* owned */
    size_t listeners, routes, pipelines;
    struct per_route *by_route;       /* [listener][route + none]; owned */
    struct per_listener *by_listener; /* owned */
    metrics_cell *rejected;           /* [listener][pipeline + none][fail]; owned */
    struct per_pipeline *by_pipeline; /* owned */
    struct per_handler *by_handler;   /* owned */
    metrics_cell active, streams, tunnels;
    uint8_t code_indices[STATUS_END]; /* by status, in codes[] */
};

void counters_evicted(const struct counters *c, struct metrics metrics, size_t listener,
                      unsigned count) {
    if (count > 0)
        metrics_add(metrics, c->by_listener[listener].evicted, count);
}

static bool is_possible(const struct config *config, size_t listener, size_t route);
static void add_route_families(struct counters *c, const struct config *config);
static void add_codes(struct counters *c, unsigned family, struct per_route *r,
                      struct buffer *labels);
static void add_grpc(struct counters *c, unsigned family, struct per_route *r,
                     struct buffer *labels);
static void add_rejected(struct counters *c, const struct config *config);
static void add_listeners(struct counters *c, const struct config *config);
static void add_pipelines(struct counters *c, const struct config *config);
static void add_handlers(struct counters *c, const struct config *config);
static bool is_dropped(enum fail fail);
static void count_pipeline(const struct per_pipeline *p, struct metrics metrics,
                           const struct counters_exchange *done);
static struct per_route *route_of(const struct counters *c, size_t listener, size_t route);
static unsigned code_index(const struct counters *c, unsigned status);

size_t counters_series(const struct config *config) {
    size_t pairs = 0;

    for (size_t listener = 0; listener < config->listener_count; listener++)
        for (size_t route = 0; route <= config->route_count; route++)
            pairs += is_possible(config, listener, route);
    return pairs * (sizeof(struct per_route) / sizeof(metrics_cell)) +
           config->listener_count *
               ((config->pipeline_count + 1) * FAILS + ACCEPT_ERRORS + HANDSHAKE_RESULTS + 1) +
           config->pipeline_count * (sizeof(struct per_pipeline) / sizeof(metrics_cell)) +
           config->handler_count * (sizeof(struct per_handler) / sizeof(metrics_cell));
}

struct counters *counters_new(const struct config *config) {
    struct counters *c = xcalloc(1, sizeof *c);
    unsigned family;

    c->builder = metrics_builder_new();
    c->listeners = config->listener_count;
    c->routes = config->route_count;
    c->pipelines = config->pipeline_count;
    memset(c->code_indices, CODES, sizeof c->code_indices);
    for (size_t i = 0; i < CODES; i++)
        c->code_indices[codes[i]] = (uint8_t)i;
    add_route_families(c, config);
    add_rejected(c, config);
    add_listeners(c, config);
    add_pipelines(c, config);
    if (config->handler_count > 0)
        add_handlers(c, config);
    family =
        metrics_family(c->builder, METRICS_GAUGE, "weir_exchanges_active", "Exchanges under way.");
    c->active = metrics_series(c->builder, family, "");
    family = metrics_family(c->builder, METRICS_GAUGE, "weir_streams_active",
                            "Live streams: event streams and tunnels.");
    c->streams = metrics_series(c->builder, family, "kind=\"response\"");
    c->tunnels = metrics_series(c->builder, family, "kind=\"tunnel\"");
    return c;
}

void counters_free(struct counters *c) {
    if (!c)
        return;
    metrics_builder_free(c->builder);
    free(c->by_route);
    free(c->by_listener);
    free(c->rejected);
    free(c->by_pipeline);
    free(c->by_handler);
    free(c);
}

const struct metrics_builder *counters_builder(const struct counters *c) {
    return c->builder;
}

void counters_count(const struct counters *c, struct metrics metrics,
                    const struct counters_exchange *done) {
    const struct per_route *route = route_of(c, done->listener, done->route);
    size_t pipeline = done->pipeline == COUNTERS_NO_PIPELINE ? c->pipelines : done->pipeline;

    metrics_add(metrics, route->codes[done->protocol][code_index(c, done->status)], 1);
    metrics_observe(metrics, route->duration, counters_bounds_ns, COUNTERS_BOUNDS,
                    done->duration_ns);
    if (done->first_byte_ns >= 0)
        metrics_observe(metrics, route->first_byte, counters_bounds_ns, COUNTERS_BOUNDS,
                        done->first_byte_ns);
    if (done->grpc_status >= 0)
        metrics_add(metrics, route->grpc[done->grpc_status], 1);
    metrics_add(metrics, route->received, (int64_t)done->received_bytes);
    metrics_add(metrics, route->sent, (int64_t)done->sent_bytes);
    if (done->fail != FAIL_NONE)
        metrics_add(
            metrics,
            c->rejected[(done->listener * (c->pipelines + 1) + pipeline) * FAILS + done->fail], 1);
    if (pipeline == c->pipelines)
        return;
    count_pipeline(&c->by_pipeline[pipeline], metrics, done);
}

void counters_exchange_active(const struct counters *c, struct metrics metrics, int by) {
    metrics_add(metrics, c->active, by);
}

void counters_stream_active(const struct counters *c, struct metrics metrics, bool is_tunnel,
                            int by) {
    metrics_add(metrics, is_tunnel ? c->tunnels : c->streams, by);
}

void counters_connection(const struct counters *c, struct metrics metrics, size_t listener) {
    metrics_add(metrics, c->by_listener[listener].accepted, 1);
}

void counters_handshake(const struct counters *c, struct metrics metrics, size_t listener,
                        enum handshake_result result) {
    metrics_add(metrics, c->by_listener[listener].handshakes[result], 1);
}

void counters_accept_error(const struct counters *c, struct metrics metrics, size_t listener,
                           int err) {
    size_t i = 0;

    while (i + 1 < ACCEPT_ERRORS && accept_errors[i].err != err)
        i++;
    metrics_add(metrics, c->by_listener[listener].errors[i], 1);
}

void counters_handler(const struct counters *c, struct metrics metrics, size_t handler,
                      enum call_outcome outcome, int64_t duration_ns) {
    metrics_add(metrics, c->by_handler[handler].calls[outcome], 1);
    metrics_observe(metrics, c->by_handler[handler].duration, counters_bounds_ns, COUNTERS_BOUNDS,
                    duration_ns);
}

void counters_handler_faults(const struct counters *c, struct metrics metrics, size_t handler,
                             unsigned kind, uint64_t total) {
    metrics_set(metrics, c->by_handler[handler].faults[kind], (int64_t)total);
}

void counters_handler_dirty(const struct counters *c, struct metrics metrics, size_t handler,
                            uint64_t total) {
    metrics_set(metrics, c->by_handler[handler].dirty, (int64_t)total);
}

int64_t counters_accepted(const struct counters *c, const struct metrics_segment *segment,
                          size_t listener) {
    return metrics_read(segment, c->by_listener[listener].accepted);
}

int64_t counters_requests(const struct counters *c, const struct metrics_segment *segment,
                          size_t listener) {
    int64_t sum = 0;

    for (size_t route = 0; route <= c->routes; route++) {
        const struct per_route *r = &c->by_route[listener * (c->routes + 1) + route];

        if (r->duration != METRICS_NONE)
            sum += metrics_read(segment, r->duration);
    }
    return sum;
}

int64_t counters_active(const struct counters *c, const struct metrics_segment *segment) {
    return metrics_read(segment, c->active);
}

static bool is_possible(const struct config *config, size_t listener, size_t route) {
    return route == config->route_count || config->routes[route].listener == CONFIG_ANY_LISTENER ||
           config->routes[route].listener == listener;
}

/* Each family's series stand together, so there is a round per family. */
static void add_route_families(struct counters *c, const struct config *config) {
    unsigned requests =
        metrics_family(c->builder, METRICS_COUNTER, "weir_requests_total",
                       "Finished exchanges, by the status that the client got (499: it had left).");
    unsigned duration =
        metrics_family(c->builder, METRICS_HISTOGRAM, "weir_request_duration_seconds",
                       "From the end of the request head to the end of the response.");
    unsigned first_byte =
        metrics_family(c->builder, METRICS_HISTOGRAM, "weir_time_to_first_byte_seconds",
                       "From the end of the request head to the response head.");
    unsigned grpc = metrics_family(c->builder, METRICS_COUNTER, "weir_grpc_requests_total",
                                   "Finished gRPC calls, by the status that the client got.");
    unsigned received = metrics_family(c->builder, METRICS_COUNTER, "weir_received_bytes_total",
                                       "Request content that clients have sent.");
    unsigned sent = metrics_family(c->builder, METRICS_COUNTER, "weir_sent_bytes_total",
                                   "Response content that was sent to clients.");

    c->by_route = xcalloc(c->listeners * (c->routes + 1), sizeof *c->by_route);
    for (size_t listener = 0; listener < c->listeners; listener++) {
        for (size_t route = 0; route <= c->routes; route++) {
            struct per_route *r = &c->by_route[listener * (c->routes + 1) + route];
            struct buffer labels = {0};
            size_t len;

            r->duration = METRICS_NONE;
            if (!is_possible(config, listener, route))
                continue;
            metrics_label(&labels, "listener", config->listeners[listener].name);
            metrics_label(&labels, "route",
                          route < c->routes ? config->routes[route].name : "none");
            buffer_append_char(&labels, '\0');
            r->duration = metrics_histogram(c->builder, duration, labels.base, counters_bounds_ns,
                                            COUNTERS_BOUNDS);
            r->first_byte = metrics_histogram(c->builder, first_byte, labels.base,
                                              counters_bounds_ns, COUNTERS_BOUNDS);
            r->received = metrics_series(c->builder, received, labels.base);
            r->sent = metrics_series(c->builder, sent, labels.base);
            labels.len--;
            len = labels.len;
            add_codes(c, requests, r, &labels);
            labels.len = len;
            add_grpc(c, grpc, r, &labels);
            buffer_deinit(&labels);
        }
    }
}

static void add_grpc(struct counters *c, unsigned family, struct per_route *r,
                     struct buffer *labels) {
    size_t len = labels->len;

    for (unsigned status = 0; status < GRPC_STATUSES; status++) {
        labels->len = len;
        metrics_label(labels, "grpc_status", grpc_status_name(status));
        buffer_append_char(labels, '\0');
        r->grpc[status] = metrics_series_sparse(c->builder, family, labels->base);
    }
}

static void add_codes(struct counters *c, unsigned family, struct per_route *r,
                      struct buffer *labels) {
    static const char *const protocols[COUNTERS_PROTOCOLS] = {"http1", "http2"};
    size_t route = labels->len, len;

    for (size_t protocol = 0; protocol < COUNTERS_PROTOCOLS; protocol++) {
        labels->len = route;
        metrics_label(labels, "protocol", protocols[protocol]);
        len = labels->len;
        for (size_t i = 0; i <= CODES; i++) {
            char code[8] = "other";

            if (i < CODES)
                code[uint_to_text(code, codes[i])] = '\0';
            labels->len = len;
            metrics_label(labels, "code", code);
            buffer_append_char(labels, '\0');
            r->codes[protocol][i] = metrics_series_sparse(c->builder, family, labels->base);
        }
    }
}

static void add_rejected(struct counters *c, const struct config *config) {
    unsigned family = metrics_family(c->builder, METRICS_COUNTER, "weir_rejected_total",
                                     "Exchanges that weir answered or ended itself, by reason.");

    c->rejected = xcalloc(c->listeners * (c->pipelines + 1) * FAILS, sizeof *c->rejected);
    for (size_t listener = 0; listener < c->listeners; listener++) {
        for (size_t pipeline = 0; pipeline <= c->pipelines; pipeline++) {
            for (unsigned fail = FAIL_NONE + 1; fail < FAILS; fail++) {
                struct buffer labels = {0};

                metrics_label(&labels, "listener", config->listeners[listener].name);
                metrics_label(&labels, "pipeline",
                              pipeline < c->pipelines ? config->pipelines[pipeline].name : "none");
                metrics_label(&labels, "reason", fail_row(fail)->reason);
                buffer_append_char(&labels, '\0');
                c->rejected[(listener * (c->pipelines + 1) + pipeline) * FAILS + fail] =
                    metrics_series_sparse(c->builder, family, labels.base);
                buffer_deinit(&labels);
            }
        }
    }
}

static void add_listeners(struct counters *c, const struct config *config) {
    unsigned accepted = metrics_family(c->builder, METRICS_COUNTER, "weir_accepted_total",
                                       "Client connections accepted.");
    unsigned errors =
        metrics_family(c->builder, METRICS_COUNTER, "weir_listener_accept_errors_total",
                       "Failed accepts, by error.");
    unsigned handshakes = metrics_family(c->builder, METRICS_COUNTER, "weir_tls_handshakes_total",
                                         "TLS handshakes of clients, by result.");

    unsigned evicted = metrics_family(c->builder, METRICS_COUNTER, "weir_evicted_total",
                                      "Idle client connections closed to make room.");

    c->by_listener = xcalloc(c->listeners, sizeof *c->by_listener);
    for (size_t listener = 0; listener < c->listeners; listener++) {
        struct buffer labels = {0};
        size_t len;

        metrics_label(&labels, "listener", config->listeners[listener].name);
        len = labels.len;
        buffer_append_char(&labels, '\0');
        c->by_listener[listener].accepted = metrics_series(c->builder, accepted, labels.base);
        c->by_listener[listener].evicted = metrics_series(c->builder, evicted, labels.base);
        for (size_t i = 0; i < ACCEPT_ERRORS; i++) {
            labels.len = len;
            metrics_label(&labels, "errno", accept_errors[i].name);
            buffer_append_char(&labels, '\0');
            c->by_listener[listener].errors[i] =
                metrics_series_sparse(c->builder, errors, labels.base);
        }
        for (unsigned i = 0; config->listeners[listener].tls.is_on && i < HANDSHAKE_RESULTS; i++) {
            labels.len = len;
            metrics_label(&labels, "result", handshake_result_name(i));
            buffer_append_char(&labels, '\0');
            c->by_listener[listener].handshakes[i] =
                metrics_series(c->builder, handshakes, labels.base);
        }
        buffer_deinit(&labels);
    }
}

static void count_pipeline(const struct per_pipeline *p, struct metrics metrics,
                           const struct counters_exchange *done) {
    bool is_well = done->fail == FAIL_NONE && done->status < 500;

    if (done->queue_wait_ns >= 0)
        metrics_observe(metrics, p->queue_wait, counters_bounds_ns, COUNTERS_BOUNDS,
                        done->queue_wait_ns);
    if (done->retries > 0)
        metrics_add(metrics, is_well ? p->retried_well : p->retried_badly, done->retries);
    if (done->has_no_budget)
        metrics_add(metrics, p->no_budget, 1);
    if (done->was_held)
        metrics_add(metrics, p->held, 1);
    if (is_dropped(done->fail))
        metrics_add(metrics, p->dropped[done->priority], 1);
}

static void add_pipelines(struct counters *c, const struct config *config) {
    unsigned wait =
        metrics_family(c->builder, METRICS_HISTOGRAM, "weir_pipeline_queue_wait_seconds",
                       "From reaching the queue to being sent on, but for what was held.");
    unsigned retries = metrics_family(c->builder, METRICS_COUNTER, "weir_pipeline_retries_total",
                                      "Attempts beyond the first, by how their exchange ended.");
    unsigned no_budget = metrics_family(
        c->builder, METRICS_COUNTER, "weir_pipeline_retries_over_budget_total",
        "Exchanges that would have been tried once more, had there been budget for it.");
    unsigned held = metrics_family(c->builder, METRICS_COUNTER, "weir_pipeline_held_total",
                                   "Exchanges that waited for an endpoint to come back.");

    unsigned dropped =
        metrics_family(c->builder, METRICS_COUNTER, "weir_pipeline_queue_dropped_total",
                       "Exchanges that a queue has refused or dropped, by priority.");

    c->by_pipeline = xcalloc(c->pipelines, sizeof *c->by_pipeline);
    for (size_t pipeline = 0; pipeline < c->pipelines; pipeline++) {
        struct per_pipeline *p = &c->by_pipeline[pipeline];
        struct buffer labels = {0};
        size_t len;

        metrics_label(&labels, "pipeline", config->pipelines[pipeline].name);
        len = labels.len;
        buffer_append_char(&labels, '\0');
        p->queue_wait =
            metrics_histogram(c->builder, wait, labels.base, counters_bounds_ns, COUNTERS_BOUNDS);
        p->no_budget = metrics_series(c->builder, no_budget, labels.base);
        p->held = metrics_series(c->builder, held, labels.base);
        labels.len = len;
        metrics_label(&labels, "result", "ok");
        buffer_append_char(&labels, '\0');
        p->retried_well = metrics_series(c->builder, retries, labels.base);
        labels.len = len;
        metrics_label(&labels, "result", "failed");
        buffer_append_char(&labels, '\0');
        p->retried_badly = metrics_series(c->builder, retries, labels.base);
        for (unsigned priority = 0; priority < PRIORITIES; priority++) {
            labels.len = len;
            metrics_label(&labels, "priority", config_priority_name(priority));
            buffer_append_char(&labels, '\0');
            p->dropped[priority] = metrics_series(c->builder, dropped, labels.base);
        }
        buffer_deinit(&labels);
    }
}

static void add_handlers(struct counters *c, const struct config *config) {
    unsigned calls = metrics_family(c->builder, METRICS_COUNTER, "weir_handler_calls_total",
                                    "Calls of a handler, by what came of them.");
    unsigned duration =
        metrics_family(c->builder, METRICS_HISTOGRAM, "weir_handler_duration_seconds",
                       "From asking for a call of a handler to its answer.");

    unsigned faults = metrics_family(c->builder, METRICS_COUNTER, "weir_handler_faults_total",
                                     "Calls of a handler that crashed or hung, and processes "
                                     "of it that used too much CPU; by kind.");
    unsigned dirty = metrics_family(c->builder, METRICS_COUNTER, "weir_handler_dirty_faults_total",
                                    "Those that left the process in doubt.");

    c->by_handler = xcalloc(config->handler_count, sizeof *c->by_handler);
    for (size_t handler = 0; handler < config->handler_count; handler++) {
        struct per_handler *h = &c->by_handler[handler];
        struct buffer labels = {0};
        size_t len;

        metrics_label(&labels, "handler", config->handlers[handler].name);
        len = labels.len;
        buffer_append_char(&labels, '\0');
        h->duration = metrics_histogram(c->builder, duration, labels.base, counters_bounds_ns,
                                        COUNTERS_BOUNDS);
        for (size_t i = 0; i < OUTCOMES; i++) {
            labels.len = len;
            metrics_label(&labels, "outcome", outcomes[i]);
            buffer_append_char(&labels, '\0');
            h->calls[i] = metrics_series(c->builder, calls, labels.base);
        }
        for (unsigned kind = FAULT_NONE + 1; kind < FAULT_KINDS; kind++) {
            labels.len = len;
            metrics_label(&labels, "kind", fault_kind_name(kind));
            buffer_append_char(&labels, '\0');
            h->faults[kind] = metrics_series(c->builder, faults, labels.base);
        }
        labels.len = len;
        buffer_append_char(&labels, '\0');
        h->dirty = metrics_series(c->builder, dirty, labels.base);
        buffer_deinit(&labels);
    }
}

static struct per_route *route_of(const struct counters *c, size_t listener, size_t route) {
    return &c->by_route[listener * (c->routes + 1) +
                        (route == COUNTERS_NO_ROUTE ? c->routes : route)];
}

/* Was it the queue's decision? */
static bool is_dropped(enum fail fail) {
    return fail == FAIL_QUEUE_FULL || fail == FAIL_QUEUE_TIMEOUT || fail == FAIL_QUEUE_DROPPED ||
           fail == FAIL_OVERLOADED || fail == FAIL_DEADLINE_UNMET;
}

static unsigned code_index(const struct counters *c, unsigned status) {
    return status < STATUS_END ? c->code_indices[status] : CODES;
}
