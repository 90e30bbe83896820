/* What field.h promises. */
#include "exchange/field.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static char memory[256];
static struct arena arena;

static int set_up(void **state) {
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int tear_down(void **state) {
    arena_deinit(&arena);
    return 0;
}

static void add(struct fields *fields, const char *name, const char *value) {
    fields_add(fields, &arena, field_id_of(slice_str(name)), slice_str(name), slice_str(value));
}

static void room_that_was_made_is_used(void **state) {
    struct fields fields = {0};
    struct field *list;

    add(&fields, "te", "1");
    fields_reserve(&fields, &arena, 12);
    list = fields.list;
    assert_int_equal(list[0].id, FIELD_TE);
    while (fields.count < 12)
        add(&fields, "te", "1");
    assert_ptr_equal(fields.list, list);
    fields_reserve(&fields, &arena, 3);
    assert_ptr_equal(fields.list, list);
    add(&fields, "te", "1");
    assert_int_equal(fields.count, 13);
}

static void every_known_name_is_found_in_any_case(void **state) {
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_IDS; id++) {
        struct slice name = field_name((enum field_id)id);
        char upper[32], mixed[32];

        for (size_t i = 0; i < name.len; i++) {
            upper[i] = (char)toupper(name.base[i]);
            mixed[i] = i % 2 ? upper[i] : name.base[i];
        }
        assert_int_equal(field_id_of(name), id);
        assert_int_equal(field_id_of(slice_of(upper, name.len)), id);
        assert_int_equal(field_id_of(slice_of(mixed, name.len)), id);
    }
}

static void a_name_that_differs_in_one_letter_is_not(void **state) {
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_IDS; id++) {
        struct slice name = field_name((enum field_id)id);
        char other[32];

        for (size_t i = 0; i < name.len; i++) {
            memcpy(other, name.base, name.len);
            other[i] = '~';
            assert_int_equal(field_id_of(slice_of(other, name.len)), FIELD_OTHER);
        }
        memcpy(other, name.base, name.len);
        other[name.len] = 'x';
        assert_int_equal(field_id_of(slice_of(other, name.len + 1)), FIELD_OTHER);
    }
    assert_int_equal(field_id_of(SLICE("")), FIELD_OTHER);
    assert_int_equal(field_id_of(SLICE("a-name-that-is-longer-than-all-of-them")), FIELD_OTHER);
}

static void fields_keep_their_order_while_they_grow(void **state) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    struct fields fields = {0};

    for (size_t i = 0; i < sizeof digits - 1; i++)
        fields_add(&fields, &arena, FIELD_OTHER, slice_of(digits + i, 1), SLICE(""));
    assert_int_equal(fields.count, sizeof digits - 1);
    for (size_t i = 0; i < sizeof digits - 1; i++)
        assert_int_equal(fields.list[i].name.base[0], digits[i]);
}

static void fields_are_found_by_id_and_by_name(void **state) {
    struct fields fields = {0};

    assert_null(fields_find(&fields, FIELD_VIA));
    assert_null(fields_find_name(&fields, SLICE("x")));
    add(&fields, "Via", "1");
    add(&fields, "X", "2");
    add(&fields, "VIA", "3");
    add(&fields, "y", "4");
    add(&fields, "x", "5");
    assert_ptr_equal(fields_find(&fields, FIELD_VIA), &fields.list[0]);
    assert_ptr_equal(fields_find_next(&fields, &fields.list[0]), &fields.list[2]);
    assert_null(fields_find_next(&fields, &fields.list[2]));
    assert_ptr_equal(fields_find_name(&fields, SLICE("via")), &fields.list[0]);
    assert_ptr_equal(fields_find_name(&fields, SLICE("x")), &fields.list[1]);
    assert_ptr_equal(fields_find_next(&fields, &fields.list[1]), &fields.list[4]);
    assert_null(fields_find_name(&fields, SLICE("z")));
}

static void several_lines_are_one_list(void **state) {
    struct fields fields = {0};

    add(&fields, "Connection", "a, Close");
    add(&fields, "Connection", "upgrade");
    assert_true(fields_list_has(&fields, FIELD_CONNECTION, SLICE("close")));
    assert_true(fields_list_has(&fields, FIELD_CONNECTION, SLICE("Upgrade")));
    assert_false(fields_list_has(&fields, FIELD_CONNECTION, SLICE("up")));
    assert_false(fields_list_has(&fields, FIELD_TE, SLICE("close")));
}

static void what_is_not_there_is_known_without_looking(void **state) {
    struct fields fields = {0};

    assert_false(fields_may_have(&fields, ~UINT64_C(0)));
    add(&fields, "x", "1");
    assert_true(fields_may_have(&fields, FIELD_BIT(FIELD_OTHER)));
    fields_add_known(&fields, &arena, FIELD_VIA, SLICE("1.1 a"));
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_IDS; id++) {
        assert_int_equal(fields_may_have(&fields, FIELD_BIT(id)), id == FIELD_VIA);
        assert_int_equal(fields_find(&fields, id) != NULL, id == FIELD_VIA);
    }
    assert_true(fields_may_have(&fields, FIELD_BIT(FIELD_VIA) | FIELD_BIT(FIELD_TE)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(room_that_was_made_is_used, set_up, tear_down),
        cmocka_unit_test(every_known_name_is_found_in_any_case),
        cmocka_unit_test(a_name_that_differs_in_one_letter_is_not),
        cmocka_unit_test_setup_teardown(fields_keep_their_order_while_they_grow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fields_are_found_by_id_and_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_lines_are_one_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_known_without_looking, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
