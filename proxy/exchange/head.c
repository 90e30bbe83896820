/* Methods and versions: text and enum, and what RFC 9110 says of each. */
#include "exchange/head.h"

#include <string.h>

enum method method_of(struct slice text) {
#define IS(literal) (memcmp(text.base, literal, sizeof(literal) - 1) == 0)
    switch (text.len) {
    case 3:
        return IS("GET") ? METHOD_GET : IS("PUT") ? METHOD_PUT : METHOD_OTHER;
    case 4:
        return IS("POST") ? METHOD_POST : IS("HEAD") ? METHOD_HEAD : METHOD_OTHER;
    case 5:
        return IS("PATCH") ? METHOD_PATCH : IS("TRACE") ? METHOD_TRACE : METHOD_OTHER;
    case 6:
        return IS("DELETE") ? METHOD_DELETE : METHOD_OTHER;
    case 7:
        return IS("OPTIONS") ? METHOD_OPTIONS : IS("CONNECT") ? METHOD_CONNECT : METHOD_OTHER;
    default:
        return METHOD_OTHER;
    }
#undef IS
}

bool method_is_idempotent(enum method method) {
    switch (method) {
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_PUT:
    case METHOD_DELETE:
    case METHOD_OPTIONS:
    case METHOD_TRACE:
        return true;
    case METHOD_OTHER:
    case METHOD_POST:
    case METHOD_CONNECT:
    case METHOD_PATCH:
        break;
    }
    return false;
}

struct slice http_version_text(enum http_version version) {
    switch (version) {
    case HTTP_1_0:
        return SLICE("HTTP/1.0");
    case HTTP_1_1:
        return SLICE("HTTP/1.1");
    case HTTP_2:
        return SLICE("HTTP/2.0");
    }
    return SLICE_NONE;
}

bool media_type_is(struct slice value, struct slice type) {
    return value.len >= type.len && slice_equal_case(slice_of(value.base, type.len), type) &&
           (value.len == type.len || memchr("+; \t", value.base[type.len], 4));
}

bool request_is_grpc(const struct request_head *head) {
    const struct field *field;

    if (head->version != HTTP_2 || head->method != METHOD_POST)
        return false;
    field = fields_find(&head->fields, FIELD_CONTENT_TYPE);
    return field && media_type_is(field->value, SLICE("application/grpc"));
}

bool request_is_grpc_web(const struct request_head *head) {
    const struct field *field;

    if (head->method != METHOD_POST)
        return false;
    field = fields_find(&head->fields, FIELD_CONTENT_TYPE);
    return field && (media_type_is(field->value, SLICE("application/grpc-web")) ||
                     media_type_is(field->value, SLICE("application/grpc-web-text")));
}
