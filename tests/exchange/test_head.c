/* What head.h promises of methods. */
#include "exchange/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *text;
    enum method method;
    bool is_idempotent;
} rows[] = {
    {"GET", METHOD_GET, true},         {"HEAD", METHOD_HEAD, true},
    {"POST", METHOD_POST, false},      {"PUT", METHOD_PUT, true},
    {"DELETE", METHOD_DELETE, true},   {"CONNECT", METHOD_CONNECT, false},
    {"OPTIONS", METHOD_OPTIONS, true}, {"TRACE", METHOD_TRACE, true},
    {"PATCH", METHOD_PATCH, false},    {"get", METHOD_OTHER, false},
    {"GE", METHOD_OTHER, false},       {"GETS", METHOD_OTHER, false},
    {"", METHOD_OTHER, false},         {"PROPFIND", METHOD_OTHER, false},
};

static void methods_are_recognised_by_exact_case(void **state) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(method_of(slice_str(rows[i].text)), rows[i].method);
}

static void only_methods_known_to_be_idempotent_are(void **state) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(method_is_idempotent(rows[i].method), rows[i].is_idempotent);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_recognised_by_exact_case),
        cmocka_unit_test(only_methods_known_to_be_idempotent_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
