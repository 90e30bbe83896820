/* The table of h1_chars.c against the words of RFC 9110 and RFC 3986, and the loop over it. */
#include "codec/h1_chars.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void the_table_of_characters_is_right(void **state) {
    for (unsigned c = 0; c < 256; c++) {
        bool is_digit = c >= '0' && c <= '9',
             is_alpha = (c | 32) >= 'a' && (c | 32) <= 'z' && c < 128;
        bool is_visible = c > 32 && c < 127, is_hex = is_digit || (is_alpha && (c | 32) <= 'f');

        assert_int_equal(h1_char_is((char)c, H1_CHAR_DIGIT), is_digit);
        assert_int_equal(h1_char_is((char)c, H1_CHAR_HEX), is_hex);
        assert_int_equal(h1_char_is((char)c, H1_CHAR_TEXT),
                         is_visible || c > 127 || c == ' ' || c == '\t');
        assert_int_equal(h1_char_is((char)c, H1_CHAR_TARGET), is_visible && c != '#');
        assert_int_equal(h1_char_is((char)c, H1_CHAR_TOKEN),
                         is_alpha || is_digit || (c && strchr("!#$%&'*+-.^_`|~", (int)c)));
        assert_int_equal(h1_char_is((char)c, H1_CHAR_HOST),
                         is_alpha || is_digit || (c && strchr("-._~!$&'()*+,;=", (int)c)));
    }
}

static void the_first_stranger_is_found_wherever_it_is(void **state) {
    char text[40];

    for (size_t len = 0; len <= sizeof text; len++)
        for (size_t at = 0; at <= len; at++) {
            memset(text, 'a', sizeof text);
            if (at < sizeof text)
                text[at] = ' ';
            assert_ptr_equal(h1_chars_skip(text, text + len, H1_CHAR_TOKEN), text + at);
            assert_int_equal(h1_chars_are(slice_of(text, len), H1_CHAR_TOKEN), at == len);
        }
    assert_true(h1_chars_are(SLICE_NONE, H1_CHAR_TOKEN));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_characters_is_right),
        cmocka_unit_test(the_first_stranger_is_found_wherever_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
