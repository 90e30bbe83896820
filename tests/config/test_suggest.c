/* Did you mean. */
#include "config/suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect(const char *word, const char *expected) {
    static const char *const known[] = {"threads", "drain", "resolver", "resolve_interval", "warn"};
    struct suggest suggest = {.word = slice_str(word)};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        suggest_offer(&suggest, slice_str(known[i]));
    assert_true(slice_equal(suggest.best, slice_str(expected)));
}

static void a_slip_of_the_finger_is_recognised(void **state) {
    expect("thread", "threads");   /* one dropped */
    expect("threadss", "threads"); /* one more */
    expect("trheads", "threads");  /* two swapped */
    expect("draim", "drain");      /* one wrong */
    expect("DRAIN", "drain");
    expect("resolver_interval", "resolve_interval");
    expect("warning", "warn");
}

static void what_is_far_is_not_suggested(void **state) {
    expect("banana", NULL);
    expect("x", NULL);
    expect("", NULL);
    expect("a_name_that_is_longer_than_any_that_could_be_compared_with_another_name", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_of_the_finger_is_recognised),
        cmocka_unit_test(what_is_far_is_not_suggested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
