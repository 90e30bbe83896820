/* The memory of nghttp2: see h2_memory.h. In front of each block stands its size, which free() and
 * realloc() are not told. */
#include "codec/h2_memory.h"

#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEPT_MAX 0 /* what is kept here could be used after free() unseen */
#endif
#endif
#ifndef KEPT_MAX
#define KEPT_MAX H2_MEMORY_KEPT_MAX
#endif

struct h2_memory_block {
    union {
        struct h2_memory_block *next; /* while it is kept; owned */
        size_t size;                  /* while it is used: bytes that follow */
    };
    max_align_t bytes[];
};

static void *take(size_t size, void *ctx);
static void give(void *bytes, void *ctx);
static void *take_clear(size_t count, size_t size, void *ctx);
static void *change(void *bytes, size_t size, void *ctx);
static size_t step_of(size_t size);
static struct h2_memory_block *block_of(void *bytes);

void h2_memory_init(struct h2_memory *memory) {
    *memory = (struct h2_memory){.hooks = {memory, take, give, take_clear, change}};
}

void h2_memory_deinit(struct h2_memory *memory) {
    for (size_t i = 0; i < H2_MEMORY_SIZES; i++)
        while (memory->kept[i]) {
            struct h2_memory_block *block = memory->kept[i];

            memory->kept[i] = block->next;
            free(block);
        }
    memory->kept_bytes = 0;
}

void *h2_memory_take(struct h2_memory *memory, size_t size) {
    size_t step = step_of(size);
    struct h2_memory_block *block;

    if (step < H2_MEMORY_SIZES) {
        size = (step + 1) * H2_MEMORY_STEP;
        block = memory->kept[step];
        if (block) {
            memory->kept[step] = block->next;
            memory->kept_bytes -= size;
            block->size = size;
            return block->bytes;
        }
    }
    block = xmalloc(sizeof *block + size);
    block->size = size;
    return block->bytes;
}

void h2_memory_give(struct h2_memory *memory, void *bytes) {
    struct h2_memory_block *block;
    size_t step;

    if (!bytes)
        return;
    block = block_of(bytes);
    step = step_of(block->size);
    if (step >= H2_MEMORY_SIZES || memory->kept_bytes + block->size > KEPT_MAX) {
        free(block);
        return;
    }
    memory->kept_bytes += block->size;
    block->next = memory->kept[step];
    memory->kept[step] = block;
}

static void *take(size_t size, void *ctx) {
    return h2_memory_take(ctx, size);
}

static void give(void *bytes, void *ctx) {
    h2_memory_give(ctx, bytes);
}

static void *take_clear(size_t count, size_t size, void *ctx) {
    void *bytes;

    if (size > 0 && count > SIZE_MAX / size)
        return NULL; /* nghttp2 asks for no such thing */
    bytes = take(count * size, ctx);
    return memset(bytes, 0, count * size);
}

static void *change(void *bytes, size_t size, void *ctx) {
    struct h2_memory_block *block;
    void *to;

    if (!bytes)
        return take(size, ctx);
    block = block_of(bytes);
    if (size <= block->size)
        return bytes;
    to = take(size, ctx);
    memcpy(to, bytes, block->size);
    give(bytes, ctx);
    return to;
}

static size_t step_of(size_t size) {
    return size > 0 ? (size - 1) / H2_MEMORY_STEP : 0;
}

static struct h2_memory_block *block_of(void *bytes) {
    return (struct h2_memory_block *)((char *)bytes - offsetof(struct h2_memory_block, bytes));
}
