/* Counters that outlive the processes that count: what dead gateways have counted (the base) and
 * what the supervisor counts itself, each in a segment that gateways are given to read. /metrics is
 * base + supervisor + all live gateways, so a counter never goes back. Home: supervisor. */
#pragma once

#include "metrics/metrics.h"

enum reload_result { RELOAD_OK, RELOAD_REFUSED, RELOAD_FAILED, RELOAD_RESULTS };

struct totals {
    int own_fd;                      /* owned */
    struct metrics_segment *segment; /* owned: the mapping of own_fd */
    size_t segment_bytes;
    struct metrics own;
    metrics_cell restarts, reloads[RELOAD_RESULTS];
    int base_fd;                  /* owned; -1: nobody has died yet */
    struct metrics_segment *base; /* owned; NULL likewise */
};

/* -errno. */
int totals_open(struct totals *totals);
void totals_close(struct totals *totals);

void totals_count_restart(struct totals *totals);
void totals_count_reload(struct totals *totals, enum reload_result result);

/* Adds what a gateway that has ended left in @memory. What is no segment is left out, with a line
 * in the log. */
void totals_fold(struct totals *totals, const void *memory, size_t bytes);

/* Goes on with what another supervisor has counted (@fd becomes ours), or with its base. False: it
 * is unreadable. */
bool totals_take_own(struct totals *totals, int fd, size_t bytes);
bool totals_take_base(struct totals *totals, int fd);

/* A memfd of @bytes that nobody can cut short, mapped. -errno. */
int totals_memory(const char *name, size_t bytes, int *fd, void **memory);
