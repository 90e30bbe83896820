/* Byte queues in pooled chunks. */
#include "loop/chunks.h"

#include "base/alloc.h"
#include "loop/loop.h"

#include <assert.h>
#include <stdlib.h>

struct chunk {
    struct chunk *next; /* owned */
    uint32_t start;     /* first byte in use */
    uint32_t end;       /* behind the last byte in use */
    char data[CHUNK_BYTES];
};

static struct chunk *take(struct loop *loop);
static void count(struct loop *loop, size_t by);
static void give_back(struct loop *loop, struct chunk *chunk);

void chunks_push(struct chunks *queue, struct loop *loop, struct slice s) {
    queue->bytes += s.len;
    count(loop, s.len);
    while (s.len > 0) {
        struct chunk *chunk = queue->last;
        size_t n;

        if (!chunk || chunk->end == CHUNK_BYTES) {
            chunk = take(loop);
            if (queue->last)
                queue->last->next = chunk;
            else
                queue->first = chunk;
            queue->last = chunk;
        }
        n = CHUNK_BYTES - chunk->end;
        if (n > s.len)
            n = s.len;
        memcpy(chunk->data + chunk->end, s.base, n);
        chunk->end += (uint32_t)n;
        s = slice_skip(s, n);
    }
}

unsigned chunks_peek(const struct chunks *queue, uv_buf_t *bufs, unsigned max) {
    unsigned count = 0;

    for (struct chunk *chunk = queue->first; chunk && count < max; chunk = chunk->next)
        bufs[count++] = uv_buf_init(chunk->data + chunk->start, chunk->end - chunk->start);
    return count;
}

void chunks_drop(struct chunks *queue, struct loop *loop, size_t n) {
    assert(n <= queue->bytes);
    queue->bytes -= n;
    count(loop, -n);
    while (queue->first) {
        struct chunk *chunk = queue->first;
        size_t held = chunk->end - chunk->start;

        if (n < held) {
            chunk->start += (uint32_t)n;
            return;
        }
        n -= held;
        queue->first = chunk->next;
        give_back(loop, chunk);
    }
    queue->last = NULL;
}

void chunk_pool_drop(struct loop *loop) {
    while (loop->chunks) {
        struct chunk *chunk = loop->chunks;

        loop->chunks = chunk->next;
        free(chunk);
    }
    loop->chunk_count = 0;
}

/* One writer, so no locked instruction. */
static void count(struct loop *loop, size_t by) {
    size_t before = atomic_load_explicit(&loop->buffered_bytes, memory_order_relaxed);

    atomic_store_explicit(&loop->buffered_bytes, before + by, memory_order_relaxed);
}

static struct chunk *take(struct loop *loop) {
    struct chunk *chunk = loop->chunks;

    if (chunk) {
        loop->chunks = chunk->next;
        loop->chunk_count--;
    } else {
        chunk = xmalloc(sizeof *chunk);
    }
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    return chunk;
}

static void give_back(struct loop *loop, struct chunk *chunk) {
    if (loop->chunk_count >= CHUNK_POOL_MAX) {
        free(chunk);
        return;
    }
    chunk->next = loop->chunks;
    loop->chunks = chunk;
    loop->chunk_count++;
}
