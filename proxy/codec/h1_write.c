/* HTTP/1 heads to bytes: the length is summed first, room is reserved once, the rest is memcpy. */
#include "codec/h1_write.h"

#include <assert.h>

#define FIELD_EXTRA (sizeof ": \r\n" - 1)
#define FRAMING_MAX sizeof "Content-Length: 18446744073709551615\r\n"
#define CONNECTION_EXTRA sizeof "Connection: \r\n"

static size_t fields_size(const struct fields *fields);
static char *put_fields(char *to, const struct fields *fields, bool has_length);
static char *put_framing(char *to, struct content content);

void h1_write_request(struct buffer *out, const struct request_head *head, struct content content) {
    struct slice target = head->form == TARGET_AUTHORITY ? head->authority : head->path;
    size_t size = head->method_text.len + target.len + head->authority.len +
                  sizeof "  HTTP/1.1\r\nHost: \r\n\r\n" + fields_size(&head->fields) + FRAMING_MAX;
    char *to = buffer_reserve(out, size);

    to = slice_write(to, head->method_text);
    *to++ = ' ';
    to = slice_write(to, target);
    to = slice_write(to, SLICE(" HTTP/1.1\r\nHost: "));
    to = slice_write(to, head->authority);
    to = slice_write(to, SLICE("\r\n"));
    to = put_fields(to, &head->fields, false);
    to = put_framing(to, content);
    to = slice_write(to, SLICE("\r\n"));
    out->len = (size_t)(to - out->base);
}

void h1_write_response(struct buffer *out, const struct response_head *head, struct content content,
                       struct slice connection, bool show_length) {
    size_t size = sizeof "HTTP/1.1 200 \r\n\r\n" + head->reason.len + fields_size(&head->fields) +
                  FRAMING_MAX + CONNECTION_EXTRA + connection.len;
    char *to = buffer_reserve(out, size);

    assert(head->status >= 100 && head->status <= 999);
    to = slice_write(to, SLICE("HTTP/1.1 "));
    *to++ = (char)('0' + head->status / 100);
    *to++ = (char)('0' + head->status / 10 % 10);
    *to++ = (char)('0' + head->status % 10);
    *to++ = ' ';
    to = slice_write(to, head->reason);
    to = slice_write(to, SLICE("\r\n"));
    to = put_fields(to, &head->fields, show_length);
    to = put_framing(to, content);
    if (connection.len > 0) {
        to = slice_write(to, SLICE("Connection: "));
        to = slice_write(to, connection);
        to = slice_write(to, SLICE("\r\n"));
    }
    to = slice_write(to, SLICE("\r\n"));
    out->len = (size_t)(to - out->base);
}

void h1_write_last_chunk(struct buffer *out, const struct fields *trailers) {
    char *to = buffer_reserve(out, sizeof "0\r\n\r\n" + fields_size(trailers));

    to = slice_write(to, SLICE("0\r\n"));
    to = put_fields(to, trailers, false);
    to = slice_write(to, SLICE("\r\n"));
    out->len = (size_t)(to - out->base);
}

size_t h1_write_chunk_size(char *to, size_t size) {
    size_t len = size ? (size_t)(67 - __builtin_clzll(size)) / 4 : 1;

    for (size_t i = len; i-- > 0; size >>= 4)
        to[i] = "0123456789abcdef"[size & 15];
    memcpy(to + len, "\r\n", 2);
    return len + 2;
}

