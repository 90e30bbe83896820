/* What the load generators count with. */
#include "measure.h"
#include "wire.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double quantile_us(const struct histogram *h, double share);

/* Logarithmic buckets, HISTOGRAM_SUB to the octave. */
void histogram_add(struct histogram *h, uint64_t ns) {
    uint64_t value = ns / 64; /* steps of 64 ns are fine enough */
    unsigned octave = value < HISTOGRAM_SUB ? 0 : 63u - (unsigned)__builtin_clzll(value) - 4;

    h->counts[octave ? octave * HISTOGRAM_SUB + ((value >> (octave - 1)) & (HISTOGRAM_SUB - 1))
                     : value]++;
    h->total++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

void histogram_print(const char *name, const struct histogram *h) {
    printf(",\"%s\":{\"count\":%llu,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,"
           "\"p999_us\":%.1f,\"max_us\":%.1f}",
           name, (unsigned long long)h->total, quantile_us(h, .5), quantile_us(h, .9),
           quantile_us(h, .99), quantile_us(h, .999), (double)h->max_ns / 1000);
}

void pids_parse(struct pids *pids, char *text) {
    for (char *at = strtok(text, ","); at; at = strtok(NULL, ",")) {
        if (pids->count == PIDS_MAX)
            break;
        pids->list[pids->count++] = (pid_t)wire_number("--cpu-of", at);
    }
}

/* It is the sum that /proc/PID/stat shows as utime + stime, but in nanoseconds instead of ticks of
 * 10 ms. */
double pids_cpu_s(const struct pids *pids) {
    double sum = 0;

    for (size_t i = 0; i < pids->count; i++) {
        struct timespec ts;
        clockid_t clock;

        if (clock_getcpuclockid(pids->list[i], &clock) || clock_gettime(clock, &ts)) {
            fprintf(stderr, "process %d is gone\n", (int)pids->list[i]);
            exit(1);
        }
        sum += (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
    }
    return sum;
}

double measure_self_cpu_s(void) {
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

uint64_t measure_seconds(const char *text) {
    char *end;
    double seconds = strtod(text, &end);

    if (*end || !(seconds >= 0 && seconds <= 3600)) {
        fprintf(stderr, "'%s' is no time from 0 to 3600 seconds\n", text);
        exit(2);
    }
    return (uint64_t)(seconds * 1e9);
}

/* The latency below which @share of all lie; the middle of its bucket; 0 when there is none. */
static double quantile_us(const struct histogram *h, double share) {
    uint64_t rank = (uint64_t)((double)h->total * share), seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_MAX; i++) {
        unsigned octave = i / HISTOGRAM_SUB;
        double width = octave ? (double)(1ull << (octave - 1)) : 1;
        double low = octave ? (HISTOGRAM_SUB + i % HISTOGRAM_SUB) * width : i;

        seen += h->counts[i];
        if (seen > rank)
            return fmin((low + width / 2) * 64, (double)h->max_ns) / 1000;
    }
    return (double)h->max_ns / 1000;
}

struct series_step {
    uint64_t counts[SERIES_KINDS];
    struct histogram ok;
};

void series_begin(struct series *series, uint64_t step_ns, uint64_t begin_ns, uint64_t length_ns) {
    series->step_ns = step_ns;
    series->begin_ns = begin_ns;
    series->count = step_ns ? (size_t)(length_ns / step_ns) + 1 : 0;
    series->steps = calloc(series->count + 1, sizeof *series->steps);
    if (!series->steps) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
}

void series_add(struct series *series, enum series_kind kind, uint64_t now_ns, uint64_t ns) {
    size_t at = series->step_ns ? (size_t)((now_ns - series->begin_ns) / series->step_ns) : 0;

    if (at >= series->count)
        return;
    series->steps[at].counts[kind]++;
    if (kind == SERIES_OK)
        histogram_add(&series->steps[at].ok, ns);
}

void series_print(const struct series *series) {
    if (!series->count)
        return;
    printf(",\"series\":[");
    for (size_t i = 0; i < series->count; i++) {
        const struct series_step *step = &series->steps[i];

        printf("%s[%.3f,%llu,%llu,%llu,%.0f,%.0f]", i ? "," : "",
               (double)(i * series->step_ns) / 1e9, (unsigned long long)step->counts[SERIES_OK],
               (unsigned long long)step->counts[SERIES_REFUSED],
               (unsigned long long)step->counts[SERIES_ERROR], quantile_us(&step->ok, 0.5),
               quantile_us(&step->ok, 0.99));
    }
    printf("]");
}
