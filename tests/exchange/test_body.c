/* The promises of proxy/exchange/body.h. A turn is loop_turn(); nothing else of the loop is needed.
 */
#include "exchange/body.h"

#include "base/alloc.h"
#include "support/unit.h"

#include <stdlib.h>

#define BUFS_MAX 64
#define OPERATIONS 20000

static struct loop loop;
static struct body body;
static unsigned pauses, takens, readies;
static size_t taken_bytes;
static bool had_room; /* when the source was last told of bytes taken */

static void on_pause(struct body *of) {
    assert_ptr_equal(of->source_ctx, &pauses);
    assert_false(body_has_room(of));
    pauses++;
}

static void on_taken(struct body *of, size_t n) {
    takens++;
    taken_bytes += n;
    had_room = body_has_room(of);
}

static void on_ready(struct body *of) {
    assert_ptr_equal(of->sink_ctx, &readies);
    readies++;
}

static const struct body_source_ops source = {.pause = on_pause, .taken = on_taken};
static const struct body_sink_ops sink = {.ready = on_ready};

static int set_up(void **state) {
    assert_int_equal(loop_open(&loop, 0), 0);
    body_init(&body, &loop);
    body.source = &source;
    body.source_ctx = &pauses;
    pauses = takens = readies = 0;
    taken_bytes = 0;
    return 0;
}

static int tear_down(void **state) {
    body_deinit(&body);
    return (int)finish_loop(&loop);
}

static size_t copy_all(char *to) {
    uv_buf_t bufs[BUFS_MAX];
    unsigned count = body_peek(&body, bufs, BUFS_MAX);
    size_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        memcpy(to + len, bufs[i].base, bufs[i].len);
        len += bufs[i].len;
    }
    return len;
}

static void assert_holds(const char *text) {
    char seen[256];
    size_t len = copy_all(seen);

    assert_int_equal(len, strlen(text));
    assert_memory_equal(seen, text, len);
    assert_int_equal(body_waiting(&body), len);
}

static void bytes_taken_in_the_turn_are_never_copied(void **state) {
    static const char read[] = "hello world";
    uv_buf_t bufs[4];

    body_push(&body, slice_of(read, 5));
    body_push(&body, slice_of(read + 5, 6));
    assert_int_equal(body_peek(&body, bufs, 4), 2);
    assert_ptr_equal(bufs[0].base, read);
    assert_ptr_equal(bufs[1].base, read + 5);
    body_drop(&body, 11);
    loop_turn(&loop);
    assert_int_equal(body.held.bytes, 0);
    assert_null(body.held.first);
    assert_int_equal(loop.chunk_count, 0); /* and none was used in between */
    assert_int_equal(taken_bytes, 11);
}

static void what_is_left_at_the_end_of_the_turn_is_copied(void **state) {
    char read[] = "hello world";

    body_push(&body, slice_of(read, 11));
    body_drop(&body, 4);
    loop_turn(&loop);
    memset(read, 'x', 11); /* the next read */
    assert_holds("o world");
    assert_int_equal(body.borrowed_count, 0);
    assert_int_equal(body.held.bytes, 7);
}

static void push_copy_copies_at_once(void **state) {
    char kept[] = "head", moving[] = "tail";

    body_push(&body, slice_of(kept, 4));
    body_push_copy(&body, slice_of(moving, 4));
    memset(moving, 'x', 4);
    memset(kept, 'x', 4);
    assert_holds("headtail");
}

static void order_is_kept_between_held_and_borrowed_bytes(void **state) {
    char first[] = "one ", second[] = "two ";

    body_push(&body, slice_of(first, 4));
    loop_turn(&loop);
    body_push(&body, slice_of(second, 4));
    assert_holds("one two ");
    body_drop(&body, 6); /* into the borrowed ones */
    assert_holds("o ");
    body_push(&body, SLICE("three"));
    assert_holds("o three");
    loop_turn(&loop);
    assert_holds("o three");
    body_drop(&body, 7);
    assert_holds("");
}

