#include "gateway/status_endpoints.h"

#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

/* A family, and its series of an endpoint: as many as the label has values. */
struct family {
    const char *name, *kind, *help;
    const char *label; /* NULL: one series */
    unsigned first, end;
    const char *(*label_value)(unsigned i);
    double (*value)(const struct endpoint *endpoint, unsigned i);
    bool is_http2; /* only of pipelines over HTTP/2 */
};

/* How an endpoint is, as people read it. */
struct condition {
    const char *state;
    char *reason;     /* owned; NULL: none */
    int64_t since_ns; /* 0: not known */
    int64_t until_ns; /* when it is tried again; 0: that is not known */
};

static json_t *row_of(struct endpoint *endpoint, int64_t now_ns);
static struct condition condition_of(struct endpoint *endpoint, int64_t now_ns);
static void collect(struct gateway *gateway, const struct family *family, struct buffer *text);

json_t *status_endpoints(struct pipeline *pipeline) {
    struct endpoint_set *set = pipeline_endpoints(pipeline);
    int64_t now_ns = clock_now_ns();
    json_t *list = json_array();

    for (size_t i = 0; i < set->count; i++)
        json_array_append_new(list, row_of(set->list[i], now_ns));
    endpoint_set_unref(set);
    return list;
}

int gateway_serve_endpoint(struct gateway *gateway, struct slice pipeline, struct slice endpoint,
                           enum gateway_service service) {
    static const unsigned conditions[] = {
        [GATEWAY_ENDPOINT_ENABLED] = 0,
        [GATEWAY_ENDPOINT_DRAINED] = ENDPOINT_DRAINED,
        [GATEWAY_ENDPOINT_DISABLED] = ENDPOINT_DISABLED,
    };
    static const char *const done[] = {"enabled", "drained", "disabled"};
    const struct config *config = gateway->config;
    int err = -ENXIO;

    for (size_t i = 0; i < config->pipeline_count; i++) {
        struct endpoint *found;

        if (!slice_equal(slice_str(config->pipelines[i].name), pipeline))
            continue;
        found = pipeline_set_service(gateway->pipelines[i], endpoint, conditions[service]);
        err = found ? 0 : -ENOENT;
        if (!found)
            break;
        log_info("endpoint '%s' of pipeline '%s' is %s by order", found->text,
                 config->pipelines[i].name, done[service]);
        endpoint_unref(found);
    }
    return err;
}

static json_t *row_of(struct endpoint *endpoint, int64_t now_ns) {
    struct breaker_view breaker = breaker_view(&endpoint->breaker);
    struct condition condition = condition_of(endpoint, now_ns);
    json_t *row = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:s, s:i}", "address", endpoint->text, "state",
        condition.state, "connections", (int)gate_taken_in_all(&endpoint->connections),
        "connections_max", (int)endpoint->connections.limit, "inflight",
        (int)atomic_load(&endpoint->inflight), "streams", (int)atomic_load(&endpoint->streams),
        "dials", (int)atomic_load(&endpoint->dials), "failures_total",
        (json_int_t)atomic_load(&endpoint->failures), "breaker", breaker_state_name(breaker.state),
        "weight", (int)endpoint_weight(endpoint, now_ns));

    if (condition.reason)
        json_object_set_new(row, "reason", json_string(condition.reason));
    if (condition.since_ns)
        json_object_set_new(row, "since_s", json_real((double)(now_ns - condition.since_ns) / 1e9));
    if (condition.until_ns > now_ns)
        json_object_set_new(row, "again_s", json_real((double)(condition.until_ns - now_ns) / 1e9));
    free(condition.reason);
    return row;
}

/* What weighs most comes first. */
static struct condition condition_of(struct endpoint *endpoint, int64_t now_ns) {
    unsigned conditions = atomic_load(&endpoint->conditions);
    struct breaker_view breaker = breaker_view(&endpoint->breaker);
    const char *why = atomic_load(&endpoint->unhealthy_why);
    struct condition condition = {.state = "up", .since_ns = atomic_load(&endpoint->changed_ns)};

