/* The chunked transfer coding (RFC 9112 section 7.1), decoded strictly: sizes are hex digits only
 * and fit 63 bits, lines end in CRLF, extensions are well-formed and bounded, trailer fields pass
 * the same checks as head fields. Keeps partial lines itself, so input may be cut anywhere. */
#pragma once

#include "codec/h1_parse.h"

#define H1_CHUNK_LINE_MAX 1024 /* bytes of one size line, extensions included */

/* Bytes of extensions between two bytes of content, and in all beyond the content's own size: a
 * sender that sends mostly extensions is an attack. */
#define H1_CHUNK_OVERHEAD_MAX 16384

struct h1_chunked {
    uint8_t state;
    uint64_t left;   /* of the chunk that is being read */
    size_t overhead; /* bytes of extensions not yet paid for by content */
    char *line;      /* partial size line or trailer section; owned: malloc; NULL while empty */
    size_t line_len;
    size_t line_cap;
};

enum h1_chunk_outcome {
    H1_CHUNK_MORE,  /* all input used up, more is needed */
    H1_CHUNK_DATA,  /* *data is the next run of content, borrowed from @in; call again with the rest
                     */
    H1_CHUNK_END,   /* the last chunk and the trailer section are through */
    H1_CHUNK_BAD,   /* 400: malformed; *why says how */
    H1_CHUNK_LARGE, /* 431: trailer section beyond its limits */
};

void h1_chunked_init(struct h1_chunked *c);
void h1_chunked_deinit(struct h1_chunked *c);

/* Decodes from the start of *in, which is moved behind what was used. On H1_CHUNK_END the trailers
 * are in *trailers (copied into @arena). */
enum h1_chunk_outcome h1_chunked_next(struct h1_chunked *c, struct slice *in, struct slice *data,
                                      const struct h1_limits *limits, struct arena *arena,
                                      struct fields *trailers, const char **why);
