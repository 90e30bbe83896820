/* The chunked transfer coding (RFC 9112 section 7.1), decoded strictly: sizes are hex digits only
 * and fit 63 bits, lines end in CRLF, extensions are well-formed and bounded, trailer fields pass
 * the same checks as head fields. Input may be cut anywhere; content is never copied.
 *
 * Trailer fields that would frame or route a message (Content-Length, Transfer-Encoding, Host) are
 * refused: only an attacker sends them. Others that have no meaning behind the content (RFC 9110
 * section 6.5.1: connection options, controls, authentication, cookies, how to read the content)
 * are dropped. */
#pragma once

#include "base/buffer.h"
#include "codec/h1_parse.h"

#define H1_CHUNK_LINE_MAX 1024 /* bytes of one size line, extensions and CRLF included */

/* Bytes of extensions that content has not paid for: a sender that sends mostly extensions is an
 * attack. */
#define H1_CHUNK_OVERHEAD_MAX 16384

struct h1_chunked {
    uint8_t state;
    uint16_t line;         /* bytes of the size line so far */
    uint32_t overhead;     /* bytes of extensions not yet paid for by content */
    uint64_t left;         /* of the chunk that is being read */
    struct buffer section; /* partial trailer section */
};

enum h1_chunk_outcome {
    H1_CHUNK_MORE,  /* all input used up, more is needed */
    H1_CHUNK_DATA,  /* *data is the next run of content, borrowed from @in; call again */
    H1_CHUNK_END,   /* the last chunk and the trailer section are through */
    H1_CHUNK_BAD,   /* 400: malformed; *why says how */
    H1_CHUNK_LARGE, /* 431: trailer section beyond its limits */
};

/* Drops from @trailers what has no meaning there; NULL, or what they are refused for. */
const char *h1_keep_proper_trailers(struct fields *trailers);

void h1_chunked_init(struct h1_chunked *c);
static inline void h1_chunked_deinit(struct h1_chunked *c) {
    buffer_deinit(&c->section);
}

/* Decodes from the start of *in, which is moved behind what was used. On H1_CHUNK_END the trailers
 * are in *trailers (copied into @arena). Not to be called again after END, BAD or LARGE. */
enum h1_chunk_outcome h1_chunked_next(struct h1_chunked *c, struct slice *in, struct slice *data,
                                      const struct h1_limits *limits, struct arena *arena,
                                      struct fields *trailers, const char **why);
