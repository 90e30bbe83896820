/* Log lines and access-log lines. Any thread writes into a bounded ring; one writer thread carries
 * them to the file. A full ring drops the line and counts it: no caller ever blocks on a disk.
 *
 * A line starts lower-case, failure first, subject quoted, cause last, xid= always where there is
 * an exchange: "cannot connect to 'api-2:443': timed out xid=7f3a". In the file the time (RFC 3339,
 * UTC) and the level stand before it; bytes that are no printable ASCII are escaped. The lines of
 * one thread keep their order. Home: any thread. */
#pragma once

#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX                                                            \
    8192 /* bytes of a line without its newline; a longer one is cut with "..." \
          */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Before log_open() and after log_close() lines go straight to stderr, so that nothing is lost at
 * start and end. */
struct log_options {
    enum log_level level;    /* lines above it are not made */
    const char *file;        /* path, or "stderr"; borrowed: copied */
    const char *access_file; /* path, "stderr", or NULL for none; borrowed: copied */
};

/* Opens the files and starts the writer thread. -errno when a file cannot be opened; *@failed then
 * names it (points into @options). */
int log_open(const struct log_options *options, const char **failed);

/* For a process of one thread that must not wait and starts no other: every line is written by its
 * caller at once, and lost (and counted) when the reader of a pipe leaves no room for 0.1 s. There
 * is no access log. */
int log_open_direct(const struct log_options *options, const char **failed);

/* Writes out what is in the ring, ends the thread, closes the files. A reader of a pipe that stands
 * still is waited for one second at most. */
void log_close(void);

/* Asks the writer to close and reopen its files (SIGUSR1). Async-signal-safe, but for a log that
 * was opened direct: it is reopened here and now. */
void log_reopen(void);

/* For a process whose lines go into another one's log, which puts the time before them itself: they
 * begin with their level. Home: main, before other threads are there. */
void log_leave_out_time(void);

/* Lines dropped since the start because the ring was full or the file could not be written. */
uint64_t log_dropped(void);

bool log_is_on(enum log_level level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* At most @per_second lines through one limit; the first line of a later second says how many were
 * left out. For what a client can provoke at will. Any thread. */
struct log_limit {
    unsigned per_second;
    _Atomic uint64_t window;     /* second * 2^32 + lines of that second */
    _Atomic uint32_t suppressed; /* not yet told */
};

#define LOG_LIMIT(n) \
    { .per_second = (n) }

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One whole access-log line, without its newline and without control bytes. Copies. Nothing when
 * there is no access log. Costs about 0.1 us and, but for a line after a pause, no system call. */
void log_access(struct slice line);
bool log_access_is_on(void);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                        \
    do {                                      \
        if (log_is_on(LOG_DEBUG))             \
            log_line(LOG_DEBUG, __VA_ARGS__); \
    } while (0)
