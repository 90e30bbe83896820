/* The memory of nghttp2, and of what we keep beside its streams: a dozen small blocks per message,
 * which come and go in the order of the streams, more at once than malloc keeps at hand. Blocks
 * that are given back stay here, by size, up to a bound. Home: loop. */
#pragma once

#include <nghttp2/nghttp2.h>

#include <stddef.h>

#define H2_MEMORY_STEP 64                    /* bytes: sizes are multiples of it */
#define H2_MEMORY_SIZES 16                   /* larger blocks than so many steps are malloc's */
#define H2_MEMORY_KEPT_MAX (4 * 1024 * 1024) /* bytes that are kept in all */

struct h2_memory {
    struct h2_memory_block *kept[H2_MEMORY_SIZES]; /* owned */
    size_t kept_bytes;
    nghttp2_mem hooks; /* for nghttp2_session_*_new3() */
};

/* It must stay where it is while sessions use it. */
void h2_memory_init(struct h2_memory *memory);
/* As malloc() and free(). */
void *h2_memory_take(struct h2_memory *memory, size_t size);
void h2_memory_give(struct h2_memory *memory, void *bytes);
/* No session is left. */
void h2_memory_deinit(struct h2_memory *memory);
