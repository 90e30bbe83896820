#include "serve/other_counters.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

void other_counters_replace(struct other_counters *others, const int *fds, unsigned count) {
    pthread_mutex_lock(&others->lock);
    while (others->count > 0) {
        others->count--;
        munmap((void *)others->list[others->count].memory, others->list[others->count].bytes);
    }
    for (unsigned i = 0; i < count && others->count < OTHER_COUNTERS_MAX; i++) {
        struct stat st;
        void *memory;

        if (fstat(fds[i], &st) < 0 || st.st_size <= 0)
            continue;
        memory = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fds[i], 0);
        if (memory == MAP_FAILED)
            continue;
        others->list[others->count].memory = memory;
        others->list[others->count++].bytes = (size_t)st.st_size;
    }
    pthread_mutex_unlock(&others->lock);
}

/* Copies, because their writers might damage them while they are looked at. */
void other_counters_render(struct other_counters *others, const struct metrics_segment *own,
                           struct buffer *text) {
    const struct metrics_segment *parts[OTHER_COUNTERS_MAX + 1] = {own};
    void *copies[OTHER_COUNTERS_MAX];
    struct metrics_segment *sum;
    size_t size;
    unsigned count = 1, copied = 0;

    pthread_mutex_lock(&others->lock);
    for (unsigned i = 0; i < others->count; i++) {
        size_t bytes = others->list[i].bytes;
        void *copy = aligned_alloc(64, (bytes + 63) / 64 * 64);

        if (!copy)
            break;
        memcpy(copy, others->list[i].memory, bytes);
        copies[copied++] = copy;
        parts[count] = metrics_segment_attach(copy, bytes);
        count += parts[count] != NULL;
    }
    pthread_mutex_unlock(&others->lock);
    sum = metrics_merge(parts, count, true, &size);
    metrics_render(sum ? sum : own, text);
    free(sum);
    while (copied > 0)
        free(copies[--copied]);
}
