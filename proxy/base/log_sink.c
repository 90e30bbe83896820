/* Appends batches to a file. A regular file is written in one go. Anything else may have a reader
 * that stands still, so it is polled first and written in pieces that then cannot block. */
#include "base/log_sink.h"

#include "base/alloc.h"
#include "base/log_text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_MS 100
#define RETRY_NS NS_PER_S

static int open_file(const char *path);
static void adopt(struct log_sink *sink, int fd);
static int write_all(struct log_sink *sink, struct slice bytes, const _Atomic int64_t *close_by_ns,
                     size_t *written);
static int wait_for_reader(int fd, const _Atomic int64_t *close_by_ns);
static bool is_late(const _Atomic int64_t *close_by_ns);
static unsigned count_lost(struct log_sink *sink, size_t written);
static bool complain(const struct log_sink *sink, int64_t *not_before_ns, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int log_sink_open(struct log_sink *sink, const char *path) {
    bool is_stderr = strcmp(path, "stderr") == 0;
    int fd = is_stderr ? STDERR_FILENO : open_file(path);

    if (fd < 0)
        return fd;
    sink->path = is_stderr ? NULL : xstrdup(path);
    sink->retry_ns = sink->complain_ns = sink->recovered_ns = 0;
    sink->lost = 0;
    adopt(sink, fd);
    return 0;
}

void log_sink_close(struct log_sink *sink) {
    assert(sink->len == 0);
    if (sink->path)
        close(sink->fd);
    free(sink->path);
    sink->path = NULL;
}

void log_sink_reopen(struct log_sink *sink) {
    int fd;

    if (!sink->path)
        return;
    fd = open_file(sink->path);
    if (fd < 0) {
        complain(sink, &sink->complain_ns, "cannot reopen '%s', the old file stays in use: %s",
                 sink->path, strerror(-fd));
        return;
    }
    close(sink->fd);
    adopt(sink, fd);
}

bool log_sink_has_room(const struct log_sink *sink, size_t len) {
    return LOG_BATCH_BYTES - sink->len >= len;
}

void log_sink_add(struct log_sink *sink, struct slice line) {
    assert(log_sink_has_room(sink, line.len));
    memcpy(sink->batch + sink->len, line.base, line.len);
    sink->len += line.len;
    sink->lines++;
}

unsigned log_sink_flush(struct log_sink *sink, const _Atomic int64_t *close_by_ns) {
    size_t written = 0, ignored;
    unsigned lost = 0;
    int err = 0;

    if (sink->len == 0)
        return 0;
    if (sink->is_broken && clock_now_ns() >= sink->retry_ns) {
        sink->retry_ns = clock_now_ns() + RETRY_NS;
        log_sink_reopen(sink);
    }
    if (sink->is_cut)
        err = write_all(sink, SLICE("\n"), close_by_ns, &ignored);
    if (!err)
        err = write_all(sink, slice_of(sink->batch, sink->len), close_by_ns, &written);
    sink->is_broken = err != 0;
    if (err) {
        lost = count_lost(sink, written);
        sink->lost += lost;
        complain(sink, &sink->complain_ns, "cannot write to '%s', lines are lost: %s", sink->path,
                 strerror(-err));
    } else if (sink->lost > 0 && complain(sink, &sink->recovered_ns,
                                          "writing to '%s' works again, lines were lost: %llu",
                                          sink->path, (unsigned long long)sink->lost)) {
        sink->lost = 0;
    }
    sink->len = 0;
    sink->lines = 0;
    return lost;
}

static int open_file(const char *path) {
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

    return fd < 0 ? -errno : fd;
}

static void adopt(struct log_sink *sink, int fd) {
    struct stat st;

    sink->fd = fd;
    sink->is_cut = false;
    sink->is_pipe = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
}

/* -errno when not all of @bytes went out; *@written counts what did, and is_cut is kept true to it.
 */
static int write_all(struct log_sink *sink, struct slice bytes, const _Atomic int64_t *close_by_ns,
                     size_t *written) {
    *written = 0;
    while (bytes.len > 0) {
        size_t step = sink->is_pipe && bytes.len > PIPE_BUF ? PIPE_BUF : bytes.len;
        int err = sink->is_pipe ? wait_for_reader(sink->fd, close_by_ns) : 0;
        ssize_t n;

        if (err)
            return err;
        n = write(sink->fd, bytes.base, step);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && !is_late(close_by_ns))))
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        *written += (size_t)n;
        bytes = slice_skip(bytes, (size_t)n);
        sink->is_cut = bytes.base[-1] != '\n';
    }
    return 0;
}

static int wait_for_reader(int fd, const _Atomic int64_t *close_by_ns) {
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};

    while (poll(&pfd, 1, POLL_MS) <= 0)
        if (is_late(close_by_ns))
            return -ETIMEDOUT;
    return 0; /* what is wrong with the file shows in write() */
}

static bool is_late(const _Atomic int64_t *close_by_ns) {
    int64_t by_ns = atomic_load_explicit(close_by_ns, memory_order_relaxed);

    return by_ns != 0 && clock_now_ns() >= by_ns;
}

static unsigned count_lost(struct log_sink *sink, size_t written) {
    unsigned whole = 0;

    for (size_t i = 0; i < written; i++)
        whole += sink->batch[i] == '\n';
    return sink->lines - whole;
}

/* To standard error, because the file is what is wrong; standard error itself is not spoken of. */
static bool complain(const struct log_sink *sink, int64_t *not_before_ns, const char *format, ...) {
    int64_t now_ns = clock_now_ns();
    char line[LOG_LINE_MAX];
    va_list args;

    if (!sink->path || now_ns < *not_before_ns)
        return false;
    *not_before_ns = now_ns + LOG_COMPLAINT_NS;
    va_start(args, format);
    log_text_to_stderr(slice_of(line, log_text_format(line, LOG_WARN, format, args)));
    va_end(args);
    return true;
}
