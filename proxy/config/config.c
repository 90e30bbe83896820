/* From a file to settings: read it, parse it, take each section by its schema, check the whole,
 * plan the file descriptors. Every fault on the way is collected; one is enough to refuse all. */
#include "config/config.h"

#include "base/alloc.h"
#include "config/address.h"
#include "config/balance.h"
#include "config/certificates.h"
#include "config/check.h"
#include "config/lists.h"
#include "config/plan.h"
#include "config/plugins.h"
#include "config/processes.h"
#include "config/rewrites.h"
#include "config/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int read_file(int fd, struct buffer *text);
static int give_up(struct config *config, struct errors *errors, struct config_errors *to);
static void take_all(struct reader *reader, const struct tomlc_node *root, struct config *config);
static void take_section(struct reader *reader, const struct tomlc_node *root,
                         const struct schema *schema, void *to);
static size_t take_sections(struct reader *reader, const struct tomlc_node *root,
                            const struct schema *schema, void *list, size_t size);

int config_load(struct config **out, const char *path, const struct config_options *options,
                struct config_errors *errors) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int err = config_load_fd(out, fd < 0 ? -errno : fd, path, options, errors);

    if (fd >= 0)
        close(fd);
    return err;
}

int config_load_fd(struct config **out, int fd, const char *name,
                   const struct config_options *options, struct config_errors *errors) {
    struct errors found = {.name = name};
    struct buffer text = {0};
    int err = fd < 0 ? fd : read_file(fd, &text);

    if (err) {
        errors_add(&found, (struct tomlc_position){0}, "cannot read it: %s",
                   err == -EFBIG ? "it is larger than 1 MiB" : strerror(-err));
        err = give_up(NULL, &found, errors);
    } else {
        err = config_parse(out, name, text.base, text.len, options, errors);
    }
    buffer_deinit(&text);
    return err;
}

int config_parse(struct config **out, const char *name, const char *text, size_t len,
                 const struct config_options *options, struct config_errors *errors) {
    struct errors found = {.name = name}, warnings = {.name = name};
    struct config_errors warned;
    struct reader reader = {.errors = &found};
    struct tomlc_error error;
    const struct tomlc_node *root;
    struct config *config;

    if (tomlc_parse(&root, text, len, &error)) {
        errors_add(&found, error.at, "%s", error.text);
        return give_up(NULL, &found, errors);
    }
    config = xcalloc(1, sizeof *config);
    config->folder = plugins_folder(name);
    take_all(&reader, root, config);
    check_all(config, root, &found, &warnings);
    processes_check(config, root, &found);
    balance_check(config, root, &found);
    certificates_check(config, root, &found, &warnings);
    rewrites_check(config, root, &found); /* with TLS or without is known */
    plan_all(config, root, options, &found);
    tomlc_free(root);
    errors_finish(&warnings, &warned);
    config->warnings = warned.text;
    if (found.count > 0)
        return give_up(config, &found, errors);
    *errors = (struct config_errors){0};
    *out = config;
    return 0;
}

void config_free(struct config *config) {
    if (!config)
        return;
    free(config->server.resolver);
    free(config->server.user);
    free(config->server.state_file);
    address_deinit(&config->admin.listen);
    free(config->admin.token);
    free(config->log.file);
    free(config->log.access);
    for (size_t i = 0; i < config->listener_count; i++) {
        free(config->listeners[i].name);
        address_deinit(&config->listeners[i].listen);
        free(config->listeners[i].trust);
        certificates_free(&config->listeners[i].tls);
    }
    free(config->listeners);
    for (size_t i = 0; i < config->pipeline_count; i++) {
        free(config->pipelines[i].name);
        free(config->pipelines[i].host);
        free(config->pipelines[i].queue.fair_field);
        free(config->pipelines[i].queue.priority_field);
        free(config->pipelines[i].balance.hash.name);
        free(config->pipelines[i].health.path);
        free(config->pipelines[i].health.host);
        free(config->pipelines[i].health.grpc_service);
        certificates_free_pipeline(&config->pipelines[i].tls);
        list_free_endpoints(&config->pipelines[i]);
        config_process_free(config->pipelines[i].process);
    }
    free(config->pipelines);
    for (size_t i = 0; i < config->handler_count; i++)
        plugins_free(&config->handlers[i]);
    free(config->handlers);
    for (size_t i = 0; i < config->route_count; i++) {
        free(config->routes[i].name);
        free(config->routes[i].host);
        free(config->routes[i].path);
        free(config->routes[i].exact);
        free(config->routes[i].affinity.header);
        free(config->routes[i].affinity.cookie);
        list_free_methods(&config->routes[i]);
        list_free_fields(&config->routes[i]);
        config_rewrite_free(config->routes[i].rewrite);
        free(config->routes[i].handlers);
    }
    free(config->routes);
    free(config->folder);
    free(config->warnings);
    free(config);
}

