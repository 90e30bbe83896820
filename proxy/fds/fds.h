/* The fd ledger: who uses how many file descriptors, by class, against a budget made at start from
 * RLIMIT_NOFILE. An fd is entered before it is opened and struck out when its close is complete, so
 * that running out shows as a refusal here and never as EMFILE in the middle of something.
 * Home: shared (atomics). */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fd_class {
    FD_CLIENT,   /* accepted connections */
    FD_UPSTREAM, /* connections to endpoints, from dial to close */
    FD_FILE,     /* logs and files */
    FD_RESERVE,  /* admin, listeners, loops' own, spare */
    FD_CLASSES
};

struct fds {
    _Atomic uint32_t used[FD_CLASSES];
    uint32_t limit[FD_CLASSES];
};

/* Enters one fd if the class has room. */
bool fds_acquire(struct fds *fds, enum fd_class fd_class);

/* Enters one fd whatever the limit: for the second fd that a connection has while it changes loops.
 */
void fds_force(struct fds *fds, enum fd_class fd_class);

void fds_release(struct fds *fds, enum fd_class fd_class);

uint32_t fds_used(const struct fds *fds, enum fd_class fd_class);

/* The class's name as in metrics and status. */
const char *fds_class_name(enum fd_class fd_class);
