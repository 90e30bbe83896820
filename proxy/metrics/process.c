/* Reads /proc/self for the process_* metrics. */
#include "metrics/process.h"

#include "base/clock.h"
#include "base/proc_stat.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void head(struct buffer *out, const char *name, const char *type, const char *help);
static void render_gauge(struct buffer *out, const char *name, const char *help, uint64_t value);
static double start_time(uint64_t ticks);
static bool count_fds(uint64_t *count);

bool process_look(struct process_figures *figures) {
    struct proc_stat stat;
    uint64_t open_fds;

    if (!proc_stat_read(&stat, getpid()) || !count_fds(&open_fds))
        return false;
    *figures = (struct process_figures){
        .resident_bytes = stat.resident_pages * (uint64_t)sysconf(_SC_PAGESIZE),
        .threads = stat.threads,
        .open_fds = open_fds,
    };
    return true;
}

void process_render(struct buffer *out) {
    struct proc_stat stat;
    uint64_t open_fds;
    struct timespec cpu;
    struct rlimit limit;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    head(out, "process_cpu_seconds_total", "counter", "User and system CPU time spent.");
    buffer_printf(out, "process_cpu_seconds_total %lld.%09ld\n", (long long)cpu.tv_sec,
                  cpu.tv_nsec);
    if (count_fds(&open_fds))
        render_gauge(out, "process_open_fds", "Open file descriptors.", open_fds);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        render_gauge(out, "process_max_fds", "Limit of open file descriptors.", limit.rlim_cur);
    if (!proc_stat_read(&stat, getpid()))
        return;
    render_gauge(out, "process_virtual_memory_bytes", "Virtual memory.", stat.virtual_bytes);
    render_gauge(out, "process_resident_memory_bytes", "Resident memory.",
                 stat.resident_pages * (uint64_t)sysconf(_SC_PAGESIZE));
    render_gauge(out, "process_threads", "Threads of the process.", stat.threads);
    head(out, "process_start_time_seconds", "gauge",
         "Start of the process, seconds since the Unix epoch.");
    buffer_printf(out, "process_start_time_seconds %.2f\n", start_time(stat.start_ticks));
}

static void head(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void render_gauge(struct buffer *out, const char *name, const char *help, uint64_t value) {
    head(out, name, "gauge", help);
    buffer_printf(out, "%s %" PRIu64 "\n", name, value);
}

/* From ticks since the boot to seconds since 1970. */
static double start_time(uint64_t ticks) {
    struct timespec up;
    double booted;

    clock_gettime(CLOCK_BOOTTIME, &up);
    booted = (double)clock_wall_ns() / 1e9 - (double)up.tv_sec - (double)up.tv_nsec / 1e9;
    return booted + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* Since Linux 6.2 the size of the directory is the answer; before, its entries are counted. */
static bool count_fds(uint64_t *count) {
    struct stat st;
    DIR *dir;

    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) {
        *count = (uint64_t)st.st_size;
        return true;
    }
    dir = opendir("/proc/self/fd");
    if (!dir)
        return false;
    *count = 0;
    while (readdir(dir))
        (*count)++;
    closedir(dir);
    *count -= 3; /* ".", ".." and the directory itself */
    return true;
}
