/* malloc() and its like: the heap of the instance that runs, or libc's.
 *
 * What libc and other libraries of the process allocate while plugin code calls them may live
 * longer than the instance (the buffer of a FILE, the time zone), so it is libc's. What they
 * allocate for their caller to free is so, too; it is lost when the instance faults. The usual ones
 * of that kind, strdup() and strndup(), are ours as well. Who frees asks only where the memory
 * lies. What is libc's but was asked for or freed while plugin code runs is counted in the heap's
 * name. */
#include "handler/interpose.h"

#include "handler/guest.h"
#include "handler/heap.h"
#include "handler/modules.h"
#include "handler/trap.h"

#if !HANDLER_HAS_SANITIZER

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* glibc's own names for its allocator. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *memory);

static inline struct heap *heap_for(const void *caller);
static inline void *noted(void *memory);
static inline void note_freed(void *memory);
static void *checked(void *memory);
static bool is_never_allocated(const void *memory);
static void *move(struct heap *heap, void *memory, size_t size);
static void *align_to(size_t align, size_t size, const void *caller);

/* Parameters have better names than in the headers. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

#define HEAP_FOR_CALLER() heap_for(__builtin_return_address(0))

EXPORT void *malloc(size_t size) {
    struct heap *heap = HEAP_FOR_CALLER();

    return heap ? checked(heap_alloc(heap, size)) : noted(__libc_malloc(size));
}

EXPORT void *calloc(size_t count, size_t size) {
    struct heap *heap = HEAP_FOR_CALLER();
    size_t bytes;
    void *memory;

    if (!heap)
        return noted(__libc_calloc(count, size));
    memory = __builtin_mul_overflow(count, size, &bytes) ? NULL : heap_alloc(heap, bytes);
    return checked(memory ? memset(memory, 0, bytes) : NULL);
}

EXPORT void *realloc(void *memory, size_t size) {
    struct heap *heap = HEAP_FOR_CALLER();

    if (!memory && heap)
        return checked(heap_alloc(heap, size));
    if (!memory || !heaps_have(memory)) {
        if (memory && heap && is_never_allocated(memory))
            guest_leave(FAULT_HEAP, "realloc of what is no memory of malloc");
        note_freed(memory);
        return noted(__libc_realloc(memory, size));
    }
    if (!heap_current)
        abort(); /* an instance's memory outside it: nobody of ours has any */
    if (size == 0) {
        free(memory);
        return NULL;
    }
    return checked(move(heap_current, memory, size));
}

EXPORT void free(void *memory) {
    if (!memory)
        return;
    if (!heaps_have(memory)) {
        if (heap_current && !module_is_process((uintptr_t)__builtin_return_address(0)) &&
            is_never_allocated(memory))
            guest_leave(FAULT_HEAP, "free of what is no memory of malloc");
        note_freed(memory);
        __libc_free(memory);
    } else if (heap_current && !heap_free(heap_current, memory)) {
        guest_leave(FAULT_HEAP, "free of what is no memory of this instance, or free already");
    }
    /* Outside any instance: its heap was dropped, or will be. */
}

EXPORT void *memalign(size_t align, size_t size) {
    return align_to(align, size, __builtin_return_address(0));
}

EXPORT void *aligned_alloc(size_t align, size_t size) {
    return align_to(align, size, __builtin_return_address(0));
}

EXPORT int posix_memalign(void **out, size_t align, size_t size) {
    int saved = errno;
    void *memory;

    if (align % sizeof(void *) != 0 || align == 0 || (align & (align - 1)) != 0)
        return EINVAL;
    memory = align_to(align, size, __builtin_return_address(0));
    errno = saved;
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

EXPORT void *valloc(size_t size) {
    return align_to((size_t)sysconf(_SC_PAGESIZE), size, __builtin_return_address(0));
}

EXPORT void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return size > SIZE_MAX - page
               ? NULL
               : align_to(page, (size + page - 1) / page * page, __builtin_return_address(0));
}

/* What libc says of its own is what was asked for, rounded up; so is ours. */
EXPORT size_t malloc_usable_size(void *memory) {
    if (!memory)
        return 0;
    if (heaps_have(memory))
        return heap_current ? heap_size(heap_current, memory) : 0;
    interpose_open();
    return interpose_usable(memory);
}

EXPORT char *strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    struct heap *heap = HEAP_FOR_CALLER();
    char *copy = heap ? checked(heap_alloc(heap, bytes)) : __libc_malloc(bytes);

    return copy ? memcpy(copy, text, bytes) : NULL;
}

EXPORT char *strndup(const char *text, size_t max) {
    size_t len = strnlen(text, max);
    struct heap *heap = HEAP_FOR_CALLER();
    char *copy = heap ? checked(heap_alloc(heap, len + 1)) : __libc_malloc(len + 1);

    if (!copy)
        return NULL;
    copy[len] = '\0';
    return memcpy(copy, text, len);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* NULL: libc's. */
static inline struct heap *heap_for(const void *caller) {
    struct heap *heap = heap_current;

    return __builtin_expect(!heap, 1) || module_is_process((uintptr_t)caller) ? NULL : heap;
}

static inline void *noted(void *memory) {
    if (__builtin_expect(heap_current != NULL, 0) && memory && interpose_usable)
        heap_note_outside(heap_current, (int64_t)interpose_usable(memory));
    return memory;
}

/* Before it is. */
static inline void note_freed(void *memory) {
    if (__builtin_expect(heap_current != NULL, 0) && memory && interpose_usable)
        heap_note_outside(heap_current, -(int64_t)interpose_usable(memory));
}

static void *checked(void *memory) {
    if (!memory)
        errno = ENOMEM;
    return memory;
}

/* Is it for certain none of libc's? Nothing on a stack, in a module, or off by some bytes is. */
static bool is_never_allocated(const void *memory) {
    const struct guest *guest = guest_current;
    uintptr_t at = (uintptr_t)memory;

    return at % 16 != 0 || at < 65536 ||
           (guest && at >= guest->stack_low && at < guest->stack_high) || modules_have(at);
}

static void *move(struct heap *heap, void *memory, size_t size) {
    size_t has = heap_size(heap, memory);
    void *moved;

    if (has == 0)
        guest_leave(FAULT_HEAP, "realloc of what is no memory of this instance, or free already");
    if (size <= has && size >= has / 2)
        return memory;
    moved = heap_alloc(heap, size);
    if (!moved)
        return NULL;
    memcpy(moved, memory, size < has ? size : has);
    heap_free(heap, memory);
    return moved;
}

static void *align_to(size_t align, size_t size, const void *caller) {
    struct heap *heap = heap_for(caller);

    if (!heap)
        return noted(__libc_memalign(align, size));
    return checked((align & (align - 1)) == 0 ? heap_alloc_aligned(heap, align, size) : NULL);
}

#endif
