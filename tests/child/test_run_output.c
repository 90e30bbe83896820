/* Standard output as a response. */
#include "child/run_output.h"

#include "child/run.h"
#include "support/unit.h"

#include <stdlib.h>

static struct loop loop;
static struct body body;
static struct run_output output;
static struct arena arena;
static max_align_t memory[64];

static void on_ready(struct body *b) {
}

static const struct body_sink_ops sink = {.ready = on_ready};

static int open_loop(void **state) {
    return loop_open(&loop, 0);
}

static int close_loop(void **state) {
    return (int)finish_loop(&loop);
}

static int begin(void **state) {
    body_init(&body, &loop);
    body_attach_sink(&body, &sink, NULL);
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int end(void **state) {
    run_output_deinit(&output);
    body_deinit(&body);
    arena_deinit(&arena);
    return 0;
}

static void push(const char *text) {
    run_output_push(&output, slice_str(text), &body);
}

/* All that waits, which is then gone. */
static const char *taken(void) {
    static char text[256 * 1024];
    uv_buf_t bufs[BODY_BUFS_MAX];
    size_t len = 0;

    while (body_waiting(&body) > 0) {
        unsigned count = body_peek(&body, bufs, BODY_BUFS_MAX);
        size_t n = 0;

        for (unsigned i = 0; i < count; n += bufs[i++].len)
            memcpy(text + len + n, bufs[i].base, bufs[i].len);
        body_drop(&body, n);
        len += n;
    }
    text[len] = '\0';
    return text;
}

static void raw_is_as_it_is(void **state) {
    run_output_init(&output, OUTPUT_RAW);
    push("a\nb");
    assert_string_equal(taken(), "a\nb");
    run_output_end(&output, 0, &body, &arena);
    assert_true(body_is_done(&body));
    assert_int_equal(body.trailers.count, 1);
    assert_memory_equal(body.trailers.list[0].name.base, "weir-exit-status", 16);
    assert_memory_equal(body.trailers.list[0].value.base, "0", 1);
}

static void a_signal_is_told_by_name_and_number(void **state) {
    run_output_init(&output, OUTPUT_RAW);
    run_output_end(&output, 9, &body, &arena);
    assert_int_equal(body.trailers.list[0].value.len, 8);
    assert_memory_equal(body.trailers.list[0].value.base, "signal 9", 8);
}

static void lines_wait_for_their_ends(void **state) {
    run_output_init(&output, OUTPUT_LINES);
    push("one\ntwo\nthr");
    assert_string_equal(taken(), "one\ntwo\n");
    push("ee");
    assert_string_equal(taken(), "");
    push("\nfour");
    assert_string_equal(taken(), "three\n");
    run_output_end(&output, 3 << 8, &body, &arena);
    assert_string_equal(taken(), "four");
    assert_memory_equal(body.trailers.list[0].value.base, "3", 1);
}

static void a_line_beyond_the_limit_is_let_go(void **state) {
    static char part[RUN_LINE_MAX / 2 + 2];

    run_output_init(&output, OUTPUT_LINES);
    memset(part, 'x', sizeof part - 1);
    push(part);
    assert_string_equal(taken(), "");
    push(part);
    assert_int_equal(strlen(taken()), RUN_LINE_MAX / 2 + 1);
    assert_true(output.line.len <= RUN_LINE_MAX);
    push("\n");
    assert_int_equal(strlen(taken()), RUN_LINE_MAX / 2 + 2);
}

static void each_line_is_an_event(void **state) {
    run_output_init(&output, OUTPUT_SSE);
    push("one\n\nt");
    assert_string_equal(taken(), "data: one\n\ndata: \n\ndata: t");
    push("wo\r");
    assert_string_equal(taken(), "wo\n\n");
    push("\nevil\rid: 7\r\n");
    assert_string_equal(taken(), "data: evil\n\ndata: id: 7\n\n");
    push("rest");
    run_output_end(&output, 15, &body, &arena);
    assert_string_equal(taken(), "data: rest\n\nevent: exit\ndata: {\"signal\":15}\n\n");
    assert_int_equal(body.trailers.count, 0);
}

static void a_head_request_gets_none_of_it(void **state) {
    run_output_init(&output, OUTPUT_SSE);
    output.is_dropped = true;
    push("one\n");
    run_output_end(&output, 0, &body, &arena);
    assert_true(body_is_done(&body));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(raw_is_as_it_is, begin, end),
        cmocka_unit_test_setup_teardown(a_signal_is_told_by_name_and_number, begin, end),
        cmocka_unit_test_setup_teardown(lines_wait_for_their_ends, begin, end),
        cmocka_unit_test_setup_teardown(a_line_beyond_the_limit_is_let_go, begin, end),
        cmocka_unit_test_setup_teardown(each_line_is_an_event, begin, end),
        cmocka_unit_test_setup_teardown(a_head_request_gets_none_of_it, begin, end),
    };

    return cmocka_run_group_tests(tests, open_loop, close_loop);
}
