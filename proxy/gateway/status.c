/* What the admin plane tells of the gateway: the status object and the gauges that are read from
 * live atomics instead of the segment. Any thread; waits for no loop. */
#include "gateway/gateway.h"
#include "gateway/status_endpoints.h"

#include <inttypes.h>

static json_t *loops_of(const struct gateway *gateway);
static bool is_stalled(const struct gateway_loop *gl, int64_t now_ns, int64_t after_ns);
static json_t *fds_of(struct gateway *gateway);
static json_t *listeners_of(struct gateway *gateway);
static json_t *pipelines_of(struct gateway *gateway);
static double oldest_s(const struct gateway *gateway);
static void family(struct buffer *text, const char *name, const char *kind, const char *help);
static void collect_overload(struct gateway *gateway, struct buffer *text);
static unsigned actions_of(const struct gateway *gateway);
static json_t *overload_of(const struct gateway *gateway);
static void collect_connections(struct gateway *gateway, struct buffer *text);
static double buffered_bytes(const struct gateway *gateway);
static void collect_pipelines(struct gateway *gateway, struct buffer *text);
static void sample(struct buffer *text, const char *name, const struct buffer *labels,
                   double value);

json_t *gateway_status(struct gateway *gateway) {
    return json_pack(
        "{s:i, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o*}", "threads", (int)gateway->loop_count,
        "exchanges", (json_int_t)counters_active(gateway->counters, gateway->segment),
        "oldest_exchange_s", oldest_s(gateway), "loops", loops_of(gateway), "fds", fds_of(gateway),
        "overload", overload_of(gateway), "listeners", listeners_of(gateway), "pipelines",
        pipelines_of(gateway), "children", children_summary(gateway), "handlers",
        gateway->handlers ? handlers_status(gateway->handlers) : NULL);
}

bool gateway_is_wedged(const struct gateway *gateway) {
    int64_t after_ns = gateway->config->server.wedge_after_ns, now_ns = clock_now_ns();

    for (unsigned i = 0; after_ns > 0 && i < gateway->loop_count; i++)
        if (is_stalled(&gateway->loops[i], now_ns, after_ns))
            return true;
    return false;
}

void gateway_collect(struct gateway *gateway, struct buffer *text) {
    const struct config *config = gateway->config;
    struct buffer labels = {0};

    family(text, "weir_oldest_exchange_age_seconds", "gauge", "Age of the oldest exchange.");
    sample(text, "weir_oldest_exchange_age_seconds", NULL, oldest_s(gateway));
    collect_connections(gateway, text);
    family(text, "weir_connections_max", "gauge", "How many there may be.");
    sample(text, "weir_connections_max", NULL, gateway->connections.limit);
    family(text, "weir_fds", "gauge", "File descriptors in use, by class.");
    for (unsigned i = FD_CLIENT; i <= FD_UPSTREAM; i++) {
        labels.len = 0;
        metrics_label(&labels, "class", fds_class_name(i));
        sample(text, "weir_fds", &labels, fds_used(&gateway->fds, i));
    }
    family(text, "weir_fd_limit", "gauge", "RLIMIT_NOFILE that the budget was made for.");
    sample(text, "weir_fd_limit", NULL, config->admission.fd_limit);
    family(text, "weir_buffered_bytes", "gauge", "Content that waits for its reader.");
    sample(text, "weir_buffered_bytes", NULL, buffered_bytes(gateway));
    family(text, "weir_loop_lag_seconds", "gauge", "How late the last tick of a loop was.");
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        labels.len = 0;
        buffer_printf(&labels, "loop=\"%u\"", i);
        sample(text, "weir_loop_lag_seconds", &labels,
               (double)atomic_load(&gateway->loops[i].lag_ns) / 1e9);
    }
    collect_overload(gateway, text);
    family(text, "weir_listener_up", "gauge", "1 while the listener accepts.");
    for (size_t i = 0; i < config->listener_count; i++) {
        labels.len = 0;
        metrics_label(&labels, "listener", config->listeners[i].name);
        sample(text, "weir_listener_up", &labels,
               atomic_load(&gateway->state) == GATEWAY_LIVE ? 1 : 0);
    }
    buffer_deinit(&labels);
    collect_pipelines(gateway, text);
    status_collect_endpoints(gateway, text);
    children_collect(gateway, text);
    security_collect(&gateway->security, text);
    if (!gateway->handlers)
        return;
    handlers_collect(gateway->handlers, text);
    family(text, "weir_handler_memory_bytes", "gauge",
           "Content of requests that is collected for handlers.");
    sample(text, "weir_handler_memory_bytes", NULL,
           (double)atomic_load(&gateway->handling_memory.used));
    family(text, "weir_handler_memory_limit_bytes", "gauge", "How much there may be.");
    sample(text, "weir_handler_memory_limit_bytes", NULL, (double)gateway->handling_memory.limit);
}

