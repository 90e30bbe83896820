/* What h1_write.h promises: framing is written anew, everything else as given. */
#include "codec/h1_write.h"

#include "codec/h1_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char memory[4096];
static struct arena arena;

static struct fields fields_of(const char *const *lines) {
    struct fields fields = {0};

    for (; *lines; lines += 2)
        fields_add(&fields, &arena, field_id_of(slice_str(lines[0])), slice_str(lines[0]),
                   slice_str(lines[1]));
    return fields;
}

static const char *const some[] = {
    "A", "b", "content-length", "7", "Transfer-Encoding", "chunked", "C", "", NULL};

static void assert_text(struct buffer *out, const char *expect) {
    buffer_append_char(out, '\0');
    assert_string_equal(out->base, expect);
    buffer_deinit(out);
}

static void check_request(enum target_form form, struct content content, const char *expect) {
    struct request_head head = {
        .form = form,
        .method_text = SLICE("PUT"),
        .authority = SLICE("a:80"),
        .path = SLICE("/b?c"),
    };
    struct buffer out = {0};

    arena_init(&arena, memory, sizeof memory);
    head.fields = fields_of(some);
    h1_write_request(&out, &head, content);
    assert_text(&out, expect);
    arena_deinit(&arena);
}

static void a_request_is_written_in_origin_form(void **state) {
    check_request(TARGET_ABSOLUTE, (struct content){CONTENT_NONE, 0},
                  "PUT /b?c HTTP/1.1\r\nHost: a:80\r\nA: b\r\nC: \r\n\r\n");
}

static void connect_is_written_in_authority_form(void **state) {
    check_request(TARGET_AUTHORITY, (struct content){CONTENT_NONE, 0},
                  "PUT a:80 HTTP/1.1\r\nHost: a:80\r\nA: b\r\nC: \r\n\r\n");
}

static void a_request_gets_its_own_length(void **state) {
    check_request(TARGET_ORIGIN, (struct content){CONTENT_LENGTH, UINT64_MAX},
                  "PUT /b?c HTTP/1.1\r\nHost: a:80\r\nA: b\r\nC: \r\n"
                  "Content-Length: 18446744073709551615\r\n\r\n");
}

static void a_request_gets_its_own_coding(void **state) {
    check_request(TARGET_ORIGIN, (struct content){CONTENT_CHUNKED, 0},
                  "PUT /b?c HTTP/1.1\r\nHost: a:80\r\nA: b\r\nC: \r\n"
                  "Transfer-Encoding: chunked\r\n\r\n");
}

static void check_response(struct content content, const char *connection, bool show_length,
                           const char *expect) {
    struct response_head head = {.status = 207, .version = HTTP_1_0, .reason = SLICE("x y")};
    struct buffer out = {0};

    arena_init(&arena, memory, sizeof memory);
    head.fields = fields_of(some);
    h1_write_response(&out, &head, content, slice_str(connection), show_length);
    assert_text(&out, expect);
    arena_deinit(&arena);
}

static void a_response_is_always_1_1(void **state) {
    check_response((struct content){CONTENT_CLOSE, 0}, "close", false,
                   "HTTP/1.1 207 x y\r\nA: b\r\nC: \r\nConnection: close\r\n\r\n");
}

static void a_response_gets_its_own_length(void **state) {
    check_response((struct content){CONTENT_LENGTH, 0}, "", false,
                   "HTTP/1.1 207 x y\r\nA: b\r\nC: \r\nContent-Length: 0\r\n\r\n");
}

static void a_response_gets_its_own_coding(void **state) {
    check_response((struct content){CONTENT_CHUNKED, 0}, "", false,
                   "HTTP/1.1 207 x y\r\nA: b\r\nC: \r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void an_answer_to_head_shows_its_length(void **state) {
    check_response((struct content){CONTENT_NONE, 0}, "", true,
                   "HTTP/1.1 207 x y\r\nA: b\r\ncontent-length: 7\r\nC: \r\n\r\n");
}

static void trailers_follow_the_last_chunk(void **state) {
    struct buffer out = {0};
    struct fields fields;

    arena_init(&arena, memory, sizeof memory);
    fields = fields_of(some);
    h1_write_last_chunk(&out, &fields);
    assert_text(&out, "0\r\nA: b\r\nC: \r\n\r\n");
    fields.count = 0;
    h1_write_last_chunk(&out, &fields);
    assert_text(&out, "0\r\n\r\n");
    arena_deinit(&arena);
}

static void chunk_sizes_are_hexadecimal(void **state) {
    static const size_t sizes[] = {0, 1, 9, 10, 15, 16, 255, 256, 0x1f4, 0x10000, SIZE_MAX};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char to[18], expect[24];
        size_t len = h1_write_chunk_size(to, sizes[i]);

        assert_int_equal(len, snprintf(expect, sizeof expect, "%zx\r\n", sizes[i]));
        assert_memory_equal(to, expect, len);
    }
}

static void reasons_are_the_registered_ones(void **state) {
    assert_true(slice_equal(h1_reason(200), SLICE("OK")));
    assert_true(slice_equal(h1_reason(431), SLICE("Request Header Fields Too Large")));
    assert_true(slice_equal(h1_reason(299), SLICE("Unknown")));
}

static void what_is_written_parses_again(void **state) {
    static const struct h1_limits limits = {.head_bytes = 512, .target_bytes = 64, .fields = 8};
    struct request_head head = {.method = METHOD_PUT,
                                .method_text = SLICE("PUT"),
                                .authority = SLICE("a"),
                                .path = SLICE("/b")},
                        again;
    struct buffer out = {0};
    struct content content;
    const char *why;
    size_t used;

    arena_init(&arena, memory, sizeof memory);
    head.fields = fields_of(some);
    h1_write_request(&out, &head, (struct content){CONTENT_LENGTH, 3});
    assert_int_equal(
        h1_parse_request(buffer_slice(&out), 0, &limits, &arena, &again, &content, &used, &why),
        H1_DONE);
    assert_int_equal(content.length, 3);
    assert_int_equal(again.fields.count, 3);
    buffer_deinit(&out);
    arena_deinit(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_written_in_origin_form),
        cmocka_unit_test(connect_is_written_in_authority_form),
        cmocka_unit_test(a_request_gets_its_own_length),
        cmocka_unit_test(a_request_gets_its_own_coding),
        cmocka_unit_test(a_response_is_always_1_1),
        cmocka_unit_test(a_response_gets_its_own_length),
        cmocka_unit_test(a_response_gets_its_own_coding),
        cmocka_unit_test(an_answer_to_head_shows_its_length),
        cmocka_unit_test(trailers_follow_the_last_chunk),
        cmocka_unit_test(chunk_sizes_are_hexadecimal),
        cmocka_unit_test(reasons_are_the_registered_ones),
        cmocka_unit_test(what_is_written_parses_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
