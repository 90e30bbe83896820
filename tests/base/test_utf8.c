/* What utf8.h promises, at the borders of each row of RFC 3629 section 4. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void what_utf8_allows_is_valid(void **state) {
    static const char *const texts[] = {
        "",
        "a\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_true(utf8_is_valid(slice_str(texts[i])));
    assert_true(utf8_is_valid(SLICE_NONE));
    assert_true(utf8_is_valid(SLICE("a\0b")));
}

static void everything_else_is_not(void **state) {
    static const char *const texts[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2\x7f",
        "\xc2\xc0",
        "\xe0\x9f\xbf",
        "\xe1\x80",
        "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "ab\xe2\x82",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_false(utf8_is_valid(slice_str(texts[i])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_utf8_allows_is_valid),
        cmocka_unit_test(everything_else_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
