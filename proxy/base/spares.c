/* Spare blocks. */
#include "base/spares.h"

#include <stdbool.h>
#include <stdlib.h>

/* What is kept here could be used after it was given back, unseen by AddressSanitizer. */
#if defined(__SANITIZE_ADDRESS__)
static const bool is_watched = true;
#elif defined(__has_feature)
static const bool is_watched = __has_feature(address_sanitizer);
#else
static const bool is_watched = false;
#endif

void spares_give(struct spares *spares, void *block, unsigned max) {
    if (is_watched || spares->count >= max) {
        free(block);
        return;
    }
    *(void **)block = spares->first;
    spares->first = block;
    spares->count++;
}

void spares_drop(struct spares *spares) {
    while (spares->first) {
        void **block = spares->first;

        spares->first = *block;
        free(block);
    }
    spares->count = 0;
}
