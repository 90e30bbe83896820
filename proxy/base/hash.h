/* Hashes that say the same in every process and on every machine: for choices that are to survive a
 * restart. They keep nobody from choosing keys that collide. */
#pragma once

#include "base/slice.h"

#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* A bijection in which every bit depends on every other (the end of splitmix64). */
static inline uint64_t hash_mix(uint64_t h) {
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

/* FNV-1a over @bytes, behind what @h is of (HASH_START: nothing). */
static inline uint64_t hash_more(uint64_t h, struct slice bytes) {
    for (size_t i = 0; i < bytes.len; i++)
        h = (h ^ (uint8_t)bytes.base[i]) * UINT64_C(0x100000001b3);
    return h;
}

static inline uint64_t hash_of(struct slice bytes) {
    return hash_mix(hash_more(HASH_START, bytes));
}
