/* What gRPC-Web says otherwise than gRPC over HTTP/2 (the protocol's own specification, "gRPC
 * Web"): other media types, a form in base64, and trailers as the last message. */
#pragma once

#include "base/arena.h"
#include "exchange/field.h"

enum grpc_web_form {
    GRPC_WEB_NONE, /* the media type is another one */
    GRPC_WEB_BINARY,
    GRPC_WEB_TEXT, /* base64 */
};

/* Of a media type: the value of a Content-Type, or a member of Accept. */
enum grpc_web_form grpc_web_form_of(struct slice type);

/* The form that a response should have: what Accept names first, else that of the request. */
enum grpc_web_form grpc_web_answer_form(const struct fields *request);

/* @type of gRPC-Web as one of gRPC, and the other way round; the message format ("+proto") stays.
 * Arena. */
struct slice grpc_web_to_grpc(struct arena *arena, struct slice type);
struct slice grpc_web_from_grpc(struct arena *arena, struct slice type, enum grpc_web_form form);

/* @trailers, whose names are lower-case (as HTTP/2 has them), as a message. Arena. */
#define GRPC_WEB_TRAILERS 0x80 /* in the first byte of a prefix */
struct slice grpc_web_trailers(struct arena *arena, const struct fields *trailers);
