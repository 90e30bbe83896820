/* The list of errors. */
#include "config/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void errors_stand_in_the_order_of_the_file(void **state) {
    struct errors errors = {.name = "f"};
    struct config_errors text;

    errors_add(&errors, (struct tomlc_position){2, 1}, "%s", "c");
    errors_add(&errors, (struct tomlc_position){1, 9}, "b");
    errors_add(&errors, (struct tomlc_position){2, 1}, "d");
    errors_add(&errors, (struct tomlc_position){0, 0}, "a");
    errors_finish(&errors, &text);
    assert_string_equal(text.text, "f: a\nf:1:9: b\nf:2:1: c\nf:2:1: d\n");
    assert_int_equal(text.count, 4);
    config_errors_deinit(&text);
}

static void only_the_first_hundred_are_kept(void **state) {
    struct errors errors = {.name = "f"};
    struct config_errors text;

    for (unsigned line = 2 * ERRORS_MAX; line > 0; line--)
        errors_add(&errors, (struct tomlc_position){line, 1}, "x");
    assert_int_equal(errors.kept, ERRORS_MAX);
    errors_finish(&errors, &text);
    assert_int_equal(text.count, 2 * ERRORS_MAX);
    assert_memory_equal(text.text, "f:1:1: x\n", 9);
    assert_non_null(strstr(text.text, "f:100:1: x\nf: and 100 more\n"));
    assert_null(strstr(text.text, "f:101:1"));
    config_errors_deinit(&text);
}

static void no_errors_are_no_text(void **state) {
    struct errors errors = {.name = "f"};
    struct config_errors text;

    errors_finish(&errors, &text);
    assert_null(text.text);
    assert_int_equal(text.count, 0);
}

static void a_quote_is_safe_to_print(void **state) {
    struct buffer text = {0};

    errors_quote(&text, slice_of("a\n\x1b\"\\\0\x7f", 7));
    buffer_append_char(&text, '\0');
    assert_string_equal(text.base, "\"a\\x0a\\x1b\\\"\\\\\\x00\\x7f\"");
    buffer_deinit(&text);
}

static void a_long_quote_is_cut_between_characters(void **state) {
    char euros[3 * 30];
    struct buffer text = {0};

    for (size_t i = 0; i < sizeof euros; i++)
        euros[i] = "\xE2\x82\xAC"[i % 3];
    errors_quote(&text, slice_of("x", 1));
    text.len = 0;
    errors_quote(&text, slice_of(euros, sizeof euros));
    assert_int_equal(text.len, 1 + 60 + 4);
    text.len = 0;
    errors_quote(&text, slice_of(euros + 1, 0));
    assert_int_equal(text.len, 2);
    buffer_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_stand_in_the_order_of_the_file),
        cmocka_unit_test(only_the_first_hundred_are_kept),
        cmocka_unit_test(no_errors_are_no_text),
        cmocka_unit_test(a_quote_is_safe_to_print),
        cmocka_unit_test(a_long_quote_is_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
