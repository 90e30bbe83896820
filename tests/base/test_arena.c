/* Tests proxy/base/arena.c. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define FIRST_BYTES 256

static bool is_aligned(const void *at) {
    return (uintptr_t)at % _Alignof(max_align_t) == 0;
}

static bool is_within(const void *at, const void *first, size_t size) {
    return (const char *)at >= (const char *)first && (const char *)at < (const char *)first + size;
}

static void test_small_pieces_come_from_the_first_block(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;

    arena_init(&arena, first, sizeof first);
    for (size_t used = 0; used < sizeof first; used += _Alignof(max_align_t))
        assert_true(is_within(arena_alloc(&arena, 1), first, sizeof first));
    assert_null(arena.extra);
    assert_int_equal(arena.extra_bytes, 0);
    arena_deinit(&arena);
}

static void test_a_piece_that_fits_exactly_allocates_nothing(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;

    arena_init(&arena, first, sizeof first);
    assert_ptr_equal(arena_alloc(&arena, sizeof first), first);
    assert_null(arena.extra);
    assert_false(is_within(arena_alloc(&arena, 1), first, sizeof first));
    assert_non_null(arena.extra);
    arena_deinit(&arena);
}

static void test_every_piece_is_aligned_for_any_type(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;

    for (size_t shift = 0; shift < _Alignof(max_align_t); shift++) {
        arena_init(&arena, first + shift, sizeof first - shift);
        for (size_t size = 0; size < 300; size++)
            assert_true(is_aligned(arena_alloc(&arena, size)));
        arena_deinit(&arena);
    }
}

static void test_pieces_keep_what_was_written_to_them(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;
    unsigned char *piece[400];

    arena_init(&arena, first, sizeof first);
    for (size_t i = 0; i < 400; i++) {
        piece[i] = arena_alloc(&arena, i * 7 % 331);
        memset(piece[i], (int)(i & 0xff), i * 7 % 331);
    }
    for (size_t i = 0; i < 400; i++)
        for (size_t at = 0; at < i * 7 % 331; at++)
            assert_int_equal(piece[i][at], i & 0xff);
    arena_deinit(&arena);
}

static void test_a_piece_larger_than_any_block_gets_one_of_its_own(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;
    char *large;

    arena_init(&arena, first, sizeof first);
    large = arena_alloc(&arena, 1 << 20);
    memset(large, 'x', 1 << 20);
    assert_true(is_aligned(large));
    assert_in_range(arena.extra_bytes, 1 << 20, (1 << 20) + 4096);
    arena_deinit(&arena);
}

static void test_blocks_double_so_that_their_number_stays_small(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;
    size_t before = 0, blocks = 0;

    arena_init(&arena, first, sizeof first);
    for (size_t i = 0; i < 100 * 1000; i++) {
        arena_alloc(&arena, 64);
        if (arena.extra_bytes != before)
            blocks++;
        before = arena.extra_bytes;
    }
    assert_in_range(blocks, 1, 12);
    assert_in_range(arena.extra_bytes, 6400 * 1000, 2 * 6400 * 1000 + 4096);
    arena_deinit(&arena);
}

static void test_the_first_block_may_be_empty(void **state) {
    _Alignas(max_align_t) char first[1];
    struct arena arena;

    arena_init(&arena, first, 0);
    memset(arena_alloc(&arena, 100), 'x', 100);
    arena_deinit(&arena);
}

static void test_deinit_leaves_an_arena_that_can_start_again(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;

    arena_init(&arena, first, sizeof first);
    arena_alloc(&arena, 1000);
    arena_deinit(&arena);
    assert_null(arena.extra);
    arena_deinit(&arena);
    arena_init(&arena, first, sizeof first);
    assert_ptr_equal(arena_alloc(&arena, 8), first);
    arena_deinit(&arena);
}

static void test_copies_outlive_their_source(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    char source[] = "one\0two";
    struct arena arena;
    struct slice copy;

    arena_init(&arena, first, sizeof first);
    copy = arena_copy(&arena, slice_of(source, sizeof source));
    memset(source, '#', sizeof source);
    assert_true(slice_equal(copy, SLICE("one\0two\0")));
    arena_deinit(&arena);
}

static void test_the_copy_of_nothing_is_a_pointer_and_costs_nothing(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;
    char *next;

    arena_init(&arena, first, sizeof first);
    next = arena.next;
    assert_non_null(arena_copy(&arena, SLICE_NONE).base);
    assert_int_equal(arena_copy(&arena, SLICE_NONE).len, 0);
    assert_ptr_equal(arena.next, next);
    arena_deinit(&arena);
}

static void test_joined_slices_stand_one_after_the_other(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;

    arena_init(&arena, first, sizeof first);
    assert_true(
        slice_equal(ARENA_JOIN(&arena, SLICE("for="), SLICE_NONE, SLICE("a\0b"), SLICE(";")),
                    SLICE("for=a\0b;")));
    assert_int_equal(ARENA_JOIN(&arena, SLICE_NONE).len, 0);
    arena_deinit(&arena);
}

static void test_printed_text_ends_in_nul_behind_the_slice(void **state) {
    _Alignas(max_align_t) char first[FIRST_BYTES];
    struct arena arena;
    struct slice text;

    arena_init(&arena, first, sizeof first);
    text = arena_printf(&arena, "%s:%d", "host", 8080);
    assert_true(slice_equal(text, SLICE("host:8080")));
    assert_int_equal(text.base[text.len], '\0');
    text = arena_printf(&arena, "%*d", 5000, 7);
    assert_int_equal(text.len, 5000);
    assert_int_equal(text.base[4999], '7');
    assert_int_equal(text.base[5000], '\0');
    arena_deinit(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_pieces_come_from_the_first_block),
        cmocka_unit_test(test_a_piece_that_fits_exactly_allocates_nothing),
        cmocka_unit_test(test_every_piece_is_aligned_for_any_type),
        cmocka_unit_test(test_pieces_keep_what_was_written_to_them),
        cmocka_unit_test(test_a_piece_larger_than_any_block_gets_one_of_its_own),
        cmocka_unit_test(test_blocks_double_so_that_their_number_stays_small),
        cmocka_unit_test(test_the_first_block_may_be_empty),
        cmocka_unit_test(test_deinit_leaves_an_arena_that_can_start_again),
        cmocka_unit_test(test_copies_outlive_their_source),
        cmocka_unit_test(test_the_copy_of_nothing_is_a_pointer_and_costs_nothing),
        cmocka_unit_test(test_joined_slices_stand_one_after_the_other),
        cmocka_unit_test(test_printed_text_ends_in_nul_behind_the_slice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
