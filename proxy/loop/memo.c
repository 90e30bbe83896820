#include "loop/memo.h"

#include "base/clock.h"

static struct memo_entry *find(struct memo *memo, uint64_t key);
static struct memo_entry *least_used(struct memo_entry *set, uint32_t now_s);
static struct memo_entry *set_of(struct memo *memo, uint64_t key);

void memo_put(struct memo *memo, uint64_t key, uint64_t value, int64_t now_ns) {
    uint32_t now_s = (uint32_t)(now_ns / NS_PER_S);
    struct memo_entry *entry = find(memo, key);

    if (!entry)
        entry = least_used(set_of(memo, key), now_s);
    atomic_store_explicit(&entry->check, key ^ value, memory_order_relaxed);
    atomic_store_explicit(&entry->value, value, memory_order_relaxed);
    atomic_store_explicit(&entry->used_s, now_s, memory_order_relaxed);
}

uint64_t memo_get(struct memo *memo, uint64_t key, int64_t now_ns) {
    uint32_t now_s = (uint32_t)(now_ns / NS_PER_S);
    struct memo_entry *entry = find(memo, key);
    uint64_t value;

    if (!entry)
        return 0;
    value = atomic_load_explicit(&entry->value, memory_order_relaxed);
    if ((atomic_load_explicit(&entry->check, memory_order_relaxed) ^ value) != key)
        return 0; /* it has just given way */
    /* Once a second: what is asked for often is in the caches of many. */
    if (atomic_load_explicit(&entry->used_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&entry->used_s, now_s, memory_order_relaxed);
    return value;
}

static struct memo_entry *find(struct memo *memo, uint64_t key) {
    struct memo_entry *set = set_of(memo, key);

    for (unsigned i = 0; i < MEMO_WAYS; i++) {
        uint64_t value = atomic_load_explicit(&set[i].value, memory_order_relaxed);

        if (value && (atomic_load_explicit(&set[i].check, memory_order_relaxed) ^ value) == key)
            return &set[i];
    }
    return NULL;
}

/* A free one, if there is any. Times wrap, and are compared by their distance. */
static struct memo_entry *least_used(struct memo_entry *set, uint32_t now_s) {
    struct memo_entry *least = set;
    uint32_t longest_s = 0;

    for (unsigned i = 0; i < MEMO_WAYS; i++) {
        uint32_t unused_s = now_s - atomic_load_explicit(&set[i].used_s, memory_order_relaxed);

        if (atomic_load_explicit(&set[i].value, memory_order_relaxed) == 0)
            return &set[i];
        if (unused_s > longest_s && unused_s < UINT32_MAX / 2) {
            longest_s = unused_s;
            least = &set[i];
        }
    }
    return least;
}

static struct memo_entry *set_of(struct memo *memo, uint64_t key) {
    return memo->sets[key % (MEMO_ENTRIES / MEMO_WAYS)];
}
