/* What the admin plane tells of programs: read from the nursery's board, so it is that of all
 * gateways. Any thread. */
#include "gateway/gateway.h"

#include <inttypes.h>
#include <sys/wait.h>

static const char *state_of(const struct board_row *row);
static json_t *instances_of(const struct board_row *row);
static double resident_bytes(const struct board_row *row);

static const char *const instance_states[] = {"waiting", "starting", "ready", "stopping"};

struct child_series {
    const char *name, *kind, *help;
    double (*value)(const struct board_row *row);
};

json_t *children_of(struct gateway *gateway, size_t pipeline) {
    const struct config_pipeline *config = &gateway->config->pipelines[pipeline];
    const struct board_row *row;
    int64_t held_ns;
    json_t *process;

    if (!config->process)
        return NULL;
    row = board_find(gateway->children, config->name);
    process = json_pack("{s:s, s:s}", "command", config->process->command[0], "kind",
                        config->protocol == PROTOCOL_EXEC ? "per request"
                        : config->process->is_mcp         ? "mcp-stdio"
                                                          : "supervised");
    if (!row)
        return process;
    json_object_set_new(process, "starts_total",
                        json_integer((json_int_t)atomic_load(&row->starts)));
    json_object_set_new(process, "failed_starts_total",
                        json_integer((json_int_t)atomic_load(&row->failed_starts)));
    json_object_set_new(process, "killed_total",
                        json_integer((json_int_t)atomic_load(&row->killed)));
    if (config->protocol == PROTOCOL_EXEC) {
        json_object_set_new(process, "running", json_integer(atomic_load(&row->running)));
        json_object_set_new(process, "ending", json_integer(atomic_load(&row->ending)));
        return process;
    }
    held_ns = atomic_load(&row->held_until_ns) - clock_now_ns();
    json_object_set_new(process, "state", json_string(state_of(row)));
    json_object_set_new(process, "deaths_total",
                        json_integer((json_int_t)atomic_load(&row->deaths)));
    json_object_set_new(process, "deaths_lately", json_integer(atomic_load(&row->death_count)));
    if (atomic_load(&row->crash_state) == RESPAWN_HELD)
        json_object_set_new(process, "held_s", json_real(held_ns > 0 ? (double)held_ns / 1e9 : 0));
    json_object_set_new(process, "instances", instances_of(row));
    if (config->process->is_mcp)
        json_object_set_new(process, "mcp", mcp_children_of(row));
    return process;
}

json_t *children_summary(struct gateway *gateway) {
    unsigned running = 0, ending = 0, instances = 0, ready = 0, held = 0;
    const struct config *config = gateway->config;
    double bytes = 0;

    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct board_row *row = config->pipelines[i].process
                                          ? board_find(gateway->children, config->pipelines[i].name)
                                          : NULL;

        if (!row)
            continue;
        running += atomic_load(&row->running);
        ending += atomic_load(&row->ending);
        for (unsigned j = 0; j < CONFIG_INSTANCES_MAX; j++)
            instances += atomic_load(&row->list[j].pid) > 0;
        ready += board_count(row, INSTANCE_READY);
        held += atomic_load(&row->crash_state) == RESPAWN_HELD;
        bytes += resident_bytes(row);
    }
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:I}", "running", (int)running, "ending",
                     (int)ending, "instances", (int)instances, "ready", (int)ready, "held",
                     (int)held, "resident_bytes", (json_int_t)bytes);
}

static double starts(const struct board_row *row) {
    return (double)atomic_load(&row->starts);
}

static double failed_starts(const struct board_row *row) {
    return (double)atomic_load(&row->failed_starts);
}

static double deaths(const struct board_row *row) {
    return (double)atomic_load(&row->deaths);
}

static double killed(const struct board_row *row) {
    return (double)atomic_load(&row->killed);
}

static double is_held(const struct board_row *row) {
    return atomic_load(&row->crash_state) == RESPAWN_HELD;
}

void children_collect(struct gateway *gateway, struct buffer *text) {
    static const struct child_series series[] = {
        {"weir_child_starts_total", "counter", "Programs that were started.", starts},
        {"weir_child_failed_starts_total", "counter", "Programs that could not be started.",
         failed_starts},
        {"weir_child_deaths_total", "counter",
         "Supervised programs that ended without being asked to.", deaths},
        {"weir_child_killed_total", "counter",
         "Programs of which something was left at the end of the grace.", killed},
        {"weir_child_held", "gauge", "1 while a program that keeps dying is not started.", is_held},
        {"weir_child_resident_bytes", "gauge", "Memory of supervised programs.", resident_bytes},
    };
    const struct config *config = gateway->config;

    if (!gateway->children)
        return;
    mcp_children_collect(gateway, text);
    buffer_append(text, SLICE("# HELP weir_children Programs by state.\n"
                              "# TYPE weir_children gauge\n"));
    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct board_row *row = board_find(gateway->children, config->pipelines[i].name);
        const struct {
            const char *state;
            unsigned count;
        } states[] = {
            {"running", row ? atomic_load(&row->running) : 0},
            {"ending", row ? atomic_load(&row->ending) : 0},
            {"starting", row ? board_count(row, INSTANCE_STARTING) : 0},
            {"ready", row ? board_count(row, INSTANCE_READY) : 0},
            {"stopping", row ? board_count(row, INSTANCE_STOPPING) : 0},
        };
        bool is_exec = config->pipelines[i].protocol == PROTOCOL_EXEC;

        for (size_t j = is_exec ? 0 : 2; config->pipelines[i].process && j < (is_exec ? 2 : 5); j++)
            buffer_printf(text, "weir_children{pipeline=\"%s\",state=\"%s\"} %u\n",
                          config->pipelines[i].name, states[j].state, states[j].count);
    }
    for (size_t s = 0; s < sizeof series / sizeof *series; s++) {
        buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", series[s].name, series[s].help,
                      series[s].name, series[s].kind);
        for (size_t i = 0; i < config->pipeline_count; i++) {
            const struct board_row *row = board_find(gateway->children, config->pipelines[i].name);

            if (config->pipelines[i].process)
                buffer_printf(text, "%s{pipeline=\"%s\"} %.9g\n", series[s].name,
                              config->pipelines[i].name, row ? series[s].value(row) : 0);
        }
    }
}

static const char *state_of(const struct board_row *row) {
    if (board_count(row, INSTANCE_READY) == atomic_load(&row->instances))
        return "ready";
    if (board_count(row, INSTANCE_READY) > 0)
        return "partly ready";
    if (atomic_load(&row->crash_state) == RESPAWN_HELD)
        return "held";
    return board_count(row, INSTANCE_STARTING) > 0 ? "starting" : "waiting";
}

static json_t *instances_of(const struct board_row *row) {
    json_t *list = json_array();

    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++) {
        const struct board_instance *instance = &row->list[i];
        unsigned state = (unsigned)atomic_load(&instance->state);

        if (i >= atomic_load(&row->instances) && state == INSTANCE_IDLE)
            continue;
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:i, s:f, s:I}", "instance", (int)i, "state",
                            state < sizeof instance_states / sizeof *instance_states
                                ? instance_states[state]
                                : "unknown",
                            "pid", (int)atomic_load(&instance->pid), "since_s",
                            (double)(clock_now_ns() - atomic_load(&instance->since_ns)) / 1e9,
                            "resident_bytes", (json_int_t)atomic_load(&instance->resident_bytes)));
    }
    return list;
}

static double resident_bytes(const struct board_row *row) {
    double bytes = 0;

    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
        bytes += (double)atomic_load(&row->list[i].resident_bytes);
    return bytes;
}