static json_t *loops_of(const struct gateway *gateway) {
    int64_t after_ns = gateway->config->server.wedge_after_ns, now_ns = clock_now_ns();
    json_t *list = json_array();

    for (unsigned i = 0; i < gateway->loop_count; i++) {
        const struct gateway_loop *gl = &gateway->loops[i];
        int64_t alive_ns = atomic_load_explicit(&gl->loop.pulse->alive_ns, memory_order_relaxed);
        const char *state = atomic_load(&gl->has_ended)                        ? "ended"
                            : after_ns > 0 && is_stalled(gl, now_ns, after_ns) ? "wedged"
                                                                               : "live";

        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:f, s:f}", "loop", (int)i, "state", state,
                                        "progress_s", (double)(now_ns - alive_ns) / 1e9, "lag_s",
                                        (double)atomic_load(&gl->lag_ns) / 1e9));
    }
    return list;
}

static bool is_stalled(const struct gateway_loop *gl, int64_t now_ns, int64_t after_ns) {
    int64_t alive_ns = atomic_load_explicit(&gl->loop.pulse->alive_ns, memory_order_relaxed);

    return !atomic_load(&gl->has_ended) && now_ns - alive_ns >= after_ns;
}

static void collect_overload(struct gateway *gateway, struct buffer *text) {
    unsigned actions = actions_of(gateway);
    struct buffer labels = {0};

    family(text, "weir_overload_state", "gauge",
           "1 while weir sheds load in that way, on any loop.");
    for (unsigned i = 0; i < PRESSURE_ACTIONS; i++) {
        labels.len = 0;
        metrics_label(&labels, "action", pressure_action_name(i));
        sample(text, "weir_overload_state", &labels, actions >> i & 1);
    }
    buffer_deinit(&labels);
    family(text, "weir_memory_limit_bytes", "gauge",
           "Resident memory that overload is measured against; 0: not known.");
    sample(text, "weir_memory_limit_bytes", NULL, (double)gateway->memory_limit);
}

static unsigned actions_of(const struct gateway *gateway) {
    unsigned actions = 0;

    for (unsigned i = 0; i < gateway->loop_count; i++)
        actions |= atomic_load_explicit(&gateway->loops[i].actions, memory_order_relaxed);
    return actions;
}

static json_t *overload_of(const struct gateway *gateway) {
    unsigned actions = actions_of(gateway);
    json_t *list = json_array();

    for (unsigned i = 0; i < PRESSURE_ACTIONS; i++)
        if (actions >> i & 1)
            json_array_append_new(list, json_string(pressure_action_name(i)));
    return list;
}

static void collect_connections(struct gateway *gateway, struct buffer *text) {
    struct buffer labels = {0};

    family(text, "weir_connections", "gauge",
           "Client connections: active ones carry an exchange, idle ones wait or are closing.");
    for (size_t i = 0; i < gateway->config->listener_count; i++) {
        unsigned active = 0, count = 0, handshakes = 0;
        size_t len;

        for (unsigned j = 0; j < gateway->loop_count; j++) {
            const struct gateway_listener *listener = &gateway->loops[j].listeners[i];
            unsigned busy = listener_active(listener), all = listener_connections(listener);

            handshakes += atomic_load_explicit(&gateway->loops[j].listeners[i].handshakes.count,
                                               memory_order_relaxed);
            active += busy;
            count += all > busy ? all : busy;
        }
        labels.len = 0;
        metrics_label(&labels, "listener", gateway->config->listeners[i].name);
        len = labels.len;
        metrics_label(&labels, "state", "active");
        sample(text, "weir_connections", &labels, active);
        labels.len = len;
        metrics_label(&labels, "state", "idle");
        handshakes = handshakes < count - active ? handshakes : count - active;
        sample(text, "weir_connections", &labels, count - active - handshakes);
        if (!gateway->config->listeners[i].tls.is_on)
            continue;
        labels.len = len;
        metrics_label(&labels, "state", "handshake");
        sample(text, "weir_connections", &labels, handshakes);
    }
    buffer_deinit(&labels);
}

static double buffered_bytes(const struct gateway *gateway) {
    double sum = 0;

    for (unsigned i = 0; i < gateway->loop_count; i++)
        sum += (double)atomic_load_explicit(&gateway->loops[i].loop.buffered_bytes,
                                            memory_order_relaxed);
    return sum;
}

static json_t *fds_of(struct gateway *gateway) {
    return json_pack("{s:i, s:i, s:i, s:i, s:i}", "limit", (int)gateway->config->admission.fd_limit,
                     "client", (int)fds_used(&gateway->fds, FD_CLIENT), "upstream",
                     (int)fds_used(&gateway->fds, FD_UPSTREAM), "file",
                     (int)fds_used(&gateway->fds, FD_FILE), "reserve",
                     (int)gateway->config->admission.fd_reserve);
}

