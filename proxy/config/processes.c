/* [pipeline.process]: its keys, and what has to be true of them together. */
#include "config/processes.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "config/schema.h"
#include "config/values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS(n) ((n)*NS_PER_S)
#define HOURS(n) SECONDS((n)*3600)
#define STOP_GRACE_NS SECONDS(10)            /* of a program that stays */
#define STOP_GRACE_EXEC_NS (500 * NS_PER_MS) /* of one that is for a request */

/* What belongs to one kind of program only. */
struct kind_key {
    const char *key;
    bool is_exec;
};

static void check_routes(const struct config *config, const struct tomlc_node *root,
                         struct errors *errors);
static void read_command(struct reader *reader, const struct schema_key *key,
                         const struct tomlc_node *node, void *to);
static void read_variables(struct reader *reader, const struct schema_key *key,
                           const struct tomlc_node *node, void *to);
static void read_text(struct reader *reader, const struct schema_key *key,
                      const struct tomlc_node *node, void *to);
static bool take_text(struct reader *reader, const struct tomlc_node *node, const char *expected,
                      struct slice *text);
static bool is_variable(struct slice name);
static void free_list(char **list, size_t count);
static void check_one(struct config_pipeline *pipeline, const struct tomlc_node *section,
                      struct errors *errors);
static void check_mcp(struct config_pipeline *pipeline, const struct tomlc_node *section,
                      struct errors *errors);
static void check_kind(const struct config_pipeline *pipeline, const struct tomlc_node *table,
                       struct errors *errors);
static void check_ready(const struct config_process *process, const struct tomlc_node *table,
                        struct errors *errors);
static void check_instances(struct config_pipeline *pipeline, const struct tomlc_node *table,
                            struct errors *errors);
static bool add_instance(struct config_pipeline *pipeline);

static const struct choice signals[] = {
    {"TERM", SIGTERM}, {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"HUP", SIGHUP},
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"KILL", SIGKILL}, {0},
};

static const struct choice checks[] = {
    {"tcp", READY_TCP},   {"http", READY_HTTP}, {"grpc", READY_GRPC},
    {"line", READY_LINE}, {"none", READY_NONE}, {0},
};

static const struct choice outputs[] = {
    {"raw", OUTPUT_RAW},
    {"lines", OUTPUT_LINES},
    {"sse", OUTPUT_SSE},
    {0},
};

#define AT(member) offsetof(struct config_process, member)
static const struct schema_key process_keys[] = {
    {"command", read_command, 0},
    {"env", read_variables, 0},
    {"dir", value_file, AT(dir)},
    {"user", value_name, AT(user)},
    {"limits.memory", value_size, AT(limits.memory_bytes), NULL, 1 << 20, INT64_MAX},
    {"limits.cpu", value_duration, AT(limits.cpu_ns), NULL, SECONDS(1), HOURS(10000)},
    {"limits.fds", value_count, AT(limits.fds), NULL, 8, 1 << 20},
    {"limits.total_memory", value_size, AT(limits.total_memory_bytes), NULL, 1 << 20, INT64_MAX},
    {"limits.processes", value_count, AT(limits.processes), NULL, 1, 1 << 22},
    {"stop.signal", value_choice, AT(stop.signal), "\"TERM\"", .choices = signals},
    {"stop.grace", value_duration, AT(stop.grace_ns), NULL, NS_PER_MS, HOURS(1),
     .is_never_off = true},
    {"ready.check", value_choice, AT(ready.check), "\"tcp\"", .choices = checks},
    {"ready.path", read_text, AT(ready.path)},
    {"ready.line", read_text, AT(ready.line)},
    {"ready.service", read_text, AT(ready.service)},
    {"ready.timeout", value_duration, AT(ready.timeout_ns), "\"30s\"", 10 * NS_PER_MS, HOURS(1),
     .is_never_off = true},
    {"crash.deaths", value_count, AT(crash.deaths), "5", 1, CONFIG_DEATHS_MAX},
    {"crash.window", value_duration, AT(crash.window_ns), "\"60s\"", SECONDS(1), HOURS(24),
     .is_never_off = true},
    {"crash.hold", value_duration, AT(crash.hold_ns), "\"5m\"", SECONDS(1), HOURS(24),
     .is_never_off = true},
    {"instances", value_count, AT(instances), NULL, 1, CONFIG_INSTANCES_MAX},
    {"output", value_choice, AT(output), "\"raw\"", .choices = outputs},
    {"content_type", read_text, AT(content_type)},
};
#undef AT

