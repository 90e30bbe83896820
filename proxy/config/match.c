/* What a route matches by. Requests are normalised before they are compared, so a path that is not
 * normalised could never match: it is refused here. */
#include "config/match.h"

#include "base/alloc.h"
#include "config/address.h"
#include "config/values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>

#define PATH_BYTES_MAX 1024

static bool is_grpc_name(struct slice text);
static bool is_ip_literal(struct slice text);
static const char *find_path_fault(struct slice path);
static const char *find_escape_fault(struct slice path, size_t at);
static bool is_dot_segment(struct slice path, size_t start);
static int hex_value(char c);

void match_host(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct slice text = reader_text(node);
    struct slice name = slice_starts(text, SLICE("*.")) ? slice_skip(text, 2) : text;
    char *lower;

    if (!address_is_name(name) && !is_ip_literal(text)) {
        reader_refuse(reader, node, NULL,
                      "a host without port such as \"example.com\" or \"*.example.com\"");
        return;
    }
    lower = match_lower(text);
    value_replace(to, slice_str(lower));
    free(lower);
}

void match_path(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    const char *fault = find_path_fault(reader_text(node));

    if (fault)
        reader_refuse(reader, node, NULL, "%s", fault);
    else
        value_replace(to, reader_text(node));
}

void match_field(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                 void *to) {
    if (match_is_token(reader_text(node)))
        value_replace(to, reader_text(node));
    else
        reader_refuse(reader, node, NULL, "the name of a field such as \"x-priority\"");
}

void match_fair(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct config_pipeline *pipeline = to;
    struct slice text = reader_text(node);

    if (!match_is_token(text)) {
        reader_refuse(reader, node, NULL, "\"client\", \"none\" or the name of a field");
        return;
    }
    pipeline->queue.fair = slice_equal(text, SLICE("client")) ? FAIR_CLIENT
                           : slice_equal(text, SLICE("none")) ? FAIR_NONE
                                                              : FAIR_FIELD;
    if (pipeline->queue.fair == FAIR_FIELD)
        value_replace(&pipeline->queue.fair_field, text);
}

void match_grpc(struct reader *reader, const struct schema_key *key, const struct tomlc_node *node,
                void *to) {
    struct config_route *route = to;
    struct slice text = reader_text(node);
    const char *slash = text.len > 0 ? memchr(text.base, '/', text.len) : NULL;
    size_t service = slash ? (size_t)(slash - text.base) : text.len;
    char *path;

    if (!slice_equal(text, SLICE("*")) &&
        (!is_grpc_name(slice_of(text.base, service)) ||
         (slash && !is_grpc_name(slice_skip(text, service + 1))))) {
        reader_refuse(reader, node, NULL,
                      "\"*\", \"package.Service\" or \"package.Service/Method\"");
        return;
    }
    if (route->path || route->exact) {
        reader_refuse(reader, node, NULL, "no path and no exact beside it: it stands for them");
        return;
    }
    route->is_grpc = true;
    /* Beside a route for all paths the one for all calls is the more specific. */
    path = slice_equal(text, SLICE("*")) ? xasprintf("/") : xasprintf("/%.*s", SLICE_ARG(text));
    if (slash)
        route->exact = path;
    else
        route->path = path;
}

/* Words with dots between them: "grpc.health.v1.Health". */
static bool is_grpc_name(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool is_dot = c == '.' && i > 0 && i + 1 < text.len && text.base[i - 1] != '.';

        if (!isalnum((unsigned char)c) && c != '_' && !is_dot)
            return false;
    }
    return text.len > 0 && text.len <= PATH_BYTES_MAX;
}

bool match_is_token(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum((unsigned char)text.base[i]) &&
            (!text.base[i] || !strchr("!#$%&'*+-.^_`|~", text.base[i])))
            return false;
    return text.len > 0;
}

bool match_is_field_value(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (((unsigned char)text.base[i] < 0x20 && text.base[i] != '\t') || text.base[i] == 0x7F)
            return false;
    return slice_trim(text).len == text.len;
}

char *match_lower(struct slice text) {
    char *lower = xstrndup(text.base, text.len);

    for (char *c = lower; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return lower;
}

/* "127.0.0.1" or "[::1]", as in a Host field. */
static bool is_ip_literal(struct slice text) {
    char address[INET6_ADDRSTRLEN + 2] = "";
    uint8_t bytes[16];

    if (text.len < 3 || text.len >= sizeof address)
        return false;
    memcpy(address, text.base, text.len);
    if (address[0] != '[')
        return inet_pton(AF_INET, address, bytes) == 1;
    if (address[text.len - 1] != ']')
        return false;
    address[text.len - 1] = '\0';
    return inet_pton(AF_INET6, address + 1, bytes) == 1;
}

/* What was expected instead, or NULL when the path is good. */
static const char *find_path_fault(struct slice path) {
    const char *fault = NULL;

    if (path.len == 0 || path.base[0] != '/')
        return "a path that begins with '/'";
    if (path.len > PATH_BYTES_MAX)
        return "a path of at most 1024 bytes";
    for (size_t i = 0; i < path.len && !fault; i++) {
        char c = path.base[i];

        if (c == '?' || c == '#')
            fault = "a path without query or fragment";
        else if (c == '%')
            fault = find_escape_fault(path, i);
        else if (c == '/' && is_dot_segment(path, i + 1))
            fault = "a path without \".\" and \"..\"";
        else if (!isalnum((unsigned char)c) && (!c || !strchr("/-._~!$&'()*+,;=:@", c)))
            fault = "a path in which such characters are percent-encoded";
    }
    return fault;
}

static const char *find_escape_fault(struct slice path, size_t at) {
    int high = at + 2 < path.len ? hex_value(path.base[at + 1]) : -1;
    int low = at + 2 < path.len ? hex_value(path.base[at + 2]) : -1;
    int c = high * 16 + low;

    if (high < 0 || low < 0)
        return "two upper-case hexadecimal digits behind each '%'";
    if (c == '/' || c == '\\' || c == 0)
        return "a path without %2F, %5C and %00, which servers read in different ways";
    if (c < 0x80 && (isalnum(c) || strchr("-._~", c)))
        return "a path in which letters, digits, '-', '.', '_' and '~' are not percent-encoded";
    return NULL;
}

static bool is_dot_segment(struct slice path, size_t start) {
    struct slice rest = slice_skip(path, start);
    const char *slash = rest.len ? memchr(rest.base, '/', rest.len) : NULL;

    if (slash)
        rest.len = (size_t)(slash - rest.base);
    return slice_equal(rest, SLICE(".")) || slice_equal(rest, SLICE(".."));
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
