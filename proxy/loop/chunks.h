/* A queue of bytes in chunks that come from the loop's pool: what a socket did not take, or what
 * waits for its reader. Empty queues hold no memory. Home: loop. */
#pragma once

#include "base/slice.h"

#include <stddef.h>
#include <uv.h>

struct loop;
struct chunk;

#define CHUNK_BYTES 16320 /* content of one chunk: 16 KiB with its header and malloc's */
#define CHUNK_POOL_MAX 64 /* free chunks that a loop keeps */

#define CHUNK_SMALL_BYTES 992     /* of a small one: 1 KiB with its header and malloc's */
#define CHUNK_SMALL_POOL_MAX 1024 /* the same of small ones */

struct chunks {
    struct chunk *first; /* owned */
    struct chunk *last;  /* borrowed: in first's chain */
    size_t bytes;        /* held */
};

/* A zeroed queue is ready to use. Copies @s. */
void chunks_push(struct chunks *queue, struct loop *loop, struct slice s);

/* The same for a queue that probably stays short: its first chunk is a small one. */
void chunks_push_little(struct chunks *queue, struct loop *loop, struct slice s);

/* Points at most @max buffers at the bytes from the front; returns how many. */
unsigned chunks_peek(const struct chunks *queue, uv_buf_t *bufs, unsigned max);

/* Drops @n bytes (<= bytes) from the front. */
void chunks_drop(struct chunks *queue, struct loop *loop, size_t n);

static inline void chunks_clear(struct chunks *queue, struct loop *loop) {
    if (queue->bytes > 0)
        chunks_drop(queue, loop, queue->bytes);
}

/* Frees the loop's pool. */
void chunk_pool_drop(struct loop *loop);
