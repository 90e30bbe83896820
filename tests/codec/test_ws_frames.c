#include "codec/ws_frames.h"
#include "support/unit.h"

#include <stdlib.h>

/* What a direction of a tunnel may hold, and where in it a frame ends. */
static const char text[] = "\x81\x05hello" /* 7 */
                           "\x01\x83"
                           "abcd"
                           "xyz"      /* masked, fragmented: 9 */
                           "\x89\x00" /* ping inside it: 2 */
                           "\x80\x80"
                           "abcd"; /* the end of it: 6 */
static const size_t borders[] = {0, 7, 16, 18, 24};

static bool is_border(size_t at) {
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++)
        if (borders[i] == at)
            return true;
    return false;
}

static void every_border_is_found_wherever_it_is_cut(void **state) {
    (void)state;
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct ws_frames frames = {0};
        size_t to_next = 0;

        ws_frames_follow(&frames, slice_of(text, cut));
        assert_int_equal(ws_frames_at_border(&frames), is_border(cut));
        while (!is_border(cut + to_next))
            to_next++;
        assert_int_equal(ws_frames_to_border(&frames, slice_of(text + cut, sizeof text - 1 - cut)),
                         to_next);
        assert_true(ws_frames_at_border(&frames));
        assert_false(frames.is_closed);
    }
}

static void bytes_come_one_by_one(void **state) {
    struct ws_frames frames = {0};

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        assert_int_equal(ws_frames_at_border(&frames), is_border(i));
        ws_frames_follow(&frames, slice_of(text + i, 1));
    }
    assert_true(ws_frames_at_border(&frames));
}

static void check_length(const char *head, size_t head_len, size_t payload) {
    char *bytes = calloc(1, head_len + payload);

    memcpy(bytes, head, head_len);
    for (size_t cut = 0; cut <= head_len; cut++) {
        struct ws_frames frames = {0};

        ws_frames_follow(&frames, slice_of(bytes, cut));
        ws_frames_follow(&frames, slice_of(bytes + cut, head_len + payload - 1 - cut));
        assert_false(ws_frames_at_border(&frames));
        ws_frames_follow(&frames, slice_of(bytes, 1));
        assert_true(ws_frames_at_border(&frames));
    }
    free(bytes);
}

static void lengths_of_two_and_eight_bytes_are_read(void **state) {
    (void)state;
    check_length("\x82\x7e\x00\x80", 4, 128);
    check_length("\x82\xfe\xff\xff"
                 "mask",
                 8, 65535);
    check_length("\x82\x7f\0\0\0\0\0\1\0\2", 10, 65538);
    check_length("\x82\xff\0\0\0\0\0\1\0\2"
                 "mask",
                 14, 65538);
}

static void a_close_frame_is_seen(void **state) {
    struct ws_frames frames = {0};

    (void)state;
    ws_frames_follow(&frames, SLICE("\x88"));
    assert_false(frames.is_closed);
    ws_frames_follow(&frames, SLICE("\x02"));
    assert_true(frames.is_closed);
    assert_false(ws_frames_at_border(&frames));
}

/* Section 5.2: the most significant bit of a length must be 0. */
static void behind_an_impossible_length_no_border_is_known(void **state) {
    struct ws_frames frames = {0};

    (void)state;
    ws_frames_follow(&frames, slice_of("\x82\x7f\x80\0\0\0\0\0\0\0", 10));
    assert_false(ws_frames_at_border(&frames));
    assert_int_equal(ws_frames_to_border(&frames, slice_of(text, sizeof text - 1)),
                     sizeof text - 1);
    assert_false(ws_frames_at_border(&frames));
}

static void a_close_frame_is_made_for_either_side(void **state) {
    char to[WS_CLOSE_MAX];
    const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
    struct slice made = ws_frames_close(to, WS_GOING_AWAY, NULL);

    (void)state;
    assert_int_equal(made.len, 4);
    assert_memory_equal(made.base, "\x88\x02\x03\xe9", 4);
    made = ws_frames_close(to, WS_GOING_AWAY, mask);
    assert_int_equal(made.len, 8);
    assert_memory_equal(made.base, "\x88\x82\x11\x22\x33\x44\x12\xcb", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_border_is_found_wherever_it_is_cut),
        cmocka_unit_test(bytes_come_one_by_one),
        cmocka_unit_test(lengths_of_two_and_eight_bytes_are_read),
        cmocka_unit_test(a_close_frame_is_seen),
        cmocka_unit_test(behind_an_impossible_length_no_border_is_known),
        cmocka_unit_test(a_close_frame_is_made_for_either_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
