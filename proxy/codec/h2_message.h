/* HTTP/2 heads and trailer sections (RFC 9113 section 8): fields as nghttp2 hands them over to a
 * neutral head, and back to what nghttp2 submits.
 *
 * A session has nghttp2 apply the rules that concern single fields and their order: which pseudo
 * fields, each once and in front; no upper case; no byte that may not be in a name or a value, no
 * blanks around one (fields that it would merely skip are refused, see h2_session.h); no
 * connection-specific fields, TE only "trailers"; content that is as long as Content-Length says.
 * This file adds what needs a view of the whole head, and what an HTTP/1.1 upstream could read in
 * another way: sizes, targets, authorities, Host, expectations.
 *
 * An extended CONNECT (RFC 8441) is an upgrade in the exchange: GET with Upgrade and Connection. */
#pragma once

#include "base/buffer.h"
#include "codec/h1_parse.h"

#include <nghttp2/nghttp2.h>

/* What RFC 9113 section 6.5.2 adds for each field to the size of its name and value. */
#define H2_FIELD_OVERHEAD 32

/* How many times the limit a section may be until it is no longer read to its end for the sake of
 * an answer (h2_read_field() says so): it comes out of compressed references for next to nothing.
 */
#define H2_SECTION_EXCESS 8

/* A section while its fields come in. */
struct h2_reading {
    const struct h1_limits *limits; /* borrowed */
    struct arena *arena;            /* borrowed: the exchange's; NULL: nobody's any more */
    size_t bytes;                   /* as RFC 9113 section 6.5.2 counts them */
    bool is_large;                  /* beyond the limits: no longer kept */
    bool has_host;
    struct slice method, scheme, authority, path, protocol, host, status; /* arena */
    struct fields fields; /* arena; no pseudo ones */
};

static inline void h2_read_begin(struct h2_reading *r, const struct h1_limits *limits,
                                 struct arena *arena) {
    *r = (struct h2_reading){.limits = limits, .arena = arena};
}

/* One field, which nghttp2 has found sound, with the flags that it tells. False: the section is so
 * large that the rest is not to be read. Copies. */
bool h2_read_field(struct h2_reading *r, struct slice name, struct slice value, uint8_t flags);

/* The section is complete: H1_DONE, H1_BAD, H1_TARGET_LONG, H1_HEAD_LARGE or H1_EXPECT; but for the
 * first *why is static text, and *head holds what there is of it, for the log. @is_end: no content
 * follows. A CONNECT without :protocol comes as METHOD_CONNECT. */
enum h1_outcome h2_read_request(struct h2_reading *r, bool is_end, struct request_head *head,
                                struct content *content, const char **why);

/* The same for a response to @method: H1_DONE, H1_BAD or H1_HEAD_LARGE. */
enum h1_outcome h2_read_response(struct h2_reading *r, enum method method, bool is_end,
                                 struct response_head *head, struct content *content,
                                 const char **why);

/* The same for trailers; applies h1_keep_proper_trailers(). */
enum h1_outcome h2_read_trailers(struct h2_reading *r, struct fields *trailers, const char **why);

/* A section to be submitted; zeroed it is ready to use, again and again. The slices are those of
 * the head: nghttp2 copies them when it is given the list, and writes names in lower case. */
struct h2_block {
    struct buffer lines; /* nghttp2_nv */
    char text[32];       /* the numbers that are in it */
    size_t text_len;
};

static inline void h2_block_deinit(struct h2_block *block) {
    buffer_deinit(&block->lines);
}

static inline const nghttp2_nv *h2_block_list(const struct h2_block *block) {
    return (const nghttp2_nv *)(const void *)block->lines.base;
}

static inline size_t h2_block_count(const struct h2_block *block) {
    return block->lines.len / sizeof(nghttp2_nv);
}

/* Does @head ask for an upgrade, which is an extended CONNECT in HTTP/2? */
bool h2_is_upgrade(const struct request_head *head);

/* Each replaces what is in @block. Connection-specific fields among the head's are left out;
 * Content-Length is what @content says. An upgrade becomes an extended CONNECT.
 *
 * Fields whose values never come again (request ids) stay out of the other side's HPACK table, but
 * for those of a head that @is_teaching: it puts their names there, for later heads to refer to. */
void h2_write_request(struct h2_block *block, const struct request_head *head,
                      struct content content, bool is_teaching);
/* 101 becomes 200, as the answer to an extended CONNECT. @show_length: a Content-Length among the
 * fields is kept (answers to HEAD, 304). */
void h2_write_response(struct h2_block *block, const struct response_head *head,
                       struct content content, bool show_length);
void h2_write_trailers(struct h2_block *block, const struct fields *trailers);
