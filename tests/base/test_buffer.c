/* Tests proxy/base/buffer.c. */
#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_text(const struct buffer *b, const char *expected) {
    assert_int_equal(b->len, strlen(expected));
    if (b->len > 0)
        assert_memory_equal(b->base, expected, b->len);
}

static void assert_json(struct slice s, const char *expected) {
    struct buffer b = {0};

    buffer_append_json(&b, s);
    assert_text(&b, expected);
    buffer_deinit(&b);
}

static void assert_digits(uint64_t n, const char *expected) {
    char text[20];
    size_t len = uint_to_text(text, n);

    assert_int_equal(len, strlen(expected));
    assert_memory_equal(text, expected, len);
}

static void test_an_empty_buffer_owns_nothing(void **state) {
    struct buffer b = {0};

    buffer_append(&b, SLICE_NONE);
    assert_null(b.base);
    assert_int_equal(buffer_slice(&b).len, 0);
    buffer_deinit(&b);
    buffer_deinit(&b);
}

static void test_what_is_appended_follows_what_was_there(void **state) {
    struct buffer b = {0};

    buffer_append(&b, SLICE("len="));
    buffer_append_uint(&b, 42);
    buffer_append_char(&b, ';');
    buffer_printf(&b, "%s=%03d", "n", 7);
    buffer_append(&b, SLICE(""));
    assert_text(&b, "len=42;n=007");
    buffer_deinit(&b);
    assert_null(b.base);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, 0);
}

static void test_growth_keeps_every_byte(void **state) {
    struct buffer b = {0};

    for (int i = 0; i < 100 * 1000; i++)
        buffer_append_char(&b, (char)i);
    assert_int_equal(b.len, 100 * 1000);
    assert_true(b.cap >= b.len && b.cap < 4 * b.len);
    for (int i = 0; i < 100 * 1000; i++)
        assert_int_equal(b.base[i], (char)i);
    buffer_deinit(&b);
}

static void test_reserve_leaves_length_alone_and_gives_room_at_the_end(void **state) {
    struct buffer b = {0};
    char *room;

    buffer_append(&b, SLICE("ab"));
    room = buffer_reserve(&b, 10000);
    assert_ptr_equal(room, b.base + 2);
    assert_int_equal(b.len, 2);
    memset(room, 'x', 10000);
    b.len += 10000;
    assert_true(b.cap >= b.len);
    assert_ptr_equal(buffer_reserve(&b, 0), b.base + b.len);
    buffer_deinit(&b);
}

static void test_printed_text_may_be_longer_than_the_buffer(void **state) {
    struct buffer b = {0};

    buffer_append_char(&b, '[');
    buffer_printf(&b, "%*d", 5000, 7);
    buffer_append_char(&b, ']');
    assert_int_equal(b.len, 5002);
    assert_memory_equal(b.base + 4999, " 7]", 3);
    buffer_deinit(&b);
}

static void test_numbers_are_decimal_over_their_whole_range(void **state) {
    assert_digits(0, "0");
    assert_digits(9, "9");
    assert_digits(10, "10");
    assert_digits(1000, "1000");
    assert_digits(UINT32_MAX, "4294967295");
    assert_digits(UINT64_MAX, "18446744073709551615");
}

static void test_json_quotes_what_must_be_quoted(void **state) {
    assert_json(SLICE_NONE, "\"\"");
    assert_json(SLICE("plain text /"), "\"plain text /\"");
    assert_json(SLICE("a\"b\\c"), "\"a\\\"b\\\\c\"");
    assert_json(SLICE("\0\n\x1f\x7f"), "\"\\u0000\\u000a\\u001f\\u007f\"");
}

/* Words are looked at whole: a byte that must be quoted is found in every place of any length. */
static void test_json_finds_what_must_be_quoted_everywhere(void **state) {
    for (size_t len = 1; len <= 40; len++) {
        for (size_t at = 0; at < len; at++) {
            char text[40], expected[50];
            size_t made = 0;

            memset(text, '~', sizeof text);
            text[at] = len % 2 ? '"' : '\\';
            expected[made++] = '"';
            for (size_t i = 0; i < len; i++) {
                if (i == at)
                    expected[made++] = '\\';
                expected[made++] = text[i];
            }
            expected[made++] = '"';
            expected[made] = '\0';
            assert_json(slice_of(text, len), expected);
        }
    }
}

