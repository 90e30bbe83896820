/* gRPC-Web's media types, and its message of trailers. */
#include "codec/grpc_web.h"

#include "codec/grpc.h"
#include "exchange/head.h"

static struct slice format_of(struct slice type);

static const struct slice grpc_type = {"application/grpc", 16};
static const struct slice types[] = {
    [GRPC_WEB_BINARY] = {"application/grpc-web", 20},
    [GRPC_WEB_TEXT] = {"application/grpc-web-text", 25},
};

enum grpc_web_form grpc_web_form_of(struct slice type) {
    return media_type_is(type, types[GRPC_WEB_BINARY]) ? GRPC_WEB_BINARY
           : media_type_is(type, types[GRPC_WEB_TEXT]) ? GRPC_WEB_TEXT
                                                       : GRPC_WEB_NONE;
}

enum grpc_web_form grpc_web_answer_form(const struct fields *request) {
    const struct field *field = fields_find(request, FIELD_ACCEPT);

    for (; field; field = fields_find_next(request, field)) {
        struct slice list = field->value, element;

        while (slice_next_element(&list, &element))
            if (grpc_web_form_of(element) != GRPC_WEB_NONE)
                return grpc_web_form_of(element);
    }
    field = fields_find(request, FIELD_CONTENT_TYPE);
    return field ? grpc_web_form_of(field->value) : GRPC_WEB_NONE;
}

struct slice grpc_web_to_grpc(struct arena *arena, struct slice type) {
    return ARENA_JOIN(arena, grpc_type, format_of(type));
}

struct slice grpc_web_from_grpc(struct arena *arena, struct slice type, enum grpc_web_form form) {
    return ARENA_JOIN(arena, types[form], format_of(type));
}

/* "+proto", or "". */
static struct slice format_of(struct slice type) {
    const char *end = memchr(type.base, ';', type.len);
    const char *plus;

    if (end)
        type.len = (size_t)(end - type.base);
    plus = memchr(type.base, '+', type.len);
    return plus ? slice_trim(slice_skip(type, (size_t)(plus - type.base))) : SLICE("");
}

struct slice grpc_web_trailers(struct arena *arena, const struct fields *trailers) {
    size_t len = 0;
    char *frame, *to;

    for (uint32_t i = 0; i < trailers->count; i++)
        len += trailers->list[i].name.len + trailers->list[i].value.len + sizeof ": \r\n" - 1;
    frame = to = arena_alloc(arena, GRPC_PREFIX_BYTES + len);
    *to++ = (char)GRPC_WEB_TRAILERS;
    for (int shift = 24; shift >= 0; shift -= 8)
        *to++ = (char)(len >> shift);
    for (uint32_t i = 0; i < trailers->count; i++) {
        to = slice_write(to, trailers->list[i].name);
        to = slice_write(to, SLICE(": "));
        to = slice_write(to, trailers->list[i].value);
        to = slice_write(to, SLICE("\r\n"));
    }
    return slice_of(frame, GRPC_PREFIX_BYTES + len);
}
