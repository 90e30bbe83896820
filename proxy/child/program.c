#include "child/program.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "config/address.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *write_program(const struct config_pipeline *pipeline);
static json_t *write_mcp(const struct config_process *process);
static json_t *write_list(char *const *list, size_t count);
static bool read_program(struct program *program, const json_t *from);
static bool read_process(struct config_process *process, const json_t *from);
static void read_mcp(struct config_process *process, const json_t *from);
static bool read_list(char ***list, size_t *count, const json_t *from);
static bool read_addresses(struct program *program, const json_t *from);
static char *text_at(const json_t *from, const char *key);
static int64_t number_at(const json_t *from, const char *key);

char *programs_write(const struct config *config) {
    json_t *list = json_array();
    char *text = NULL;

    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct config_pipeline *pipeline = &config->pipelines[i];

        if (pipeline->process)
            json_array_append_new(list,
                                  json_pack("{s:s, s:I, s:o}", "name", pipeline->name, "pipeline",
                                            (json_int_t)i, "program", write_program(pipeline)));
    }
    if (json_array_size(list) > 0)
        text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

int programs_parse(struct programs **out, struct slice text) {
    json_t *list = json_loadb(text.base, text.len, JSON_REJECT_DUPLICATES, NULL), *item;
    struct programs *programs;
    bool is_whole = json_is_array(list) && json_array_size(list) <= CONFIG_PROCESSES_MAX;
    size_t i;

    programs = xcalloc(1, sizeof *programs);
    if (is_whole)
        programs->list = xcalloc(json_array_size(list), sizeof *programs->list);
    json_array_foreach(list, i, item) {
        if (!is_whole)
            break;
        is_whole = read_program(&programs->list[programs->count++], item);
    }
    json_decref(list);
    if (!is_whole) {
        programs_free(programs);
        return -EINVAL;
    }
    *out = programs;
    return 0;
}

void programs_free(struct programs *programs) {
    if (!programs)
        return;
    for (size_t i = 0; i < programs->count; i++) {
        struct program *program = &programs->list[i];

        for (unsigned j = 0; program->addresses && j < program->process->instances; j++)
            address_deinit(&program->addresses[j]);
        free(program->addresses);
        config_process_free(program->process);
        free(program->name);
        free(program->text);
    }
    free(programs->list);
    free(programs);
}

const struct program *programs_find(const struct programs *programs, unsigned pipeline) {
    for (size_t i = 0; programs && i < programs->count; i++)
        if (programs->list[i].pipeline == pipeline)
            return &programs->list[i];
    return NULL;
}

const struct program *programs_find_name(const struct programs *programs, const char *name) {
    for (size_t i = 0; programs && i < programs->count; i++)
        if (strcmp(programs->list[i].name, name) == 0)
            return &programs->list[i];
    return NULL;
}

/* Strings that are no UTF-8 cannot be in the file (TOML is UTF-8). */
static json_t *write_program(const struct config_pipeline *pipeline) {
    const struct config_process *process = pipeline->process;
    json_t *addresses = json_array();

    for (size_t i = 0; i < pipeline->endpoint_count; i++)
        json_array_append_new(addresses, json_string(pipeline->endpoints[i].text));
    return json_pack(
        "{s:b, s:o, s:o, s:s*, s:s*, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s*, s:s*, s:s*, "
        "s:I, s:I, "
        "s:I, "
        "s:I, s:o, s:o*}",
        "exec", pipeline->protocol == PROTOCOL_EXEC, "command",
        write_list(process->command, process->command_count), "env",
        write_list(process->variables, process->variable_count), "dir", process->dir, "user",
        process->user, "memory", (json_int_t)process->limits.memory_bytes, "cpu_ns",
        (json_int_t)process->limits.cpu_ns, "fds", (json_int_t)process->limits.fds, "total_memory",
        (json_int_t)process->limits.total_memory_bytes, "processes",
        (json_int_t)process->limits.processes, "signal", (json_int_t)process->stop.signal,
        "grace_ns", (json_int_t)process->stop.grace_ns, "check", (json_int_t)process->ready.check,
        "path", process->ready.path, "line", process->ready.line, "service", process->ready.service,
        "timeout_ns", (json_int_t)process->ready.timeout_ns, "deaths",
        (json_int_t)process->crash.deaths, "window_ns", (json_int_t)process->crash.window_ns,
        "hold_ns", (json_int_t)process->crash.hold_ns, "addresses", addresses, "mcp",
        write_mcp(process));
}

static json_t *write_mcp(const struct config_process *process) {
    const struct config_mcp *mcp = &process->mcp;

    if (!process->is_mcp)
        return NULL;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sessions",
                     (json_int_t)mcp->sessions, "calls", (json_int_t)mcp->calls,
                     "calls_per_session", (json_int_t)mcp->calls_per_session, "queue",
                     (json_int_t)mcp->queue, "depth", (json_int_t)mcp->depth, "message",
                     (json_int_t)mcp->message_bytes, "idle_ns", (json_int_t)mcp->idle_ns, "ping_ns",
                     (json_int_t)mcp->ping_ns, "ask", (json_int_t)mcp->ask);
}

