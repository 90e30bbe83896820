/* Tests proxy/base/list.h. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct item {
    char name;
    struct list link;
};

/* The names from @head onwards, and back again as a check of the other direction. */
static void assert_order(const struct list *head, const char *expected) {
    const struct list *at = head->next;
    size_t len = strlen(expected);

    for (size_t i = 0; i < len; i++, at = at->next) {
        assert_ptr_not_equal(at, head);
        assert_int_equal(CONTAINER_OF(at, struct item, link)->name, expected[i]);
        assert_ptr_equal(at->next->prev, at);
    }
    assert_ptr_equal(at, head);
    assert_ptr_equal(head->next->prev, head);
}

static void test_a_new_list_is_empty(void **state) {
    struct list head;

    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_pop(&head));
    assert_order(&head, "");
}

static void test_pushes_keep_order_at_both_ends(void **state) {
    struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};
    struct list head;

    list_init(&head);
    list_push_back(&head, &b.link);
    list_push_back(&head, &d.link);
    list_push_front(&head, &a.link);
    list_insert_before(&d.link, &c.link);
    assert_order(&head, "abcd");
    assert_false(list_is_empty(&head));
}

static void test_pop_takes_from_the_front_until_empty(void **state) {
    struct item a = {.name = 'a'}, b = {.name = 'b'};
    struct list head;

    list_init(&head);
    list_push_back(&head, &a.link);
    list_push_back(&head, &b.link);
    assert_ptr_equal(list_pop(&head), &a.link);
    assert_false(list_is_linked(&a.link));
    assert_ptr_equal(list_pop(&head), &b.link);
    assert_null(list_pop(&head));
    assert_true(list_is_empty(&head));
}

static void test_removing_twice_is_harmless(void **state) {
    struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};
    struct list head;

    list_init(&head);
    list_push_back(&head, &a.link);
    list_push_back(&head, &b.link);
    list_push_back(&head, &c.link);
    assert_true(list_is_linked(&b.link));
    list_remove(&b.link);
    assert_false(list_is_linked(&b.link));
    list_remove(&b.link);
    assert_order(&head, "ac");
}

static void test_a_link_can_move_between_lists(void **state) {
    struct item a = {.name = 'a'}, b = {.name = 'b'};
    struct list idle, busy;

    list_init(&idle);
    list_init(&busy);
    list_push_back(&idle, &a.link);
    list_push_back(&idle, &b.link);
    list_remove(&a.link);
    list_push_back(&busy, &a.link);
    assert_order(&idle, "b");
    assert_order(&busy, "a");
}

static void test_splice_moves_everything_to_the_end_in_order(void **state) {
    struct item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};
    struct list to, from;

    list_init(&to);
    list_init(&from);
    list_push_back(&to, &a.link);
    list_push_back(&to, &b.link);
    list_push_back(&from, &c.link);
    list_push_back(&from, &d.link);
    list_splice(&to, &from);
    assert_order(&to, "abcd");
    assert_order(&from, "");
    list_splice(&to, &from);
    assert_order(&to, "abcd");
    list_splice(&from, &to);
    assert_order(&from, "abcd");
    assert_order(&to, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_list_is_empty),
        cmocka_unit_test(test_pushes_keep_order_at_both_ends),
        cmocka_unit_test(test_pop_takes_from_the_front_until_empty),
        cmocka_unit_test(test_removing_twice_is_harmless),
        cmocka_unit_test(test_a_link_can_move_between_lists),
        cmocka_unit_test(test_splice_moves_everything_to_the_end_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
