/* The promises of proxy/loop/chunks.h: a queue is nothing but its bytes in order. */
#include "loop/chunks.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <stdlib.h>

#define BUFS_MAX 64
#define OPERATIONS 20000
#define HELD_MAX (40 * CHUNK_BYTES)

static struct loop loop;
static struct chunks queue;

static int set_up(void **state) {
    queue = (struct chunks){0};
    return loop_open(&loop, 0);
}

static int tear_down(void **state) {
    return (int)finish_loop(&loop);
}

/* What a peek of everything shows. */
static size_t copy_all(char *to) {
    uv_buf_t bufs[BUFS_MAX];
    unsigned count = chunks_peek(&queue, bufs, BUFS_MAX);
    size_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        assert_true(bufs[i].len > 0);
        memcpy(to + len, bufs[i].base, bufs[i].len);
        len += bufs[i].len;
    }
    return len;
}

static void an_empty_queue_holds_no_memory(void **state) {
    char bytes[100] = {0};
    uv_buf_t buf;

    assert_int_equal(chunks_peek(&queue, &buf, 1), 0);
    chunks_push(&queue, &loop, SLICE_NONE);
    assert_null(queue.first);
    chunks_push(&queue, &loop, slice_of(bytes, sizeof bytes));
    assert_non_null(queue.first);
    chunks_drop(&queue, &loop, sizeof bytes);
    assert_null(queue.first);
    assert_null(queue.last);
    assert_int_equal(queue.bytes, 0);
    chunks_clear(&queue, &loop);
}

static void small_pushes_share_a_chunk(void **state) {
    uv_buf_t bufs[2];

    for (unsigned i = 0; i < 1000; i++)
        chunks_push(&queue, &loop, SLICE("0123456789"));
    assert_int_equal(chunks_peek(&queue, bufs, 2), 1);
    assert_int_equal(bufs[0].len, 10000);
    chunks_clear(&queue, &loop);
}

static void a_peek_shows_no_more_than_asked_for(void **state) {
    static char bytes[3 * CHUNK_BYTES];
    uv_buf_t bufs[3];

    chunks_push(&queue, &loop, slice_of(bytes, sizeof bytes));
    assert_int_equal(chunks_peek(&queue, bufs, 2), 2);
    assert_int_equal(bufs[0].len + bufs[1].len, 2 * CHUNK_BYTES);
    assert_int_equal(chunks_peek(&queue, bufs, 0), 0);
    chunks_clear(&queue, &loop);
}

static void the_queue_agrees_with_a_plain_buffer(void **state) {
    char *plain = xmalloc(HELD_MAX), *seen = xmalloc(HELD_MAX), *piece = xmalloc(HELD_MAX);
    uint64_t seed = 11;
    size_t held = 0;
    char next = 0;

    for (unsigned i = 0; i < OPERATIONS; i++) {
        size_t n = (size_t)(rnd(&seed) >> (64 - 1 - rnd(&seed) % 17));

        if (rnd(&seed) % 2 && held + n <= HELD_MAX) {
            for (size_t j = 0; j < n; j++)
                piece[j] = next++;
            memcpy(plain + held, piece, n);
            held += n;
            if (rnd(&seed) % 2)
                chunks_push(&queue, &loop, slice_of(piece, n));
            else
                chunks_push_little(&queue, &loop, slice_of(piece, n));
            memset(piece, 0, n); /* it was copied */
        } else {
            n = n < held ? n : held;
            chunks_drop(&queue, &loop, n);
            held -= n;
            memmove(plain, plain + n, held);
        }
        assert_int_equal(queue.bytes, held);
        if (i % 16 == 0) {
            assert_int_equal(copy_all(seen), held);
            assert_memory_equal(seen, plain, held);
        }
    }
    chunks_clear(&queue, &loop);
    free(plain);
    free(seen);
    free(piece);
}

static void the_pool_keeps_a_bounded_number_of_chunks(void **state) {
    size_t len = (CHUNK_POOL_MAX + 10) * (size_t)CHUNK_BYTES;
    char *bytes = xcalloc(1, len);

    for (unsigned i = 0; i < 2; i++) {
        chunks_push(&queue, &loop, slice_of(bytes, len));
        assert_int_equal(loop.chunk_count, 0);
        chunks_clear(&queue, &loop);
        assert_int_equal(loop.chunk_count, CHUNK_POOL_MAX);
    }
    chunks_push(&queue, &loop, slice_of(bytes, 1));
    assert_int_equal(loop.chunk_count, CHUNK_POOL_MAX - 1);
    chunks_clear(&queue, &loop);
    chunk_pool_drop(&loop);
    assert_int_equal(loop.chunk_count, 0);
    assert_null(loop.chunks);
    free(bytes);
}

static void little_takes_little_memory_and_its_pool_is_bounded_too(void **state) {
    static struct chunks queues[CHUNK_SMALL_POOL_MAX + 10];
    const size_t count = sizeof queues / sizeof *queues;

    for (size_t i = 0; i < count; i++)
        chunks_push_little(&queues[i], &loop, SLICE("0123456789"));
    for (size_t i = 0; i < count; i++)
        chunks_clear(&queues[i], &loop);
    assert_int_equal(loop.small_chunk_count, CHUNK_SMALL_POOL_MAX);
    assert_int_equal(loop.chunk_count, 0);
    chunks_push_little(&queue, &loop, SLICE("0123456789"));
    assert_int_equal(loop.small_chunk_count, CHUNK_SMALL_POOL_MAX - 1);
    chunks_clear(&queue, &loop);
    chunk_pool_drop(&loop);
    assert_int_equal(loop.small_chunk_count, 0);
    assert_null(loop.small_chunks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_queue_holds_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_pushes_share_a_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peek_shows_no_more_than_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_queue_agrees_with_a_plain_buffer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_pool_keeps_a_bounded_number_of_chunks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(little_takes_little_memory_and_its_pool_is_bounded_too,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
