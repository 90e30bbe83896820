/* nghttp2's memory. */
#include "codec/h2_memory.h"
#include "support/unit.h"

#include <string.h>

#define LARGEST (H2_MEMORY_SIZES * H2_MEMORY_STEP)

static struct h2_memory memory;

static void *take(size_t size) {
    return memory.hooks.malloc(size, memory.hooks.mem_user_data);
}

static void give(void *bytes) {
    memory.hooks.free(bytes, memory.hooks.mem_user_data);
}

static int set_up(void **state) {
    h2_memory_init(&memory);
    return 0;
}

static int tear_down(void **state) {
    h2_memory_deinit(&memory);
    return 0;
}

static void bytes_survive_a_change_of_size(void **state) {
    char *bytes = NULL;

    for (size_t size = 1; size < 3 * LARGEST; size += 7) {
        bytes = memory.hooks.realloc(bytes, size, memory.hooks.mem_user_data);
        bytes[size - 1] = (char)size;
        for (size_t at = 1; at < size; at += 7)
            assert_int_equal(bytes[at - 1], (char)at);
    }
    give(bytes);
}

static void used_memory_is_clear_when_it_is_to_be(void **state) {
    static const char zeros[200];
    char *bytes = take(200);

    memset(bytes, 'x', 200);
    give(bytes);
    bytes = memory.hooks.calloc(10, 20, memory.hooks.mem_user_data);
    assert_memory_equal(bytes, zeros, 200);
    give(bytes);
    assert_null(memory.hooks.calloc(SIZE_MAX / 2, 3, memory.hooks.mem_user_data));
    give(NULL);
}

static void no_more_is_kept_than_the_bound(void **state) {
    static void *blocks[H2_MEMORY_KEPT_MAX / LARGEST + 10];
    const size_t count = sizeof blocks / sizeof *blocks;

    for (size_t i = 0; i < count; i++)
        blocks[i] = memset(take(LARGEST - i % H2_MEMORY_STEP), 'x', LARGEST - H2_MEMORY_STEP);
    for (size_t i = 0; i < count; i++) {
        give(blocks[i]);
        assert_true(memory.kept_bytes <= H2_MEMORY_KEPT_MAX);
    }
    give(take(LARGEST + 1)); /* malloc's */
    for (size_t i = 0; i < count; i++)
        blocks[i] = take(LARGEST);
    assert_int_equal(memory.kept_bytes, 0);
    for (size_t i = 0; i < count; i++)
        give(blocks[i]);
}

int main(void) {
#define IN_MEMORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_MEMORY(bytes_survive_a_change_of_size),
        IN_MEMORY(used_memory_is_clear_when_it_is_to_be),
        IN_MEMORY(no_more_is_kept_than_the_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