static json_t *write_list(char *const *list, size_t count) {
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(list[i]));
    return array;
}

static bool read_program(struct program *program, const json_t *from) {
    const json_t *inner = json_object_get(from, "program");

    program->process = xcalloc(1, sizeof *program->process);
    program->name = text_at(from, "name");
    program->pipeline = (unsigned)number_at(from, "pipeline");
    program->is_exec = json_is_true(json_object_get(inner, "exec"));
    if (!program->name || !json_is_object(inner) || !read_process(program->process, inner) ||
        !read_addresses(program, json_object_get(inner, "addresses")))
        return false;
    program->text = json_dumps(inner, JSON_COMPACT | JSON_SORT_KEYS);
    return program->text != NULL;
}

static bool read_process(struct config_process *process, const json_t *from) {
    process->dir = text_at(from, "dir");
    process->user = text_at(from, "user");
    process->limits.memory_bytes = (size_t)number_at(from, "memory");
    process->limits.cpu_ns = number_at(from, "cpu_ns");
    process->limits.fds = (unsigned)number_at(from, "fds");
    process->limits.total_memory_bytes = (size_t)number_at(from, "total_memory");
    process->limits.processes = (unsigned)number_at(from, "processes");
    process->stop.signal = (int)number_at(from, "signal");
    process->stop.grace_ns = number_at(from, "grace_ns");
    process->ready.check = (enum config_ready)number_at(from, "check");
    process->ready.path = text_at(from, "path");
    process->ready.line = text_at(from, "line");
    process->ready.service = text_at(from, "service");
    process->ready.timeout_ns = number_at(from, "timeout_ns");
    process->crash.deaths = (unsigned)number_at(from, "deaths");
    process->crash.window_ns = number_at(from, "window_ns");
    process->crash.hold_ns = number_at(from, "hold_ns");
    read_mcp(process, json_object_get(from, "mcp"));
    return read_list(&process->command, &process->command_count,
                     json_object_get(from, "command")) &&
           read_list(&process->variables, &process->variable_count, json_object_get(from, "env")) &&
           process->command_count > 0 && process->stop.signal > 0 && process->stop.signal < 32 &&
           process->crash.deaths > 0 && process->crash.deaths <= CONFIG_DEATHS_MAX &&
           process->ready.check <= READY_NONE;
}

static void read_mcp(struct config_process *process, const json_t *from) {
    process->is_mcp = json_is_object(from);
    process->mcp = (struct config_mcp){
        .sessions = (unsigned)number_at(from, "sessions"),
        .calls = (unsigned)number_at(from, "calls"),
        .calls_per_session = (unsigned)number_at(from, "calls_per_session"),
        .queue = (unsigned)number_at(from, "queue"),
        .depth = (unsigned)number_at(from, "depth"),
        .message_bytes = (size_t)number_at(from, "message"),
        .idle_ns = number_at(from, "idle_ns"),
        .ping_ns = number_at(from, "ping_ns"),
        .ask = (enum config_mcp_ask)number_at(from, "ask"),
    };
}

static bool read_list(char ***list, size_t *count, const json_t *from) {
    const json_t *item;
    size_t i;

    if (!json_is_array(from) || json_array_size(from) > CONFIG_ARGUMENTS_MAX)
        return false;
    *list = xcalloc(json_array_size(from) + 1, sizeof(char *));
    json_array_foreach(from, i, item) {
        if (!json_is_string(item))
            return false;
        (*list)[(*count)++] = xstrdup(json_string_value(item));
    }
    return true;
}

static bool read_addresses(struct program *program, const json_t *from) {
    struct buffer guess = {0};
    const json_t *item;
    size_t i;

    if (!json_is_array(from) || json_array_size(from) > CONFIG_INSTANCES_MAX ||
        (json_array_size(from) == 0) != program->is_exec)
        return false;
    program->addresses = xcalloc(json_array_size(from), sizeof *program->addresses);
    json_array_foreach(from, i, item) {
        if (!json_is_string(item) ||
            address_parse(&program->addresses[i], slice_str(json_string_value(item)),
                          ADDRESS_TO_DIAL, &guess)) {
            buffer_deinit(&guess);
            return false;
        }
        program->process->instances++;
    }
    return true;
}

/* NULL: it is left out. */
static char *text_at(const json_t *from, const char *key) {
    const json_t *text = json_object_get(from, key);

    return json_is_string(text) ? xstrdup(json_string_value(text)) : NULL;
}

static int64_t number_at(const json_t *from, const char *key) {
    const json_t *number = json_object_get(from, key);

    return json_is_integer(number) && json_integer_value(number) > 0 ? json_integer_value(number)
                                                                     : 0;
}