void config_errors_deinit(struct config_errors *errors) {
    free(errors->text);
    *errors = (struct config_errors){0};
}

static int read_file(int fd, struct buffer *text) {
    ssize_t got;

    do {
        char *to = buffer_reserve(text, 16384);

        /* From its start, whoever else reads from it. */
        got = pread(fd, to, 16384, (off_t)text->len);
        if (got < 0 && errno == ESPIPE)
            got = read(fd, to, 16384);
        if (got > 0)
            text->len += (size_t)got;
    } while ((got > 0 && text->len <= TOMLC_SIZE_MAX) || (got < 0 && errno == EINTR));
    return got < 0 ? -errno : text->len > TOMLC_SIZE_MAX ? -EFBIG : 0;
}

static int give_up(struct config *config, struct errors *errors, struct config_errors *to) {
    config_free(config);
    errors_finish(errors, to);
    return -EINVAL;
}

static void take_all(struct reader *reader, const struct tomlc_node *root, struct config *config) {
    take_section(reader, root, &schema_server, &config->server);
    take_section(reader, root, &schema_admission, &config->admission);
    take_section(reader, root, &schema_admin, &config->admin);
    take_section(reader, root, &schema_log, &config->log);
    config->listener_count = take_sections(reader, root, &schema_listener, &config->listeners,
                                           sizeof config->listeners[0]);
    config->pipeline_count = take_sections(reader, root, &schema_pipeline, &config->pipelines,
                                           sizeof config->pipelines[0]);
    config->handler_count =
        take_sections(reader, root, &schema_handler, &config->handlers, sizeof config->handlers[0]);
    config->route_count =
        take_sections(reader, root, &schema_route, &config->routes, sizeof config->routes[0]);
    reader_refuse_unknown_sections(reader, schema_all, root);
}

static void take_section(struct reader *reader, const struct tomlc_node *root,
                         const struct schema *schema, void *to) {
    const struct tomlc_node *node = tomlc_find(root, schema->name);

    reader_take_defaults(schema, to);
    if (node && node->kind == TOMLC_TABLE)
        reader_take(reader, schema, node, to);
    else if (node)
        reader_refuse_section(reader, schema, node);
}

/* Makes *@list as long as the array in the file, so that the two have the same indexes. */
static size_t take_sections(struct reader *reader, const struct tomlc_node *root,
                            const struct schema *schema, void *list, size_t size) {
    const struct tomlc_node *node = tomlc_find(root, schema->name);
    char *element;

    if (!node && schema->is_optional)
        return 0;
    if (!node) {
        errors_add(reader->errors, root->at, "%s: found none, expected at least one [[%s]]",
                   schema->name, schema->name);
        return 0;
    }
    if (node->kind != TOMLC_ARRAY || node->len == 0 || node->len > schema->array_max) {
        reader_refuse_section(reader, schema, node);
        return 0;
    }
    element = xcalloc(node->len, size);
    *(void **)list = element;
    for (size_t i = 0; i < node->len; i++, element += size) {
        if (schema->start)
            memcpy(element, schema->start, size);
        reader_take_defaults(schema, element);
        if (node->children[i].kind == TOMLC_TABLE)
            reader_take(reader, schema, &node->children[i], element);
        else
            reader_refuse_section(reader, schema, &node->children[i]);
    }
    return node->len;
}
