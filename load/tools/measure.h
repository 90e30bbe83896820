/* What the load generators count with: latencies, the CPU time of the proxy's processes, lengths of
 * time from the command line. */
#ifndef LOAD_MEASURE_H
#define LOAD_MEASURE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    HISTOGRAM_SUB = 32, /* buckets per power of two: 3% */
    HISTOGRAM_MAX = 64 * HISTOGRAM_SUB,
    PIDS_MAX = 64,
};

struct histogram {
    uint64_t counts[HISTOGRAM_MAX];
    uint64_t total, max_ns;
};

void histogram_add(struct histogram *h, uint64_t ns);

/* Prints ,"NAME":{...} with the count and the usual quantiles in microseconds. */
void histogram_print(const char *name, const struct histogram *h);

/* The same over time: one histogram for each step since the start. A zeroed one keeps nothing. */
enum series_kind { SERIES_OK, SERIES_REFUSED, SERIES_ERROR, SERIES_KINDS };

struct series {
    uint64_t step_ns, begin_ns;
    struct series_step *steps; /* owned */
    size_t count;
};

/* @length_ns / @step_ns steps from @begin_ns on. */
void series_begin(struct series *series, uint64_t step_ns, uint64_t begin_ns, uint64_t length_ns);
/* Something ended at @now_ns, @ns after it was due. */
void series_add(struct series *series, enum series_kind kind, uint64_t now_ns, uint64_t ns);
/* Prints ,"series":[...]: of each step its time in seconds, how many of each kind, and p50 and p99
 * of what was right in microseconds. Nothing for one that keeps nothing. */
void series_print(const struct series *series);

struct pids {
    pid_t list[PIDS_MAX];
    size_t count;
};

/* Reads "17,4711"; ends the program with status 2 when it is anything else. */
void pids_parse(struct pids *pids, char *text);

/* User and system time of the processes in seconds, threads included, exact to the moment; ends the
 * program with status 1 when one is gone. */
double pids_cpu_s(const struct pids *pids);

/* The same of this process. */
double measure_self_cpu_s(void);

/* Seconds, 0 to 3600, in nanoseconds; ends the program with status 2 when @text is anything else.
 */
uint64_t measure_seconds(const char *text);

#endif
