/* Random numbers that nobody must be able to spoil by guessing, but no secrets: jitter, balancing,
 * request ids. Per thread, seeded by the kernel. Any thread. */
#pragma once

#include <stdint.h>

uint64_t random_next(void);

/* 0 to @bound - 1 (@bound > 0). */
static inline uint64_t random_below(uint64_t bound) {
    return random_next() % bound; /* the bias of small bounds is below 2^-32 */
}
