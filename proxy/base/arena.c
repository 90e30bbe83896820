/* The arena: bump allocation in the first block, then in malloc'd blocks that double. */
#include "base/arena.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BLOCK_MIN 4096

struct arena_block {
    struct arena_block *next; /* owned */
    max_align_t data[];
};

static char *align_up(char *at);

void arena_init(struct arena *arena, void *first, size_t size) {
    arena->next = align_up(first);
    arena->end = (char *)first + size;
    arena->extra = NULL;
    arena->extra_bytes = 0;
}

void arena_deinit(struct arena *arena) {
    while (arena->extra) {
        struct arena_block *block = arena->extra;

        arena->extra = block->next;
        free(block);
    }
    arena->next = arena->end = NULL;
}

void *arena_grow(struct arena *arena, size_t size) {
    size_t room = arena->extra_bytes > ARENA_BLOCK_MIN ? arena->extra_bytes : ARENA_BLOCK_MIN;
    struct arena_block *block;

    if (room < size + sizeof(max_align_t))
        room = size + sizeof(max_align_t);
    block = xmalloc(sizeof *block + room);
    block->next = arena->extra;
    arena->extra = block;
    arena->extra_bytes += room;
    arena->next = align_up((char *)block->data + size);
    arena->end = (char *)block->data + room;
    return block->data;
}

struct slice arena_copy(struct arena *arena, struct slice s) {
    char *copy;

    if (s.len == 0)
        return (struct slice){"", 0};
    copy = arena_alloc(arena, s.len);
    memcpy(copy, s.base, s.len);
    return slice_of(copy, s.len);
}

struct slice arena_join(struct arena *arena, const struct slice *parts, size_t count) {
    size_t len = 0;
    char *text, *to;

    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    text = to = arena_alloc(arena, len);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > 0)
            memcpy(to, parts[i].base, parts[i].len);
        to += parts[i].len;
    }
    return slice_of(text, len);
}

struct slice arena_printf(struct arena *arena, const char *format, ...) {
    va_list args;
    char *text;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    text = arena_alloc(arena, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return slice_of(text, (size_t)len);
}

static char *align_up(char *at) {
    return at + (-(uintptr_t)at & (_Alignof(max_align_t) - 1));
}
