/* What programs write beside their answers: lines in the log, bounded. */
#include "child/output.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/weir-output-XXXXXX";
static struct log_limit limit;
static struct output output;
static int ends[2];

static int begin(void **state) {
    struct log_options options = {.level = LOG_INFO, .file = path};
    const char *failed;

    close(mkstemp(strcpy(path, "/tmp/weir-output-XXXXXX")));
    limit = (struct log_limit)LOG_LIMIT(10);
    output_init(&output, "p", &limit);
    return pipe2(ends, O_NONBLOCK) || log_open_direct(&options, &failed);
}

static int end(void **state) {
    log_close();
    unlink(path);
    close(ends[0]);
    return 0;
}

static void say(const char *text) {
    assert_int_equal(write(ends[1], text, strlen(text)), strlen(text));
}

/* The log so far, without its times. */
static const char *logged(void) {
    static char text[65536], line[16384];
    FILE *file = fopen(path, "r");

    text[0] = '\0';
    while (fgets(line, sizeof line, file))
        strcat(text, strchr(line, ' ') + 1);
    fclose(file);
    return text;
}

static void lines_are_logged_when_they_are_whole(void **state) {
    say("one\ntw");
    assert_true(output_read(&output, ends[0]));
    assert_string_equal(logged(), "info 'p' says: one\n");
    say("o\r\n\n");
    assert_true(output_read(&output, ends[0]));
    assert_string_equal(logged(), "info 'p' says: one\ninfo 'p' says: two\n");
    say("rest");
    close(ends[1]);
    assert_false(output_read(&output, ends[0]));
    output_end(&output);
    assert_string_equal(logged(), "info 'p' says: one\ninfo 'p' says: two\ninfo 'p' says: rest\n");
}

static void a_line_that_is_too_long_is_cut(void **state) {
    static char text[3 * OUTPUT_LINE_MAX];

    memset(text, 'x', sizeof text - 1);
    say(text);
    say("\nnext\n");
    assert_true(output_read(&output, ends[0]));
    memcpy(text + OUTPUT_LINE_MAX, "...", 4);
    assert_non_null(strstr(logged(), text));
    assert_non_null(strstr(logged(), "...\ninfo 'p' says: next\n"));
    close(ends[1]);
}

static void no_more_lines_than_the_limit_lets_through(void **state) {
    unsigned count = 0;

    for (int i = 0; i < 1000; i++)
        say("line\n");
    assert_true(output_read(&output, ends[0]));
    for (const char *at = logged(); (at = strstr(at, "says")); at++)
        count++;
    assert_in_range(count, 10, 20); /* a second may have passed */
    close(ends[1]);
}

static void what_is_looked_for_is_found_in_a_line(void **state) {
    output.wanted = "listening on";
    say("not listening\n");
    assert_true(output_read(&output, ends[0]));
    assert_false(output.is_found);
    say("now liste");
    assert_true(output_read(&output, ends[0]));
    assert_false(output.is_found);
    say("ning on 80\n");
    assert_true(output_read(&output, ends[0]));
    assert_true(output.is_found);
    close(ends[1]);
}

static void others_get_their_turn(void **state) {
    static char block[65536];

    memset(block, '\n', sizeof block);
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    for (int i = 0; i < 4; i++)
        assert_int_equal(write(ends[1], block, sizeof block), sizeof block);
    assert_true(output_read(&output, ends[0]));
    assert_true(read(ends[0], block, sizeof block) > 0);
    close(ends[1]);
}

/* Its reader stands still: the nursery must not. The last test, because of what it leaves. */
static void a_log_that_nobody_reads_costs_little_time(void **state) {
    struct log_options options = {.level = LOG_INFO, .file = path};
    const char *failed;
    int64_t began_ns;
    int reader;

    log_close();
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    reader = open(path, O_RDWR | O_NONBLOCK);
    assert_int_equal(log_open_direct(&options, &failed), 0);
    while (write(reader, "full", 4) > 0)
        ;
    limit = (struct log_limit)LOG_LIMIT(1000);
    began_ns = clock_now_ns();
    for (int i = 0; i < 100; i++)
        say("line\n");
    assert_true(output_read(&output, ends[0]));
    assert_true(clock_now_ns() - began_ns < 2 * NS_PER_S); /* 10 s without */
    close(reader);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_logged_when_they_are_whole, begin, end),
        cmocka_unit_test_setup_teardown(a_line_that_is_too_long_is_cut, begin, end),
        cmocka_unit_test_setup_teardown(no_more_lines_than_the_limit_lets_through, begin, end),
        cmocka_unit_test_setup_teardown(what_is_looked_for_is_found_in_a_line, begin, end),
        cmocka_unit_test_setup_teardown(others_get_their_turn, begin, end),
        cmocka_unit_test_setup_teardown(a_log_that_nobody_reads_costs_little_time, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
