/* Bodies that are collected before their sink takes anything (proxy/exchange/body.h). */
#include "exchange/body.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <stdlib.h>

static struct loop loop;
static struct body body;
static unsigned pauses, takens;
static size_t taken_bytes;
static bool had_room; /* when the source was last told of bytes taken */

static void on_pause(struct body *of) {
    pauses++;
}

static void on_taken(struct body *of, size_t n) {
    takens++;
    taken_bytes += n;
    had_room = body_has_room(of);
}

static const struct body_source_ops source = {.pause = on_pause, .taken = on_taken};

static int set_up(void **state) {
    assert_int_equal(loop_open(&loop, 0), 0);
    body_init(&body, &loop);
    body.source = &source;
    pauses = takens = 0;
    taken_bytes = 0;
    return 0;
}

static int tear_down(void **state) {
    body_deinit(&body);
    return (int)finish_loop(&loop);
}

static void what_is_collected_goes_beyond_the_window(void **state) {
    enum { WANTED = 5 * BODY_WINDOW_BYTES };
    char *read = xcalloc(1, BODY_WINDOW_BYTES);
    struct buffer copy = {0};

    read[0] = 'x';
    body_collect(&body, WANTED);
    for (unsigned i = 0; i < 5; i++) {
        body_push(&body, slice_of(read, BODY_WINDOW_BYTES));
        body_collect(&body, WANTED);
        loop_turn(&loop);
        assert_true(had_room);
        assert_int_equal(taken_bytes, (i + 1) * BODY_WINDOW_BYTES);
    }
    assert_int_equal(pauses, 0);
    body_push(&body, slice_of(read, 1)); /* more than is wanted */
    loop_turn(&loop);
    assert_int_equal(pauses, 1);
    body_copy(&body, BODY_WINDOW_BYTES + 1, &copy);
    assert_int_equal(copy.len, BODY_WINDOW_BYTES + 1);
    assert_memory_equal(copy.base, read, BODY_WINDOW_BYTES);
    assert_int_equal(copy.base[BODY_WINDOW_BYTES], 'x');
    buffer_deinit(&copy);

    /* From here on as ever; the source hears only of the byte that it does not know of. */
    body_collect_end(&body);
    assert_int_equal(pauses, 2);
    body_drop(&body, 4 * BODY_WINDOW_BYTES + 1);
    assert_false(had_room);
    body_drop(&body, 1);
    assert_true(had_room);
    assert_int_equal(taken_bytes, WANTED);
    body_drop(&body, BODY_WINDOW_BYTES - 1);
    assert_int_equal(taken_bytes, WANTED + 1);
    assert_int_equal(body_waiting(&body), 0);
    free(read);
}

static void what_was_collected_can_be_said_again(void **state) {
    struct buffer copy = {0};

    body_keep(&body);
    body_push(&body, SLICE("abcd"));
    body_collect(&body, 100);
    body_collect_end(&body);
    assert_int_equal(pauses, 0);
    body_drop(&body, 3);
    body_push(&body, SLICE("ef"));
    body_rewind(&body);
    assert_int_equal(taken_bytes, 4);
    body_copy(&body, 6, &copy);
    assert_int_equal(copy.len, 6);
    assert_memory_equal(copy.base, "abcdef", 6);
    buffer_deinit(&copy);
    body_drop(&body, 6);
    assert_int_equal(taken_bytes, 6);
}

static void a_body_that_is_reset_collects_nothing(void **state) {
    body_push(&body, SLICE("abcd"));
    body_reset(&body, FAIL_CLIENT_GONE);
    body_collect(&body, 100);
    assert_int_equal(takens, 0);
    body_collect_end(&body);
}

/* Makes two bytes of each, and passes them at once. */
static void push_doubled(struct body *of, struct slice bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        char both[] = {bytes.base[i], bytes.base[i]};

        body_pass_copy(of, slice_of(both, 2));
    }
}

static void end_doubled(struct body *of) {
}

static void of_filtered_content_the_source_hears_in_its_own_bytes(void **state) {
    static const struct body_filter doubling = {.push = push_doubled, .end = end_doubled};

    body_set_filter(&body, &doubling);
    body_push(&body, SLICE("abc"));
    assert_int_equal(body_waiting(&body), 6);
    body_collect(&body, 100);
    assert_int_equal(taken_bytes, 3);
    body_push(&body, SLICE("d"));
    body_collect_end(&body);
    body_drop(&body, 8);
    assert_int_equal(taken_bytes, 4);
}

int main(void) {
#define ON_BODY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        ON_BODY(what_is_collected_goes_beyond_the_window),
        ON_BODY(what_was_collected_can_be_said_again),
        ON_BODY(a_body_that_is_reset_collects_nothing),
        ON_BODY(of_filtered_content_the_source_hears_in_its_own_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