static void test_json_keeps_well_formed_utf8(void **state) {
    assert_json(SLICE("\xc2\x80"), "\"\xc2\x80\"");
    assert_json(SLICE("\xdf\xbf"), "\"\xdf\xbf\"");
    assert_json(SLICE("\xe0\xa0\x80"), "\"\xe0\xa0\x80\"");
    assert_json(SLICE("\xed\x9f\xbf"), "\"\xed\x9f\xbf\"");
    assert_json(SLICE("\xee\x80\x80"), "\"\xee\x80\x80\"");
    assert_json(SLICE("\xf0\x90\x80\x80"), "\"\xf0\x90\x80\x80\"");
    assert_json(SLICE("\xf4\x8f\xbf\xbf"), "\"\xf4\x8f\xbf\xbf\"");
}

static void test_json_replaces_each_byte_that_is_no_utf8(void **state) {
    assert_json(SLICE("\x80"), "\"\\ufffd\"");
    assert_json(SLICE("\xff"), "\"\\ufffd\"");
    assert_json(SLICE("\xc1\xbf"), "\"\\ufffd\\ufffd\"");                       /* overlong */
    assert_json(SLICE("\xe0\x9f\xbf"), "\"\\ufffd\\ufffd\\ufffd\"");            /* overlong */
    assert_json(SLICE("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");            /* surrogate */
    assert_json(SLICE("\xf0\x8f\xbf\xbf"), "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); /* overlong */
    assert_json(SLICE("\xf4\x90\x80\x80"), "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); /* too high */
    assert_json(SLICE("\xc3\"x"), "\"\\ufffd\\\"x\"");                          /* cut short */
    assert_json(SLICE("\xe2\x82\xff"), "\"\\ufffd\\ufffd\\ufffd\"");            /* bad third */
}

static void test_json_never_reads_past_a_cut_sequence(void **state) {
    const char *cut[] = {"\xc3", "\xe2\x82", "\xf0\x9f\x98"};

    for (size_t i = 0; i < 3; i++) {
        size_t len = i + 1;
        char *exact = malloc(len); /* so that the address sanitizer sees one byte too many */
        struct buffer b = {0};

        memcpy(exact, cut[i], len);
        buffer_append_json(&b, slice_of(exact, len));
        assert_int_equal(b.len, 2 + 6 * len);
        free(exact);
        buffer_deinit(&b);
    }
}

static void test_each_byte_is_quoted_wherever_it_stands(void **state) {
    for (unsigned at = 0; at < 20; at++) {
        for (unsigned c = 0; c < 256; c++) {
            char text[20], expected[64], one[8] = {(char)c};

            memset(text, 'a', sizeof text);
            text[at] = (char)c;
            if (c == '"' || c == '\\')
                snprintf(one, sizeof one, "\\%c", (int)c);
            else if (c < ' ' || c == 0x7f)
                snprintf(one, sizeof one, "\\u%04x", c);
            else if (c >= 0x80)
                snprintf(one, sizeof one, "\\ufffd");
            snprintf(expected, sizeof expected, "\"%.*s%s%.*s\"", (int)at, text, one,
                     (int)(19 - at), text + at + 1);
            assert_json(slice_of(text, sizeof text), expected);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_buffer_owns_nothing),
        cmocka_unit_test(test_what_is_appended_follows_what_was_there),
        cmocka_unit_test(test_growth_keeps_every_byte),
        cmocka_unit_test(test_reserve_leaves_length_alone_and_gives_room_at_the_end),
        cmocka_unit_test(test_printed_text_may_be_longer_than_the_buffer),
        cmocka_unit_test(test_numbers_are_decimal_over_their_whole_range),
        cmocka_unit_test(test_json_quotes_what_must_be_quoted),
        cmocka_unit_test(test_json_finds_what_must_be_quoted_everywhere),
        cmocka_unit_test(test_json_keeps_well_formed_utf8),
        cmocka_unit_test(test_json_replaces_each_byte_that_is_no_utf8),
        cmocka_unit_test(test_json_never_reads_past_a_cut_sequence),
        cmocka_unit_test(test_each_byte_is_quoted_wherever_it_stands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
