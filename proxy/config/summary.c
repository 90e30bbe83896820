/* What `weir check` prints: tables with aligned columns. */
#include "config/address.h"
#include "config/plan.h"
#include "config/units.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define COLUMNS_MAX 8

/* Cells are added from left to right; a row ends where the next begins. */
struct table {
    char **cells; /* owned; NULL where a row is short */
    size_t rows;
    size_t column; /* of the next cell */
    size_t width[COLUMNS_MAX];
};

static void start_row(struct table *table);
static void add_cell(struct table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add_duration(struct table *table, const char *name, int64_t ns);
static void add_size(struct table *table, const char *name, size_t bytes);
static void finish_table(struct table *table, const char *title, struct buffer *to);
static void print_listeners(const struct config *config, struct buffer *to);
static void print_pipelines(const struct config *config, struct buffer *to);
static void print_handlers(const struct config *config, struct buffer *to);
static void print_routes(const struct config *config, struct buffer *to);
static void print_fds(const struct config *config, struct buffer *to);

char *config_summary(const struct config *config) {
    struct buffer text = {0};

    print_listeners(config, &text);
    print_pipelines(config, &text);
    if (config->handler_count > 0)
        print_handlers(config, &text);
    print_routes(config, &text);
    print_fds(config, &text);
    buffer_append_char(&text, '\0');
    return text.base;
}

const char *config_priority_name(enum config_priority priority) {
    static const char *const names[] = {"critical", "default", "background"};

    return names[priority];
}

const char *config_protocol_name(enum config_protocol protocol) {
    static const char *const names[] = {"http1", "http2", "auto", "exec", "mcp-stdio"};

    return names[protocol];
}

static void print_listeners(const struct config *config, struct buffer *to) {
    struct table table = {0};

    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];

        start_row(&table);
        add_cell(&table, "%s", listener->name);
        add_cell(&table, "%s", listener->listen.text);
        add_cell(&table, "%s%s", config_protocol_name(listener->protocol),
                 listener->tls.is_on ? " over tls" : "");
        add_duration(&table, "header", listener->header_timeout_ns);
        add_duration(&table, "body", listener->body_timeout_ns);
        add_duration(&table, "idle", listener->idle_timeout_ns);
        add_duration(&table, "stream idle", listener->stream_idle_timeout_ns);
        add_size(&table, "head", listener->max_head_bytes);
    }
    start_row(&table);
    add_cell(&table, "(admin)");
    add_cell(&table, "%s", config->admin.is_on ? config->admin.listen.text : "off");
    finish_table(&table, "listeners", to);
}

static void add_concurrency(struct table *table, const struct config_pipeline *pipeline) {
    if (pipeline->limits.concurrency)
        add_cell(table, "%u at once", pipeline->limits.concurrency);
    else
        add_cell(table, "%u to %u at once", pipeline->limits.concurrency_min,
                 pipeline->limits.concurrency_max);
}

static void print_pipelines(const struct config *config, struct buffer *to) {
    struct table table = {0};

    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct config_pipeline *pipeline = &config->pipelines[i];

        start_row(&table);
        add_cell(&table, "%s", pipeline->name);
        if (pipeline->protocol == PROTOCOL_EXEC) {
            add_cell(&table, "runs '%s'", pipeline->process->command[0]);
            add_concurrency(&table, pipeline);
            add_cell(&table, "%u programs", pipeline->limits.connections);
            add_cell(&table, "%u streams", pipeline->limits.streams);
            add_cell(&table, "queue of %u", pipeline->queue.size);
            add_duration(&table, "max wait", pipeline->queue.max_wait_ns);
            add_duration(&table, "deadline", pipeline->deadline_ns);
        }
        for (size_t e = 0; e < pipeline->endpoint_count; e++) {
            if (e > 0) {
                start_row(&table);
                add_cell(&table, "%s", "");
            }
            add_cell(&table, "%s", pipeline->endpoints[e].text);
            if (e > 0)
                continue;
            add_concurrency(&table, pipeline);
            if (pipeline->protocol == PROTOCOL_HTTP2)
                add_cell(&table, "%u HTTP/2 connections of %u streams per endpoint",
                         pipeline->limits.connections, pipeline->limits.streams_per_connection);
            else
                add_cell(&table, "%u connections per endpoint", pipeline->limits.connections);
            add_cell(&table, "%u streams", pipeline->limits.streams);
            add_cell(&table, "queue of %u", pipeline->queue.size);
            add_duration(&table, "max wait", pipeline->queue.max_wait_ns);
            add_duration(&table, "deadline", pipeline->deadline_ns);
        }
    }
    finish_table(&table, "pipelines", to);
}

static void print_handlers(const struct config *config, struct buffer *to) {
    struct table table = {0};

    for (size_t i = 0; i < config->handler_count; i++) {
        const struct config_handler *handler = &config->handlers[i];

        start_row(&table);
        add_cell(&table, "%s", handler->name);
        add_cell(&table, "%s", handler->plugin);
        add_cell(&table, "in %s",
                 handler->isolation == ISOLATION_PROCESS ? "processes" : "threads");
        add_duration(&table, "timeout", handler->timeout_ns);
        add_cell(&table, "queue of %u", handler->queue);
        add_size(&table, "body", handler->body_max);
        add_cell(&table, "%s when quarantined",
                 handler->on_quarantine == QUARANTINE_BYPASS ? "bypassed" : "refused");
    }
    finish_table(&table, "handlers", to);
}