static void more_runs_than_are_borrowed_are_copied_and_keep_their_order(void **state) {
    char read[3 * BODY_BORROWED_MAX + 1] = {0}, seen[sizeof read];

    for (size_t i = 0; i < sizeof read - 1; i++) {
        read[i] = (char)('A' + i);
        body_push(&body, slice_of(read + i, 1));
        assert_true(body.borrowed_count <= BODY_BORROWED_MAX);
        assert_int_equal(copy_all(seen), i + 1);
        assert_memory_equal(seen, read, i + 1);
    }
    assert_int_equal(body.held.bytes + body.borrowed_count, sizeof read - 1);
    assert_true(body.held.bytes > 0);
}

static void runs_that_are_dropped_make_place_for_others(void **state) {
    static const char read[] = "x";

    for (unsigned i = 0; i < 10 * BODY_BORROWED_MAX; i++) {
        body_push(&body, slice_of(read, 1));
        body_push(&body, slice_of(read, 1));
        body_drop(&body, 1);
        assert_int_equal(body_waiting(&body), i + 1);
    }
    loop_turn(&loop);
    assert_int_equal(body.held.bytes, 10 * BODY_BORROWED_MAX);
}

static void a_full_window_pauses_the_source_and_room_resumes_it(void **state) {
    char *read = xcalloc(1, 2 * BODY_WINDOW_BYTES);

    body_push(&body, slice_of(read, BODY_WINDOW_BYTES - 1));
    loop_turn(&loop);
    assert_int_equal(pauses, 0);
    body_push(&body, slice_of(read, BODY_WINDOW_BYTES)); /* the one read that may come yet */
    assert_int_equal(pauses, 0);                         /* the sink may take it in this turn */
    loop_turn(&loop);
    assert_int_equal(pauses, 1);
    body_drop(&body, BODY_WINDOW_BYTES - 1);
    assert_false(had_room);
    body_drop(&body, 1);
    assert_true(had_room);
    assert_int_equal(takens, 2);
    free(read);
}

static void what_the_sink_takes_in_the_turn_pauses_nobody(void **state) {
    char *read = xcalloc(1, 2 * BODY_WINDOW_BYTES);

    for (unsigned i = 0; i < 10; i++) {
        body_push(&body, slice_of(read, 2 * BODY_WINDOW_BYTES));
        body_drop(&body, 2 * BODY_WINDOW_BYTES);
        loop_turn(&loop);
    }
    assert_int_equal(pauses, 0);
    free(read);
}

static void pushing_tells_the_sink_only_when_flushed(void **state) {
    body_attach_sink(&body, &sink, &readies);
    assert_int_equal(readies, 0); /* there is nothing yet */
    body_push(&body, SLICE("a"));
    body_push_copy(&body, SLICE("b"));
    body_end(&body);
    assert_int_equal(readies, 0);
    body_flush(&body);
    assert_int_equal(readies, 1);
}

static void a_sink_that_comes_late_hears_of_what_waits(void **state) {
    body_push(&body, SLICE("a"));
    body_flush(&body); /* to nobody */
    body_attach_sink(&body, &sink, &readies);
    assert_int_equal(readies, 1);
}

static void a_sink_that_comes_after_the_end_hears_of_it(void **state) {
    body_end(&body);
    body_attach_sink(&body, &sink, &readies);
    assert_int_equal(readies, 1);
    assert_true(body_is_done(&body));
}

static void an_ended_body_is_done_when_all_is_taken(void **state) {
    body_push(&body, SLICE("abc"));
    assert_false(body_is_done(&body));
    body_end(&body);
    assert_false(body_is_done(&body));
    body_drop(&body, 2);
    assert_false(body_is_done(&body));
    body_drop(&body, 1);
    assert_true(body_is_done(&body));
    body_push(&body, SLICE("too late"));
    assert_int_equal(body_waiting(&body), 0);
    assert_int_equal(body.pushed, 3);
}

