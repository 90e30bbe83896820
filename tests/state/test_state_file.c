/* Tests of the state file: what was written is read again, and what was not is set aside. */
#include "state/state_file.h"

#include "directory.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/time.h>

static atomic_bool is_over;

static json_t *sample(void) {
    return json_pack("{s:{s:i, s:s}, s:{s:[i, i]}}", "one", "number", 42, "text",
                     "\x01 \xC3\xA9 \"quoted\"", "two", "list", 1, 2);
}

static void write_sample(void) {
    json_t *sections = sample();

    assert_int_equal(state_file_write(PATH, sections, &is_over), 0);
    json_decref(sections);
}

static void expect_sample(void) {
    json_t *expected = sample(), *found = state_file_read(PATH);

    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
}

/* @text is set aside whole. */
static void expect_set_aside(const char *text, size_t len) {
    size_t bad_len;
    char *bad;

    put_file(PATH, text, len);
    unlink(BAD_PATH);
    assert_null(state_file_read(PATH));
    assert_false(is_there(PATH));
    bad = get_file(BAD_PATH, &bad_len);
    assert_int_equal(bad_len, len);
    assert_memory_equal(bad, text, len);
    free(bad);
}

static void what_was_written_is_read_again(void **state) {
    struct stat st;

    assert_null(state_file_read(PATH));
    write_sample();
    expect_sample();
    write_sample();
    expect_sample();
    assert_int_equal(stat(PATH, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(is_there(NEW_PATH));
    assert_false(is_there(BAD_PATH));
}

static void a_file_that_was_cut_anywhere_is_set_aside(void **state) {
    size_t len;
    char *text;

    write_sample();
    text = get_file(PATH, &len);
    for (size_t cut = 0; cut < len; cut++)
        expect_set_aside(text, cut);
    free(text);
}

/* Whatever one wrong byte makes of it: it is read or set aside, and never the end. */
static void a_file_with_a_wrong_byte_is_no_harm(void **state) {
    const char wrong[] = {'\0', '"', '{', '}', ',', '\x80', '\xFF', '9'};
    unsigned set_aside = 0;
    size_t len;
    char *text;

    write_sample();
    text = get_file(PATH, &len);
    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < sizeof wrong; i++) {
            char right = text[at];
            json_t *found;

            text[at] = wrong[i];
            put_file(PATH, text, len);
            found = state_file_read(PATH);
            set_aside += !found;
            assert_int_equal(is_there(PATH), found != NULL);
            json_decref(found);
            text[at] = right;
        }
    }
    assert_true(set_aside > len);
    free(text);
}