    if (conditions & (ENDPOINT_DISABLED | ENDPOINT_DRAINED)) {
        condition.state = conditions & ENDPOINT_DISABLED ? "disabled" : "drained";
        condition.reason = xstrdup("by order");
    } else if (conditions & ENDPOINT_UNCHECKED) {
        condition.state = "unchecked";
    } else if (conditions & ENDPOINT_UNHEALTHY) {
        condition.state = conditions & ENDPOINT_PANIC ? "unhealthy, but used" : "unhealthy";
        condition.reason = why ? xstrdup(why) : NULL;
    } else if (breaker.state != BREAKER_CLOSED) {
        condition.state = breaker.state == BREAKER_OPEN ? "ejected" : "on probation";
        condition.reason = xasprintf("%s: %s", breaker_cause_name(breaker.cause),
                                     breaker.what ? breaker.what : "-");
        condition.since_ns = breaker.since_ns;
        condition.until_ns = breaker.state == BREAKER_OPEN ? breaker.until_ns : 0;
    } else if (!endpoint_may_dial(endpoint, now_ns)) {
        condition.state = "backing off";
        condition.reason = xstrdup(fail_row((enum fail)atomic_load(&endpoint->dial_fail))->reason);
        condition.since_ns = 0;
        condition.until_ns = atomic_load(&endpoint->dial_after_ns);
    }
    return condition;
}

static double connections(const struct endpoint *endpoint, unsigned i) {
    return gate_taken_in_all(&endpoint->connections);
}

static double streams(const struct endpoint *endpoint, unsigned i) {
    return atomic_load(&endpoint->streams);
}

static double dials(const struct endpoint *endpoint, unsigned i) {
    return (double)atomic_load(&endpoint->dialled[i]);
}

static const char *dial_result(unsigned i) {
    return endpoint_dial_result_name((enum dial_result)i);
}

static double healthy(const struct endpoint *endpoint, unsigned i) {
    int64_t now_ns = clock_now_ns();

    return endpoint_is_usable(endpoint, now_ns) && endpoint_may_dial(endpoint, now_ns);
}

static double breaker_state(const struct endpoint *endpoint, unsigned i) {
    return atomic_load(&endpoint->breaker.state);
}

static double ejections(const struct endpoint *endpoint, unsigned i) {
    return (double)atomic_load(&endpoint->breaker.opened[i]);
}

static const char *cause(unsigned i) {
    return breaker_cause_name((enum breaker_cause)i);
}

static double checks(const struct endpoint *endpoint, unsigned i) {
    return (double)atomic_load(&endpoint->checks[i]);
}

static const char *check_result(unsigned i) {
    return i ? "ok" : "failed";
}

void status_collect_endpoints(struct gateway *gateway, struct buffer *text) {
    static const struct family families[] = {
        {"weir_endpoint_connections", "gauge",
         "Sockets to the endpoint, dials and closing ones included.", .value = connections},
        {"weir_endpoint_streams", "gauge", "HTTP/2 streams that exchanges have.", .value = streams,
         .is_http2 = true},
        {"weir_endpoint_connects_total", "counter", "Finished dials, by result.", "result", 0,
         DIAL_RESULTS, dial_result, dials},
        {"weir_endpoint_healthy", "gauge",
         "1 while new exchanges are sent to the endpoint: it can be dialled, its breaker is not "
         "open, no check and no order keeps it out.",
         .value = healthy},
        {"weir_endpoint_breaker_state", "gauge", "0: closed, 1: open, 2: half-open.",
         .value = breaker_state},
        {"weir_endpoint_ejections_total", "counter",
         "How often the breaker has opened, by cause; probes that failed included.", "cause",
         BREAKER_NO_CAUSE + 1, BREAKER_CAUSES, cause, ejections},
        {"weir_endpoint_health_checks_total", "counter", "Finished active checks, by result.",
         "result", 0, 2, check_result, checks},
    };

    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        collect(gateway, &families[i], text);
}

static void collect(struct gateway *gateway, const struct family *family, struct buffer *text) {
    struct buffer labels = {0};

    buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                  family->kind);
    for (size_t p = 0; p < gateway->config->pipeline_count; p++) {
        struct pipeline *pipeline = gateway->pipelines[p];
        struct endpoint_set *set = pipeline_endpoints(pipeline);

        for (size_t e = 0; e < set->count && (pipeline->pool.is_http2 || !family->is_http2); e++) {
            for (unsigned i = family->first; i == family->first || i < family->end; i++) {
                labels.len = 0;
                metrics_label(&labels, "pipeline", pipeline->config->name);
                metrics_label(&labels, "endpoint", set->list[e]->text);
                if (family->label)
                    metrics_label(&labels, family->label, family->label_value(i));
                buffer_printf(text, "%s{%.*s} %.9g\n", family->name, SLICE_ARG(labels),
                              family->value(set->list[e], i));
            }
        }
        endpoint_set_unref(set);
    }
    buffer_deinit(&labels);
}