static const struct schema schema_process = {"pipeline.process", process_keys,
                                             sizeof process_keys / sizeof *process_keys};

static const struct kind_key kind_keys[] = {
    {"ready", false}, {"crash", false},       {"instances", false},
    {"output", true}, {"content_type", true},
};

void processes_read(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct config_pipeline *pipeline = to;

    if (node->kind != TOMLC_TABLE) {
        reader_refuse(reader, node, NULL, "a table such as { command = [ \"...\" ] }");
        return;
    }
    config_process_free(pipeline->process);
    pipeline->process = xcalloc(1, sizeof *pipeline->process);
    reader_take_defaults(&schema_process, pipeline->process);
    reader_take(reader, &schema_process, node, pipeline->process);
}

void config_process_free(struct config_process *process) {
    if (!process)
        return;
    free_list(process->command, process->command_count);
    free_list(process->variables, process->variable_count);
    free(process->dir);
    free(process->user);
    free(process->ready.path);
    free(process->ready.line);
    free(process->ready.service);
    free(process->content_type);
    free(process);
}

const char *config_ready_name(enum config_ready check) {
    return checks[check].word;
}

const char *config_output_name(enum config_output output) {
    return outputs[output].word;
}

void processes_check(struct config *config, const struct tomlc_node *root, struct errors *errors) {
    const struct tomlc_node *list = tomlc_find(root, "pipeline");
    size_t count = 0;

    for (size_t i = 0; i < config->pipeline_count; i++) {
        struct config_pipeline *pipeline = &config->pipelines[i];
        const struct tomlc_node *section = &list->children[i];

        if (section->kind != TOMLC_TABLE)
            continue;
        check_one(pipeline, section, errors);
        check_mcp(pipeline, section, errors);
        if (!pipeline->process)
            continue;
        if (++count == CONFIG_PROCESSES_MAX + 1)
            errors_add(errors, tomlc_find(section, "process")->at,
                       "pipeline.process: found more than %d of them, expected no more",
                       CONFIG_PROCESSES_MAX);
        if (!pipeline->process->user && config->server.user)
            pipeline->process->user = xstrdup(config->server.user);
        if (pipeline->process->stop.grace_ns == 0)
            pipeline->process->stop.grace_ns =
                pipeline->protocol == PROTOCOL_EXEC ? STOP_GRACE_EXEC_NS : STOP_GRACE_NS;
    }
    if (config->pipeline_count > 0)
        check_routes(config, root, errors);
}

/* With exec each request has a program of its own: there is nothing to come back to. A session of
 * an MCP server lives in one of its instances only. */
static void check_routes(const struct config *config, const struct tomlc_node *root,
                         struct errors *errors) {
    const struct tomlc_node *list = tomlc_find(root, "route");

    for (size_t i = 0; i < config->route_count; i++) {
        struct config_route *route = &config->routes[i];
        const struct config_pipeline *pipeline = &config->pipelines[route->pipeline];
        const struct tomlc_node *affinity = list->children[i].kind == TOMLC_TABLE
                                                ? tomlc_find(&list->children[i], "affinity")
                                                : NULL;

        if (affinity && config->pipelines[route->pipeline].protocol == PROTOCOL_EXEC)
            errors_add(errors, affinity->at,
                       "route.affinity: found with pipeline = \"%s\", expected one with endpoints, "
                       "not with protocol = \"exec\"",
                       config->pipelines[route->pipeline].name);
        if (affinity || !pipeline->process || !pipeline->process->is_mcp ||
            pipeline->process->instances < 2)
            continue;
        route->affinity.header = xstrdup("mcp-session-id");
        route->affinity.learn = LEARN_RESPONSE;
        route->affinity.is_strict = true;
    }
}

