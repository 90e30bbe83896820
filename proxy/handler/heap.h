/* The heap of one instance of a plugin: memory that nobody else uses, so that a fault in the middle
 * of malloc() holds no lock of the process, what was allocated is given back by dropping the heap
 * whole, and a stray write behind a block ends at the heap's edge.
 *
 * All heaps lie in one reserved range of addresses, so that one comparison tells their memory from
 * any other's. What a heap knows of its blocks lies apart from them: neither an overflow nor a
 * write after free reaches it, and a free() of what is no block, or is free, is found out. One
 * thread at a time uses a heap; there is no lock.
 *
 * A heap is made of pages of HEAP_PAGE bytes. Small blocks share a page with others of their size;
 * larger ones have pages of their own. Pages are made usable HEAP_STEP bytes at a time from the
 * bottom up; what lies above faults.
 *
 * What its owner has outside it (mappings, and what libc allocates for it) is counted here, because
 * dropping the heap does not give it back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_BYTES (256ul << 20) /* of one: malloc() returns NULL beyond */
#define HEAP_PAGE (16ul << 10)
#define HEAP_STEP (1ul << 20)
#define HEAP_GUARD (1ul << 20) /* between two */

struct heap;

/* Reserves addresses for @count heaps; one range at a time in a process. -errno. */
int heaps_reserve(unsigned count);
/* Gives them back. Nobody has any memory of theirs. */
void heaps_release(void);

/* The @index-th; empty. */
struct heap *heap_at(unsigned index);

/* Gives all of its memory back: what was in it is gone. Whoever used it does not run any more. */
void heap_drop(struct heap *heap);

/* As malloc and the like; NULL: there is no room. Sizes of 0 are blocks, too. */
void *heap_alloc(struct heap *heap, size_t size);
void *heap_alloc_aligned(struct heap *heap, size_t align, size_t size);
/* False: @memory is not a block of this heap, or is free. */
bool heap_free(struct heap *heap, void *memory);
/* Bytes usable at @memory; 0: it is no block. */
size_t heap_size(const struct heap *heap, const void *memory);

/* Bytes in pages that are in use. */
size_t heap_used(const struct heap *heap);

#define HEAP_OUTSIDE_MAX HEAP_BYTES /* of mappings */

/* Its owner has got @bytes outside it; or, if negative, has given them back. */
void heap_note_outside(struct heap *heap, int64_t bytes);
/* What it has there, since heap_drop(): at least 0, and exact only if whoever has got something has
 * given it back in the same heap's name. */
size_t heap_outside(const struct heap *heap);

/* The heap that malloc() of this thread uses; NULL: the process's. */
extern _Thread_local struct heap *heap_current __attribute__((tls_model("initial-exec")));

/* Does @memory lie in the reserved range, in whatever heap? */
static inline bool heaps_have(const void *memory) {
    extern uintptr_t heaps_base, heaps_size;

    return (uintptr_t)memory - heaps_base < heaps_size;
}
