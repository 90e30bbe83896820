/* The messages of grpc.health.v1. */
#include "codec/grpc_health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static max_align_t memory[64];

static int open_arena(void **state) {
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int close_arena(void **state) {
    arena_deinit(&arena);
    return 0;
}

static void requests_are_read_as_they_were_written(void **state) {
    const size_t lengths[] = {0, 1, 127, 128, 256};
    char name[256];

    memset(name, 's', sizeof name);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct slice text = grpc_health_write_request(&arena, slice_of(name, lengths[i]));
        struct slice service;

        assert_true(grpc_health_read_request(text, &service));
        assert_true(slice_equal(service, slice_of(name, lengths[i])));
    }
}

static void the_empty_name_takes_no_bytes(void **state) {
    struct slice text = grpc_health_write_request(&arena, SLICE(""));

    assert_true(slice_equal(text, SLICE("\0\0\0\0\0")));
}

static void responses_are_read_as_they_were_written(void **state) {
    char to[GRPC_HEALTH_RESPONSE_BYTES];

    for (int serving = GRPC_SERVING_UNKNOWN; serving <= GRPC_SERVICE_UNKNOWN; serving++) {
        enum grpc_serving read;

        assert_true(grpc_health_read_response(
            grpc_health_write_response(to, (enum grpc_serving)serving), &read));
        assert_int_equal(read, serving);
    }
}

static void what_others_write_is_understood(void **state) {
    enum grpc_serving serving;
    struct slice service;

    /* A default is not written; fields that we do not know may stand anywhere. */
    assert_true(grpc_health_read_response(SLICE("\0\0\0\0\0"), &serving));
    assert_int_equal(serving, GRPC_SERVING_UNKNOWN);
    assert_true(
        grpc_health_read_response(SLICE("\0\0\0\0\x07\x12\x01x\x18\x05\x08\x01"), &serving));
    assert_int_equal(serving, GRPC_SERVING);
    assert_true(grpc_health_read_response(SLICE("\0\0\0\0\x03\x08\xff\x7f"), &serving));
    assert_int_equal(serving, GRPC_SERVING_UNKNOWN);
    assert_true(grpc_health_read_request(SLICE("\0\0\0\0\x05\x10\x07\x0a\x01y"), &service));
    assert_true(slice_equal(service, SLICE("y")));
}

static void what_is_no_message_is_refused(void **state) {
    const struct slice wrong[] = {
        SLICE(""),
        SLICE("\0\0\0\0"),
        SLICE("\0\0\0\0\x02\x08"),         /* shorter than it says */
        SLICE("\0\0\0\0\x02\x08\x01\x01"), /* longer */
        SLICE("\x01\0\0\0\x02\x08\x01"),   /* compressed */
        SLICE("\0\0\0\0\x01\x08"),         /* no number */
        SLICE("\0\0\0\0\x02\x08\x80"),     /* a number without end */
        SLICE("\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        SLICE("\0\0\0\0\x03\x0a\x09x"), /* more bytes than there are */
        SLICE("\0\0\0\0\x02\x0d\x01"),  /* of a kind that it has no field of */
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum grpc_serving serving;
        struct slice service;

        if (grpc_health_read_response(wrong[i], &serving) ||
            grpc_health_read_request(wrong[i], &service))
            fail_msg("message %zu was read", i);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_arena, close_arena)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(requests_are_read_as_they_were_written),  TEST(the_empty_name_takes_no_bytes),
        TEST(responses_are_read_as_they_were_written), TEST(what_others_write_is_understood),
        TEST(what_is_no_message_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