static void a_reset_drops_everything_and_tells_at_once(void **state) {
    char read[] = "borrowed";

    body_push_copy(&body, SLICE("held"));
    body_push(&body, slice_of(read, 8));
    body_attach_sink(&body, &sink, &readies);
    readies = 0;
    body_reset(&body, FAIL_CLIENT_GONE);
    assert_int_equal(readies, 1);
    assert_int_equal(body.state, BODY_RESET);
    assert_int_equal(body.fail, FAIL_CLIENT_GONE);
    assert_int_equal(body_waiting(&body), 0);
    assert_holds("");
    assert_false(body_is_done(&body));
    body_push(&body, SLICE("dropped"));
    body_push_copy(&body, SLICE("dropped"));
    body_end(&body);
    assert_int_equal(body.state, BODY_RESET);
    body_reset(&body, FAIL_INTERNAL); /* the first reason stays */
    assert_int_equal(body.fail, FAIL_CLIENT_GONE);
    assert_int_equal(readies, 1);
    loop_turn(&loop);
    assert_int_equal(body.held.bytes, 0);
}

static void an_ended_body_can_still_be_reset(void **state) {
    body_push(&body, SLICE("half sent"));
    body_end(&body);
    body_reset(&body, FAIL_INTERNAL);
    assert_int_equal(body.state, BODY_RESET);
    assert_int_equal(body_waiting(&body), 0);
}

static void after_deinit_nobody_hears_anything(void **state) {
    body_attach_sink(&body, &sink, &readies);
    body_push(&body, SLICE("abc"));
    body_deinit(&body);
    loop_turn(&loop);
    assert_int_equal(body.held.bytes, 0);
    assert_int_equal(readies + pauses + takens, 0);
}

static void the_time_of_the_last_byte_is_kept(void **state) {
    loop.now_ns += 5;
    body_push(&body, SLICE("abc"));
    assert_int_equal(body.moved_ns, loop.now_ns);
    loop.now_ns += 5;
    body_flush(&body);
    assert_int_equal(body.moved_ns, loop.now_ns - 5);
    body_drop(&body, 3);
    assert_int_equal(body.moved_ns, loop.now_ns);
}

static void kept_content_is_said_again_and_the_source_hears_of_it_once(void **state) {
    body_keep(&body);
    body_push_copy(&body, SLICE("abc"));
    body_push(&body, SLICE("def"));
    body_drop(&body, 2);
    body_drop(&body, 2);
    assert_int_equal(taken_bytes, 4);
    assert_true(body_may_rewind(&body));
    body_rewind(&body);
    assert_holds("abcdef");
    body_push(&body, SLICE("g"));
    assert_holds("abcdefg");
    body_drop(&body, 3);
    assert_int_equal(taken_bytes, 4);
    body_drop(&body, 3);
    assert_int_equal(taken_bytes, 6);
    assert_holds("g");
    body_end(&body);
    body_drop(&body, 1);
    assert_int_equal(taken_bytes, 7);
    assert_true(body_is_done(&body));
}

static void content_can_be_said_as_often_as_it_is_kept(void **state) {
    for (unsigned i = 0; i < 3; i++) {
        body_keep(&body);
        if (i == 0)
            body_push(&body, SLICE("abc"));
        body_drop(&body, 3);
        body_rewind(&body);
        assert_holds("abc");
    }
    assert_int_equal(taken_bytes, 3);
    body_keep(&body);
    body_drop(&body, 1);
    body_forget(&body);
    assert_false(body_may_rewind(&body));
    assert_int_equal(body.kept.bytes, 0);
    assert_holds("bc");
}

static void no_more_than_the_bound_is_kept(void **state) {
    char *much = xcalloc(1, BODY_KEPT_MAX + 1);

    body_keep(&body);
    body_push(&body, slice_of(much, BODY_KEPT_MAX));
    body_drop(&body, BODY_KEPT_MAX);
    assert_int_equal(body.kept.bytes, BODY_KEPT_MAX);
    assert_true(body_may_rewind(&body));
    body_push(&body, slice_of(much, 1));
    body_drop(&body, 1);
    assert_int_equal(body.kept.bytes, 0);
    assert_false(body_may_rewind(&body));
    free(much);
}

static void a_reset_forgets_what_was_kept(void **state) {
    body_keep(&body);
    body_push(&body, SLICE("abc"));
    body_drop(&body, 3);
    body_reset(&body, FAIL_INTERNAL);
    assert_false(body_may_rewind(&body));
    assert_int_equal(body.kept.bytes, 0);
}

