/* The log: what any thread calls, and the writer thread behind the ring.
 *
 * The writer works, then naps until enough has come together (BATCH_MS, or half a ring, whose
 * writer wakes it), and after a nap without a line it sleeps until the next one. So a busy process
 * pays no system call per line and an idle one does not tick. */
#include "base/log.h"

#include "base/clock.h"
#include "base/log_ring.h"
#include "base/log_sink.h"
#include "base/log_text.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

#define BATCH_MS 50
#define CLOSE_NS NS_PER_S /* for a reader that stands still, see log_sink_flush() */

enum { TO_LOG, TO_ACCESS, SINKS };

enum writer_state { WRITER_WORKS, WRITER_NAPS, WRITER_SLEEPS };

static_assert(LOG_LINE_MAX < LOG_RECORD_MAX, "a line fits a record");
static_assert(LOG_RECORD_MAX <= LOG_BATCH_BYTES, "a record fits a batch");

/* Home: shared. */
static struct {
    pthread_t thread;
    sem_t wake;
    _Atomic unsigned state;      /* enum writer_state */
    _Atomic int64_t close_by_ns; /* 0 = not closing */
    _Atomic bool is_reopening;
    _Atomic bool has_access;
    _Atomic unsigned level;
    _Atomic uint64_t dropped;
    bool is_open; /* home: the thread that opens and closes */
    bool is_direct;
} log_state = {.level = LOG_INFO};

static struct log_ring ring;
static struct log_sink sinks[SINKS]; /* home: log, while its thread runs */

