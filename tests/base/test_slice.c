/* Tests proxy/base/slice.h and slice.c. */
#include "base/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_slice(struct slice found, const char *expected) {
    assert_int_equal(found.len, strlen(expected));
    if (found.len > 0)
        assert_memory_equal(found.base, expected, found.len);
}

/* The elements of @list, each ended by '|'. */
static void assert_elements(const char *list, const char *expected) {
    struct slice rest = slice_str(list), element;
    char joined[256];
    size_t len = 0;

    while (slice_next_element(&rest, &element)) {
        memcpy(joined + len, element.base, element.len);
        len += element.len;
        joined[len++] = '|';
    }
    joined[len] = '\0';
    assert_string_equal(joined, expected);
    assert_int_equal(rest.len, 0);
}

static void test_slices_of_text_know_their_length(void **state) {
    assert_int_equal(SLICE("").len, 0);
    assert_int_equal(SLICE("a\0b").len, 3);
    assert_int_equal(slice_str("abc").len, 3);
    assert_int_equal(slice_str(NULL).len, 0);
    assert_int_equal(SLICE_NONE.len, 0);
}

static void test_equal_means_same_bytes(void **state) {
    assert_true(slice_equal(SLICE("a\0b"), SLICE("a\0b")));
    assert_false(slice_equal(SLICE("a\0b"), SLICE("a\0c")));
    assert_false(slice_equal(SLICE("ab"), SLICE("abc")));
    assert_false(slice_equal(SLICE("ab"), SLICE("AB")));
    assert_true(slice_equal(SLICE_NONE, SLICE("")));
    assert_true(slice_equal(SLICE_NONE, SLICE_NONE));
}

static void test_equal_case_ignores_the_case_of_ascii_letters_only(void **state) {
    assert_true(slice_equal_case(SLICE("Content-Length"), SLICE("cONTENT-lENGTH")));
    assert_false(slice_equal_case(SLICE("a"), SLICE("ab")));
    assert_false(slice_equal_case(SLICE("[`{"), SLICE("{@[")));
    assert_false(slice_equal_case(SLICE("\xc4"), SLICE("\xe4")));
    assert_true(slice_equal_case(SLICE_NONE, SLICE("")));
}

static void test_a_slice_starts_with_its_prefixes(void **state) {
    assert_true(slice_starts(SLICE("/mcp/x"), SLICE("/mcp")));
    assert_true(slice_starts(SLICE("/mcp"), SLICE("/mcp")));
    assert_true(slice_starts(SLICE("/mcp"), SLICE_NONE));
    assert_true(slice_starts(SLICE_NONE, SLICE_NONE));
    assert_false(slice_starts(SLICE("/mc"), SLICE("/mcp")));
    assert_false(slice_starts(SLICE("/MCP"), SLICE("/mcp")));
}

static void test_skip_gives_the_rest(void **state) {
    assert_slice(slice_skip(SLICE("abc"), 0), "abc");
    assert_slice(slice_skip(SLICE("abc"), 2), "c");
    assert_slice(slice_skip(SLICE("abc"), 3), "");
}

static void test_trim_takes_space_and_tab_only(void **state) {
    assert_slice(slice_trim(SLICE(" \t a b\t ")), "a b");
    assert_slice(slice_trim(SLICE("a")), "a");
    assert_slice(slice_trim(SLICE(" \t ")), "");
    assert_slice(slice_trim(SLICE("")), "");
    assert_slice(slice_trim(SLICE_NONE), "");
    assert_slice(slice_trim(SLICE("\r\n\va\f\n")), "\r\n\va\f\n");
}

static void test_list_elements_come_trimmed_and_in_order(void **state) {
    assert_elements("gzip, chunked", "gzip|chunked|");
    assert_elements("a", "a|");
    assert_elements(" \ta\t ,\tb c ,d", "a|b c|d|");
}

static void test_empty_list_elements_are_skipped(void **state) {
    assert_elements("", "");
    assert_elements(",", "");
    assert_elements(" , ,,\t", "");
    assert_elements(",a,,b,", "a|b|");
}

static void test_commas_inside_quoted_strings_do_not_split(void **state) {
    assert_elements("\"a,b\", c", "\"a,b\"|c|");
    assert_elements("x=\"1,2\";y, z", "x=\"1,2\";y|z|");
    assert_elements("\"a\\\",b\", c", "\"a\\\",b\"|c|");
    assert_elements("\"a\\\\\", c", "\"a\\\\\"|c|");
}

static void test_an_open_quoted_string_ends_with_the_list(void **state) {
    assert_elements("a, \"b, c", "a|\"b, c|");
    assert_elements("\"", "\"|");
    assert_elements("\"\\", "\"\\|");
}

static void test_the_element_is_written_only_when_there_is_one(void **state) {
    struct slice rest = SLICE(" , "), element = SLICE("before");

    assert_false(slice_next_element(&rest, &element));
    assert_slice(element, "before");
    rest = SLICE_NONE;
    assert_false(slice_next_element(&rest, &element));
    assert_slice(element, "before");
}

static void test_a_list_has_whole_tokens_in_any_case(void **state) {
    assert_true(slice_list_has(SLICE("keep-alive, Upgrade"), SLICE("upgrade")));
    assert_true(slice_list_has(SLICE("CLOSE"), SLICE("close")));
    assert_false(slice_list_has(SLICE("closed, not-close"), SLICE("close")));
    assert_false(slice_list_has(SLICE("\"close\""), SLICE("close")));
    assert_false(slice_list_has(SLICE_NONE, SLICE("close")));
    assert_false(slice_list_has(SLICE("a,,b"), SLICE("")));
}

static void test_what_is_written_stands_where_it_should_and_nowhere_else(void **state) {
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char to[64];

    for (size_t len = 0; len < sizeof text; len++) {
        memset(to, '#', sizeof to);
        assert_ptr_equal(slice_write(to + 1, slice_of(text, len)), to + 1 + len);
        assert_int_equal(to[0], '#');
        assert_memory_equal(to + 1, text, len);
        for (size_t i = 1 + len; i < sizeof to; i++)
            assert_int_equal(to[i], '#');
    }
    assert_ptr_equal(slice_write(to, SLICE_NONE), to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices_of_text_know_their_length),
        cmocka_unit_test(test_equal_means_same_bytes),
        cmocka_unit_test(test_equal_case_ignores_the_case_of_ascii_letters_only),
        cmocka_unit_test(test_a_slice_starts_with_its_prefixes),
        cmocka_unit_test(test_skip_gives_the_rest),
        cmocka_unit_test(test_trim_takes_space_and_tab_only),
        cmocka_unit_test(test_list_elements_come_trimmed_and_in_order),
        cmocka_unit_test(test_empty_list_elements_are_skipped),
        cmocka_unit_test(test_commas_inside_quoted_strings_do_not_split),
        cmocka_unit_test(test_an_open_quoted_string_ends_with_the_list),
        cmocka_unit_test(test_the_element_is_written_only_when_there_is_one),
        cmocka_unit_test(test_a_list_has_whole_tokens_in_any_case),
        cmocka_unit_test(test_what_is_written_stands_where_it_should_and_nowhere_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
