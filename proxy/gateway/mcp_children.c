/* What the admin plane tells of bridges to MCP servers, as they have told the nursery. Any thread.
 */
#include "gateway/gateway.h"

#include <inttypes.h>

/* In the order of struct mcp_counts. */
static const struct {
    const char *key, *name, *kind, *help;
} counts[MCP_COUNTS] = {
    {"sessions", "weir_mcp_sessions", "gauge", "MCP sessions that are open."},
    {"calls", "weir_mcp_calls", "gauge", "MCP requests under way."},
    {"sessions_total", "weir_mcp_sessions_total", "counter", "MCP sessions that were begun."},
    {"calls_total", "weir_mcp_calls_total", "counter", "MCP requests sent to servers."},
    {"asks_total", "weir_mcp_server_requests_total", "counter",
     "Requests of MCP servers that a client was asked."},
    {"unowned_total", "weir_mcp_server_requests_unowned_total", "counter",
     "Requests of MCP servers that were for no client in particular, and refused."},
    {"cancelled_total", "weir_mcp_calls_cancelled_total", "counter",
     "MCP requests whose client left, or cancelled them."},
    {"refused_total", "weir_mcp_refused_total", "counter",
     "MCP sessions and requests beyond a limit."},
    {"dropped_total", "weir_mcp_messages_dropped_total", "counter",
     "MCP messages that gave way because nobody took them."},
    {"late_total", "weir_mcp_late_total", "counter",
     "MCP responses and progress that belong to nothing that is under way."},
    {"garbage_total", "weir_mcp_garbage_lines_total", "counter",
     "Lines of MCP servers that are no messages."},
    {"too_long_total", "weir_mcp_too_long_lines_total", "counter",
     "Lines of MCP servers that are longer than a message may be."},
};

json_t *mcp_children_of(const struct board_row *row) {
    json_t *all = json_object();

    for (size_t i = 0; i < MCP_COUNTS; i++)
        json_object_set_new(all, counts[i].key,
                            json_integer((json_int_t)atomic_load(&row->mcp[i])));
    return all;
}

void mcp_children_collect(struct gateway *gateway, struct buffer *text) {
    const struct config *config = gateway->config;

    for (size_t s = 0; s < MCP_COUNTS; s++) {
        bool has_head = false;

        for (size_t i = 0; i < config->pipeline_count; i++) {
            const struct config_pipeline *pipeline = &config->pipelines[i];
            const struct board_row *row = board_find(gateway->children, pipeline->name);

            if (!pipeline->process || !pipeline->process->is_mcp)
                continue;
            if (!has_head)
                buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", counts[s].name, counts[s].help,
                              counts[s].name, counts[s].kind);
            has_head = true;
            buffer_printf(text, "%s{pipeline=\"%s\"} %" PRIu64 "\n", counts[s].name, pipeline->name,
                          row ? (uint64_t)atomic_load(&row->mcp[s]) : 0);
        }
    }
}
