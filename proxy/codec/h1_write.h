/* HTTP/1 heads to bytes. Messages are always made anew from the parsed head, never passed on as
 * they came. Fields are written as given: whoever forwards has already removed and added what must
 * be. */
#pragma once

#include "base/buffer.h"
#include "exchange/head.h"

/* "GET /path HTTP/1.1", "Host: authority", the fields, the framing field that @content asks for
 * (Content-Length, or Transfer-Encoding: chunked; none for CONTENT_NONE and TUNNEL), an empty line.
 * Framing fields among @head->fields are skipped: framing is this connection's own. */
void h1_write_request(struct buffer *out, const struct request_head *head, struct content content);

/* The same for a response; HTTP/1.1 whatever the client's version (RFC 9110 section 6.2).
 * @connection is the value of the Connection field ("close", "keep-alive", "upgrade"), or "" for
 * none.
 * @show_length: a Content-Length among the fields is kept (answers to HEAD, 304). */
void h1_write_response(struct buffer *out, const struct response_head *head, struct content content,
                       struct slice connection, bool show_length);

/* Trailer section behind the last chunk: "0\r\n", fields, "\r\n". */
void h1_write_last_chunk(struct buffer *out, const struct fields *trailers);

/* "1f4\r\n" into @to (at least 18 bytes); returns its length. */
size_t h1_write_chunk_size(char *to, size_t size);

/* The registered phrase of a status code (RFC 9110 section 15), "Unknown" for others. */
struct slice h1_reason(unsigned status);
