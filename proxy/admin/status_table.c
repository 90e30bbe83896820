/* The tables of `weir status`. */
#include "admin/status_table.h"

#include "admin/status_fetch.h"
#include "base/alloc.h"

#include <jansson.h>
#include <stdlib.h>

#define COLUMNS_MAX 10

/* A column shows one key, or two as "used/limit"; text stands left, numbers right. */
struct column {
    const char *title;
    const char *key;
    const char *limit_key; /* NULL: none */
    bool is_text;
};

struct status_table {
    const struct column *columns;
    unsigned column_count;
    char **cells; /* owned, row by row */
    size_t row_count;
};

static const struct column listener_columns[] = {
    {"LISTENER", "name", NULL, true},
    {"ADDRESS", "address", NULL, true},
    {"PROTOCOL", "protocol", NULL, true},
    {"STATE", "state", NULL, true},
    {"CONNECTIONS", "connections", "connections_max", false},
    {"ACCEPTED", "accepted_total", NULL, false},
    {"REQUESTS", "requests_total", NULL, false},
};

static const struct column pipeline_columns[] = {
    {"PIPELINE", "name", NULL, true},
    {"LIMIT BY", "limit_by", NULL, true},
    {"QUEUE", "queue_state", NULL, true},
    {"IN FLIGHT", "inflight", "concurrency", false},
    {"QUEUED", "queued", "queue_size", false},
    {"STREAMS", "streams", "streams_limit", false},
    {"HELD", "held", NULL, false},
};

static const struct column endpoint_columns[] = {
    {"PIPELINE", "pipeline", NULL, true},
    {"ENDPOINT", "address", NULL, true},
    {"STATE", "state", NULL, true},
    {"FOR (S)", "since_s", NULL, false},
    {"CONNECTIONS", "connections", "connections_max", false},
    {"IN FLIGHT", "inflight", NULL, false},
    {"DIALS", "dials", NULL, false},
    {"FAILURES", "failures_total", NULL, false},
    {"AGAIN IN (S)", "again_s", NULL, false},
    {"REASON", "reason", NULL, true},
};

static const struct column process_columns[] = {
    {"PIPELINE", "pipeline", NULL, true},
    {"PROGRAM", "command", NULL, true},
    {"KIND", "kind", NULL, true},
    {"STATE", "state", NULL, true},
    {"RUNNING", "running", NULL, false},
    {"STARTS", "starts_total", NULL, false},
    {"DEATHS", "deaths_total", NULL, false},
    {"KILLED", "killed_total", NULL, false},
};

static const struct column mcp_columns[] = {
    {"MCP SERVER", "pipeline", NULL, true},    {"SESSIONS", "sessions", NULL, false},
    {"CALLS", "calls", NULL, false},           {"CALLS TOTAL", "calls_total", NULL, false},
    {"ASKED", "asks_total", NULL, false},      {"CANCELLED", "cancelled_total", NULL, false},
    {"REFUSED", "refused_total", NULL, false}, {"DROPPED", "dropped_total", NULL, false},
    {"LATE", "late_total", NULL, false},
};

static const struct column handler_columns[] = {
    {"HANDLER", "name", NULL, true},        {"STATE", "state", NULL, true},
    {"ISOLATION", "isolation", NULL, true}, {"QUEUED", "queued", "queue_size", false},
    {"CALLS", "calls_total", NULL, false},  {"FAULTS", "faults_total", NULL, false},
};

#define TABLE(c) ((struct status_table){.columns = (c), .column_count = sizeof(c) / sizeof *(c)})

static void print_summary(json_t *status, FILE *out);
static void print_facts(json_t *object, const struct column *facts, unsigned count, FILE *out);
static void print_overload(json_t *actions, FILE *out);
static void print_tables(json_t *status, FILE *out);
static void table_add(struct status_table *table, json_t *row);
static void table_print(struct status_table *table, FILE *out);
static char *cell_text(json_t *row, const struct column *column);
static char *value_text(json_t *value);

int status_print(const struct config_address *admin, FILE *out, bool as_json) {
    struct buffer content = {0};
    char *error = NULL;
    int code = 1;
    json_error_t where;
    json_t *status = NULL;

    if (status_fetch(admin, "/status", &content, &error) == 0) {
        status = json_loadb(content.base, content.len, JSON_REJECT_DUPLICATES, &where);
        if (!json_is_object(status))
            error = xasprintf("cannot read the status of '%s': %s", admin->text,
                              status ? "not a JSON object" : where.text);
    }
    if (error) {
        fprintf(stderr, "weir: %s\n", error);
    } else {
        code = 0;
        if (as_json)
            fwrite(content.base, 1, content.len, out);
        else
            print_tables(status, out);
    }
    json_decref(status);
    buffer_deinit(&content);
    free(error);
    return code;
}