/* The whole list of @process is replaced. */
static void read_command(struct reader *reader, const struct schema_key *key,
                         const struct tomlc_node *node, void *to) {
    static const char expected[] =
        "the program and its arguments, each a string, such as [ \"python3\", \"app.py\" ]";
    struct config_process *process = to;

    if (node->kind != TOMLC_ARRAY || node->len == 0 || node->len > CONFIG_ARGUMENTS_MAX) {
        reader_refuse(reader, node, NULL, "%s, at most %d", expected, CONFIG_ARGUMENTS_MAX);
        return;
    }
    free_list(process->command, process->command_count);
    process->command = xcalloc(node->len + 1, sizeof(char *));
    process->command_count = 0;
    for (size_t i = 0; i < node->len; i++) {
        const struct tomlc_node *child = &node->children[i];
        struct slice text;

        /* An argument may be empty, a program may not. */
        if (i > 0 && child->kind == TOMLC_STRING && child->len == 0)
            process->command[process->command_count++] = xstrdup("");
        else if (take_text(reader, child, expected, &text))
            process->command[process->command_count++] = xstrndup(text.base, text.len);
    }
}

static void read_variables(struct reader *reader, const struct schema_key *key,
                           const struct tomlc_node *node, void *to) {
    struct config_process *process = to;

    if (node->kind != TOMLC_TABLE || node->len > CONFIG_VARIABLES_MAX) {
        reader_refuse(reader, node, NULL,
                      "a table of at most %d variables such as { NAME = \"...\" }",
                      CONFIG_VARIABLES_MAX);
        return;
    }
    free_list(process->variables, process->variable_count);
    process->variables = xcalloc(node->len + 1, sizeof(char *));
    process->variable_count = 0;
    for (size_t i = 0; i < node->len; i++) {
        const struct tomlc_node *child = &node->children[i];
        struct slice name = slice_of(child->key, child->key_len), text = SLICE("");

        if (!is_variable(name)) {
            reader_refuse(reader, child, NULL,
                          "the name of a variable, of letters, digits and '_', not WEIR_...");
            continue;
        }
        if (child->kind == TOMLC_STRING && child->len == 0) {
            text = SLICE("");
        } else if (!take_text(reader, child, "a string", &text)) {
            continue;
        }
        process->variables[process->variable_count++] =
            xasprintf("%.*s=%.*s", SLICE_ARG(name), SLICE_ARG(text));
    }
}

static void read_text(struct reader *reader, const struct schema_key *key,
                      const struct tomlc_node *node, void *to) {
    struct slice text;

    if (take_text(reader, node, "a string that is not empty", &text))
        value_replace(to, text);
}

static bool take_text(struct reader *reader, const struct tomlc_node *node, const char *expected,
                      struct slice *text) {
    if (node->kind == TOMLC_STRING && node->len > CONFIG_PROGRAM_TEXT_MAX) {
        errors_add(reader->errors, node->at, "%s: found a string of %zu bytes, expected at most %d",
                   reader->path, node->len, CONFIG_PROGRAM_TEXT_MAX);
        return false;
    }
    if (node->kind != TOMLC_STRING || node->len == 0 || memchr(node->string, '\0', node->len)) {
        reader_refuse(reader, node, NULL, "%s", expected);
        return false;
    }
    *text = slice_of(node->string, node->len);
    return true;
}

