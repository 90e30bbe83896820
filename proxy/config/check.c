/* Cross checks. The sections in the file and in the settings have the same indexes, which is how a
 * fault in the settings finds its line. */
#include "config/check.h"

#include "base/alloc.h"
#include "config/address.h"
#include "config/checks.h"
#include "config/reader.h"
#include "config/suggest.h"
#include "config/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct check {
    struct config *config;         /* borrowed */
    const struct tomlc_node *root; /* borrowed */
    struct errors *errors;         /* borrowed */
    struct errors *warnings;       /* borrowed */
};

/* Sections of one kind; each struct begins with its name. */
struct named {
    const char *section;
    const void *list;
    size_t count;
    size_t size; /* of one */
};

static void check_state_file(const struct check *check);
static void check_listeners(const struct check *check);
static void check_routes(const struct check *check);
static void check_target(const struct check *check, size_t i);
static void check_pipelines(const struct check *check);
static void check_names(const struct check *check, const struct named *named);
static const char *name_at(const struct named *named, size_t i);
static bool resolve(const struct check *check, size_t route, const char *key,
                    const struct named *named, size_t *index);
static void resolve_handlers(const struct check *check, size_t i);
static bool find(const struct check *check, const char *path, const struct tomlc_node *node,
                 const struct named *named, size_t *index);
static void name_route(const struct check *check, size_t i);
static bool is_name_taken(const struct config *config, const char *name);
static bool is_whole(const struct check *check, size_t i);
static bool is_same_match(const struct config_route *a, const struct config_route *b);
static bool is_same_text(const char *a, const char *b);
static bool has_same_methods(const struct config_route *a, const struct config_route *b);
static bool has_same_fields(const struct config_route *a, const struct config_route *b);
static const struct tomlc_node *section_at(const struct check *check, const char *section,
                                           size_t i);
static const struct tomlc_node *key_at(const struct tomlc_node *section, const char *key);

void check_all(struct config *config, const struct tomlc_node *root, struct errors *errors,
               struct errors *warnings) {
    const struct check check = {config, root, errors, warnings};

    check_state_file(&check);
    check_listeners(&check);
    check_pipelines(&check);
    check_names(&check, &(struct named){"handler", config->handlers, config->handler_count,
                                        sizeof config->handlers[0]});
    check_routes(&check);
}

/* It may be there by the time it is needed, and weir serves without: no error. */
static void check_state_file(const struct check *check) {
    const char *path = check->config->server.state_file;
    const struct tomlc_node *node = tomlc_find(check->root, "server");
    char *directory;

    if (!path)
        return;
    directory = xstrndup(path, (size_t)(strrchr(path, '/') - path) + 1);
    if (access(directory, W_OK | X_OK) < 0)
        errors_add(check->warnings, tomlc_find(node, "state_file")->at,
                   "warning: server.state_file: no file can be written in '%s': %s", directory,
                   strerror(errno));
    free(directory);
}

static void check_listeners(const struct check *check) {
    struct config *config = check->config;
    const struct config_admin *admin = &config->admin;

    check_names(check, &(struct named){"listener", config->listeners, config->listener_count,
                                       sizeof config->listeners[0]});
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        const struct tomlc_node *section = section_at(check, "listener", i);
        const struct tomlc_node *listen = key_at(section, "listen");

        check_target(check, i);
        if (!listener->listen.text)
            continue;
        if (admin->is_on && address_is_in_the_way(&listener->listen, &admin->listen))
            errors_add(check->errors, listen->at,
                       "listener.listen: found \"%s\", expected another address than the admin "
                       "listener's \"%s\"",
                       listener->listen.text, admin->listen.text);
        for (size_t j = 0; j < i; j++)
            if (config->listeners[j].listen.text &&
                address_is_in_the_way(&listener->listen, &config->listeners[j].listen)) {
                errors_add(check->errors, listen->at,
                           "listener.listen: found \"%s\", expected another address than \"%s\" "
                           "in line %u",
                           listener->listen.text, config->listeners[j].listen.text,
                           key_at(section_at(check, "listener", j), "listen")->at.line);
                break;
            }
    }
}

/* The target is part of the head. A default gives way; what the file says is an error. */
static void check_target(const struct check *check, size_t i) {
    struct config_listener *listener = &check->config->listeners[i];
    const struct tomlc_node *limits = key_at(section_at(check, "listener", i), "limits");
    const struct tomlc_node *node = tomlc_find(limits, "target");
    struct reader reader = {.errors = check->errors, .path = "listener.limits.target"};
    int64_t said = -1;

    if (listener->max_target_bytes <= listener->max_head_bytes)
        return;
    if (node && node->kind == TOMLC_INTEGER)
        said = node->integer;
    else if (node)
        units_parse_size(reader_text(node), &said);
    if (said == (int64_t)listener->max_target_bytes) /* else it was refused before */
        reader_refuse(&reader, node, NULL, "at most the size of head, %zu",
                      listener->max_head_bytes);
    else if (!node)
        listener->max_target_bytes = listener->max_head_bytes;
}