struct slice h1_reason(unsigned status) {
    switch (status) {
    case 100:
        return SLICE("Continue");
    case 101:
        return SLICE("Switching Protocols");
    case 102:
        return SLICE("Processing");
    case 103:
        return SLICE("Early Hints");
    case 200:
        return SLICE("OK");
    case 201:
        return SLICE("Created");
    case 202:
        return SLICE("Accepted");
    case 203:
        return SLICE("Non-Authoritative Information");
    case 204:
        return SLICE("No Content");
    case 205:
        return SLICE("Reset Content");
    case 206:
        return SLICE("Partial Content");
    case 207:
        return SLICE("Multi-Status");
    case 208:
        return SLICE("Already Reported");
    case 226:
        return SLICE("IM Used");
    case 300:
        return SLICE("Multiple Choices");
    case 301:
        return SLICE("Moved Permanently");
    case 302:
        return SLICE("Found");
    case 303:
        return SLICE("See Other");
    case 304:
        return SLICE("Not Modified");
    case 305:
        return SLICE("Use Proxy");
    case 307:
        return SLICE("Temporary Redirect");
    case 308:
        return SLICE("Permanent Redirect");
    case 400:
        return SLICE("Bad Request");
    case 401:
        return SLICE("Unauthorized");
    case 402:
        return SLICE("Payment Required");
    case 403:
        return SLICE("Forbidden");
    case 404:
        return SLICE("Not Found");
    case 405:
        return SLICE("Method Not Allowed");
    case 406:
        return SLICE("Not Acceptable");
    case 407:
        return SLICE("Proxy Authentication Required");
    case 408:
        return SLICE("Request Timeout");
    case 409:
        return SLICE("Conflict");
    case 410:
        return SLICE("Gone");
    case 411:
        return SLICE("Length Required");
    case 412:
        return SLICE("Precondition Failed");
    case 413:
        return SLICE("Content Too Large");
    case 414:
        return SLICE("URI Too Long");
    case 415:
        return SLICE("Unsupported Media Type");
    case 416:
        return SLICE("Range Not Satisfiable");
    case 417:
        return SLICE("Expectation Failed");
    case 421:
        return SLICE("Misdirected Request");
    case 422:
        return SLICE("Unprocessable Content");
    case 423:
        return SLICE("Locked");
    case 424:
        return SLICE("Failed Dependency");
    case 425:
        return SLICE("Too Early");
    case 426:
        return SLICE("Upgrade Required");
    case 428:
        return SLICE("Precondition Required");
    case 429:
        return SLICE("Too Many Requests");
    case 431:
        return SLICE("Request Header Fields Too Large");
    case 451:
        return SLICE("Unavailable For Legal Reasons");
    case 500:
        return SLICE("Internal Server Error");
    case 501:
        return SLICE("Not Implemented");
    case 502:
        return SLICE("Bad Gateway");
    case 503:
        return SLICE("Service Unavailable");
    case 504:
        return SLICE("Gateway Timeout");
    case 505:
        return SLICE("HTTP Version Not Supported");
    case 506:
        return SLICE("Variant Also Negotiates");
    case 507:
        return SLICE("Insufficient Storage");
    case 508:
        return SLICE("Loop Detected");
    case 511:
        return SLICE("Network Authentication Required");
    default:
        return SLICE("Unknown");
    }
}

static size_t fields_size(const struct fields *fields) {
    size_t size = fields->count * FIELD_EXTRA;

    for (uint32_t i = 0; i < fields->count; i++)
        size += fields->list[i].name.len + fields->list[i].value.len;
    return size;
}

/* All but those that frame; Content-Length only if @has_length. */
static char *put_fields(char *to, const struct fields *fields, bool has_length) {
    uint64_t skipped =
        FIELD_BIT(FIELD_TRANSFER_ENCODING) | (has_length ? 0 : FIELD_BIT(FIELD_CONTENT_LENGTH));

    for (uint32_t i = 0; i < fields->count; i++) {
        const struct field *at = &fields->list[i];

        if (FIELD_BIT(at->id) & skipped)
            continue;
        to = slice_write(to, at->name);
        to = slice_write(to, SLICE(": "));
        to = slice_write(to, at->value);
        to = slice_write(to, SLICE("\r\n"));
    }
    return to;
}

static char *put_framing(char *to, struct content content) {
    if (content.kind == CONTENT_CHUNKED)
        return slice_write(to, SLICE("Transfer-Encoding: chunked\r\n"));
    if (content.kind != CONTENT_LENGTH)
        return to;
    to = slice_write(to, SLICE("Content-Length: "));
    to += uint_to_text(to, content.length);
    return slice_write(to, SLICE("\r\n"));
}
