/* Tests proxy/codec/base64.c. */
#include "codec/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES 300

/* Feeds @text in pieces of @step into exact room, so that a sanitizer sees a byte too many. */
static bool decode(const char *text, size_t step, char *to, size_t *len) {
    struct base64_decoder decoder = {0};
    size_t all = strlen(text);

    *len = 0;
    for (size_t at = 0; at < all; at += step) {
        size_t n = at + step < all ? step : all - at;
        char *room = malloc(BASE64_DECODED_MAX(n));
        ssize_t written = base64_decode(&decoder, slice_of(text + at, n), room);

        if (written > 0)
            memcpy(to + *len, room, (size_t)written);
        free(room);
        if (written < 0)
            return false;
        *len += (size_t)written;
    }
    return base64_is_whole(&decoder);
}

static size_t encode(const char *bytes, size_t all, size_t step, char *to) {
    struct base64_encoder encoder = {0};
    size_t len = 0;

    for (size_t at = 0; at < all; at += step) {
        size_t n = at + step < all ? step : all - at;
        char *room = malloc(BASE64_ENCODED_MAX(n));
        size_t written = base64_encode(&encoder, slice_of(bytes + at, n), room);

        memcpy(to + len, room, written);
        free(room);
        len += written;
    }
    len += base64_encode_end(&encoder, to + len);
    to[len] = '\0';
    return len;
}

/* RFC 4648 section 10. */
static const char *const vectors[][2] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
};
#define VECTORS (sizeof vectors / sizeof *vectors)

static void the_vectors_are_right_wherever_they_are_cut(void **state) {
    char to[64];
    size_t len;

    for (size_t i = 0; i < VECTORS; i++)
        for (size_t step = 1; step <= 8; step++) {
            encode(vectors[i][0], strlen(vectors[i][0]), step, to);
            assert_string_equal(to, vectors[i][1]);
            assert_true(decode(vectors[i][1], step, to, &len));
            assert_int_equal(len, strlen(vectors[i][0]));
            assert_memory_equal(to, vectors[i][0], len);
        }
}

static void every_byte_survives_in_pieces_of_every_size(void **state) {
    char bytes[BYTES], text[BYTES * 2], back[BYTES * 2];
    size_t len;

    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * 7);
    for (size_t step = 1; step <= BYTES; step++) {
        encode(bytes, BYTES - step % 3, step, text);
        assert_true(decode(text, step, back, &len));
        assert_int_equal(len, BYTES - step % 3);
        assert_memory_equal(back, bytes, len);
    }
}

static void padded_texts_may_follow_each_other(void **state) {
    char to[64];
    size_t len;

    for (size_t step = 1; step <= 24; step++) {
        assert_true(decode("Zg==Zm8=Zm9vYg==Zm9v", step, to, &len));
        assert_int_equal(len, 1 + 2 + 4 + 3);
        assert_memory_equal(to, "ffofoobfoo", len);
    }
}

static void what_is_no_base64_is_found_wherever_it_is_cut(void **state) {
    static const char *const bad[] = {"Zg=",  "Z",     "Zm9vY",  "Zg=g",  "Z===",    "====", "=",
                                      "Zm-_", "Zm 8=", "Zm8=\n", "Zm9v=", "Zm9\xff", "Zg==="};
    char to[64];
    size_t len;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t step = 1; step <= 8; step++)
            assert_false(decode(bad[i], step, to, &len));
}

static void an_ended_part_may_be_followed_by_another(void **state) {
    struct base64_encoder encoder = {0};
    char to[64];
    size_t len = base64_encode(&encoder, SLICE("fo"), to);

    len += base64_encode_end(&encoder, to + len);
    assert_int_equal(base64_encode_end(&encoder, to + len), 0);
    len += base64_encode(&encoder, SLICE("foob"), to + len);
    len += base64_encode_end(&encoder, to + len);
    to[len] = '\0';
    assert_string_equal(to, "Zm8=Zm9vYg==");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_are_right_wherever_they_are_cut),
        cmocka_unit_test(every_byte_survives_in_pieces_of_every_size),
        cmocka_unit_test(padded_texts_may_follow_each_other),
        cmocka_unit_test(what_is_no_base64_is_found_wherever_it_is_cut),
        cmocka_unit_test(an_ended_part_may_be_followed_by_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