static json_t *listeners_of(struct gateway *gateway) {
    static const char *const states[] = {"starting", "accepting", "draining"};
    json_t *list = json_array();

    for (size_t i = 0; i < gateway->config->listener_count; i++) {
        const struct config_listener *config = &gateway->config->listeners[i];
        int64_t connections = 0;

        for (unsigned j = 0; j < gateway->loop_count; j++)
            connections += listener_connections(&gateway->loops[j].listeners[i]);
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:I, s:I}", "name", config->name, "address",
                      config->listen.text, "protocol", config_protocol_name(config->protocol),
                      "state", states[atomic_load(&gateway->state)], "connections",
                      (json_int_t)connections, "connections_max", (int)gateway->connections.limit,
                      "accepted_total",
                      (json_int_t)counters_accepted(gateway->counters, gateway->segment, i),
                      "requests_total",
                      (json_int_t)counters_requests(gateway->counters, gateway->segment, i)));
    }
    return list;
}

static json_t *pipelines_of(struct gateway *gateway) {
    json_t *list = json_array();

    for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
        struct pipeline *pipeline = gateway->pipelines[i];

        json_array_append_new(
            list, json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:o*}", "name",
                            pipeline->config->name, "inflight",
                            (int)gate_taken_in_all(&pipeline->concurrency), "concurrency",
                            (int)pipeline->concurrency.limit, "queued",
                            (int)atomic_load(&pipeline->concurrency.waiting), "queue_size",
                            (int)pipeline->concurrency.line_max, "held",
                            (int)atomic_load(&pipeline->hold.held), "streams",
                            (int)gate_taken_in_all(&pipeline->streams), "streams_limit",
                            (int)pipeline->streams.limit, "endpoints", status_endpoints(pipeline),
                            "process", children_of(gateway, i)));
    }
    return list;
}

static double oldest_s(const struct gateway *gateway) {
    int64_t oldest_ns = 0;

    for (unsigned i = 0; i < gateway->loop_count; i++) {
        int64_t ns = atomic_load_explicit(&gateway->loops[i].oldest_ns, memory_order_relaxed);

        if (ns && (!oldest_ns || ns < oldest_ns))
            oldest_ns = ns;
    }
    return oldest_ns ? (double)(clock_now_ns() - oldest_ns) / 1e9 : 0;
}

static void family(struct buffer *text, const char *name, const char *kind, const char *help) {
    buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void sample(struct buffer *text, const char *name, const struct buffer *labels,
                   double value) {
    if (labels)
        buffer_printf(text, "%s{%.*s} %.9g\n", name, SLICE_ARG(buffer_slice(labels)), value);
    else
        buffer_printf(text, "%s %.9g\n", name, value);
}

struct pipeline_gauge {
    const char *name, *help;
    double (*value)(struct pipeline *pipeline);
};

static double inflight(struct pipeline *p) {
    return gate_taken_in_all(&p->concurrency);
}

static double concurrency_limit(struct pipeline *p) {
    return p->concurrency.limit;
}

static double queue_length(struct pipeline *p) {
    return atomic_load(&p->concurrency.waiting);
}

static double queue_limit(struct pipeline *p) {
    return p->concurrency.line_max;
}

static double held(struct pipeline *p) {
    return atomic_load(&p->hold.held);
}

static double budget(struct pipeline *p) {
    return (double)retry_budget_left(&p->retries, clock_now_ns());
}

static void collect_pipelines(struct gateway *gateway, struct buffer *text) {
    static const struct pipeline_gauge gauges[] = {
        {"weir_pipeline_inflight", "Exchanges in flight, streams excluded.", inflight},
        {"weir_pipeline_concurrency_limit", "How many there may be.", concurrency_limit},
        {"weir_pipeline_queue_length", "Exchanges that wait.", queue_length},
        {"weir_pipeline_queue_limit", "How many may wait.", queue_limit},
        {"weir_pipeline_held", "Exchanges that wait for an endpoint to come back.", held},
        {"weir_pipeline_retry_budget_remaining", "Retries that the budget has left.", budget},
    };
    struct buffer labels = {0};

    for (size_t g = 0; g < sizeof gauges / sizeof *gauges; g++) {
        family(text, gauges[g].name, "gauge", gauges[g].help);
        for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
            labels.len = 0;
            metrics_label(&labels, "pipeline", gateway->config->pipelines[i].name);
            sample(text, gauges[g].name, &labels, gauges[g].value(gateway->pipelines[i]));
        }
    }
    buffer_deinit(&labels);
}