/* Any mixture of pushes, drops and turns gives the bytes in order, once each. */
static void nothing_is_lost_doubled_or_turned_around(void **state) {
    static char read[4096];
    uint64_t seed = 5;
    uint8_t next_in = 0, next_out = 0;

    for (unsigned i = 0; i < OPERATIONS; i++) {
        size_t used = 0;

        for (uint64_t runs = rnd(&seed) % 20; runs > 0 && used < sizeof read; runs--) {
            size_t n = 1 + rnd(&seed) % (sizeof read - used);

            n = rnd(&seed) % 2 ? 1 + n % 8 : n;
            n = n < sizeof read - used ? n : sizeof read - used;
            for (size_t j = 0; j < n; j++)
                read[used + j] = (char)next_in++;
            if (rnd(&seed) % 4)
                body_push(&body, slice_of(read + used, n));
            else
                body_push_copy(&body, slice_of(read + used, n));
            used += n;
        }
        for (uint64_t drops = rnd(&seed) % 4; drops > 0; drops--) {
            uv_buf_t buf;
            size_t n;

            if (body_peek(&body, &buf, 1) == 0)
                break;
            n = rnd(&seed) % 4 ? buf.len : rnd(&seed) % (buf.len + 1);
            for (size_t j = 0; j < n; j++)
                assert_int_equal((uint8_t)buf.base[j], next_out++);
            body_drop(&body, n);
        }
        if (rnd(&seed) % 2 || used == sizeof read) {
            loop_turn(&loop);
            memset(read, 0xee, sizeof read);
        }
        loop_turn(&loop);
        if (body_waiting(&body) > BODY_WINDOW_BYTES) {
            next_out = (uint8_t)(next_out + body_waiting(&body));
            body_drop(&body, body_waiting(&body));
        }
    }
    assert_int_equal((uint8_t)(next_out + body_waiting(&body)), next_in);
    assert_int_equal(taken_bytes + body_waiting(&body), body.pushed);
}

/* A filter that says every byte three times, keeps back the last of what it is given until it is
 * flushed, and ends with "!"; '#' is too much for it. */
static char kept_back;

static void say_thrice(struct body *of, char c) {
    char text[] = {c, c, c};

    body_pass_copy(of, slice_of(text, c ? sizeof text : 0));
}

static void triple(struct body *of, struct slice bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.base[i] == '#') {
            body_reset(of, FAIL_INTERNAL);
            return;
        }
        say_thrice(of, kept_back);
        kept_back = bytes.base[i];
    }
}

static void triple_rest(struct body *of) {
    say_thrice(of, kept_back);
    kept_back = 0;
}

static void exclaim(struct body *of) {
    triple_rest(of);
    body_pass(of, SLICE("!"));
}

static const struct body_filter filter = {.push = triple, .flush = triple_rest, .end = exclaim};

static void put_filter(void) {
    kept_back = 0;
    body_set_filter(&body, &filter);
}

static void a_filter_sees_what_came_before_it_and_after(void **state) {
    body_push(&body, SLICE("ab"));
    put_filter();
    body_push(&body, SLICE("c"));
    assert_holds("aaabbb");
    body_flush(&body);
    assert_holds("aaabbbccc");
    assert_int_equal(body.pushed, 9);
    body_push_copy(&body, SLICE("d"));
    body_end(&body);
    body_flush(&body);
    assert_holds("aaabbbcccddd!");
    assert_int_equal(body.state, BODY_ENDED);
}

static void a_filter_sees_an_end_that_came_before_it(void **state) {
    body_push(&body, SLICE("a"));
    body_end(&body);
    put_filter();
    assert_holds("aaa!");
    assert_int_equal(body.state, BODY_ENDED);
}

static void a_filter_may_refuse(void **state) {
    body.sink = &sink;
    body.sink_ctx = &readies;
    body_push(&body, SLICE("a#"));
    body_end(&body);
    put_filter();
    assert_int_equal(body.state, BODY_RESET);
    assert_int_equal(body.fail, FAIL_INTERNAL);
    assert_int_equal(readies, 1);
    body_push(&body, SLICE("b"));
    body_end(&body);
    body_flush(&body);
    assert_int_equal(body.state, BODY_RESET);
}

