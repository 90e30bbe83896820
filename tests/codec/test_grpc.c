/* Tests proxy/codec/grpc.c. */
#include "codec/grpc.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static _Alignas(max_align_t) char memory[4096];
static struct arena arena;

static int set_up(void **state) {
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int tear_down(void **state) {
    arena_deinit(&arena);
    return 0;
}

static void timeouts_are_read_in_every_unit(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"1n", 1},
        {"99999999n", 99999999},
        {"7u", 7000},
        {"250m", 250 * NS_PER_MS},
        {"30S", 30 * NS_PER_S},
        {"2M", 120 * NS_PER_S},
        {"1H", 3600 * NS_PER_S},
        {"0S", 0},
        {"99999999H", GRPC_TIMEOUT_MAX_NS},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns = -1;

        assert_true(grpc_parse_timeout(slice_str(cases[i].text), &ns));
        assert_int_equal(ns, cases[i].ns);
    }
}

static void what_is_no_timeout_is_none(void **state) {
    static const char *const cases[] = {"",    "1",    "S",   "1s",         "-1S",
                                        "1 S", "1.5S", "+1S", "123456789S", "1SS"};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns = -1;

        assert_false(grpc_parse_timeout(slice_str(cases[i]), &ns));
        assert_int_equal(ns, -1);
    }
}

static void timeouts_are_written_as_exactly_as_eight_digits_can(void **state) {
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {1, "1n"},
        {0, "1n"},
        {-5, "1n"},
        {99999999, "99999999n"},
        {100000000, "100000u"},
        {1234567890, "1234567u"},
        {100 * NS_PER_S, "100000m"},
        {GRPC_TIMEOUT_MAX_NS, "31536000S"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(slice_equal(grpc_write_timeout(&arena, cases[i].ns), slice_str(cases[i].text)));
}

static void a_status_is_a_number_of_the_list(void **state) {
    assert_int_equal(grpc_parse_status(SLICE("0")), GRPC_OK);
    assert_int_equal(grpc_parse_status(SLICE("16")), GRPC_UNAUTHENTICATED);
    assert_int_equal(grpc_parse_status(SLICE("17")), GRPC_UNKNOWN);
    assert_int_equal(grpc_parse_status(SLICE("")), GRPC_UNKNOWN);
    assert_int_equal(grpc_parse_status(SLICE("1x")), GRPC_UNKNOWN);
    assert_int_equal(grpc_parse_status(SLICE("100")), GRPC_UNKNOWN);
    assert_string_equal(grpc_status_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(grpc_status_name(GRPC_STATUSES - 1), "UNAUTHENTICATED");
}

static void http_alone_means_something_too(void **state) {
    assert_int_equal(grpc_status_of_http(200), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_of_http(400), GRPC_INTERNAL);
    assert_int_equal(grpc_status_of_http(401), GRPC_UNAUTHENTICATED);
    assert_int_equal(grpc_status_of_http(403), GRPC_PERMISSION_DENIED);
    assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
}

static void the_code_of_a_reset_means_something_too(void **state) {
    assert_int_equal(grpc_status_of_reset(0x7), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_reset(0x8), GRPC_CANCELLED);
    assert_int_equal(grpc_status_of_reset(0xb), GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_status_of_reset(0xc), GRPC_PERMISSION_DENIED);
    assert_int_equal(grpc_status_of_reset(0x2), GRPC_INTERNAL);
    assert_int_equal(grpc_status_of_reset(0x99), GRPC_INTERNAL);
}

static void messages_are_percent_encoded(void **state) {
    assert_true(slice_equal(grpc_encode_message(&arena, SLICE("plain text, even 1~")),
                            SLICE("plain text, even 1~")));
    assert_true(slice_equal(grpc_encode_message(&arena, SLICE("100%\n\xc3\xb6\x7f")),
                            SLICE("100%25%0A%C3%B6%7F")));
    assert_int_equal(grpc_encode_message(&arena, SLICE("")).len, 0);
}

/* Three messages of 3, 0 and 300 bytes and the start of a fourth, cut in every way. */
static void messages_are_counted_wherever_they_are_cut(void **state) {
    char bytes[5 + 3 + 5 + 5 + 300 + 2] = {0};
    size_t len = 5 + 3 + 5 + 5 + 300 + 2;

    bytes[4] = 3;
    bytes[5 + 3 + 5 + 3] = 1; /* 300 = 0x12c */
    bytes[5 + 3 + 5 + 4] = 0x2c;
    for (size_t step = 1; step <= len; step++) {
        struct grpc_messages messages = {0};

        for (size_t at = 0; at < len; at += step)
            grpc_messages_see(&messages, slice_of(bytes + at, at + step < len ? step : len - at));
        assert_int_equal(messages.whole, 3);
        assert_int_equal(messages.started, 4);
        assert_false(grpc_messages_are_whole(&messages));
        assert_int_equal(messages.flags, 0);
    }
}

static void flags_are_seen_with_their_first_byte(void **state) {
    struct grpc_messages messages = {0};

    assert_true(grpc_messages_are_whole(&messages));
    grpc_messages_see(&messages, slice_of("\x01\0\0\0\x01\xff", 6));
    assert_true(grpc_messages_are_whole(&messages));
    assert_int_equal(messages.flags, GRPC_COMPRESSED);
    grpc_messages_see(&messages, slice_of("\x80", 1));
    assert_false(grpc_messages_are_whole(&messages));
    assert_int_equal(messages.flags, GRPC_COMPRESSED | 0x80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_read_in_every_unit),
        cmocka_unit_test(what_is_no_timeout_is_none),
        cmocka_unit_test_setup_teardown(timeouts_are_written_as_exactly_as_eight_digits_can, set_up,
                                        tear_down),
        cmocka_unit_test(a_status_is_a_number_of_the_list),
        cmocka_unit_test(http_alone_means_something_too),
        cmocka_unit_test(the_code_of_a_reset_means_something_too),
        cmocka_unit_test_setup_teardown(messages_are_percent_encoded, set_up, tear_down),
        cmocka_unit_test(messages_are_counted_wherever_they_are_cut),
        cmocka_unit_test(flags_are_seen_with_their_first_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
