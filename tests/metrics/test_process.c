/* Tests of the process_* metrics against what this process knows of itself. */
#include "metrics/process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static double value_of(const char *name) {
    struct buffer text = {0};
    char line[80];
    const char *at;
    double value;

    process_render(&text);
    buffer_append_char(&text, '\0');
    snprintf(line, sizeof line, "\n%s ", name);
    at = strstr(text.base, line);
    assert_non_null(at);
    value = strtod(at + strlen(line), NULL);
    buffer_deinit(&text);
    return value;
}

static void fds_are_counted_exactly(void **state) {
    double before = value_of("process_open_fds");
    int fd = open("/dev/null", O_RDONLY);

    assert_true(value_of("process_open_fds") == before + 1);
    close(fd);
    assert_true(value_of("process_open_fds") == before);
    assert_true(value_of("process_max_fds") > before);
}

static void the_rest_is_plausible(void **state) {
    double age = (double)time(NULL) - value_of("process_start_time_seconds");

    assert_true(age > -2 && age < 60);
    assert_true(value_of("process_threads") >= 1);
    assert_true(value_of("process_resident_memory_bytes") > 1 << 20);
    assert_true(value_of("process_virtual_memory_bytes") >
                value_of("process_resident_memory_bytes"));
    assert_true(value_of("process_cpu_seconds_total") >= 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fds_are_counted_exactly),
        cmocka_unit_test(the_rest_is_plausible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
