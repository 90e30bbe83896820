/* mmap() and its like: what plugin code maps is counted in the name of its heap, because it stays
 * when the plugin faults, and bounded as the heap is. */
#include "handler/interpose.h"

#include "handler/heap.h"
#include "handler/trap.h"

#if !HANDLER_HAS_SANITIZER

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* The two names of one function: to those who have off_t of 64 bits by choice, as we do, its header
 * calls mmap() what links as mmap64(). */
void *mmap_plain(void *address, size_t bytes, int protection, int flags, int fd,
                 off_t offset) __asm__("mmap");

static void *map(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
static bool may_map(size_t more);
static int64_t pages_of(size_t bytes);

/* Parameters have better names than in the headers. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

EXPORT void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return map(address, bytes, protection, flags, fd, offset);
}

EXPORT void *mmap_plain(void *address, size_t bytes, int protection, int flags, int fd,
                        off_t offset) {
    return map(address, bytes, protection, flags, fd, offset);
}

EXPORT int munmap(void *address, size_t bytes) {
    int err = (int)syscall(SYS_munmap, address, bytes);

    if (err == 0 && heap_current)
        heap_note_outside(heap_current, -pages_of(bytes));
    return err;
}

EXPORT void *mremap(void *address, size_t bytes, size_t new_bytes, int flags, ...) {
    va_list more;
    void *wanted, *mapped;

    va_start(more, flags);
    wanted = flags & MREMAP_FIXED ? va_arg(more, void *) : NULL;
    va_end(more);
    if (heap_current && new_bytes > bytes && !may_map(new_bytes - bytes))
        return MAP_FAILED;
    mapped = (void *)syscall(SYS_mremap, address, bytes, new_bytes, flags, wanted);
    if (mapped != MAP_FAILED && heap_current)
        heap_note_outside(heap_current, pages_of(new_bytes) - pages_of(bytes));
    return mapped;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

static void *map(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    void *mapped;

    if (heap_current && !may_map(bytes))
        return MAP_FAILED;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): that is what the kernel returns */
    mapped = (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
    if (mapped != MAP_FAILED && heap_current)
        heap_note_outside(heap_current, pages_of(bytes));
    return mapped;
}

static bool may_map(size_t more) {
    if (more <= HEAP_OUTSIDE_MAX && heap_outside(heap_current) <= HEAP_OUTSIDE_MAX - more)
        return true;
    errno = ENOMEM;
    return false;
}

static int64_t pages_of(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (int64_t)((bytes + page - 1) / page * page);
}

#endif
