/* An arena: memory that is handed out piece by piece and given back all at once. An exchange has
 * one, whose first block is part of the exchange's own pooled memory, so that the usual request
 * allocates nothing. Home: loop (its owner's). */
#pragma once

#include "base/slice.h"

#include <stddef.h>

struct arena_block;

struct arena {
    char *next;                /* first free byte, aligned */
    char *end;                 /* end of the current block */
    struct arena_block *extra; /* blocks beyond the first; owned */
    size_t extra_bytes;        /* sum of the extra blocks */
};

/* Starts on @first (owned by the caller, @size bytes). */
void arena_init(struct arena *arena, void *first, size_t size);

/* Frees the extra blocks; the first stays the caller's. */
void arena_deinit(struct arena *arena);

/* The slow half of arena_alloc(): in a new block. */
void *arena_grow(struct arena *arena, size_t size);

/* @size bytes, aligned for any type, not cleared. Never NULL. */
static inline void *arena_alloc(struct arena *arena, size_t size) {
    char *at = arena->next;
    size_t taken = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);

    if (taken < size || taken > (size_t)(arena->end - at))
        return arena_grow(arena, size);
    arena->next = at + taken;
    return at;
}

/* A copy of @s inside the arena. */
struct slice arena_copy(struct arena *arena, struct slice s);

/* The @count slices one after the other, inside the arena. Cheap: for what every request needs. */
struct slice arena_join(struct arena *arena, const struct slice *parts, size_t count);
#define ARENA_JOIN(arena, ...)                               \
    arena_join((arena), (const struct slice[]){__VA_ARGS__}, \
               sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice))

/* The formatted text inside the arena, NUL-terminated behind the slice. */
struct slice arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
