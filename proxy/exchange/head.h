/* The two heads of an exchange, protocol-neutral: what HTTP/1 writes in a request or status line
 * and HTTP/2 in pseudo fields, and the fields. Slices live in the exchange's arena. */
#pragma once

#include "exchange/field.h"

enum method {
    METHOD_OTHER,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_CONNECT,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_PATCH,
};

/* RFC 9112 section 3.2. */
enum target_form { TARGET_ORIGIN, TARGET_ABSOLUTE, TARGET_AUTHORITY, TARGET_ASTERISK };

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20 };

struct request_head {
    enum method method;
    enum http_version version;
    enum target_form form;
    struct slice method_text;
    struct slice scheme; /* of an absolute target or :scheme; else "" */
    struct slice
        authority;     /* host[:port] of the target, else of Host (RFC 9112 section 3.2.2), or "" */
    struct slice path; /* path and query as received, from its first '/'; "*" for asterisk-form;
                          "/" when an absolute target has no path */
    struct fields fields; /* Host is not among them: it is the authority */
};

struct response_head {
    unsigned status; /* 100-999 */
    enum http_version version;
    struct slice reason; /* as received; may be "" */
    struct fields fields;
};

/* "HTTP/1.1" */
struct slice http_version_text(enum http_version version);

enum method method_of(struct slice text);
/* RFC 9110 section 9.2.2. */
bool method_is_idempotent(enum method method);

/* Is @value, of a Content-Type or a member of Accept, @type in any case? A format behind it
 * ("+proto") and parameters (";...") do not matter. */
bool media_type_is(struct slice value, struct slice type);

/* A gRPC call: over HTTP/2, with content-type application/grpc. */
bool request_is_grpc(const struct request_head *head);
/* A gRPC-Web call: over any version, with content-type application/grpc-web or -web-text. */
bool request_is_grpc_web(const struct request_head *head);

/* How the content of a message is delimited on the wire it came from. */
enum content_kind {
    CONTENT_NONE,    /* there is none, and none may come */
    CONTENT_LENGTH,  /* content_length bytes follow (may be 0) */
    CONTENT_CHUNKED, /* length unknown, its end is marked */
    CONTENT_CLOSE,   /* response: up to the end of the connection */
    CONTENT_TUNNEL,  /* no content: from here on bytes in both directions (101, CONNECT 2xx) */
};

struct content {
    enum content_kind kind;
    uint64_t length; /* CONTENT_LENGTH */
};
