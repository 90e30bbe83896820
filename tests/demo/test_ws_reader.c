/* What ws_reader.h promises, however the bytes are cut. */
#include "demo/ws_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A frame of a client, with a mask. */
static void put_frame(struct buffer *to, unsigned first, struct slice payload) {
    static const char mask[4] = {0x37, (char)0xfa, 0x21, 0x3d};
    char head[WS_HEAD_BYTES_MAX];
    size_t len = ws_write_head(head, WS_TEXT, payload.len);

    head[0] = (char)first;
    head[1] = (char)(head[1] | 0x80);
    buffer_append(to, slice_of(head, len));
    buffer_append(to, slice_of(mask, sizeof mask));
    for (size_t i = 0; i < payload.len; i++)
        buffer_append_char(to, (char)(payload.base[i] ^ mask[i & 3]));
}

/* Reads all of @bytes, @step at a time, and writes down what comes. */
static void read_all(struct slice bytes, size_t step, struct buffer *seen) {
    struct ws_reader reader = {0};

    seen->len = 0;
    while (bytes.len > 0) {
        struct slice in = slice_of(bytes.base, step < bytes.len ? step : bytes.len);
        size_t before = in.len;

        switch (ws_reader_next(&reader, &in)) {
        case WS_READ_MORE:
            assert_int_equal(in.len, 0);
            break;
        case WS_READ_MESSAGE:
            buffer_printf(seen, "%u[%.*s] ", (unsigned)reader.type,
                          SLICE_ARG(buffer_slice(&reader.message)));
            break;
        case WS_READ_CONTROL:
            buffer_printf(seen, "%u(%.*s) ", (unsigned)ws_reader_opcode(&reader),
                          SLICE_ARG(buffer_slice(&reader.control)));
            break;
        case WS_READ_BROKEN:
            buffer_printf(seen, "%u!", reader.fault);
            ws_reader_deinit(&reader);
            return;
        }
        bytes = slice_skip(bytes, before - in.len);
    }
    ws_reader_deinit(&reader);
}

static void assert_seen(struct buffer *bytes, const char *expect) {
    static const size_t steps[] = {1, 2, 3, 7, 1000, SIZE_MAX};
    struct buffer seen = {0};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        read_all(buffer_slice(bytes), steps[i], &seen);
        buffer_append_char(&seen, '\0');
        assert_string_equal(seen.base, expect);
    }
    buffer_deinit(&seen);
    buffer_deinit(bytes);
}

static void messages_are_put_together_around_control_frames(void **state) {
    struct buffer bytes = {0};

    put_frame(&bytes, 0x81, SLICE("whole"));
    put_frame(&bytes, 0x02, SLICE("in "));
    put_frame(&bytes, 0x89, SLICE("ping"));
    put_frame(&bytes, 0x00, SLICE("three "));
    put_frame(&bytes, 0x8a, SLICE(""));
    put_frame(&bytes, 0x80, SLICE("parts"));
    put_frame(&bytes, 0x81, SLICE(""));
    put_frame(&bytes, 0x88, SLICE(""));
    assert_seen(&bytes, "1[whole] 9(ping) 10() 2[in three parts] 1[] 8() ");
}

static void what_the_rfc_forbids_breaks(void **state) {
    static const struct {
        unsigned first;
        struct slice payload;
        const char *expect;
    } cases[] = {
        {0xc1, {"a", 1}, "1002!"},       {0x83, {"a", 1}, "1002!"},    {0x80, {"a", 1}, "1002!"},
        {0x09, {"a", 1}, "1002!"},       {0x81, {"\xff", 1}, "1007!"}, {0x8b, {"a", 1}, "1002!"},
        {0x82, {"\xff", 1}, "2[\xff] "},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer bytes = {0};

        put_frame(&bytes, cases[i].first, cases[i].payload);
        assert_seen(&bytes, cases[i].expect);
    }
}

static void a_second_message_may_not_begin_within_one(void **state) {
    struct buffer bytes = {0};

    put_frame(&bytes, 0x01, SLICE("one"));
    put_frame(&bytes, 0x81, SLICE("two"));
    assert_seen(&bytes, "1002!");
}

static void lengths_are_bounded_and_in_their_shortest_form(void **state) {
    static const struct {
        struct slice head;
        const char *expect;
    } cases[] = {
        {{"\x82\xff\0\0\0\0\0\x10\0\1mask", 14}, "1009!"}, /* 1 MiB and 1 */
        {{"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask", 14}, "1009!"},
        {{"\x82\xff\0\0\0\0\0\0\xff\xffmask", 14}, "1002!"},
        {{"\x82\xfe\0\x7dmask", 8}, "1002!"},
        {{"\x89\xfe\0\x7emask", 8}, "1002!"},
        {{"\x81\x01", 2}, "1002!"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer bytes = {0};

        buffer_append(&bytes, cases[i].head);
        assert_seen(&bytes, cases[i].expect);
    }
}

static void close_codes_are_checked(void **state) {
    static const struct {
        struct slice payload;
        unsigned code;
    } cases[] = {
        {{"", 0}, 1005},           {{"\3", 1}, 1002},       {{"\3\xe8", 2}, 1000},
        {{"\3\xe8why", 5}, 1000},  {{"\3\xe7", 2}, 1002},   {{"\3\xec", 2}, 1002},
        {{"\3\xee", 2}, 1002},     {{"\3\xf7", 2}, 1002},   {{"\x0b\xb7", 2}, 1002},
        {{"\x0b\xb8", 2}, 3000},   {{"\x13\x87", 2}, 4999}, {{"\x13\x88", 2}, 1002},
        {{"\3\xe8\xff", 3}, 1007},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(ws_close_code(cases[i].payload), cases[i].code);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_put_together_around_control_frames),
        cmocka_unit_test(what_the_rfc_forbids_breaks),
        cmocka_unit_test(a_second_message_may_not_begin_within_one),
        cmocka_unit_test(lengths_are_bounded_and_in_their_shortest_form),
        cmocka_unit_test(close_codes_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
