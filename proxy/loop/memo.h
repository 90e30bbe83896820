/* A bounded memory of facts, shared by threads and processes: a number for a key. What was not
 * asked for the longest gives way; a fact may be gone at any time, but is never another one's.
 *
 * It is a table of small sets without a lock. An entry holds its value and, in place of its key,
 * the two combined: of two writers that meet, and of one that dies in between, nothing is left but
 * an entry that fits no key. Home: shared; all zeros is an empty one. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MEMO_ENTRIES 65536
#define MEMO_WAYS 8 /* entries of a set, of which the least recently used one gives way */

struct memo_entry {
    _Atomic uint64_t check; /* key ^ value */
    _Atomic uint64_t value; /* 0: free */
    _Atomic uint32_t used_s;
};

struct memo {
    struct memo_entry sets[MEMO_ENTRIES / MEMO_WAYS][MEMO_WAYS];
};

/* @key is a hash, all of whose bits matter; @value is not 0. Any thread. */
void memo_put(struct memo *memo, uint64_t key, uint64_t value, int64_t now_ns);

/* 0: it is not known (any more). */
uint64_t memo_get(struct memo *memo, uint64_t key, int64_t now_ns);
