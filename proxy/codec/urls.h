/* Base URLs in text that flows by, and other ones in their place: "http://localhost:8080/x" becomes
 * "https://example.org/x".
 *
 * The text may be anything; in JSON, and in JSON inside JSON, a slash may be escaped ("\/",
 * "\u002f"). Scheme and host are compared without regard to case, ws and wss stand for http and
 * https. A base URL is found where it ends at a border: "http://localhost:8080" is in
 * "http://localhost:8080/x" and in "(http://localhost:8080)", but not in "http://localhost:80801"
 * or "http://localhost:8080@host". Of several the longest is taken. Percent-encoded ones are not
 * seen.
 *
 * What cannot belong to a base URL passes at once; what may is held until it is known, at most
 * URLS_HELD_MAX bytes. */
#pragma once

#include "base/arena.h"
#include "config/rewrite.h"

#define URLS_HELD_MAX 1024 /* a base URL that is written with more is not found */

struct urls_map {
    const struct config_url *from; /* borrowed */
    size_t count;
    struct config_url to; /* borrowed */
};

/* Takes what becomes of a piece of the text; @is_stable: it stays where it is as long as the piece
 * it comes from, or the map. Else only for the call. */
typedef void urls_emit_fn(void *ctx, struct slice text, bool is_stable);

struct urls {
    const struct urls_map *map; /* borrowed */
    urls_emit_fn *emit;
    void *ctx;
    size_t held_bytes;
    char held[URLS_HELD_MAX]; /* not initialised */
};

void urls_init(struct urls *urls, const struct urls_map *map, urls_emit_fn *emit, void *ctx);
void urls_push(struct urls *urls, struct slice text);
/* The text is over: emits what is held. */
void urls_end(struct urls *urls);

/* A whole text at once; as it is, or in the arena. */
struct slice urls_rewrite(const struct urls_map *map, struct arena *arena, struct slice text);
