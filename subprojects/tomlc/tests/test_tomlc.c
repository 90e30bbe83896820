/* The C view of TOML: kinds, positions, order, limits, and errors for everything that is not TOML.
 */
#include "tomlc.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct tomlc_node *parse(const char *text) {
    struct tomlc_error error = {0};
    const struct tomlc_node *root = NULL;

    if (tomlc_parse(&root, text, strlen(text), &error))
        fail_msg("%u:%u: %s", error.at.line, error.at.column, error.text);
    return root;
}

static void expect_error_in(const char *text, size_t len, const char *expected) {
    struct tomlc_error error = {0};
    const struct tomlc_node *root = NULL;
    char actual[300];

    assert_int_equal(tomlc_parse(&root, text, len, &error), -EINVAL);
    assert_null(root);
    snprintf(actual, sizeof actual, "%u:%u: %s", error.at.line, error.at.column, error.text);
    assert_string_equal(actual, expected);
}

static void expect_error(const char *text, const char *expected) {
    expect_error_in(text, strlen(text), expected);
}

static void expect_position(struct tomlc_position at, unsigned line, unsigned column) {
    assert_int_equal(at.line, line);
    assert_int_equal(at.column, column);
}

static void every_kind_arrives(void **state) {
    const struct tomlc_node *root =
        parse("t = {}\na = []\ns = 'x'\ni = -7\nf = 1.5\nb = true\nd = 2020-01-02\n"
              "m = 03:04:05\ndt = 2020-01-02T03:04:05Z\n");
    static const enum tomlc_kind kinds[] = {TOMLC_TABLE,   TOMLC_ARRAY, TOMLC_STRING,
                                            TOMLC_INTEGER, TOMLC_FLOAT, TOMLC_BOOLEAN,
                                            TOMLC_DATE,    TOMLC_TIME,  TOMLC_DATE_TIME};

    assert_int_equal(root->kind, TOMLC_TABLE);
    assert_int_equal(root->len, 9);
    for (size_t i = 0; i < root->len; i++)
        assert_int_equal(root->children[i].kind, kinds[i]);
    assert_string_equal(tomlc_find(root, "s")->string, "x");
    assert_int_equal(tomlc_find(root, "i")->integer, -7);
    assert_true(tomlc_find(root, "f")->floating == 1.5);
    assert_true(tomlc_find(root, "b")->boolean);
    assert_string_equal(tomlc_kind_name(TOMLC_DATE_TIME), "date-time");
    tomlc_free(root);
}

static void keys_and_values_know_their_place(void **state) {
    const struct tomlc_node *root =
        parse("z = 1\n[[l]]\n  n = 'é'  \n[[l]]\n[b.c]\nd.e = [ 2,\n 3]");
    const struct tomlc_node *l = tomlc_find(root, "l");
    const struct tomlc_node *n = tomlc_find(&l->children[0], "n");
    const struct tomlc_node *c = tomlc_find(tomlc_find(root, "b"), "c");
    const struct tomlc_node *e = tomlc_find(tomlc_find(c, "d"), "e");

    expect_position(root->at, 1, 1);
    expect_position(root->key_at, 0, 0);
    expect_position(l->key_at, 2, 3);
    expect_position(l->children[0].at, 2, 1);
    expect_position(l->children[1].at, 4, 1);
    assert_null(l->children[1].key);
    expect_position(n->key_at, 3, 3);
    expect_position(n->at, 3, 7);
    expect_position(c->key_at, 5, 4);
    expect_position(e->key_at, 6, 3);
    expect_position(e->children[1].at, 7, 2);
    tomlc_free(root);
}

static void tables_keep_the_order_of_the_file(void **state) {
    const struct tomlc_node *root = parse("zebra = 1\napple = 2\n[mango]\n[[kiwi]]\n");

    assert_int_equal(root->len, 4);
    assert_string_equal(root->children[0].key, "zebra");
    assert_string_equal(root->children[1].key, "apple");
    assert_string_equal(root->children[2].key, "mango");
    assert_string_equal(root->children[3].key, "kiwi");
    tomlc_free(root);
}