static void check_pipelines(const struct check *check) {
    static const struct {
        const char *table, *key;
    } http2_only[] = {
        {"limits", "streams_per_connection"}, {"timeouts", "ping"}, {"timeouts", "pong"}};
    struct config *config = check->config;

    check_names(check, &(struct named){"pipeline", config->pipelines, config->pipeline_count,
                                       sizeof config->pipelines[0]});
    for (size_t i = 0; i < config->pipeline_count; i++) {
        struct config_pipeline *pipeline = &config->pipelines[i];

        if (pipeline->resolve_interval_ns == 0)
            pipeline->resolve_interval_ns = config->server.resolve_interval_ns;
        checks_complete(pipeline, section_at(check, "pipeline", i), check->errors);
        if (pipeline->breaker.open_max_ns < pipeline->breaker.open_for_ns)
            pipeline->breaker.open_max_ns = pipeline->breaker.open_for_ns;
        /* A setting that would never apply is an error. */
        for (size_t k = 0; k < sizeof http2_only / sizeof *http2_only; k++) {
            const struct tomlc_node *table =
                tomlc_find(section_at(check, "pipeline", i), http2_only[k].table);
            const struct tomlc_node *node = table ? tomlc_find(table, http2_only[k].key) : NULL;

            if (node && pipeline->protocol != PROTOCOL_HTTP2)
                errors_add(check->errors, node->at,
                           "pipeline.%s.%s: found with protocol = \"http1\", expected only with "
                           "\"http2\"",
                           http2_only[k].table, http2_only[k].key);
        }
    }
}

static void check_routes(const struct check *check) {
    struct config *config = check->config;
    const struct named routes = {"route", config->routes, config->route_count,
                                 sizeof config->routes[0]};
    const struct named listeners = {"listener", config->listeners, config->listener_count,
                                    sizeof config->listeners[0]};
    const struct named pipelines = {"pipeline", config->pipelines, config->pipeline_count,
                                    sizeof config->pipelines[0]};

    check_names(check, &routes);
    for (size_t i = 0; i < config->route_count; i++) {
        struct config_route *route = &config->routes[i];
        const struct tomlc_node *match = key_at(section_at(check, "route", i), "match");

        resolve(check, i, "listener", &listeners, &route->listener);
        if (resolve(check, i, "pipeline", &pipelines, &route->pipeline) && route->is_grpc_web &&
            config->pipelines[route->pipeline].protocol != PROTOCOL_HTTP2)
            errors_add(check->errors, key_at(section_at(check, "route", i), "grpc_web")->at,
                       "route.grpc_web: found with pipeline = \"%s\", expected one with protocol "
                       "= \"http2\", which gRPC needs",
                       config->pipelines[route->pipeline].name);
        resolve_handlers(check, i);
        if (!route->name)
            name_route(check, i);
        if (route->path && route->exact)
            errors_add(check->errors, match->at,
                       "route.match: found both path and exact, expected only one of them");
        for (size_t j = 0; j < i && is_whole(check, i); j++)
            if (is_same_match(route, &config->routes[j]) && is_whole(check, j)) {
                errors_add(check->errors, match->at,
                           "route.match: found the same as in line %u, expected each route to "
                           "match something else",
                           key_at(section_at(check, "route", j), "match")->at.line);
                break;
            }
    }
}

static void check_names(const struct check *check, const struct named *named) {
    for (size_t i = 0; i < named->count; i++) {
        const char *name = name_at(named, i);

        for (size_t j = 0; name && j < i; j++)
            if (is_same_text(name, name_at(named, j))) {
                errors_add(check->errors, key_at(section_at(check, named->section, i), "name")->at,
                           "%s.name: found \"%s\", expected another name than in line %u",
                           named->section, name,
                           key_at(section_at(check, named->section, j), "name")->at.line);
                break;
            }
    }
}

static const char *name_at(const struct named *named, size_t i) {
    return *(char *const *)((const char *)named->list + i * named->size);
}

/* Finds the section that @key of a route names; without that key, or a section, *@index stays. */
static bool resolve(const struct check *check, size_t route, const char *key,
                    const struct named *named, size_t *index) {
    const struct tomlc_node *node = tomlc_find(section_at(check, "route", route), key);
    char path[32];

    if (!node || node->kind != TOMLC_STRING)
        return false;
    snprintf(path, sizeof path, "route.%s", key);
    return find(check, path, node, named, index);
}

