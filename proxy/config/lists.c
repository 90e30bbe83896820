/* Readers of lists. An element that is refused is left out: its error fails the file anyway. */
#include "config/lists.h"

#include "base/alloc.h"
#include "config/cidr.h"
#include "config/match.h"
#include "config/values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static bool is_list(struct reader *reader, const struct tomlc_node *node, size_t min, size_t max,
                    const char *what);
static bool take_block(struct reader *reader, const struct tomlc_node *node,
                       struct config_cidr *block);
static void take_method(struct reader *reader, const struct tomlc_node *node,
                        struct config_route *route);
static void take_field(struct reader *reader, const struct tomlc_node *node,
                       struct config_route *route);

void list_endpoints(struct reader *reader, const struct schema_key *key,
                    const struct tomlc_node *node, void *to) {
    struct config_pipeline *pipeline = to;

    if (!is_list(reader, node, 1, LIST_ENDPOINTS_MAX, "addresses"))
        return;
    list_free_endpoints(pipeline);
    pipeline->endpoints = xcalloc(node->len, sizeof pipeline->endpoints[0]);
    for (size_t i = 0; i < node->len; i++) {
        struct config_address *endpoint = &pipeline->endpoints[pipeline->endpoint_count];

        if (!value_address(reader, &node->children[i], ADDRESS_TO_DIAL, endpoint))
            continue;
        pipeline->endpoint_count++;
        for (struct config_address *other = pipeline->endpoints; other < endpoint; other++)
            if (address_is_same(other, endpoint)) {
                reader_refuse(reader, &node->children[i], NULL, "each endpoint once");
                break;
            }
    }
}

void list_free_endpoints(struct config_pipeline *pipeline) {
    for (size_t i = 0; i < pipeline->endpoint_count; i++)
        address_deinit(&pipeline->endpoints[i]);
    free(pipeline->endpoints);
    pipeline->endpoints = NULL;
    pipeline->endpoint_count = 0;
}

void list_trust(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct config_listener *listener = to;

    if (!is_list(reader, node, 0, LIST_TRUST_MAX, "address blocks"))
        return;
    free(listener->trust);
    listener->trust = xcalloc(node->len, sizeof listener->trust[0]);
    listener->trust_count = 0;
    for (size_t i = 0; i < node->len; i++)
        if (take_block(reader, &node->children[i], &listener->trust[listener->trust_count]))
            listener->trust_count++;
}

void list_bits(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
               void *to) {
    unsigned bits = 0;

    if (!is_list(reader, node, 0, 16, "reasons"))
        return;
    for (size_t i = 0; i < node->len; i++) {
        const struct choice *choice = value_find_choice(reader, key, &node->children[i]);

        if (choice)
            bits |= (unsigned)choice->value;
    }
    *(unsigned *)to = bits;
}

void list_methods(struct reader *reader, const struct schema_key *key,
                  const struct tomlc_node *node, void *to) {
    struct config_route *route = to;

    if (node->kind == TOMLC_STRING) {
        route->methods = xcalloc(1, sizeof route->methods[0]);
        take_method(reader, node, route);
        return;
    }
    if (!is_list(reader, node, 1, LIST_METHODS_MAX, "methods"))
        return;
    route->methods = xcalloc(node->len, sizeof route->methods[0]);
    for (size_t i = 0; i < node->len; i++)
        take_method(reader, &node->children[i], route);
}

void list_free_methods(struct config_route *route) {
    for (size_t i = 0; i < route->method_count; i++)
        free(route->methods[i]);
    free(route->methods);
}

void list_fields(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    struct config_route *route = to;

    if (node->kind != TOMLC_TABLE || node->len == 0 || node->len > LIST_FIELDS_MAX) {
        reader_refuse(reader, node, NULL,
                      "a table of 1 to %d fields such as { \"x-name\" = \"value\" }",
                      LIST_FIELDS_MAX);
        return;
    }
    route->fields = xcalloc(node->len, sizeof route->fields[0]);
    for (size_t i = 0; i < node->len; i++)
        take_field(reader, &node->children[i], route);
}

