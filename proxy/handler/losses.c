/* What faults in threads have left behind: memory and open files that nobody knows to give back as
 * long as the process runs. Both are bounded: at the bound the process is replaced.
 *
 * Memory is counted as it is lost (heap.h). Files cannot be: what libc opens for a plugin is not
 * seen. So after a fault those that the process has open are compared with those that it knows of,
 * where the difference was something else when all began. */
#include "handler/handlers_state.h"

#include "metrics/process.h"

#include <stdio.h>

static bool count_unknown(const struct handlers *handlers, int64_t *count);

void losses_add(struct handlers *handlers, size_t bytes) {
    uint64_t lost = atomic_fetch_add(&handlers->lost_bytes, bytes) + bytes;
    char why[80];

    if (lost <= handlers->config->server.handler_loss || bytes == 0)
        return;
    snprintf(why, sizeof why, "faults of handlers have lost %llu KiB of memory",
             (unsigned long long)lost / 1024);
    handlers_taint(handlers, why);
}

void handlers_know_fds(struct handlers *handlers, const struct fds *fds) {
    int64_t others = 0;

    if (!handlers)
        return;
    handlers->fds = fds;
    if (!count_unknown(handlers, &others))
        return;
    atomic_store(&handlers->other_fds, others);
    atomic_store(&handlers->are_fds_known, true);
}

/* Not behind a dirty fault, because the directory may have to be read, which takes memory. */
void losses_look_at_fds(struct handlers *handlers) {
    int64_t count, lost;
    char why[80];

    if (!atomic_load(&handlers->are_fds_known) || atomic_load(&handlers->is_tainted) ||
        !count_unknown(handlers, &count))
        return;
    lost = count - atomic_load(&handlers->other_fds);
    atomic_store(&handlers->lost_fds, lost > 0 ? (uint64_t)lost : 0);
    if (lost <= LOST_FDS_MAX)
        return;
    snprintf(why, sizeof why, "faults of handlers have left %lld files open", (long long)lost);
    handlers_taint(handlers, why);
}

static bool count_unknown(const struct handlers *handlers, int64_t *count) {
    struct process_figures figures;
    int64_t known = 0;

    if (!process_look(&figures))
        return false;
    for (int class = 0; class < FD_CLASSES; class ++)
        known += fds_used(handlers->fds, (enum fd_class) class);
    *count = (int64_t)figures.open_fds - known;
    return true;
}