static void print_routes(const struct config *config, struct buffer *to) {
    struct table table = {0};

    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        const char *path = route->exact ? route->exact : route->path ? route->path : "/";
        struct buffer match = {0}, through = {0};

        start_row(&table);
        add_cell(&table, "%s", route->name);
        add_cell(&table, "%s",
                 route->listener == CONFIG_ANY_LISTENER ? "any listener"
                                                        : config->listeners[route->listener].name);
        for (size_t m = 0; m < route->method_count; m++)
            buffer_printf(&match, "%s%s", m > 0 ? "," : "", route->methods[m]);
        buffer_printf(&match, "%s%s%s%s", match.len > 0 ? " " : "", route->host ? route->host : "",
                      path, route->exact ? " exactly" : "");
        for (size_t f = 0; f < route->field_count; f++)
            buffer_printf(&match, "%s%s", f > 0 ? ", " : " with ", route->fields[f].name);
        if (route->is_grpc)
            buffer_append(&match,
                          route->is_grpc_web ? SLICE(" of gRPC and gRPC-Web") : SLICE(" of gRPC"));
        add_cell(&table, "%.*s", SLICE_ARG(match));
        buffer_deinit(&match);
        for (size_t h = 0; h < route->handler_count; h++)
            buffer_printf(&through, "%s%s", h > 0 ? ", " : " through ",
                          config->handlers[route->handlers[h]].name);
        add_cell(&table, "to %s%.*s", config->pipelines[route->pipeline].name, SLICE_ARG(through));
        buffer_deinit(&through);
    }
    finish_table(&table, "routes", to);
}

static void print_fds(const struct config *config, struct buffer *to) {
    const struct config_admission *admission = &config->admission;
    unsigned threads = config->server.threads;
    unsigned listening = (unsigned)config->listener_count * threads;

    buffer_printf(to, "file descriptors (fds)\n");
    buffer_printf(to, "  %10u  in reserve: admin, logs, files, %u thread%s", admission->fd_reserve,
                  threads, threads == 1 ? "" : "s");
    if (config->server.handler_threads > 0)
        buffer_printf(to, ", %u for handlers", config->server.handler_threads);
    buffer_append_char(to, '\n');
    buffer_printf(to, "  %10u  to listen: %zu listener%s x %u thread%s\n", listening,
                  config->listener_count, config->listener_count == 1 ? "" : "s", threads,
                  threads == 1 ? "" : "s");
    buffer_printf(to, "  %10u  connections to upstreams\n", admission->fd_upstream);
    buffer_printf(to, "  %10u  connections of clients\n", admission->max_connections);
    buffer_printf(to, "  %10u  spare\n",
                  admission->fd_limit - admission->fd_reserve - listening - admission->fd_upstream -
                      admission->max_connections);
    buffer_printf(to, "  ----------\n  %10u  the limit\n", admission->fd_limit);
}

static void start_row(struct table *table) {
    table->cells = xrealloc(table->cells, (table->rows + 1) * COLUMNS_MAX * sizeof table->cells[0]);
    memset(&table->cells[table->rows * COLUMNS_MAX], 0, COLUMNS_MAX * sizeof table->cells[0]);
    table->rows++;
    table->column = 0;
}

static void add_cell(struct table *table, const char *format, ...) {
    char *text;
    va_list args;
    size_t len;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort(); /* out of memory */
    va_end(args);
    len = strlen(text);
    if (len > table->width[table->column])
        table->width[table->column] = len;
    table->cells[(table->rows - 1) * COLUMNS_MAX + table->column++] = text;
}

static void add_duration(struct table *table, const char *name, int64_t ns) {
    struct buffer text = {0};

    units_append_duration(&text, ns);
    add_cell(table, "%s %.*s", name, SLICE_ARG(text));
    buffer_deinit(&text);
}

static void add_size(struct table *table, const char *name, size_t bytes) {
    struct buffer text = {0};

    units_append_size(&text, (int64_t)bytes);
    add_cell(table, "%s %.*s", name, SLICE_ARG(text));
    buffer_deinit(&text);
}

/* No blanks at the end of a line. */
static void finish_table(struct table *table, const char *title, struct buffer *to) {
    buffer_printf(to, "%s\n", title);
    for (size_t row = 0; row < table->rows; row++) {
        char **cells = &table->cells[row * COLUMNS_MAX];

        for (size_t i = 0; i < COLUMNS_MAX && cells[i]; i++) {
            bool is_last = i + 1 == COLUMNS_MAX || !cells[i + 1];

            buffer_printf(to, "  %-*s", is_last ? 0 : (int)table->width[i], cells[i]);
            free(cells[i]);
        }
        buffer_append_char(to, '\n');
    }
    buffer_append_char(to, '\n');
    free(table->cells);
}
