/* Tests of the log: order, bounds, escaping, reopening, and what a bad disk costs. */
#include "base/log.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 4
#define LINES_PER_THREAD 20000

static char directory[] = "/tmp/weir-log-XXXXXX";
static char *log_path, *access_path;

static char *slurp(const char *path) {
    struct buffer text = {0};
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, buffer_reserve(&text, 65536), 65536)) > 0)
        text.len += (size_t)n;
    close(fd);
    buffer_append_char(&text, '\0');
    return text.base;
}

static unsigned count(const char *text, const char *what) {
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        n++;
    return n;
}

/* Standard error goes to a file from here on, until restore_stderr() reads it back. */
static int saved_stderr;

static void catch_stderr(void) {
    char *path = xasprintf("%s/stderr", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);

    saved_stderr = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
    free(path);
}

static char *restore_stderr(void) {
    char *path = xasprintf("%s/stderr", directory), *text;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    text = slurp(path);
    free(path);
    return text;
}

static void open_log(const char *file, const char *access_file) {
    struct log_options options = {.level = LOG_INFO, .file = file, .access_file = access_file};
    const char *failed;

    assert_int_equal(log_open(&options, &failed), 0);
}

static int set_up(void **state) {
    unlink(log_path);
    unlink(access_path);
    return 0;
}

static void *write_many(void *arg) {
    for (unsigned i = 0; i < LINES_PER_THREAD; i++) {
        char line[64];
        int len = snprintf(line, sizeof line, "{\"t\":%u,\"n\":%u}", *(unsigned *)arg, i);

        log_access(slice_of(line, (size_t)len));
    }
    return NULL;
}