/* Those that begin with WEIR_ are ours. */
static bool is_variable(struct slice name) {
    if (name.len == 0 || name.len > 256 || isdigit((unsigned char)name.base[0]) ||
        slice_starts(name, SLICE("WEIR_")))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum((unsigned char)name.base[i]) && name.base[i] != '_')
            return false;
    return true;
}

static void free_list(char **list, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(list[i]);
    free(list);
}

static void check_one(struct config_pipeline *pipeline, const struct tomlc_node *section,
                      struct errors *errors) {
    const struct tomlc_node *endpoints = tomlc_find(section, "endpoints");
    const struct tomlc_node *table = tomlc_find(section, "process");
    const struct tomlc_node *limits = tomlc_find(section, "limits");
    bool is_exec = pipeline->protocol == PROTOCOL_EXEC;

    if (!is_exec && !endpoints)
        errors_add(errors, section->at,
                   "pipeline.endpoints: found nothing, expected this key in every [[pipeline]] but "
                   "one with protocol = \"exec\"");
    if (is_exec && endpoints)
        errors_add(
            errors, endpoints->at,
            "pipeline.endpoints: found with protocol = \"exec\", expected none: each request "
            "has a program of its own");
    if (is_exec && limits && tomlc_find(limits, "connections"))
        errors_add(errors, tomlc_find(limits, "connections")->at,
                   "pipeline.limits.connections: found with protocol = \"exec\", expected none: "
                   "concurrency and streams say how many programs run");
    if (is_exec && !table)
        errors_add(errors, section->at,
                   "pipeline.process: found none with protocol = \"exec\", expected the command "
                   "that each request runs");
    if (!pipeline->process || !table)
        return;
    if (!tomlc_find(table, "command"))
        errors_add(errors, table->at,
                   "pipeline.process.command: found nothing, expected the program to start");
    check_kind(pipeline, table, errors);
    if (is_exec)
        return;
    check_ready(pipeline->process, table, errors);
    if (endpoints)
        check_instances(pipeline, table, errors);
}

/* To who forwards to it the bridge is an HTTP/1 server like others. */
static void check_mcp(struct config_pipeline *pipeline, const struct tomlc_node *section,
                      struct errors *errors) {
    const struct tomlc_node *settings = tomlc_find(section, "mcp");
    const struct tomlc_node *table = tomlc_find(section, "process");
    enum config_ready ready;

    if (pipeline->protocol != PROTOCOL_MCP_STDIO) {
        if (settings)
            errors_add(errors, settings->at,
                       "pipeline.mcp: found with protocol = \"%s\", expected only with "
                       "\"mcp-stdio\"",
                       config_protocol_name(pipeline->protocol));
        return;
    }
    pipeline->protocol = PROTOCOL_HTTP1;
    if (!pipeline->process || !table) {
        errors_add(errors, section->at,
                   "pipeline.process: found none with protocol = \"mcp-stdio\", expected the "
                   "command of the server");
        return;
    }
    ready = pipeline->process->ready.check;
    if (ready != READY_TCP)
        errors_add(errors, tomlc_find(table, "ready")->at,
                   "pipeline.process.ready.check: found \"%s\" with protocol = \"mcp-stdio\", "
                   "expected none: it is ready when it has answered initialize",
                   config_ready_name(ready));
    pipeline->process->is_mcp = true;
    pipeline->process->mcp = pipeline->mcp;
}

/* A setting that would never apply is an error. */
static void check_kind(const struct config_pipeline *pipeline, const struct tomlc_node *table,
                       struct errors *errors) {
    bool is_exec = pipeline->protocol == PROTOCOL_EXEC;

    for (size_t i = 0; i < sizeof kind_keys / sizeof *kind_keys; i++) {
        const struct tomlc_node *node = tomlc_find(table, kind_keys[i].key);

        if (node && kind_keys[i].is_exec != is_exec)
            errors_add(errors, node->at,
                       "pipeline.process.%s: found with protocol = \"%s\", expected only %s "
                       "\"exec\"",
                       kind_keys[i].key, config_protocol_name(pipeline->protocol),
                       is_exec ? "without" : "with");
    }
}

