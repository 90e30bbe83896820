/* The parts that h1_parse.c puts together: the fast split of a flawless head, the slow check of
 * another, the request target, the framing fields. Private to the codecs, HTTP/2
 * included. */
#pragma once

#include "codec/h1_parse.h"

#define H1_METHOD_MAX 64 /* bytes; a longer method is refused */

#define H1_VERSION_LEN (sizeof "HTTP/1.1" - 1)
#define H1_REASON_AT (sizeof "HTTP/1.1 200 " - 1) /* in a status line */

/* What the first line of a head is. */
enum h1_start { H1_START_REQUEST, H1_START_STATUS, H1_START_NONE };

/* Where the parts of a head are, in bytes from its start. Values are without OWS around them. */
struct h1_part {
    uint32_t at, len;
};

struct h1_line {
    struct h1_part name, value;
};

struct h1_split {
    struct h1_part method, target; /* request */
    struct h1_part reason;         /* response */
    unsigned status;               /* response */
    enum http_version version;
    unsigned count;
    struct h1_line lines[H1_FIELDS_MAX]; /* the first @count are filled in */
};

/* Splits a head that is complete and whose lines have no fault, and returns its bytes; otherwise 0.
 * The request target is one by its characters only. Of @in, at most limits->head_bytes are looked
 * at. */
size_t h1_split(struct slice in, const struct h1_limits *limits, enum h1_start start,
                struct h1_split *split);

/* Looks for the first fault in the lines of a head, of which the first @seen bytes have been
 * through here before. Slow and exact, for heads that are incomplete or refused: every fault has
 * its place (the byte or the line end that shows it) and the first one counts, so that the outcome
 * does not depend on how the bytes were cut. H1_DONE: complete and without one; H1_PARTIAL: without
 * one so far. */
enum h1_outcome h1_check_lines(struct slice in, size_t seen, const struct h1_limits *limits,
                               enum h1_start start, const char **why);

/* Fills in form, scheme, authority (left alone in origin-form and asterisk-form) and path from
 * @target (RFC 9112 section 3.2), which is not empty and of H1_CHAR_TARGET; the method must be
 * there. The path of an absolute-form may come out as "?query". NULL, or what is wrong. */
const char *h1_split_target(struct request_head *head, struct slice target);

/* How the content that follows is framed (RFC 9112 section 6): H1_DONE, H1_BAD or H1_NOT_CODED. */
enum h1_outcome h1_frame_content(const struct fields *fields, enum http_version version,
                                 struct content *content, const char **why);

/* Does the request expect nothing but 100-continue (RFC 9110 section 10.1.1)? */
bool h1_is_expectable(const struct request_head *head);

/* A trailer section, which is a head without a start line. It may be empty: only CRLF. */
enum h1_outcome h1_parse_trailers(struct slice in, size_t seen, const struct h1_limits *limits,
                                  struct arena *arena, struct fields *trailers, size_t *used,
                                  const char **why);
