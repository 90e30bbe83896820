/* What has come of a load generator's requests, and the JSON object that says so on standard
 * output. The CPU clocks of the proxy's processes are read at the very moments between which
 * requests are counted. */
#ifndef LOAD_RESULT_H
#define LOAD_RESULT_H

#include "plan.h"

enum {
    RESULT_FAILURES_MAX = 16,
    RESULT_STATUS_MAX = 600,
};

struct result {
    const struct plan *plan;     /* borrowed */
    const char *const *failures; /* borrowed; their names */
    unsigned failure_count;      /* at most RESULT_FAILURES_MAX */
    uint64_t errors[RESULT_FAILURES_MAX], statuses[RESULT_STATUS_MAX];
    uint64_t bytes, opened, reopened, explained;
    struct histogram ok, refused;
    struct series series;
    double cpu_s, self_s;
};

/* @plan has begun. */
void result_begin(struct result *result, const struct plan *plan);
/* Its window is open: forgets what is counted over the window only. */
void result_open_window(struct result *result);
void result_end(struct result *result);

/* One is answered at @now_ns that was due at @start_ns, as it ought to be; or refused, and
 * @is_explained when it says when to come back. */
void result_ok(struct result *result, uint64_t start_ns, uint64_t now_ns);
void result_refused(struct result *result, uint64_t start_ns, uint64_t now_ns, bool is_explained);
/* One was answered with @status, whatever it is worth; statuses that are none are left out. */
void result_status(struct result *result, int status);
/* One has failed now. */
void result_failed(struct result *result, unsigned failure);

/* How many were answered, or refused, in the window. */
uint64_t result_answered(const struct result *result);

void result_print(const struct result *result);

#endif
