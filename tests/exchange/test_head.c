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

static struct request_head head_with(struct field *line, const char *type) {
    struct request_head head = {.method = METHOD_POST, .version = HTTP_1_1};

    *line = (struct field){field_name(FIELD_CONTENT_TYPE), slice_str(type), FIELD_CONTENT_TYPE};
    head.fields = (struct fields){.list = line, .count = 1, .ids = FIELD_BIT(FIELD_CONTENT_TYPE)};
    return head;
}

static void grpc_calls_are_told_by_their_media_type(void **state) {
    static const struct {
        const char *type;
        bool is_grpc, is_web;
    } cases[] = {
        {"application/grpc", true, false},
        {"Application/GRPC+proto", true, false},
        {"application/grpc ; a=b", true, false},
        {"application/grpc-web", false, true},
        {"application/grpc-web+proto", false, true},
        {"application/grpc-web-text", false, true},
        {"application/grpc-web-text+proto;a=b", false, true},
        {"application/grpc-webs", false, false},
        {"application/grpcs", false, false},
        {"application/json", false, false},
        {"", false, false},
    };
    struct request_head none = {.method = METHOD_POST, .version = HTTP_2};

    assert_false(request_is_grpc(&none) || request_is_grpc_web(&none));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct field line;
        struct request_head head = head_with(&line, cases[i].type);

        assert_false(request_is_grpc(&head));
        assert_int_equal(request_is_grpc_web(&head), cases[i].is_web);
        head.version = HTTP_2;
        assert_int_equal(request_is_grpc(&head), cases[i].is_grpc);
        assert_int_equal(request_is_grpc_web(&head), cases[i].is_web);
        head.method = METHOD_OPTIONS;
        assert_false(request_is_grpc(&head) || request_is_grpc_web(&head));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_recognised_by_exact_case),
        cmocka_unit_test(only_methods_known_to_be_idempotent_are),
        cmocka_unit_test(grpc_calls_are_told_by_their_media_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