static void the_source_hears_of_its_own_bytes(void **state) {
    put_filter();
    body_push(&body, SLICE("abcd"));
    body_flush(&body);
    assert_holds("aaabbbcccddd");
    body_drop(&body, 6);
    assert_int_equal(taken_bytes, 2);
    body_drop(&body, 1);
    assert_int_equal(taken_bytes, 2);
    body_drop(&body, 5);
    assert_int_equal(taken_bytes, 4);
    body_push(&body, SLICE("e"));
    body_flush(&body);
    body_drop(&body, 3);
    assert_int_equal(taken_bytes, 5);
}

static void what_a_filter_made_is_said_again(void **state) {
    body_keep(&body);
    put_filter();
    body_push(&body, SLICE("ab"));
    body_flush(&body);
    body_drop(&body, 4);
    assert_int_equal(taken_bytes, 1);
    body_rewind(&body);
    assert_holds("aaabbb");
    body_drop(&body, 4);
    assert_int_equal(taken_bytes, 1);
    body_drop(&body, 2);
    assert_int_equal(taken_bytes, 2);
}

static void an_early_end_is_filtered_too(void **state) {
    put_filter();
    body_push(&body, SLICE("a"));
    body_flush(&body);
    body_drop(&body, 3);
    body_reset(&body, FAIL_INTERNAL);
    body_end_early(&body);
    assert_holds("!");
    assert_int_equal(body.state, BODY_ENDED);
}

/* Notes what it sees, and lets only the first byte of it pass. */
static char seen[16];

static size_t see(struct body *of, struct slice bytes) {
    strncat(seen, bytes.base, bytes.len);
    return 1;
}

static void a_tap_sees_what_came_before_it_and_after(void **state) {
    seen[0] = '\0';
    body_push_copy(&body, SLICE("ab"));
    body_push(&body, SLICE("c"));
    body_set_tap(&body, see);
    assert_string_equal(seen, "abc");
    body_push(&body, SLICE("de"));
    assert_string_equal(seen, "abcde");
    assert_holds("abcd");
    body_set_tap(&body, NULL);
    body_push(&body, SLICE("fg"));
    assert_string_equal(seen, "abcde");
    assert_holds("abcdfg");
}

#define ON_BODY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BODY(bytes_taken_in_the_turn_are_never_copied),
        ON_BODY(what_is_left_at_the_end_of_the_turn_is_copied),
        ON_BODY(push_copy_copies_at_once),
        ON_BODY(order_is_kept_between_held_and_borrowed_bytes),
        ON_BODY(more_runs_than_are_borrowed_are_copied_and_keep_their_order),
        ON_BODY(runs_that_are_dropped_make_place_for_others),
        ON_BODY(a_full_window_pauses_the_source_and_room_resumes_it),
        ON_BODY(what_the_sink_takes_in_the_turn_pauses_nobody),
        ON_BODY(pushing_tells_the_sink_only_when_flushed),
        ON_BODY(a_sink_that_comes_late_hears_of_what_waits),
        ON_BODY(a_sink_that_comes_after_the_end_hears_of_it),
        ON_BODY(an_ended_body_is_done_when_all_is_taken),
        ON_BODY(a_reset_drops_everything_and_tells_at_once),
        ON_BODY(an_ended_body_can_still_be_reset),
        ON_BODY(after_deinit_nobody_hears_anything),
        ON_BODY(the_time_of_the_last_byte_is_kept),
        ON_BODY(kept_content_is_said_again_and_the_source_hears_of_it_once),
        ON_BODY(content_can_be_said_as_often_as_it_is_kept),
        ON_BODY(no_more_than_the_bound_is_kept),
        ON_BODY(a_reset_forgets_what_was_kept),
        ON_BODY(a_filter_sees_what_came_before_it_and_after),
        ON_BODY(a_filter_sees_an_end_that_came_before_it),
        ON_BODY(a_filter_may_refuse),
        ON_BODY(the_source_hears_of_its_own_bytes),
        ON_BODY(what_a_filter_made_is_said_again),
        ON_BODY(an_early_end_is_filtered_too),
        ON_BODY(a_tap_sees_what_came_before_it_and_after),
        ON_BODY(nothing_is_lost_doubled_or_turned_around),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