static void print_summary(json_t *status, FILE *out) {
    static const struct column facts[] = {
        {"weir", "version"},
        {"pid", "pid"},
        {"state", "state"},
        {"up (s)", "uptime_s"},
        {"threads", "threads"},
        {"exchanges", "exchanges"},
        {"oldest (s)", "oldest_exchange_s"},
    };
    static const struct column fds[] = {
        {"limit", "limit"}, {"client", "client"},   {"upstream", "upstream"},
        {"file", "file"},   {"reserve", "reserve"},
    };

    print_facts(status, facts, sizeof facts / sizeof *facts, out);
    fputs("fds: ", out);
    print_facts(json_object_get(status, "fds"), fds, sizeof fds / sizeof *fds, out);
    print_overload(json_object_get(status, "overload"), out);
}

/* Only when there is any: nobody reads a line that always says "none". */
static void print_overload(json_t *actions, FILE *out) {
    json_t *action;
    size_t i;

    json_array_foreach(actions, i, action) {
        char *text = value_text(action);

        fprintf(out, "%s%s", i > 0 ? ", " : "overload: ", text);
        free(text);
    }
    if (json_array_size(actions) > 0)
        fputc('\n', out);
}

static void print_facts(json_t *object, const struct column *facts, unsigned count, FILE *out) {
    for (unsigned i = 0; i < count; i++) {
        char *text = cell_text(object, &facts[i]);

        fprintf(out, "%s%s %s", i > 0 ? ", " : "", facts[i].title, text);
        free(text);
    }
    fputc('\n', out);
}

static void print_tables(json_t *status, FILE *out) {
    struct status_table listeners = TABLE(listener_columns), pipelines = TABLE(pipeline_columns),
                        endpoints = TABLE(endpoint_columns), processes = TABLE(process_columns),
                        mcp = TABLE(mcp_columns), handlers = TABLE(handler_columns);
    json_t *row, *endpoint, *process, *server;
    size_t i, j;

    print_summary(status, out);
    json_array_foreach(json_object_get(status, "listeners"), i, row) table_add(&listeners, row);
    json_array_foreach(json_object_get(status, "pipelines"), i, row) {
        table_add(&pipelines, row);
        json_array_foreach(json_object_get(row, "endpoints"), j, endpoint) {
            json_object_set(endpoint, "pipeline", json_object_get(row, "name"));
            table_add(&endpoints, endpoint);
        }
        process = json_object_get(row, "process");
        if (process) {
            json_object_set(process, "pipeline", json_object_get(row, "name"));
            table_add(&processes, process);
        }
        server = json_object_get(process, "mcp");
        if (server) {
            json_object_set(server, "pipeline", json_object_get(row, "name"));
            table_add(&mcp, server);
        }
    }
    json_array_foreach(json_object_get(status, "handlers"), i, row) table_add(&handlers, row);
    table_print(&listeners, out);
    table_print(&pipelines, out);
    table_print(&endpoints, out);
    if (processes.row_count > 0)
        table_print(&processes, out);
    if (mcp.row_count > 0)
        table_print(&mcp, out);
    if (handlers.row_count > 0)
        table_print(&handlers, out);
}

static void table_add(struct status_table *table, json_t *row) {
    size_t first = table->row_count * table->column_count;

    table->cells = xrealloc(table->cells, (first + table->column_count) * sizeof *table->cells);
    for (unsigned i = 0; i < table->column_count; i++)
        table->cells[first + i] = cell_text(row, &table->columns[i]);
    table->row_count++;
}

/* Frees what is in the table. */
static void table_print(struct status_table *table, FILE *out) {
    size_t columns = table->column_count, cells = table->row_count * columns;
    int widths[COLUMNS_MAX];

    for (size_t c = 0; c < columns; c++)
        widths[c] = (int)strlen(table->columns[c].title);
    for (size_t i = 0; i < cells; i++)
        if ((int)strlen(table->cells[i]) > widths[i % columns])
            widths[i % columns] = (int)strlen(table->cells[i]);

    fputc('\n', out);
    for (size_t i = 0; i < columns + cells; i++) {
        const struct column *column = &table->columns[i % columns];
        const char *text = i < columns ? column->title : table->cells[i - columns];
        bool is_last = i % columns == columns - 1;

        /* No blanks at the end of a line. */
        fprintf(out, "%*s%s",
                column->is_text ? (is_last ? 0 : -widths[i % columns]) : widths[i % columns], text,
                is_last ? "\n" : "  ");
    }
    for (size_t i = 0; i < cells; i++)
        free(table->cells[i]);
    free(table->cells);
}

static char *cell_text(json_t *row, const struct column *column) {
    char *text = value_text(json_object_get(row, column->key)), *limit, *both;

    if (!column->limit_key)
        return text;
    limit = value_text(json_object_get(row, column->limit_key));
    both = xasprintf("%s/%s", text, limit);
    free(text);
    free(limit);
    return both;
}

/* Printable ASCII only: the answer may come from anybody, and goes to a terminal. */
static char *value_text(json_t *value) {
    char *text;

    if (json_is_string(value))
        text = xstrdup(json_string_value(value));
    else if (json_is_integer(value))
        text = xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        text = xasprintf("%.1f", json_real_value(value));
    else
        text = xstrdup("-");
    for (char *at = text; *at; at++)
        if (*at < 0x20 || *at > 0x7e)
            *at = '?';
    return text;
}
