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
