/* What is known of the handlers: for /status, /metrics and the operator. */
#include "handler/handlers_state.h"

#include <string.h>

static void family(struct buffer *text, const char *name, const char *kind, const char *help);
static void sample(struct buffer *text, const char *name, const struct buffer *labels,
                   uint64_t value);
static void label_handler(struct buffer *labels, const struct handler *handler);
static const char *reason_of(const struct handlers *handlers, const struct handler *handler);
static unsigned queued_of(struct handlers *handlers, const struct handler *handler);
static uint64_t faults_of(const struct handler *handler);

json_t *handlers_status(struct handlers *handlers) {
    static const char *const states[] = {[QUARANTINE_OFF] = "ok",
                                         [QUARANTINE_HELD] = "quarantine",
                                         [QUARANTINE_PROBING] = "probing"};
    json_t *list = json_array();

    for (size_t i = 0; i < handlers->count; i++) {
        struct handler *handler = &handlers->list[i];

        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:s, s:s*, s:i, s:i, s:I, s:I, s:I}", "name",
                      handler->config->name, "plugin", handler->config->plugin, "state",
                      states[atomic_load(&handler->quarantine.state)], "isolation",
                      atomic_load(&handler->is_in_process) ? "process" : "thread", "reason",
                      reason_of(handlers, handler), "queued", (int)queued_of(handlers, handler),
                      "queue_size", (int)handler->config->queue, "calls_total",
                      (json_int_t)atomic_load(&handler->calls), "faults_total",
                      (json_int_t)faults_of(handler), "dirty_faults_total",
                      (json_int_t)atomic_load(&handler->dirty_faults)));
    }
    return list;
}

void handlers_collect(struct handlers *handlers, struct buffer *text) {
    struct buffer labels = {0};

    if (!handlers)
        return;
    family(text, "weir_handler_quarantined", "gauge", "1 while it is not called.");
    for (size_t i = 0; i < handlers->count; i++) {
        label_handler(&labels, &handlers->list[i]);
        sample(text, "weir_handler_quarantined", &labels,
               quarantine_is_on(&handlers->list[i].quarantine));
    }
    family(text, "weir_handler_queue_length", "gauge", "Calls that wait for a worker.");
    for (size_t i = 0; i < handlers->count; i++) {
        label_handler(&labels, &handlers->list[i]);
        sample(text, "weir_handler_queue_length", &labels, queued_of(handlers, &handlers->list[i]));
    }
    family(text, "weir_handler_events_total", "counter", "What plugins have counted themselves.");
    for (size_t i = 0; i < handlers->count; i++)
        for (unsigned j = 0; j < handlers->list[i].plugin->event_count; j++) {
            label_handler(&labels, &handlers->list[i]);
            metrics_label(&labels, "event", handlers->list[i].functions->events[j]);
            sample(text, "weir_handler_events_total", &labels,
                   atomic_load(&handlers->list[i].events[j]));
        }
    labels.len = 0;
    family(text, "weir_handler_workers_replaced_total", "counter",
           "Threads that were started in place of one in which a plugin failed.");
    sample(text, "weir_handler_workers_replaced_total", &labels, atomic_load(&handlers->replaced));
    family(text, "weir_handler_workers_stuck", "gauge",
           "Threads that hang in a plugin and cannot be stopped.");
    sample(text, "weir_handler_workers_stuck", &labels, atomic_load(&handlers->abandoned));
    family(text, "weir_gateway_in_doubt", "gauge",
           "1 while it waits to be replaced because of faults of handlers.");
    sample(text, "weir_gateway_in_doubt", &labels, atomic_load(&handlers->is_tainted));
    family(text, "weir_handler_lost_bytes", "gauge",
           "Memory that faults in threads have left behind, of this gateway.");
    sample(text, "weir_handler_lost_bytes", &labels, atomic_load(&handlers->lost_bytes));
    family(text, "weir_handler_lost_fds", "gauge",
           "Files that faults in threads have left open, of this gateway.");
    sample(text, "weir_handler_lost_fds", &labels, atomic_load(&handlers->lost_fds));
    family(text, "weir_handler_lost_bytes_max", "gauge",
           "So much of that has the gateway replaced.");
    sample(text, "weir_handler_lost_bytes_max", &labels, handlers->config->server.handler_loss);
    buffer_deinit(&labels);
}

uint64_t handlers_faults(const struct handlers *handlers, size_t handler, unsigned kind) {
    return atomic_load_explicit(&handlers->list[handler].faults[kind], memory_order_relaxed);
}

uint64_t handlers_dirty_faults(const struct handlers *handlers, size_t handler) {
    return atomic_load_explicit(&handlers->list[handler].dirty_faults, memory_order_relaxed);
}

bool handlers_reset(struct handlers *handlers, const char *name) {
    for (size_t i = 0; i < handlers->count; i++) {
        if (strcmp(handlers->list[i].config->name, name) != 0)
            continue;
        quarantine_reset(&handlers->list[i].quarantine);
        return true;
    }
    return false;
}

struct quarantine *handlers_quarantine(struct handlers *handlers, size_t handler) {
    return &handlers->list[handler].quarantine;
}

static void family(struct buffer *text, const char *name, const char *kind, const char *help) {
    buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void sample(struct buffer *text, const char *name, const struct buffer *labels,
                   uint64_t value) {
    if (labels->len > 0)
        buffer_printf(text, "%s{%.*s} ", name, (int)labels->len, labels->base);
    else
        buffer_printf(text, "%s ", name);
    buffer_append_uint(text, value);
    buffer_append_char(text, '\n');
}

static void label_handler(struct buffer *labels, const struct handler *handler) {
    labels->len = 0;
    metrics_label(labels, "handler", handler->config->name);
}

/* Why it runs where it does; NULL: because its config says so. */
static const char *reason_of(const struct handlers *handlers, const struct handler *handler) {
    if (atomic_load(&handler->is_demoted))
        return "a dirty fault";
    return atomic_load(&handlers->is_tainted) ? "the gateway is to be replaced" : NULL;
}

static unsigned queued_of(struct handlers *handlers, const struct handler *handler) {
    unsigned count;

    pthread_mutex_lock(&handlers->lock);
    count = handler->queued_count;
    pthread_mutex_unlock(&handlers->lock);
    return count;
}

static uint64_t faults_of(const struct handler *handler) {
    uint64_t sum = 0;

    for (int kind = 0; kind < FAULT_KINDS; kind++)
        sum += atomic_load(&handler->faults[kind]);
    return sum;
}