void list_free_fields(struct config_route *route) {
    for (size_t i = 0; i < route->field_count; i++) {
        free(route->fields[i].name);
        free(route->fields[i].value);
    }
    free(route->fields);
}

static bool is_list(struct reader *reader, const struct tomlc_node *node, size_t min, size_t max,
                    const char *what) {
    if (node->kind == TOMLC_ARRAY && node->len >= min && node->len <= max)
        return true;
    if (node->kind == TOMLC_ARRAY)
        errors_add(reader->errors, node->at, "%s: found a list of %zu, expected %zu to %zu %s",
                   reader->path, node->len, min, max, what);
    else
        reader_refuse(reader, node, NULL, "a list of %s such as [ \"...\" ]", what);
    return false;
}

static bool take_block(struct reader *reader, const struct tomlc_node *node,
                       struct config_cidr *block) {
    static const char expected[] = "a block of addresses such as \"10.0.0.0/8\" or \"::1\"";
    char address[INET6_ADDRSTRLEN];
    struct buffer guess = {0};
    int err = cidr_parse(block, reader_text(node));

    if (err == -EDOM) {
        inet_ntop(block->family, block->bytes, address, sizeof address);
        buffer_printf(&guess, "%s/%u%c", address, block->prefix, '\0');
        reader_refuse(reader, node, guess.base, "no address bits behind the prefix");
        buffer_deinit(&guess);
    } else if (err) {
        reader_refuse(reader, node, NULL, "%s", expected);
    }
    return !err;
}

static void take_method(struct reader *reader, const struct tomlc_node *node,
                        struct config_route *route) {
    struct slice text = reader_text(node);
    char upper[64] = "";

    if (!match_is_token(text)) {
        reader_refuse(reader, node, NULL, "a method such as \"GET\"");
        return;
    }
    /* Methods are case-sensitive (RFC 9110 section 9.1), and none in use is in lower case. */
    for (size_t i = 0; i < text.len && i < sizeof upper - 1; i++)
        upper[i] = (char)toupper((unsigned char)text.base[i]);
    if (!slice_equal(text, slice_str(upper))) {
        reader_refuse(reader, node, upper, "a method in upper case of at most 63 letters");
        return;
    }
    for (size_t i = 0; i < route->method_count; i++)
        if (strcmp(route->methods[i], upper) == 0) {
            reader_refuse(reader, node, NULL, "each method once");
            return;
        }
    route->methods[route->method_count++] = xstrdup(upper);
}

static void take_field(struct reader *reader, const struct tomlc_node *node,
                       struct config_route *route) {
    struct config_field_match *field = &route->fields[route->field_count];
    struct slice value = reader_text(node);
    char *name;

    if (!match_is_token(slice_of(node->key, node->key_len))) {
        struct buffer text = {0};

        errors_quote(&text, slice_of(node->key, node->key_len));
        errors_add(reader->errors, node->key_at, "%s: found %.*s, expected a field name",
                   reader->path, SLICE_ARG(text));
        buffer_deinit(&text);
        return;
    }
    if (node->kind == TOMLC_STRING ? !match_is_field_value(value)
                                   : node->kind != TOMLC_BOOLEAN || !node->boolean) {
        reader_refuse(reader, node, NULL, "a field value, or true for any value");
        return;
    }
    name = match_lower(slice_of(node->key, node->key_len));
    for (size_t i = 0; i < route->field_count; i++)
        if (strcmp(route->fields[i].name, name) == 0) {
            errors_add(reader->errors, node->key_at,
                       "%s: found the field \"%s\" twice, expected each once", reader->path, name);
            free(name);
            return;
        }
    field->name = name;
    field->value = node->kind == TOMLC_STRING ? xstrndup(value.base, value.len) : NULL;
    route->field_count++;
}
