/* Holds libh2o's parser to what picohttp.h says of it: the fast path of h1_parse.c checks only what
 * this leaves open. */
#include "codec/picohttp.h"

#include "codec/h1_chars.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct result {
    int len, minor;
    const char *method, *target;
    size_t method_len, target_len, count;
    struct phr_header fields[4];
};

static struct result parse(const char *in, size_t len) {
    struct result r = {.count = 4};

    r.len = phr_parse_request(in, len, &r.method, &r.method_len, &r.target, &r.target_len, &r.minor,
                              r.fields, &r.count, 0);
    return r;
}

#define PARSE(text) parse(text, sizeof(text) - 1)

static void the_declarations_match(void **state) {
    static const char in[] = "GET /a HTTP/1.1\r\nHost: b \r\n\r\nrest";
    struct result r = PARSE(in);

    assert_int_equal(r.len, sizeof in - 1 - 4);
    assert_int_equal(r.minor, 1);
    assert_ptr_equal(r.method, in);
    assert_int_equal(r.method_len, 3);
    assert_ptr_equal(r.target, in + 4);
    assert_int_equal(r.target_len, 2);
    assert_int_equal(r.count, 1);
    assert_ptr_equal(r.fields[0].name, in + 17);
    assert_int_equal(r.fields[0].name_len, 4);
    assert_ptr_equal(r.fields[0].value, in + 23);
    assert_int_equal(r.fields[0].value_len, 2);
}

static void responses_and_trailers_too(void **state) {
    static const char in[] = "HTTP/1.0 404 Not here\r\nA: b\r\n\r\n";
    struct phr_header fields[4];
    const char *reason;
    int minor, status;
    size_t len, count = 4;

    assert_int_equal(
        phr_parse_response(in, sizeof in - 1, &minor, &status, &reason, &len, fields, &count, 0),
        sizeof in - 1);
    assert_int_equal(minor, 0);
    assert_int_equal(status, 404);
    assert_int_equal(len, 8);
    assert_int_equal(count, 1);
    count = 4;
    assert_int_equal(phr_parse_headers("A: b\r\n\r\n", 8, fields, &count, 0), 8);
    assert_int_equal(count, 1);
}

static void it_refuses_what_the_fast_path_does_not_check(void **state) {
    for (unsigned c = 0; c < 256; c++) {
        char name[] = "GET / HTTP/1.1\r\nAxB: c\r\n\r\n",
             value[] = "GET / HTTP/1.1\r\nA: bxc\r\n\r\n";
        char version[] = "GET / HTTP/1.x\r\n\r\n", target[] = "GET /xa HTTP/1.1\r\n\r\n";

        name[17] = value[20] = version[13] = target[5] = (char)c;
        if (c != ':' && c != '\n')
            assert_int_equal(PARSE(name).len > 0, h1_char_is((char)c, H1_CHAR_TOKEN));
        if (c != '\n')
            assert_int_equal(PARSE(value).len > 0, h1_char_is((char)c, H1_CHAR_TEXT));
        assert_int_equal(PARSE(version).len > 0, c >= '0' && c <= '9');
        assert_int_equal(PARSE(target).len > 0,
                         c != ' ' && h1_char_is((char)c, H1_CHAR_TEXT) && c != '\t');
    }
    assert_int_equal(PARSE("GET / HTTP/1.1\r\nA : b\r\n\r\n").len, -1);
    assert_int_equal(PARSE("GET / HTTP/1.1\r\n: b\r\n\r\n").len, -1);
    assert_int_equal(PARSE("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n").len, -1);
}

static void it_lets_through_what_the_fast_path_checks(void **state) {
    struct result r = PARSE("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n");

    assert_true(r.len > 0);
    assert_null(r.fields[1].name);
    assert_true(PARSE("GET / HTTP/1.1\nA: b\n\n").len > 0);
    assert_true(PARSE("\nGET / HTTP/1.1\r\n\r\n").len > 0);
    assert_true(PARSE(" / HTTP/1.1\r\n\r\n").len > 0);
    assert_true(PARSE("G(T /#\x80 HTTP/1.1\r\n\r\n").len > 0);
}

/* The words of RFC 9110 and RFC 3986, against the table. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_declarations_match),
        cmocka_unit_test(responses_and_trailers_too),
        cmocka_unit_test(it_refuses_what_the_fast_path_does_not_check),
        cmocka_unit_test(it_lets_through_what_the_fast_path_checks),
        cmocka_unit_test(the_table_of_characters_is_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
