/* A file that log lines are appended to, batch by batch, by the one writing thread: it is reopened
 * on request, and a full or lost disk costs lines (counted), never the thread. */
#pragma once

#include "base/clock.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_BATCH_BYTES (128 * 1024)
#define LOG_COMPLAINT_NS (60 * NS_PER_S) /* between two complaints about one file */

/* Home: log. */
struct log_sink {
    char *path; /* owned; NULL: standard error, or never opened */
    int fd;
    bool is_pipe;         /* anything but a regular file: a write could wait for its reader */
    bool is_broken;       /* the last write failed */
    bool is_cut;          /* the file ends inside a line */
    size_t len;           /* bytes in the batch */
    unsigned lines;       /* lines in the batch */
    uint64_t lost;        /* lines lost and not yet told of */
    int64_t retry_ns;     /* a broken file is not reopened before this */
    int64_t complain_ns;  /* no complaint before this */
    int64_t recovered_ns; /* nor a word of recovery before this */
    char batch[LOG_BATCH_BYTES];
};

/* @path: a file, or "stderr". -errno when it cannot be opened. */
int log_sink_open(struct log_sink *sink, const char *path);
/* Accepts a zeroed sink. The batch must have been flushed. */
void log_sink_close(struct log_sink *sink);
/* Opens the path anew; on failure the old file stays in use. */
void log_sink_reopen(struct log_sink *sink);

/* Room for @len bytes in the batch? If not, flush first. */
bool log_sink_has_room(const struct log_sink *sink, size_t len);
void log_sink_add(struct log_sink *sink, struct slice line);

/* Writes the batch and empties it. Returns the lines that were lost. A pipe whose reader stands
 * still is waited for, until *@close_by_ns (clock_now_ns(), 0 = for ever; another thread sets it).
 */
unsigned log_sink_flush(struct log_sink *sink, const _Atomic int64_t *close_by_ns);
