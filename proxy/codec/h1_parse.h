/* HTTP/1 heads from bytes, strictly (RFC 9112 sections 2-5, RFC 9110 section 5).
 *
 * Nothing is repaired: a head is either well-formed or refused. The outcome is that of the first
 * fault and does not depend on how the bytes were cut; a fault in a line is told when the line has
 * ended, without waiting for the rest of the head. */
#pragma once

#include "exchange/fail.h"
#include "exchange/head.h"

enum h1_outcome {
    H1_DONE,        /* a whole head; *used tells how many bytes it took */
    H1_PARTIAL,     /* well-formed so far, more bytes are needed */
    H1_BAD,         /* 400 (response: 502): malformed; *why says how */
    H1_TARGET_LONG, /* 414 */
    H1_HEAD_LARGE,  /* 431: more bytes or more fields than allowed */
    H1_VERSION,     /* 505: HTTP/2 and up, or HTTP/0.9 */
    H1_NOT_CODED,   /* 501: a transfer coding other than chunked */
    H1_EXPECT,      /* 417: an expectation other than 100-continue */
};

#define H1_FIELDS_MAX 1024 /* whatever the limits say */

struct h1_limits {
    size_t head_bytes;   /* start line and fields with their line ends */
    size_t target_bytes; /* requests */
    unsigned fields;
};

/* Parses the request head at the start of @in, of which the first @seen bytes were there at the
 * last call (0 at the first). Up to one empty line in front is skipped (RFC 9112 section 2.2). On
 * H1_DONE the head is copied into @arena, so @in may go away; *content tells how what follows is
 * framed (RFC 9112 section 6.3; CONTENT_NONE without either field). Applies sections 3.2 (Host:
 * exactly one, well-formed, required on 1.1), 5 (fields) and 6 (framing). On any other outcome but
 * H1_PARTIAL *why is a static text for the reply: "has two Content-Length fields", "field name has
 * a space before its colon", ... */
enum h1_outcome h1_parse_request(struct slice in, size_t seen, const struct h1_limits *limits,
                                 struct arena *arena, struct request_head *head,
                                 struct content *content, size_t *used, const char **why);

/* The same for a response to @method (HEAD, CONNECT and 1xx, 204, 304 have no content: RFC 9112
 * section 6.3). 101 gives CONTENT_TUNNEL. */
enum h1_outcome h1_parse_response(struct slice in, size_t seen, const struct h1_limits *limits,
                                  enum method method, struct arena *arena,
                                  struct response_head *head, struct content *content, size_t *used,
                                  const char **why);

/* What a request is refused for with @outcome, which is neither H1_DONE nor H1_PARTIAL. */
enum fail h1_request_fail(enum h1_outcome outcome);

/* What the fields say of keepalive (RFC 9112 section 9.3). */
bool h1_is_persistent(enum http_version version, const struct fields *fields);

/* Is @s a well-formed host[:port] (RFC 9110 section 7.2, RFC 3986 section 3.2)? May be empty. */
bool h1_is_authority(struct slice s);
