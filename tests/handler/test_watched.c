/* The promises of proxy/handler/watched.h; looks are made by hand, but for one test of the thread.
 */
#include "handler/watched.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static struct watched_files *files;
static uint64_t call;

static int set_up(void **state) {
    snprintf(folder, sizeof folder, "/tmp/weir-watched-XXXXXX");
    call = 0;
    return mkdtemp(folder) ? watched_open(&files, folder) : -1;
}

static int tear_down(void **state) {
    char *command = xasprintf("rm -r '%s'", folder);
    int err = system(command);

    free(command);
    watched_close(files);
    return err;
}

static char *path_of(const char *name) {
    return xasprintf("%s/%s", folder, name);
}

static void write_file(const char *name, const char *text, size_t len) {
    char *path = path_of(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
    free(path);
}

static void put(const char *name, const char *text) {
    write_file(name, text, strlen(text));
}

static void drop(const char *name) {
    char *path = path_of(name);

    assert_int_equal(unlink(path), 0);
    free(path);
}

static struct weir_file *view_of(const char *name) {
    struct weir_file *view;
    char *why;

    assert_int_equal(watched_view_open(&view, files, slice_str(name), &why), 0);
    return view;
}

static void assert_refused(const char *name, int err, const char *phrase) {
    struct weir_file *view;
    char *why = NULL;

    assert_int_equal(watched_view_open(&view, files, slice_str(name), &why), err);
    assert_non_null(strstr(why, phrase));
    free(why);
}

/* In a new call. */
static void assert_holds(struct weir_file *view, const char *text) {
    uint64_t version;
    struct weir_text content = watched_view_content(view, ++call, &version);

    assert_int_equal(content.len, strlen(text));
    assert_memory_equal(content.base, text, content.len);
}

static void look_twice(void) {
    watched_look(files);
    watched_look(files);
}

static void test_a_file_is_read_at_once(void **state) {
    struct weir_file *view, *again;
    char *path = path_of("keys");

    put("keys", "one");
    view = view_of("keys");
    assert_holds(view, "one");
    again = view_of(path);
    assert_holds(again, "one");
    watched_view_close(view);
    watched_view_close(again);
    free(path);
}

static void test_a_file_that_cannot_be_read_is_refused(void **state) {
    char *large = calloc(1, WATCHED_BYTES_MAX + 1), name[WATCHED_PATH_MAX + 2];

    assert_refused("missing", -ENOENT, "No such file");
    assert_refused(".", -EINVAL, "no regular file");
    assert_refused("", -ENAMETOOLONG, "a path has");
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_refused(name, -ENAMETOOLONG, "a path has");
    write_file("large", large, WATCHED_BYTES_MAX + 1);
    assert_refused("large", -EFBIG, "1 MiB");
    write_file("large", large, WATCHED_BYTES_MAX);
    watched_view_close(view_of("large"));
    free(large);
}

static void test_a_change_is_seen_once_it_has_settled(void **state) {
    struct weir_file *view;
    uint64_t before, after;

    put("keys", "one");
    view = view_of("keys");
    watched_view_content(view, ++call, &before);
    put("keys", "two, half");
    watched_look(files);
    assert_holds(view, "one");
    put("keys", "two, whole");
    watched_look(files);
    assert_holds(view, "one");
    watched_look(files);
    assert_holds(view, "two, whole");
    watched_view_content(view, ++call, &after);
    assert_int_not_equal(before, after);
    look_twice();
    watched_view_content(view, ++call, &before);
    assert_int_equal(before, after);
    watched_view_close(view);
}

static void test_content_stays_the_same_during_a_call(void **state) {
    struct weir_file *view;
    struct weir_text content;
    uint64_t version;

    put("keys", "one");
    view = view_of("keys");
    content = watched_view_content(view, 7, &version);
    for (unsigned i = 0; i < 3; i++) {
        char text[16];

        snprintf(text, sizeof text, "new %u", i);
        put("keys", text);
        look_twice();
        assert_memory_equal(content.base, "one", 3);
        assert_ptr_equal(watched_view_content(view, 7, &version).base, content.base);
    }
    content = watched_view_content(view, 8, &version);
    assert_memory_equal(content.base, "new 2", 5);
    watched_view_close(view);
}

static void test_the_same_content_is_no_change(void **state) {
    struct weir_file *view;
    uint64_t before, after;

    put("keys", "one");
    view = view_of("keys");
    watched_view_content(view, ++call, &before);
    drop("keys");
    put("keys", "one");
    look_twice();
    watched_view_content(view, ++call, &after);
    assert_int_equal(before, after);
    watched_view_close(view);
}

static void test_a_file_that_goes_away_keeps_its_content(void **state) {
    struct weir_file *view;
    char *large = calloc(1, WATCHED_BYTES_MAX + 1);

    put("keys", "one");
    view = view_of("keys");
    drop("keys");
    look_twice();
    assert_holds(view, "one");
    write_file("keys", large, WATCHED_BYTES_MAX + 1);
    look_twice();
    assert_holds(view, "one");
    put("keys", "back");
    look_twice();
    assert_holds(view, "back");
    put("keys", "");
    look_twice();
    assert_holds(view, "");
    watched_view_close(view);
    free(large);
}

static void test_what_is_rejected_is_what_it_was_before(void **state) {
    struct weir_file *view, *other, *late;
    uint64_t first, bad, back, again;

    put("keys", "one");
    view = view_of("keys");
    other = view_of("keys");
    watched_view_content(view, ++call, &first);
    watched_view_reject(view, first); /* there is none before it */
    assert_holds(view, "one");
    put("keys", "bad");
    look_twice();
    assert_holds(view, "bad");
    watched_view_content(view, call, &bad);
    watched_view_reject(view, first); /* is not the newest */
    assert_holds(view, "bad");
    watched_view_content(view, call, &bad);
    watched_view_reject(view, bad);
    watched_view_content(view, call, &back); /* at once, in the same call */
    assert_int_not_equal(back, bad);
    assert_holds(view, "one");
    assert_holds(other, "one");
    watched_view_reject(other, back); /* not to and fro */
    watched_view_content(view, ++call, &again);
    assert_int_equal(again, back);
    look_twice();
    late = view_of("keys");
    assert_holds(late, "one");
    put("keys", "two");
    look_twice();
    assert_holds(view, "two");
    watched_view_content(view, call, &again);
    watched_view_reject(view, again);
    assert_holds(late, "one");
    watched_view_close(view);
    watched_view_close(other);
    watched_view_close(late);
}

static void test_there_are_so_many_files_and_no_more(void **state) {
    struct weir_file *views[WATCHED_FILES_MAX];
    char name[16];

    for (unsigned i = 0; i < WATCHED_FILES_MAX; i++) {
        snprintf(name, sizeof name, "file-%u", i);
        put(name, name);
        views[i] = view_of(name);
    }
    put("one-more", "x");
    assert_refused("one-more", -ENOSPC, "32 watched files");
    for (unsigned i = 0; i < WATCHED_FILES_MAX; i++) {
        snprintf(name, sizeof name, "file-%u", i);
        assert_holds(views[i], name);
        watched_view_close(views[i]);
    }
}

/* A worker process that was forked before: it sees new versions, and files that were asked for
 * since, but adds none. */
static void test_a_worker_process_sees_what_the_gateway_reads(void **state) {
    struct weir_file *view;
    int to_child[2], from_child[2];
    char heard;
    pid_t child;

    put("keys", "one");
    view = view_of("keys");
    assert_int_equal(pipe2(to_child, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from_child, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct weir_file *late;
        uint64_t version;
        struct weir_text content;
        char *why = NULL, said;
        bool is_good;

        if (read(to_child[0], &said, 1) != 1)
            _exit(1);
        content = watched_view_content(view, 1, &version);
        is_good = content.len == 3 && memcmp(content.base, "two", 3) == 0 &&
                  watched_view_open(&late, files, SLICE("late"), &why) == 0;
        if (is_good) {
            content = watched_view_content(late, 1, &version);
            is_good = content.len == 5 && memcmp(content.base, "later", 5) == 0 &&
                      watched_view_open(&late, files, SLICE("unknown"), &why) == -EPERM;
        }
        _exit(write(from_child[1], is_good ? "y" : "n", 1) == 1 ? 0 : 1);
    }
    put("unknown", "x");
    put("keys", "two");
    look_twice();
    drop("keys"); /* the worker could not read it itself */
    put("late", "later");
    watched_view_close(view_of("late"));
    assert_int_equal(write(to_child[1], "g", 1), 1);
    assert_int_equal(read(from_child[0], &heard, 1), 1);
    assert_int_equal(heard, 'y');
    assert_int_equal(waitpid(child, NULL, 0), child);
    for (unsigned i = 0; i < 2; i++) {
        close(to_child[i]);
        close(from_child[i]);
    }
    watched_view_close(view);
}

/* The reader of another process never sees a mixture, however fast versions follow. */
static void test_copies_are_whole(void **state) {
    static char text[100000];
    struct weir_file *view;
    int status;
    pid_t child;

    memset(text, 'a', sizeof text);
    write_file("keys", text, sizeof text);
    view = view_of("keys");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t version = 0;

        for (uint64_t i = 0; version < 20; i++) {
            struct weir_text content = watched_view_content(view, i, &version);

            for (size_t at = 1; at < content.len; at++)
                if (content.base[at] != content.base[0])
                    _exit(1);
        }
        _exit(0);
    }
    for (unsigned i = 1; i < 20; i++) {
        memset(text, 'a' + (int)i, sizeof text);
        write_file("keys", text, sizeof text);
        look_twice();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    watched_view_close(view);
}

static void test_the_thread_looks_by_itself(void **state) {
    int64_t until_ns = clock_now_ns() + PATIENCE_NS;
    struct weir_file *view;
    struct weir_text content;
    uint64_t version;

    put("keys", "one");
    view = view_of("keys");
    assert_int_equal(watched_start(files), 0);
    put("keys", "two");
    do {
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
        content = watched_view_content(view, ++call, &version);
    } while (memcmp(content.base, "two", 3) != 0 && clock_now_ns() < until_ns);
    assert_memory_equal(content.base, "two", 3);
    watched_view_close(view);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_file_is_read_at_once),
        TEST(test_a_file_that_cannot_be_read_is_refused),
        TEST(test_a_change_is_seen_once_it_has_settled),
        TEST(test_content_stays_the_same_during_a_call),
        TEST(test_the_same_content_is_no_change),
        TEST(test_a_file_that_goes_away_keeps_its_content),
        TEST(test_what_is_rejected_is_what_it_was_before),
        TEST(test_there_are_so_many_files_and_no_more),
        TEST(test_a_worker_process_sees_what_the_gateway_reads),
        TEST(test_copies_are_whole),
        TEST(test_the_thread_looks_by_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
