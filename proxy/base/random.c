/* splitmix64 over a seed of the kernel's. */
#include "base/random.h"

#include "base/clock.h"

#include <sys/random.h>

uint64_t random_next(void) {
    static __thread uint64_t state;
    uint64_t z;

    if (state == 0 && getrandom(&state, sizeof state, GRND_NONBLOCK) != sizeof state)
        state = (uint64_t)clock_now_ns() ^ (uint64_t)(uintptr_t)&state;
    z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
