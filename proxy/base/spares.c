/* Spare blocks. */
#include "base/spares.h"

#include <stdlib.h>

void spares_give(struct spares *spares, void *block, unsigned max) {
    if (!SPARES_ARE_KEPT || spares->count >= max) {
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