/* The list was taken as names; it is as long as in the file, unless it was refused. */
static void resolve_handlers(const struct check *check, size_t i) {
    const struct config *config = check->config;
    struct config_route *route = &check->config->routes[i];
    const struct tomlc_node *node = tomlc_find(section_at(check, "route", i), "handlers");
    const struct named named = {"handler", config->handlers, config->handler_count,
                                sizeof config->handlers[0]};

    for (size_t j = 0; j < route->handler_count; j++) {
        route->handlers[j] = SIZE_MAX;
        if (!find(check, "route.handlers", &node->children[j], &named, &route->handlers[j]))
            continue;
        for (size_t k = 0; k < j; k++)
            if (route->handlers[k] == route->handlers[j])
                errors_add(check->errors, node->children[j].at,
                           "route.handlers: found \"%s\" twice, expected each handler once",
                           config->handlers[route->handlers[j]].name);
    }
}

/* Finds the section that @node, a string, names; or says which was meant. */
static bool find(const struct check *check, const char *path, const struct tomlc_node *node,
                 const struct named *named, size_t *index) {
    struct reader reader = {.errors = check->errors};
    struct suggest suggest = {.word = reader_text(node)};
    struct buffer guess = {0};

    for (size_t i = 0; i < named->count; i++) {
        struct slice name = slice_str(name_at(named, i));

        if (slice_equal(name, suggest.word)) {
            *index = i;
            return true;
        }
        suggest_offer(&suggest, name);
    }
    buffer_append(&guess, suggest.best);
    buffer_append_char(&guess, '\0');
    snprintf(reader.path, sizeof reader.path, "%s", path);
    reader_refuse(&reader, node, guess.base, "the name of a [[%s]]", named->section);
    buffer_deinit(&guess);
    return false;
}

/* "listener:host/path"; where that is taken, with the number of the route. */
static void name_route(const struct check *check, size_t i) {
    struct config *config = check->config;
    struct config_route *route = &config->routes[i];
    const char *listener =
        route->listener == CONFIG_ANY_LISTENER ? "*" : config->listeners[route->listener].name;
    const char *path = route->exact ? route->exact : route->path ? route->path : "/";
    char *base =
        xasprintf("%s:%s%s", listener ? listener : "*", route->host ? route->host : "", path);
    char *name = xstrdup(base);

    for (size_t n = i + 1; is_name_taken(config, name); n++) {
        free(name);
        name = xasprintf("%s#%zu", base, n);
    }
    free(base);
    route->name = name;
}

static bool is_name_taken(const struct config *config, const char *name) {
    for (size_t i = 0; i < config->route_count; i++)
        if (is_same_text(config->routes[i].name, name))
            return true;
    return false;
}

/* Was all that the file says of the route's match taken? */
static bool is_whole(const struct check *check, size_t i) {
    const struct config_route *route = &check->config->routes[i];
    const struct tomlc_node *section = section_at(check, "route", i);
    const struct tomlc_node *match = key_at(section, "match");
    const struct tomlc_node *methods = tomlc_find(match, "method");
    const struct tomlc_node *fields = tomlc_find(match, "header");
    size_t method_count = !methods ? 0 : methods->kind == TOMLC_ARRAY ? methods->len : 1;

    return section->kind == TOMLC_TABLE &&
           !tomlc_find(section, "listener") == (route->listener == CONFIG_ANY_LISTENER) &&
           !tomlc_find(match, "host") == !route->host &&
           !tomlc_find(match, "grpc") == !route->is_grpc &&
           (route->is_grpc || (!tomlc_find(match, "path") == !route->path &&
                               !tomlc_find(match, "exact") == !route->exact)) &&
           method_count == route->method_count && (fields ? fields->len : 0) == route->field_count;
}

static bool is_same_match(const struct config_route *a, const struct config_route *b) {
    return a->listener == b->listener && is_same_text(a->host, b->host) &&
           is_same_text(a->path, b->path) && is_same_text(a->exact, b->exact) &&
           a->is_grpc == b->is_grpc && has_same_methods(a, b) && has_same_fields(a, b);
}

static bool is_same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* In any order; no method is in a list twice. */
static bool has_same_methods(const struct config_route *a, const struct config_route *b) {
    if (a->method_count != b->method_count)
        return false;
    for (size_t i = 0; i < a->method_count; i++) {
        size_t j = 0;

        while (j < b->method_count && strcmp(a->methods[i], b->methods[j]) != 0)
            j++;
        if (j == b->method_count)
            return false;
    }
    return true;
}

static bool has_same_fields(const struct config_route *a, const struct config_route *b) {
    if (a->field_count != b->field_count)
        return false;
    for (size_t i = 0; i < a->field_count; i++) {
        size_t j = 0;

        while (j < b->field_count && strcmp(a->fields[i].name, b->fields[j].name) != 0)
            j++;
        if (j == b->field_count || !is_same_text(a->fields[i].value, b->fields[j].value))
            return false;
    }
    return true;
}

static const struct tomlc_node *section_at(const struct check *check, const char *section,
                                           size_t i) {
    return &tomlc_find(check->root, section)->children[i];
}

/* The value of @key, or the section itself where the file leaves it out. */
static const struct tomlc_node *key_at(const struct tomlc_node *section, const char *key) {
    const struct tomlc_node *node = tomlc_find(section, key);

    return node ? node : section;
}
