/* Any bytes as a configuration: settings that hold together, or errors that point into the text. */
#include "config/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_errors(const struct config_errors *errors, const char *text, size_t len);
static void check_settings(const struct config *config, const struct config_options *options);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct config_options options = {.fd_limit = 1024, .cores = 2};
    struct config *config = NULL;
    struct config_errors errors = {0};

    if (config_parse(&config, "f", (const char *)data, size, &options, &errors)) {
        assert(!config);
        check_errors(&errors, (const char *)data, size);
        config_errors_deinit(&errors);
    } else {
        assert(config && !errors.text);
        check_settings(config, &options);
        config_free(config);
    }
    return 0;
}

/* Each line is "f:line:column: text", in rising order, not beyond the character behind the last. */
static void check_errors(const struct config_errors *errors, const char *text, size_t len) {
    unsigned last_line = 1;
    unsigned line_before = 0, column_before = 0;
    const char *at = errors->text;

    assert(errors->count > 0 && at);
    for (size_t i = 0; i < len; i++)
        last_line += text[i] == '\n';
    for (; *at; at = strchr(at, '\n') + 1) {
        unsigned line, column;

        if (strncmp(at, "f: and ", 7) == 0)
            continue;
        assert(sscanf(at, "f:%u:%u: ", &line, &column) == 2);
        assert(line >= 1 && line <= last_line && column >= 1 && column <= len + 1);
        assert(line > line_before || (line == line_before && column >= column_before));
        line_before = line;
        column_before = column;
        for (const char *c = at; *c != '\n'; c++)
            assert((unsigned char)*c >= 0x20 && *c != 0x7F);
    }
}

static void check_settings(const struct config *config, const struct config_options *options) {
    const struct config_admission *admission = &config->admission;
    uint64_t sum = (uint64_t)admission->fd_reserve + admission->fd_upstream +
                   admission->max_connections + config->listener_count * config->server.threads;
    char *summary;

    assert(config->listener_count > 0 && config->pipeline_count > 0 && config->route_count > 0);
    assert(config->server.threads >= 1 && config->server.threads <= 64);
    assert(admission->max_connections > 0 && sum <= options->fd_limit);
    for (size_t i = 0; i < config->pipeline_count; i++)
        assert(config->pipelines[i].limits.connections > 0 &&
               config->pipelines[i].endpoint_count > 0 &&
               config->pipelines[i].resolve_interval_ns > 0);
    for (size_t i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];

        assert(route->name && route->pipeline < config->pipeline_count);
        assert(route->listener < config->listener_count || route->listener == CONFIG_ANY_LISTENER);
    }
    summary = config_summary(config);
    assert(summary && *summary);
    free(summary);
}