static void strings_keep_escaped_nuls(void **state) {
    const struct tomlc_node *root = parse("\"k\\u0000\" = \"a\\u0000b\"");

    assert_int_equal(root->children[0].key_len, 2);
    assert_int_equal(root->children[0].len, 3);
    assert_memory_equal(root->children[0].string, "a\0b", 4);
    assert_null(tomlc_find(root, "k"));
    tomlc_free(root);
}

static void floats_may_be_odd(void **state) {
    const struct tomlc_node *root = parse("a = nan\nb = -inf");

    assert_true(isnan(root->children[0].floating));
    assert_true(isinf(root->children[1].floating));
    tomlc_free(root);
}

static void nothing_is_an_empty_table(void **state) {
    static const char *const texts[] = {"", "\n", "# only words", "\xEF\xBB\xBF"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const struct tomlc_node *root = parse(texts[i]);

        assert_int_equal(root->len, 0);
        assert_null(tomlc_find(root, "a"));
        tomlc_free(root);
    }
    tomlc_free(NULL);
}

static void a_repeated_key_is_said_at_the_key(void **state) {
    expect_error("a = 1\n  a   =   2", "2:3: duplicate key 'a': it is set above, as integer");
    expect_error("b = { a = 1, a = 2 }", "1:14: duplicate key 'a': it is set above, as integer");
    expect_error("['é']\n['é']", "2:1: duplicate table: it is defined above");
    expect_error("'a=' = 1\n'a=' = 1", "2:1: duplicate key: it is set above, as integer");
    expect_error("[a]\n[a]", "2:1: duplicate table 'a': it is defined above");
    expect_error("a = 1\na.b = 2", "2:1: cannot add to what is set above: existing integer as "
                                   "dotted key-value pair");
}

static void broken_text_is_said_where_it_breaks(void **state) {
    expect_error("a = lots", "1:5: this is no value; a string needs quotes");
    expect_error("a = \"x", "1:7: the text ends in the middle of: string");
    expect_error("a = 1 b = 2", "1:7: expected a comment or whitespace, saw 'b' (key-value pair)");
    expect_error("a = 99999999999999999999",
                 "1:25: '99999999999999999999' is not representable in 64 bits (decimal integer)");
    expect_error("a = two", "1:6: this is no value; a string needs quotes");
    expect_error("'\t' = {}\n['\t'.a]", "2:8: cannot insert ''\\x09'\\x09'.a' into existing "
                                        "inline table (table header)");
    expect_error("[[a]]\n[a]", "2:1: cannot redefine existing array 'a' as table (table header)");
}

static void what_toml_does_not_allow_in_bytes_is_refused(void **state) {
    expect_error("a = 'x'\nb = '\xC3'", "2:6: a byte that is not UTF-8");
    expect_error("a = '\xED\xA0\x80'", "1:6: a byte that is not UTF-8"); /* a surrogate */
    expect_error("a = '\xC0\xAF'", "1:6: a byte that is not UTF-8");     /* overlong */
    expect_error("a = '\xF4\x90\x80\x80'", "1:6: a byte that is not UTF-8");
    expect_error("# \xE2\x82", "1:3: a byte that is not UTF-8");
    expect_error_in("a = 1\n\0", 7, "2:1: a NUL byte");
    expect_error_in("# \0", 3, "1:3: a NUL byte");
}

/* Each of these runs into an assertion or undefined behaviour of toml++ 3.3. */
static void what_the_parser_trips_over_is_refused(void **state) {
    expect_error("[\xC3\xA9]", "1:1: this line is not TOML");
    expect_error("a = 1\n[&", "2:1: this line is not TOML");
    expect_error("a = 1\nb = 1979-05-27T:3072:00Z\nc = 1\n", "2:1: this line is not TOML");
    expect_error("a = \xC3\xA9", "1:5: this is no value; a string needs quotes");
    expect_error("a = 0\"\xC3\xA9\"", "1:6: expected digit, saw '\"' (decimal integer)");
}

