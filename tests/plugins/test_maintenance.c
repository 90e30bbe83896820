/* The promises of the example, plugins/example. */
#include "plugins/host/host.h"

static int set_up(void **state) {
    host_open("maintenance");
    host_put_file("m.txt", "");
    return 0;
}

static int tear_down(void **state) {
    host_close();
    return 0;
}

static void test_requests_are_refused_while_the_file_says_why(void **state) {
    host_init("{\"file\": \"m.txt\", \"retry_after\": 120, \"allow\": \"192.0.2.9\"}");
    assert_int_equal(RUN(.path = "/"), WEIR_CONTINUE);
    host_put_file("m.txt", "new disks\nuntil noon\n");
    assert_int_equal(RUN(.path = "/"), WEIR_RESPOND);
    assert_int_equal(host_status(), 503);
    assert_string_equal(host_content(), "new disks");
    assert_string_equal(host_answer_field("retry-after"), "120");
    assert_int_equal(host_events[0], 1);
    assert_int_equal(RUN(.client_address = "192.0.2.9"), WEIR_CONTINUE);
    assert_string_equal(host_sent("x-maintenance"), "on");
    host_put_file("m.txt", "");
    assert_int_equal(RUN(.path = "/"), WEIR_CONTINUE);
}

static void test_settings_are_checked(void **state) {
    host_init_fails("{}", "expected file");
    host_init_fails("{\"file\": \"none\"}", "file: 'none' cannot be read");
    host_init_fails("{\"file\": \"m.txt\", \"retry\": 5}", "expected file, and perhaps");
    host_init("{\"file\": \"m.txt\"}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_requests_are_refused_while_the_file_says_why),
        TEST(test_settings_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
