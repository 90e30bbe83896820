/* Blocks of one size that are used again: whoever gives one back leaves it to the next who needs
 * one, the last one first, because it is still in the cache. Zeroed memory holds none. Home: its
 * owner's. */
#pragma once

#include "base/alloc.h"

#include <stdbool.h>
#include <stddef.h>

/* Under AddressSanitizer none are: what is kept could be used after it was given back, unseen. */
#if defined(__SANITIZE_ADDRESS__)
#define SPARES_ARE_KEPT false
#elif defined(__has_feature)
#define SPARES_ARE_KEPT (!__has_feature(address_sanitizer))
#else
#define SPARES_ARE_KEPT true
#endif

struct spares {
    void *first; /* owned; in each the next one; NULL: none */
    unsigned count;
};

/* A block of @size bytes, which is not cleared and the caller's. Always the same @size. */
static inline void *spares_take(struct spares *spares, size_t size) {
    void **block = spares->first;

    if (!block)
        return xmalloc(size);
    spares->first = *block;
    spares->count--;
    return block;
}

/* Takes @block back, which is freed when there are @max already. */
void spares_give(struct spares *spares, void *block, unsigned max);
/* Frees them all. */
void spares_drop(struct spares *spares);