static void lines_of_many_threads_are_whole_ordered_and_accounted_for(void **state) {
    unsigned ids[THREADS], lines = 0;
    int64_t last[THREADS] = {-1, -1, -1, -1};
    uint64_t dropped = log_dropped();
    pthread_t threads[THREADS];
    char *text;

    open_log(log_path, access_path);
    assert_true(log_access_is_on());
    for (unsigned i = 0; i < THREADS; i++) {
        ids[i] = i;
        pthread_create(&threads[i], NULL, write_many, &ids[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_close();
    assert_false(log_access_is_on());

    text = slurp(access_path);
    for (char *at = text; *at; lines++) {
        unsigned t, n;
        int used = 0;

        assert_int_equal(sscanf(at, "{\"t\":%u,\"n\":%u}%n", &t, &n, &used), 2);
        assert_int_equal(at[used], '\n');
        assert_true((int64_t)n > last[t]);
        last[t] = n;
        at += used + 1;
    }
    assert_int_equal(lines + log_dropped() - dropped, THREADS * LINES_PER_THREAD);
    assert_true(lines > 10000);
    free(text);
}

static void a_line_has_time_and_level_and_cannot_be_forged(void **state) {
    char *text;

    open_log(log_path, NULL);
    log_warn("cannot read '%s'", "a\nb\x1b[31m\x9b\xc3\xa4\x7f");
    log_debug("unseen");
    log_access(SLICE("unseen"));
    log_close();
    text = slurp(log_path);
    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[19], '.');
    assert_string_equal(text + 23, "Z warn cannot read 'a\\x0ab\\x1b[31m\\x9b\\xc3\\xa4\\x7f'\n");
    free(text);
}

static void a_long_line_is_cut(void **state) {
    char *big = xmalloc(LOG_LINE_MAX + 101), *text;

    memset(big, 'x', LOG_LINE_MAX + 100);
    big[LOG_LINE_MAX + 100] = '\0';
    open_log(log_path, access_path);
    log_info("%s", big);
    log_access(slice_str(big));
    log_access(slice_of(big, LOG_LINE_MAX));
    memset(big, '\n', LOG_LINE_MAX);
    log_info("%s", big);
    log_close();

    text = slurp(log_path);
    assert_int_equal(strcspn(text, "\n"), LOG_LINE_MAX);
    assert_memory_equal(text + LOG_LINE_MAX - 4, "x...\n", 5);
    assert_int_equal(count(text, "\n"), 2);
    assert_non_null(strstr(text, "\\x0a...\n"));
    free(text);
    text = slurp(access_path);
    assert_int_equal(strlen(text), 2 * (LOG_LINE_MAX + 1));
    assert_int_equal(count(text, "...\n"), 1);
    free(text);
    free(big);
}

static void a_file_is_reopened_on_request(void **state) {
    char *moved = xasprintf("%s.1", access_path), *text;
    struct stat st;

    open_log(log_path, access_path);
    log_access(SLICE("one"));
    while (stat(access_path, &st) < 0 || st.st_size == 0)
        usleep(1000);
    rename(access_path, moved);
    log_reopen();
    while (stat(access_path, &st) < 0)
        usleep(1000);
    log_access(SLICE("two"));
    log_close();
    text = slurp(moved);
    assert_string_equal(text, "one\n");
    free(text);
    text = slurp(access_path);
    assert_string_equal(text, "two\n");
    free(text);
    unlink(moved);
    free(moved);
}

static void a_full_disk_costs_lines_and_one_complaint(void **state) {
    uint64_t dropped = log_dropped();
    char *text;

    catch_stderr();
    open_log(log_path, "/dev/full");
    for (unsigned i = 0; i < 3; i++) {
        uint64_t before = log_dropped();

        log_access(SLICE("lost"));
        log_access(SLICE("lost too"));
        while (log_dropped() < before + 2)
            usleep(1000);
    }
    log_info("still here");
    log_close();
    text = restore_stderr();
    assert_int_equal(log_dropped() - dropped, 6);
    assert_int_equal(count(text, "cannot write to '/dev/full', lines are lost: No space left"), 1);
    assert_int_equal(count(text, "\n"), 1);
    free(text);
    text = slurp(log_path);
    assert_non_null(strstr(text, " info still here\n"));
    free(text);
}

/* A pipe that nobody reads stands for any disk that hangs. */
static void a_full_ring_drops_and_nobody_waits(void **state) {
    char *pipe_path = xasprintf("%s/pipe", directory), line[1000];
    uint64_t dropped = log_dropped();
    int64_t start_ns = clock_now_ns();
    int reader;

    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    reader = open(pipe_path, O_RDONLY | O_NONBLOCK);
    memset(line, 'x', sizeof line);
    catch_stderr();
    open_log(log_path, pipe_path);
    for (unsigned i = 0; i < 3000; i++)
        log_access(slice_of(line, sizeof line));
    assert_true(log_dropped() - dropped > 1000);
    log_close();
    assert_true(clock_now_ns() - start_ns < 10 * NS_PER_S);
    free(restore_stderr());
    close(reader);
    unlink(pipe_path);
    free(pipe_path);
}

static void a_file_that_cannot_be_opened_is_named(void **state) {
    struct log_options options = {.file = log_path, .access_file = "/nonexistent/access.log"};
    const char *failed = NULL;

    assert_int_equal(log_open(&options, &failed), -ENOENT);
    assert_ptr_equal(failed, options.access_file);
    log_close();
}

static void lines_go_to_stderr_while_the_log_is_closed(void **state) {
    char *text;

    catch_stderr();
    log_error("cannot start: %s", "no");
    log_access(SLICE("never"));
    log_reopen();
    text = restore_stderr();
    assert_string_equal(text + 23, "Z error cannot start: no\n");
    free(text);
}

static void a_limit_lets_some_through_and_tells_the_rest(void **state) {
    static struct log_limit limit = LOG_LIMIT(2);
    unsigned seconds = 0;
    char *text;

    catch_stderr();
    for (unsigned i = 0; i < 1000; i++) {
        log_limited(&limit, LOG_WARN, "again %u", i);
        seconds += i > 0 && atomic_load(&limit.suppressed) == 0 && i > 2; /* a second has turned */
    }
    atomic_store(&limit.window, 0); /* as if a second had passed */
    log_limited(&limit, LOG_WARN, "at last");
    text = restore_stderr();
    assert_in_range(count(text, "again"), 2, 2 + 2 * (seconds + 1));
    assert_non_null(strstr(text, "at last\n"));
    assert_non_null(strstr(text, "more lines like the last one suppressed\n"));
    assert_int_equal(atomic_load(&limit.suppressed), 0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lines_of_many_threads_are_whole_ordered_and_accounted_for, set_up),
        cmocka_unit_test_setup(a_line_has_time_and_level_and_cannot_be_forged, set_up),
        cmocka_unit_test_setup(a_long_line_is_cut, set_up),
        cmocka_unit_test_setup(a_file_is_reopened_on_request, set_up),
        cmocka_unit_test_setup(a_full_disk_costs_lines_and_one_complaint, set_up),
        cmocka_unit_test_setup(a_full_ring_drops_and_nobody_waits, set_up),
        cmocka_unit_test_setup(a_file_that_cannot_be_opened_is_named, set_up),
        cmocka_unit_test_setup(lines_go_to_stderr_while_the_log_is_closed, set_up),
        cmocka_unit_test_setup(a_limit_lets_some_through_and_tells_the_rest, set_up),
    };
    char *command;
    int failed;

    assert_non_null(mkdtemp(directory));
    log_path = xasprintf("%s/weir.log", directory);
    access_path = xasprintf("%s/access.log", directory);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    command = xasprintf("rm -r %s", directory);
    if (system(command) != 0)
        failed++;
    free(command);
    free(log_path);
    free(access_path);
    return failed;
}
