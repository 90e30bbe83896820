/* Heaps: blocks of every size that do not overlap, limits, what free() must refuse, and dropping.
 */
#include "support/unit.h"

#include "handler/heap.h"

#include <stdlib.h>
#include <string.h>

static int reserve(void **state) {
    return heaps_reserve(2);
}

static int release(void **state) {
    heaps_release();
    return 0;
}

static int drop(void **state) {
    heap_drop(heap_at(0));
    heap_drop(heap_at(1));
    return 0;
}

static void blocks_of_all_sizes_are_apart_and_aligned(void **state) {
    static char *blocks[2000];
    static size_t sizes[2000];
    struct heap *heap = heap_at(0);
    uint64_t seed = 5;

    for (size_t i = 0; i < 2000; i++) {
        sizes[i] = rnd(&seed) % (i % 10 == 0 ? 100000 : 3000);
        blocks[i] = heap_alloc(heap, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(heap_size(heap, blocks[i]) >= sizes[i]);
        assert_true(heaps_have(blocks[i]));
        memset(blocks[i], (int)(i % 251), sizes[i]);
    }
    for (size_t i = 0; i < 2000; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal((unsigned char)blocks[i][j], i % 251);
    for (size_t i = 0; i < 2000; i++)
        assert_true(heap_free(heap, blocks[i]));
}

static void what_is_freed_is_used_again(void **state) {
    struct heap *heap = heap_at(0);
    size_t used;

    for (int i = 0; i < 1000; i++)
        assert_true(heap_free(heap, heap_alloc(heap, (size_t)i)));
    used = heap_used(heap);
    for (int round = 0; round < 100; round++)
        for (int i = 0; i < 1000; i++)
            assert_true(heap_free(heap, heap_alloc(heap, (size_t)i)));
    assert_int_equal(heap_used(heap), used);
}

static void a_page_without_blocks_serves_another_size(void **state) {
    struct heap *heap = heap_at(0);
    static void *blocks[100000];
    size_t count = 0, used;

    while (count < 100000 && (blocks[count] = heap_alloc(heap, 2048)))
        count++;
    used = heap_used(heap);
    for (size_t i = 0; i < count; i++)
        assert_true(heap_free(heap, blocks[i]));
    assert_true(heap_used(heap) <= HEAP_PAGE);
    count = 0;
    while (count < 1000 && (blocks[count] = heap_alloc(heap, 100000)))
        count++;
    assert_int_equal(count, 1000);
    assert_true(heap_used(heap) <= used);
}

static void a_heap_ends(void **state) {
    struct heap *heap = heap_at(0);
    size_t count = 0;

    assert_null(heap_alloc(heap, HEAP_BYTES + 1));
    assert_null(heap_alloc(heap, 20ul << 30));
    assert_null(heap_alloc(heap, SIZE_MAX));
    while (heap_alloc(heap, 1 << 20))
        count++;
    assert_int_equal(count, HEAP_BYTES / (1 << 20));
    assert_null(heap_alloc(heap, 16));
    assert_non_null(heap_alloc(heap_at(1), 16)); /* the next one is not touched */
    heap_drop(heap);
    assert_non_null(heap_alloc(heap, HEAP_BYTES));
}

static void free_refuses_what_is_no_block(void **state) {
    struct heap *heap = heap_at(0);
    char *small = heap_alloc(heap, 100), *large = heap_alloc(heap, 100000), own[16];
    char *other = heap_alloc(heap_at(1), 100);

    assert_false(heap_free(heap, small + 16));
    assert_false(heap_free(heap, small + 1));
    assert_false(heap_free(heap, large + 16));
    assert_false(heap_free(heap, large + HEAP_PAGE));
    assert_false(heap_free(heap, own));
    assert_false(heap_free(heap, other));
    assert_int_equal(heap_size(heap, small + 16), 0);
    assert_int_equal(heap_size(heap, large + HEAP_PAGE), 0);
    assert_true(heap_free(heap, small));
    assert_false(heap_free(heap, small));
    assert_true(heap_free(heap, large));
    assert_false(heap_free(heap, large));
    assert_int_equal(heap_size(heap, small), 0);
    assert_int_equal(heap_size(heap, large), 0);
}

static void blocks_can_be_aligned(void **state) {
    struct heap *heap = heap_at(0);

    for (size_t align = 16; align <= (1 << 20); align *= 2)
        for (size_t size = 0; size <= 100000; size = size * 3 + 1) {
            char *block = heap_alloc_aligned(heap, align, size);

            assert_non_null(block);
            assert_int_equal((uintptr_t)block % align, 0);
            memset(block, 1, size);
            assert_true(heap_free(heap, block));
        }
}

static void dropped_memory_is_gone_and_comes_back_empty(void **state) {
    struct heap *heap = heap_at(0);
    char *block = heap_alloc(heap, 5 << 20), *again;

    memset(block, 7, 5 << 20);
    heap_drop(heap);
    assert_int_equal(heap_used(heap), 0);
    assert_false(heap_free(heap, block));
    again = heap_alloc(heap, 5 << 20);
    assert_ptr_equal(again, block);
    for (size_t i = 0; i < 5 << 20; i += 4096)
        assert_int_equal(again[i], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(blocks_of_all_sizes_are_apart_and_aligned, drop),
        cmocka_unit_test_teardown(what_is_freed_is_used_again, drop),
        cmocka_unit_test_teardown(a_page_without_blocks_serves_another_size, drop),
        cmocka_unit_test_teardown(a_heap_ends, drop),
        cmocka_unit_test_teardown(free_refuses_what_is_no_block, drop),
        cmocka_unit_test_teardown(blocks_can_be_aligned, drop),
        cmocka_unit_test_teardown(dropped_memory_is_gone_and_comes_back_empty, drop),
    };

    return cmocka_run_group_tests(tests, reserve, release);
}
