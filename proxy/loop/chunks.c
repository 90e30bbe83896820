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
    uint32_t size;      /* CHUNK_BYTES or CHUNK_SMALL_BYTES */
    char data[];
};

static void append(struct chunks *queue, struct chunk *chunk);
static struct chunk *take(struct loop *loop);
static struct chunk *take_small(struct loop *loop);
static struct chunk *make(uint32_t size);
static void count(struct loop *loop, size_t by);
static void give_back(struct loop *loop, struct chunk *chunk);

void chunks_push(struct chunks *queue, struct loop *loop, struct slice s) {
    queue->bytes += s.len;
    count(loop, s.len);
    while (s.len > 0) {
        struct chunk *chunk = queue->last;
        size_t n;

        if (!chunk || chunk->end == chunk->size) {
            chunk = take(loop);
            append(queue, chunk);
        }
        n = chunk->size - chunk->end;
        if (n > s.len)
            n = s.len;
        memcpy(chunk->data + chunk->end, s.base, n);
        chunk->end += (uint32_t)n;
        s = slice_skip(s, n);
    }
}

void chunks_push_little(struct chunks *queue, struct loop *loop, struct slice s) {
    if (!queue->first && s.len > 0 && s.len <= CHUNK_SMALL_BYTES)
        append(queue, take_small(loop));
    chunks_push(queue, loop, s);
}

unsigned chunks_peek(const struct chunks *queue, uv_buf_t *bufs, unsigned max) {
    unsigned count = 0;

    for (struct chunk *chunk = queue->first; chunk && count < max; chunk = chunk->next)
        bufs[count++] =
            (uv_buf_t){.base = chunk->data + chunk->start, .len = chunk->end - chunk->start};
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
    struct chunk **pools[] = {&loop->chunks, &loop->small_chunks};

    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++)
        while (*pools[i]) {
            struct chunk *chunk = *pools[i];

            *pools[i] = chunk->next;
            free(chunk);
        }
    loop->chunk_count = loop->small_chunk_count = 0;
}

/* One writer, so no locked instruction. */
static void count(struct loop *loop, size_t by) {
    size_t before = atomic_load_explicit(&loop->buffered_bytes, memory_order_relaxed);

    atomic_store_explicit(&loop->buffered_bytes, before + by, memory_order_relaxed);
}

static void append(struct chunks *queue, struct chunk *chunk) {
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    if (queue->last)
        queue->last->next = chunk;
    else
        queue->first = chunk;
    queue->last = chunk;
}

static struct chunk *take(struct loop *loop) {
    struct chunk *chunk = loop->chunks;

    if (!chunk)
        return make(CHUNK_BYTES);
    loop->chunks = chunk->next;
    loop->chunk_count--;
    return chunk;
}

static struct chunk *take_small(struct loop *loop) {
    struct chunk *chunk = loop->small_chunks;

    if (!chunk)
        return make(CHUNK_SMALL_BYTES);
    loop->small_chunks = chunk->next;
    loop->small_chunk_count--;
    return chunk;
}

static struct chunk *make(uint32_t size) {
    struct chunk *chunk = xmalloc(sizeof *chunk + size);

    chunk->size = size;
    return chunk;
}

static void give_back(struct loop *loop, struct chunk *chunk) {
    bool is_small = chunk->size == CHUNK_SMALL_BYTES;
    struct chunk **pool = is_small ? &loop->small_chunks : &loop->chunks;
    unsigned *pooled = is_small ? &loop->small_chunk_count : &loop->chunk_count;

    if (*pooled >= (is_small ? CHUNK_SMALL_POOL_MAX : CHUNK_POOL_MAX)) {
        free(chunk);
        return;
    }
    chunk->next = *pool;
    *pool = chunk;
    ++*pooled;
}