static void write_direct(struct slice line);
static void write_line(enum log_level level, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static enum log_ring_push push(unsigned sink, struct slice line);
static void wake_writer(void);
static void *run_writer(void *unused);
static bool carry(void);
static void rest(bool is_idle);

int log_open(const struct log_options *options, const char **failed) {
    int err;

    assert(!log_state.is_open);
    *failed = options->file;
    err = log_sink_open(&sinks[TO_LOG], options->file);
    if (err)
        return err;
    if (options->access_file) {
        *failed = options->access_file;
        err = log_sink_open(&sinks[TO_ACCESS], options->access_file);
        if (err)
            goto fail;
    }
    *failed = NULL;
    atomic_store(&log_state.level, options->level);
    atomic_store(&log_state.has_access, options->access_file != NULL);
    atomic_store(&log_state.close_by_ns, 0);
    atomic_store(&log_state.state, WRITER_WORKS);
    sem_init(&log_state.wake, 0, 0);

    err = thread_start(&log_state.thread, run_writer, NULL);
    if (err)
        goto fail;
    log_state.is_open = true;
    log_ring_open(&ring);
    return 0;
fail:
    log_sink_close(&sinks[TO_LOG]);
    log_sink_close(&sinks[TO_ACCESS]);
    return err;
}

int log_open_direct(const struct log_options *options, const char **failed) {
    int err = log_sink_open(&sinks[TO_LOG], options->file);

    assert(!log_state.is_open);
    *failed = options->file;
    if (err)
        return err;
    *failed = NULL;
    atomic_store(&log_state.level, options->level);
    log_state.is_open = log_state.is_direct = true;
    return 0;
}

void log_close(void) {
    if (!log_state.is_open)
        return;
    log_state.is_open = false;
    if (log_state.is_direct) {
        log_state.is_direct = false;
        log_sink_close(&sinks[TO_LOG]);
        return;
    }
    log_ring_close(&ring);
    atomic_store(&log_state.has_access, false);
    atomic_store(&log_state.close_by_ns, clock_now_ns() + CLOSE_NS);
    wake_writer();
    pthread_join(log_state.thread, NULL);
    log_sink_close(&sinks[TO_LOG]);
    log_sink_close(&sinks[TO_ACCESS]);
}

void log_reopen(void) {
    int saved = errno;

    if (log_state.is_direct) {
        log_sink_reopen(&sinks[TO_LOG]);
        return;
    }
    atomic_store(&log_state.is_reopening, true);
    wake_writer();
    errno = saved;
}

uint64_t log_dropped(void) {
    return atomic_load_explicit(&log_state.dropped, memory_order_relaxed);
}

bool log_is_on(enum log_level level) {
    return level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

bool log_access_is_on(void) {
    return atomic_load_explicit(&log_state.has_access, memory_order_relaxed);
}

void log_line(enum log_level level, const char *format, ...) {
    va_list args;

    if (!log_is_on(level))
        return;
    va_start(args, format);
    write_line(level, format, args);
    va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...) {
    uint64_t second = (uint64_t)(clock_now_ns() / NS_PER_S);
    uint64_t window = atomic_load_explicit(&limit->window, memory_order_relaxed), next;
    uint32_t suppressed;
    va_list args;

    if (!log_is_on(level))
        return;
    do {
        next = window >> 32 == second ? window + 1 : second << 32 | 1;
        if ((uint32_t)next > limit->per_second) {
            atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
            return;
        }
    } while (!atomic_compare_exchange_weak(&limit->window, &window, next));

    va_start(args, format);
    write_line(level, format, args);
    va_end(args);
    suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
    if (suppressed > 0)
        log_line(level, "%u more lines like the last one suppressed", (unsigned)suppressed);
}

void log_access(struct slice line) {
    char cut[LOG_LINE_MAX];

    if (!log_access_is_on())
        return;
    if (line.len > LOG_LINE_MAX) {
        memcpy(cut, line.base, LOG_LINE_MAX - 3);
        memcpy(cut + LOG_LINE_MAX - 3, "...", 3);
        line = slice_of(cut, LOG_LINE_MAX);
    }
    push(TO_ACCESS, line);
}

static void write_line(enum log_level level, const char *format, va_list args) {
    char text[LOG_LINE_MAX + 1];
    struct slice line = slice_of(text, log_text_format(text, level, format, args));

    if (log_state.is_direct) {
        text[line.len++] = '\n';
        write_direct(line);
    } else if (push(TO_LOG, line) == LOG_RING_CLOSED) {
        log_text_to_stderr(line);
    }
}

/* The sink takes its time as over: it looks once whether its reader has room. */
static void write_direct(struct slice line) {
    static const _Atomic int64_t over_ns = 1;

    log_sink_add(&sinks[TO_LOG], line);
    atomic_fetch_add(&log_state.dropped, log_sink_flush(&sinks[TO_LOG], &over_ns));
}

static enum log_ring_push push(unsigned sink, struct slice line) {
    enum log_ring_push result = log_ring_push(&ring, sink, line);

    if (result == LOG_RING_CLOSED)
        return result;
    if (result == LOG_RING_FULL)
        atomic_fetch_add_explicit(&log_state.dropped, 1, memory_order_relaxed);
    /* Sequentially consistent with rest(): either we see the writer asleep, or it sees our line. */
    switch (atomic_load(&log_state.state)) {
    case WRITER_SLEEPS:
        wake_writer();
        break;
    case WRITER_NAPS:
        if (log_ring_used(&ring) > LOG_RING_BYTES / 2)
            wake_writer();
        break;
    default:
        break;
    }
    return result;
}

/* Async-signal-safe. One waker wins, so the semaphore is posted once per rest. */
static void wake_writer(void) {
    if (atomic_exchange(&log_state.state, WRITER_WORKS) != WRITER_WORKS)
        sem_post(&log_state.wake);
}

static void *run_writer(void *unused) {
    bool is_idle;

    pthread_setname_np(pthread_self(), "weir-log");
    for (;;) {
        int64_t close_by_ns = atomic_load(&log_state.close_by_ns);

        if (atomic_exchange(&log_state.is_reopening, false))
            for (unsigned i = 0; i < SINKS; i++)
                log_sink_reopen(&sinks[i]);
        is_idle = !carry();
        /* A thread that died between reserving and publishing leaves a hole for ever. */
        if (close_by_ns != 0 && (log_ring_used(&ring) == 0 || clock_now_ns() > close_by_ns))
            return NULL;
        rest(is_idle);
    }
}

/* Moves what is in the ring to the files. True when there was something. */
static bool carry(void) {
    char line[LOG_RECORD_MAX];
    uint64_t lost = 0;
    unsigned kind;
    size_t len;
    bool has_carried = false;

    while ((len = log_ring_pull(&ring, &kind, line)) > 0) {
        struct log_sink *sink = &sinks[kind];

        if (!log_sink_has_room(sink, len))
            lost += log_sink_flush(sink, &log_state.close_by_ns);
        log_sink_add(sink, slice_of(line, len));
        has_carried = true;
    }
    for (unsigned i = 0; i < SINKS; i++)
        lost += log_sink_flush(&sinks[i], &log_state.close_by_ns);
    atomic_fetch_add_explicit(&log_state.dropped, lost, memory_order_relaxed);
    return has_carried;
}

/* Waits for work: for the next batch, or when idle for the next line. */
static void rest(bool is_idle) {
    struct timespec until;
    int64_t until_ns = clock_now_ns() + BATCH_MS * NS_PER_MS;
    int err;

    atomic_store(&log_state.state, is_idle ? WRITER_SLEEPS : WRITER_NAPS);
    /* A waker that came before the store above has posted nothing: look again. */
    if (atomic_load(&log_state.is_reopening) || atomic_load(&log_state.close_by_ns) != 0 ||
        log_ring_used(&ring) > (is_idle ? 0 : LOG_RING_BYTES / 2)) {
        if (atomic_exchange(&log_state.state, WRITER_WORKS) != WRITER_WORKS)
            return;
    }
    until = (struct timespec){until_ns / NS_PER_S, until_ns % NS_PER_S};
    do
        err = is_idle ? sem_wait(&log_state.wake)
                      : sem_clockwait(&log_state.wake, CLOCK_MONOTONIC, &until);
    while (err && errno == EINTR);
    /* Timed out: whoever takes the state away has posted, or will; take the post too. */
    if (err && atomic_exchange(&log_state.state, WRITER_WORKS) == WRITER_WORKS)
        sem_wait(&log_state.wake);
}
