/* What can go wrong with memory: of the instance's heap, of the host's, of libc's. */
#include "fault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile char *volatile nowhere; /* NULL */
static volatile size_t sink;

static void crash(void) {
    nowhere[0] = 1;
}

/* Over the one behind it, which is used then. */
static void overflow_pointer(struct scene *s) {
    char *volatile block = malloc(64);
    char **volatile behind = malloc(64);

    if ((char *)behind < block)
        behind = (char **)(void *)block, block = (char *)behind;
    *behind = block;
    for (size_t i = 0; i < (size_t)((char *)behind - block) + 64; i++)
        ((volatile char *)block)[i] = 'x';
    **behind = 1;
}

/* Somebody else has it meanwhile. */
static void use_after_free(struct scene *s) {
    volatile char *volatile *volatile block = malloc(64), *volatile *volatile again = block;
    volatile char *volatile other;

    free((void *)block);
    other = malloc(64);
    for (size_t i = 0; i < 64; i++)
        other[i] = 'x';
    **again = 1;
}

/* Beyond what the host gave, over all that this instance has said and on. */
static void alloc_overflow(struct scene *s) {
    volatile char *block = s->host->alloc(s->call, 100);

    for (size_t i = 0;; i++)
        block[i] = (char)i;
}

/* What stays behind when it faults: libc's memory, and a mapping. */
static void leak(struct scene *s) {
    size_t bytes = 256 << 10;

    sink = (size_t)fopen("/dev/null", "r");
    memset(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, bytes);
    crash();
}

static void leak_file(struct scene *s) {
    sink = (size_t)open("/dev/null", O_RDONLY);
    crash();
}

static void double_free(struct scene *s) {
    char *volatile block = malloc(100);
    char *volatile again = block;

    free(block);
    free(again);
}

static void double_free_large(struct scene *s) {
    char *volatile block = malloc(300000);
    char *volatile again = block;

    free(block);
    free(again);
}

static void bad_free(struct scene *s) {
    char *volatile block = malloc(100);

    free(block + 16);
}

static void free_stack(struct scene *s) {
    char room[64];
    char *volatile at = room;

    free(at + (16 - (uintptr_t)at % 16));
}

static void realloc_freed(struct scene *s) {
    char *volatile block = malloc(100);
    char *volatile again = block;

    free(block);
    sink = (size_t)realloc(again, 1000);
}

static void heap_overflow(struct scene *s) {
    volatile char *block = malloc(100);

    for (size_t i = 0;; i++)
        block[i] = (char)i;
}

static void heap_overflow_small(struct scene *s) {
    volatile char *block = malloc(40);

    for (size_t i = 0; i < 400; i++)
        block[i] = (char)i;
}

static void write_after_free(struct scene *s) {
    char *volatile block = malloc(100);
    volatile char *again = block;

    free(block);
    for (size_t i = 0; i < 100; i++)
        again[i] = (char)i;
}

/* Somewhere in its own heap. */
static void wild_write_inside(struct scene *s) {
    volatile char *block = malloc(100);

    block = (volatile char *)((uintptr_t)block & ~(uintptr_t)4095);
    for (size_t i = 0; i < 4096; i++)
        block[i] = (char)i;
}

/* Beyond it: between heaps, and where nothing is. */
static void wild_write_outside(struct scene *s) {
    volatile char *block = malloc(100);

    for (size_t i = 0; i < 4096; i++)
        block[(256l << 20) + (long)i] = (char)i;
}

static void huge(struct scene *s) {
    volatile size_t bytes = 20ul << 30;
    volatile char *volatile block = malloc(bytes);

    for (size_t i = 0; i < bytes; i++)
        block[i] = 1;
}

static void eat_memory(struct scene *s) {
    volatile char *volatile block;

    do {
        block = malloc(4 << 20);
        block[0] = 1;
    } while (block);
}

/* Memory of libc's own allocator: libc is in the middle of something then. */
static void free_foreign(struct scene *s) {
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/comm", "r");
    ssize_t len = getline(&line, &room, file);
    char *volatile again = line;

    fclose(file);
    sink = (size_t)len;
    free(line);
    free(again);
}

/* No faults: how many MiB there are, in the heap and in mappings of either kind. */

static void hoard(struct scene *s) {
    size_t step = 1 << 20;
    unsigned long count = 0;
    char *block;

    for (; (block = malloc(step)); count++)
        *block = 1;
    fault_tell(s, "x-count", count);
}

static void map_all(struct scene *s, int how) {
    size_t step = 1 << 20;
    unsigned long count = 0;
    char *block;

    for (; (block = mmap(NULL, step, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0)) !=
           MAP_FAILED;
         count++)
        *block = 1;
    fault_tell(s, "x-count", count);
}

static void hoard_maps(struct scene *s) {
    map_all(s, MAP_PRIVATE);
}

static void hoard_shared(struct scene *s) {
    map_all(s, MAP_SHARED);
}

const struct fault_kind fault_memory_kinds[] = {
    {"overflow_pointer", overflow_pointer},
    {"use_after_free", use_after_free},
    {"alloc_overflow", alloc_overflow},
    {"leak", leak},
    {"leak_file", leak_file},
    {"double_free", double_free},
    {"double_free_large", double_free_large},
    {"bad_free", bad_free},
    {"free_stack", free_stack},
    {"realloc_freed", realloc_freed},
    {"heap_overflow", heap_overflow},
    {"heap_overflow_small", heap_overflow_small},
    {"write_after_free", write_after_free},
    {"wild_write_inside", wild_write_inside},
    {"wild_write_outside", wild_write_outside},
    {"huge", huge},
    {"eat_memory", eat_memory},
    {"free_foreign", free_foreign},
    {"hoard", hoard},
    {"hoard_maps", hoard_maps},
    {"hoard_shared", hoard_shared},
    {NULL, NULL},
};