static void check_ready(const struct config_process *process, const struct tomlc_node *table,
                        struct errors *errors) {
    const struct tomlc_node *ready = tomlc_find(table, "ready");
    struct tomlc_position at = ready ? ready->at : table->at;

    if ((process->ready.check == READY_HTTP) != (process->ready.path != NULL))
        errors_add(errors, at,
                   "pipeline.process.ready: found %s, expected check = \"http\" and path together",
                   process->ready.path ? "a path" : "check = \"http\"");
    else if (process->ready.path && process->ready.path[0] != '/')
        errors_add(
            errors, at,
            "pipeline.process.ready.path: found \"%s\", expected a path such as \"/healthz\"",
            process->ready.path);
    if (process->ready.service && process->ready.check != READY_GRPC)
        errors_add(errors, at,
                   "pipeline.process.ready.service: found with check = \"%s\", expected only with "
                   "\"grpc\"",
                   config_ready_name(process->ready.check));
    if ((process->ready.check == READY_LINE) != (process->ready.line != NULL))
        errors_add(errors, at,
                   "pipeline.process.ready: found %s, expected check = \"line\" and line together",
                   process->ready.line ? "a line" : "check = \"line\"");
}

/* An instance for each endpoint; where there is one endpoint only, the others are on the ports
 * behind it. */
static void check_instances(struct config_pipeline *pipeline, const struct tomlc_node *table,
                            struct errors *errors) {
    struct config_process *process = pipeline->process;
    const struct tomlc_node *node = tomlc_find(table, "instances");
    struct tomlc_position at = node ? node->at : table->at;

    for (size_t i = 0; i < pipeline->endpoint_count; i++)
        if (pipeline->endpoints[i].kind == ADDRESS_NAME)
            errors_add(errors, at,
                       "pipeline.process: found with endpoint \"%s\", expected addresses such as "
                       "\"127.0.0.1:8090\": it listens on this host",
                       pipeline->endpoints[i].text);
    if (process->instances == 0)
        process->instances = (unsigned)pipeline->endpoint_count;
    if (pipeline->endpoint_count == 1 && pipeline->endpoints[0].kind == ADDRESS_INET)
        for (size_t i = 1; i < process->instances && add_instance(pipeline); i++)
            ;
    if (process->instances != pipeline->endpoint_count || process->instances > CONFIG_INSTANCES_MAX)
        errors_add(errors, at,
                   "pipeline.process.instances: found %u with %zu endpoints, expected an endpoint "
                   "for each, at most %d, or one whose next ports are free for the others",
                   process->instances, pipeline->endpoint_count, CONFIG_INSTANCES_MAX);
}

/* The port behind the last one's. */
static bool add_instance(struct config_pipeline *pipeline) {
    struct config_address *last = &pipeline->endpoints[pipeline->endpoint_count - 1], *next;
    char host[INET6_ADDRSTRLEN];
    bool is_v6 = last->sockaddr.ss_family == AF_INET6;

    if (last->port == UINT16_MAX)
        return false;
    pipeline->endpoints = xrealloc(pipeline->endpoints,
                                   (pipeline->endpoint_count + 1) * sizeof pipeline->endpoints[0]);
    last = &pipeline->endpoints[pipeline->endpoint_count - 1];
    next = &pipeline->endpoints[pipeline->endpoint_count++];
    *next = *last;
    next->port++;
    if (is_v6) {
        struct sockaddr_in6 *in6 = (void *)&next->sockaddr;

        in6->sin6_port = htons(next->port);
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    } else {
        struct sockaddr_in *in = (void *)&next->sockaddr;

        in->sin_port = htons(next->port);
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    }
    next->text = xasprintf(is_v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)next->port);
    return true;
}
