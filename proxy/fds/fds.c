/* The fd ledger: one atomic per class. */
#include "fds/fds.h"

#include <assert.h>

bool fds_acquire(struct fds *fds, enum fd_class fd_class) {
    uint32_t used = atomic_load_explicit(&fds->used[fd_class], memory_order_relaxed);

    while (used < fds->limit[fd_class])
        if (atomic_compare_exchange_weak(&fds->used[fd_class], &used, used + 1))
            return true;
    return false;
}

void fds_force(struct fds *fds, enum fd_class fd_class) {
    atomic_fetch_add(&fds->used[fd_class], 1);
}

void fds_release(struct fds *fds, enum fd_class fd_class) {
    uint32_t before = atomic_fetch_sub(&fds->used[fd_class], 1);

    assert(before > 0);
    (void)before;
}

uint32_t fds_used(const struct fds *fds, enum fd_class fd_class) {
    return atomic_load_explicit(&fds->used[fd_class], memory_order_relaxed);
}

const char *fds_class_name(enum fd_class fd_class) {
    static const char *const names[FD_CLASSES] = {"client", "upstream", "file", "reserve"};

    return names[fd_class];
}
