/* Durations and sizes. */
#include "config/units.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void every_duration_unit_is_read(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"0s", 0},
        {"0ms", 0},
        {"250ms", 250 * NS_PER_MS},
        {"10s", 10 * NS_PER_S},
        {"5m", 300 * NS_PER_S},
        {"1h", 3600 * NS_PER_S},
        {"007s", 7 * NS_PER_S},
        {"2562047h", INT64_C(2562047) * 3600 * NS_PER_S},
    };
    int64_t ns;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(units_parse_duration(slice_str(good[i].text), &ns), 0);
        assert_int_equal(ns, good[i].ns);
    }
}

static void what_is_no_duration_is_refused(void **state) {
    static const char *const bad[] = {"",     "s",   "1",    "1.5s", "-1s", "+1s", " 1s",
                                      "1s ",  "1 s", "1S",   "1sec", "1us", "NaN", "inf",
                                      "1h5m", "1d",  "0x1s", "1_0s", "ms",  "1e3s"};
    int64_t ns = 42;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(units_parse_duration(slice_str(bad[i]), &ns), -EINVAL);
    assert_int_equal(units_parse_duration(slice_of("1s\0", 3), &ns), -EINVAL);
    assert_int_equal(units_parse_duration(SLICE("9223372036854775808s"), &ns), -ERANGE);
    assert_int_equal(units_parse_duration(SLICE("2562048h"), &ns), -ERANGE);
    assert_int_equal(units_parse_duration(SLICE("9223372036855ms"), &ns), -ERANGE);
    assert_int_equal(ns, 42);
}

static void every_size_unit_is_read(void **state) {
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"0", 0}, {"512", 512}, {"64KiB", 65536}, {"1MiB", 1 << 20}, {"2GiB", INT64_C(2) << 30},
    };
    int64_t bytes;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(units_parse_size(slice_str(good[i].text), &bytes), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
}

static void what_is_no_size_is_refused(void **state) {
    static const char *const bad[] = {"",   "KiB",    "64k",   "64KB", "64kib",
                                      "-1", "1.5KiB", "1 KiB", "64B"};
    int64_t bytes = 42;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(units_parse_size(slice_str(bad[i]), &bytes), -EINVAL);
    assert_int_equal(units_parse_size(SLICE("8589934592GiB"), &bytes), -ERANGE);
    assert_int_equal(bytes, 42);
}

static void values_are_written_in_the_largest_exact_unit(void **state) {
    struct buffer text = {0};

    units_append_duration(&text, 0);
    buffer_append_char(&text, ' ');
    units_append_duration(&text, 7200 * NS_PER_S);
    buffer_append_char(&text, ' ');
    units_append_duration(&text, 90 * NS_PER_S);
    buffer_append_char(&text, ' ');
    units_append_duration(&text, 1500 * NS_PER_MS);
    buffer_append_char(&text, ' ');
    units_append_size(&text, 65536);
    buffer_append_char(&text, ' ');
    units_append_size(&text, 1000);
    buffer_append_char(&text, '\0');
    assert_string_equal(text.base, "off 2h 90s 1500ms 64KiB 1000");
    buffer_deinit(&text);
}

static void near_misses_are_guessed(void **state) {
    static const char *const durations[][2] = {
        {"30", "30s"},    {"30 sec", "30s"}, {"5 min", "5m"},  {"5M", "5m"},
        {"1 hour", "1h"}, {"2 ms", "2ms"},   {"3MS", "3ms"},   {"4 millis", "4ms"},
        {"1.5s", NULL},   {"soon", NULL},    {"1 week", NULL}, {"", NULL},
    };
    static const char *const sizes[][2] = {
        {"64k", "64KiB"}, {"64 kb", "64KiB"}, {"1M", "1MiB"}, {"2GB", "2GiB"},
        {"7B", "7"},      {"64x", NULL},      {"k", NULL},
    };
    struct buffer text = {0};

    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        text.len = 0;
        assert_int_equal(units_guess_duration(slice_str(durations[i][0]), &text),
                         durations[i][1] != NULL);
        assert_true(slice_equal(buffer_slice(&text), slice_str(durations[i][1])));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        text.len = 0;
        assert_int_equal(units_guess_size(slice_str(sizes[i][0]), &text), sizes[i][1] != NULL);
        assert_true(slice_equal(buffer_slice(&text), slice_str(sizes[i][1])));
    }
    buffer_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_duration_unit_is_read),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(every_size_unit_is_read),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(values_are_written_in_the_largest_exact_unit),
        cmocka_unit_test(near_misses_are_guessed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