static void a_foreign_file_is_set_aside(void **state) {
    const char *const texts[] = {
        "[]",
        "null",
        "{}",
        "{\"weir_state\": 2, \"sections\": {}}",
        "{\"weir_state\": 0, \"sections\": {}}",
        "{\"weir_state\": \"1\", \"sections\": {}}",
        "{\"weir_state\": 1}",
        "{\"weir_state\": 1, \"sections\": []}",
        "{\"weir_state\": 1, \"weir_state\": 1, \"sections\": {}}",
        "{\"weir_state\": 1, \"sections\": {}} {}",
        "[server]\nthreads = 2\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_set_aside(texts[i], strlen(texts[i]));
}

static void a_file_that_nests_deeply_is_set_aside(void **state) {
    size_t len = 100000;
    char *text = malloc(len);

    memset(text, '[', len);
    expect_set_aside(text, len);
    free(text);
}

static void the_largest_file_is_read_and_a_larger_one_set_aside(void **state) {
    static const char head[] = "{\"weir_state\": 1, \"sections\": {}}";
    char *text = malloc(STATE_FILE_MAX + 1);
    json_t *found;

    memset(text, ' ', STATE_FILE_MAX + 1);
    memcpy(text, head, strlen(head));
    put_file(PATH, text, STATE_FILE_MAX);
    found = state_file_read(PATH);
    assert_true(json_is_object(found));
    json_decref(found);
    expect_set_aside(text, STATE_FILE_MAX + 1);
    free(text);
}

static void what_is_too_large_is_not_written(void **state) {
    char *text = malloc(STATE_FILE_MAX + 1);
    json_t *large;

    write_sample();
    memset(text, 'x', STATE_FILE_MAX);
    text[STATE_FILE_MAX] = '\0';
    large = json_pack("{s:{s:s}}", "large", "text", text);
    assert_int_equal(state_file_write(PATH, large, &is_over), -EFBIG);
    expect_sample();
    json_decref(large);
    free(text);
}

static void a_full_disk_leaves_the_old_file(void **state) {
    json_t *more = json_pack("{s:{s:s}}", "one", "text", "more than the limit below allows");
    struct rlimit before, limit;
    int err;

    write_sample();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 10;
    setrlimit(RLIMIT_FSIZE, &limit);
    err = state_file_write(PATH, more, &is_over);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(err, -EFBIG);
    assert_false(is_there(NEW_PATH));
    expect_sample();
    json_decref(more);
}

static void what_is_no_file_is_neither_read_nor_moved_nor_replaced(void **state) {
    json_t *sections = sample();

    assert_int_equal(mkdir(PATH, 0700), 0);
    assert_null(state_file_read(PATH));
    assert_int_equal(state_file_write(PATH, sections, &is_over), -EINVAL);
    assert_int_equal(rmdir(PATH), 0);
    assert_int_equal(mkfifo(PATH, 0600), 0); /* nobody writes: it must not be waited for */
    assert_null(state_file_read(PATH));
    assert_int_equal(state_file_write(PATH, sections, &is_over), -EINVAL);
    assert_true(is_there(PATH));
    json_decref(sections);
}

static void a_directory_that_is_not_there_is_an_error(void **state) {
    json_t *sections = sample();

    assert_int_equal(state_file_write("./none/state.json", sections, &is_over), -ENOENT);
    json_decref(sections);
}

static void what_a_death_in_the_middle_left_is_in_nobody_s_way(void **state) {
    put_file(NEW_PATH,
             "a half-written file that is longer than what comes, or so it seems, with a "
             "long, long tail that must not show, and some more of it, and yet some more",
             140);
    write_sample();
    expect_sample();
}

/* Another who is just writing it. */
static int other = -1;

static void begin_another(void (*then)(int)) {
    const struct itimerval soon = {.it_value = {.tv_usec = 30000}};

    other = open(NEW_PATH, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(flock(other, LOCK_EX), 0);
    signal(SIGALRM, then);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
}

static void end_another(int signo) {
    close(other);
}

static void relieve(int signo) {
    atomic_store(&is_over, true);
}

static void two_do_not_write_at_once(void **state) {
    json_t *sections = sample();

    begin_another(SIG_IGN);
    assert_int_equal(state_file_write(PATH, sections, &is_over), -EBUSY);
    assert_true(is_there(NEW_PATH));
    assert_false(is_there(PATH));
    close(other);
    assert_int_equal(state_file_write(PATH, sections, &is_over), 0);
    json_decref(sections);
}

/* A generation that goes may still be writing when the next one begins to. */
static void who_finds_another_writing_waits_for_it(void **state) {
    begin_another(end_another);
    write_sample();
    expect_sample();
}

static void who_has_been_relieved_does_not_wait(void **state) {
    json_t *sections = sample();

    begin_another(relieve);
    assert_int_equal(state_file_write(PATH, sections, &is_over), -ECANCELED);
    assert_false(is_there(PATH));
    atomic_store(&is_over, false);
    close(other);
    json_decref(sections);
}

static void who_has_been_relieved_does_not_replace_it(void **state) {
    json_t *sections = json_pack("{s:{}}", "stale");

    write_sample();
    atomic_store(&is_over, true);
    assert_int_equal(state_file_write(PATH, sections, &is_over), -ECANCELED);
    atomic_store(&is_over, false);
    assert_false(is_there(NEW_PATH));
    expect_sample();
    json_decref(sections);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, enter_directory, leave_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read_again),
        TEST(a_file_that_was_cut_anywhere_is_set_aside),
        TEST(a_file_with_a_wrong_byte_is_no_harm),
        TEST(a_foreign_file_is_set_aside),
        TEST(a_file_that_nests_deeply_is_set_aside),
        TEST(the_largest_file_is_read_and_a_larger_one_set_aside),
        TEST(what_is_too_large_is_not_written),
        TEST(a_full_disk_leaves_the_old_file),
        TEST(what_is_no_file_is_neither_read_nor_moved_nor_replaced),
        TEST(a_directory_that_is_not_there_is_an_error),
        TEST(what_a_death_in_the_middle_left_is_in_nobody_s_way),
        TEST(two_do_not_write_at_once),
        TEST(who_finds_another_writing_waits_for_it),
        TEST(who_has_been_relieved_does_not_wait),
        TEST(who_has_been_relieved_does_not_replace_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
