/* Lines of bounded length, however the bytes are cut up. */
#include "mcp/lines.h"
#include "support/unit.h"

#define LINE_MAX_BYTES 16

static void lines_come_out_as_they_were_said(void **state) {
    static const char text[] = "one\n\ntwo 34567890123\nlast";

    for (size_t step = 1; step < sizeof text; step++) {
        struct lines lines = {.max = LINE_MAX_BYTES};
        const char *const wanted[] = {"one", "", "two 34567890123"};
        size_t found = 0;
        struct lines_item line;

        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t left = sizeof text - 1 - at;
            struct slice in = slice_of(text + at, left < step ? left : step);

            while (lines_next(&lines, &in, &line)) {
                assert_false(line.is_lost);
                assert_true(found < 3 && slice_equal(line.text, slice_str(wanted[found])));
                found++;
            }
            assert_int_equal(in.len, 0);
        }
        assert_int_equal(found, 3);
        assert_true(slice_equal(buffer_slice(&lines.held), SLICE("last")));
        lines_deinit(&lines);
    }
}

static void one_that_is_too_long_is_let_go_but_for_its_id(void **state) {
    static const char text[] =
        "{\"result\":{\"id\":5,\"a\\\"id\":6},\"x\":\"id\",\"id\": 123 ,\"y\":7}\n"
        "{\"id\":8}\n";

    for (size_t step = 1; step < sizeof text; step++) {
        struct lines lines = {.max = LINE_MAX_BYTES};
        struct lines_item line;
        size_t found = 0;

        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t left = sizeof text - 1 - at;
            struct slice in = slice_of(text + at, left < step ? left : step);

            while (lines_next(&lines, &in, &line)) {
                if (found++ > 0) {
                    assert_true(slice_equal(line.text, SLICE("{\"id\":8}")));
                    continue;
                }
                assert_true(line.is_lost && line.has_id);
                assert_int_equal(line.id, 123);
                assert_int_equal(line.bytes, strchr(text, '\n') - text);
            }
            assert_true(lines.held.len <= LINE_MAX_BYTES);
        }
        assert_int_equal(found, 2);
        lines_deinit(&lines);
    }
}

static void the_longest_line_fits(void **state) {
    struct lines lines = {.max = 4};
    struct slice in = SLICE("1234\n12345\n");
    struct lines_item line;

    assert_true(lines_next(&lines, &in, &line) && !line.is_lost);
    assert_true(lines_next(&lines, &in, &line) && line.is_lost && !line.has_id);
    lines_deinit(&lines);
}

static void ids_that_are_not_numbers_are_not_taken(void **state) {
    static const char *const texts[] = {"{\"id\":\"7\"}", "{\"id\":null,\"x\":7}", "[\"id\",7]",
                                        "{\"idx\":7}", "{\"x\":{\"id\":7}}"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct id_finder finder = {0};

        id_finder_see(&finder, slice_str(texts[i]));
        assert_false(finder.is_found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_as_they_were_said),
        cmocka_unit_test(one_that_is_too_long_is_let_go_but_for_its_id),
        cmocka_unit_test(the_longest_line_fits),
        cmocka_unit_test(ids_that_are_not_numbers_are_not_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