static void a_joined_line_may_start_with_any_character(void **state) {
    const struct tomlc_node *root = parse("a = \"\"\"\\\n  \xC2\xA7\"\"\"");

    assert_string_equal(root->children[0].string, "\xC2\xA7");
    tomlc_free(root);
}

static void strings_hide_what_they_hold(void **state) {
    tomlc_free(parse("a = \"\\\"[é\"\nb = '[&'\nc = \"\"\"[&\n[é \"\" \\\\ \"\"\"\"\"\n"
                     "d = '''\n[é ''' # [é\n[e]\nf = [[\n[1], ['é']]]\ng = [\n[-1]]"));
}

static void depth_has_limits(void **state) {
    char text[400] = "a=";

    memset(text + 2, '[', TOMLC_NESTING_MAX + 1);
    expect_error(text, "1:35: arrays and tables nested deeper than 32 levels");
    text[1 + TOMLC_NESTING_MAX] = '\0';
    strcat(text, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
    tomlc_free(parse(text));

    memset(text, 0, sizeof text);
    for (size_t i = 0; i < TOMLC_KEY_PARTS_MAX; i++)
        strcat(text, i ? "." : "[x.");
    expect_error(text, "1:34: a key of more than 32 parts");
    strcpy(text, "x");
    for (size_t i = 1; i < TOMLC_KEY_PARTS_MAX; i++)
        strcat(text, " . 'y.y'");
    strcat(text, "=[1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5]");
    tomlc_free(parse(text));
}

static void size_has_a_limit(void **state) {
    char *text = malloc(TOMLC_SIZE_MAX + 1);
    struct tomlc_error error;
    const struct tomlc_node *root = NULL;

    memset(text, '\n', TOMLC_SIZE_MAX + 1);
    assert_int_equal(tomlc_parse(&root, text, TOMLC_SIZE_MAX, &error), 0);
    tomlc_free(root);
    expect_error_in(text, TOMLC_SIZE_MAX + 1, "1:1: more than 1 MiB of text");
    free(text);
}

/* toml++ cuts its messages at 512 bytes, wherever that is. */
static void long_names_are_cut_between_characters(void **state) {
    char name[800] = "";
    char text[2000];
    struct tomlc_error error = {0};
    const struct tomlc_node *root = NULL;
    size_t len;

    for (int i = 0; i < 250; i++)
        strcat(name, "\xE2\x82\xAC");
    snprintf(text, sizeof text, "'%s' = {}\n['%s'.a]\n", name, name);
    assert_int_equal(tomlc_parse(&root, text, strlen(text), &error), -EINVAL);
    len = strlen(error.text);
    assert_in_range(len, sizeof error.text - 4, sizeof error.text - 1);
    assert_memory_equal(error.text + len - 3, "\xE2\x82\xAC", 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_arrives),
        cmocka_unit_test(keys_and_values_know_their_place),
        cmocka_unit_test(tables_keep_the_order_of_the_file),
        cmocka_unit_test(strings_keep_escaped_nuls),
        cmocka_unit_test(floats_may_be_odd),
        cmocka_unit_test(nothing_is_an_empty_table),
        cmocka_unit_test(a_repeated_key_is_said_at_the_key),
        cmocka_unit_test(broken_text_is_said_where_it_breaks),
        cmocka_unit_test(what_toml_does_not_allow_in_bytes_is_refused),
        cmocka_unit_test(what_the_parser_trips_over_is_refused),
        cmocka_unit_test(a_joined_line_may_start_with_any_character),
        cmocka_unit_test(strings_hide_what_they_hold),
        cmocka_unit_test(depth_has_limits),
        cmocka_unit_test(size_has_a_limit),
        cmocka_unit_test(long_names_are_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
