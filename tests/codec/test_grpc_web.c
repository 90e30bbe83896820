/* Tests proxy/codec/grpc_web.c. */
#include "codec/grpc_web.h"

#include "codec/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static _Alignas(max_align_t) char memory[4096];
static struct arena arena;

static int set_up(void **state) {
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int tear_down(void **state) {
    arena_deinit(&arena);
    return 0;
}

static void add(struct fields *to, enum field_id id, const char *value) {
    fields_add(to, &arena, id, field_name(id), slice_str(value));
}

static void assert_text(struct slice is, const char *expected) {
    assert_int_equal(is.len, strlen(expected));
    assert_memory_equal(is.base, expected, is.len);
}

static void the_form_is_in_the_media_type(void **state) {
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc-web")), GRPC_WEB_BINARY);
    assert_int_equal(grpc_web_form_of(SLICE("Application/gRPC-Web+proto")), GRPC_WEB_BINARY);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc-web;q=1")), GRPC_WEB_BINARY);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc-web-text")), GRPC_WEB_TEXT);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc-web-text+thrift")), GRPC_WEB_TEXT);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc")), GRPC_WEB_NONE);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc+proto")), GRPC_WEB_NONE);
    assert_int_equal(grpc_web_form_of(SLICE("application/grpc-web-texts")), GRPC_WEB_NONE);
    assert_int_equal(grpc_web_form_of(SLICE("")), GRPC_WEB_NONE);
}

static void the_answer_is_in_the_form_that_is_accepted_else_in_that_of_the_request(void **state) {
    static const struct {
        const char *accept, *type;
        enum grpc_web_form form;
    } cases[] = {
        {NULL, "application/grpc-web", GRPC_WEB_BINARY},
        {NULL, "application/grpc-web-text", GRPC_WEB_TEXT},
        {"*/*", "application/grpc-web-text+proto", GRPC_WEB_TEXT},
        {"application/grpc-web-text", "application/grpc-web", GRPC_WEB_TEXT},
        {"text/html, application/grpc-web+proto;q=0.5", "application/grpc-web-text",
         GRPC_WEB_BINARY},
        {"application/grpc-web-text, application/grpc-web", "application/grpc-web", GRPC_WEB_TEXT},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fields fields = {0};

        if (cases[i].accept)
            add(&fields, FIELD_ACCEPT, cases[i].accept);
        add(&fields, FIELD_CONTENT_TYPE, cases[i].type);
        assert_int_equal(grpc_web_answer_form(&fields), cases[i].form);
    }
}

static void the_message_format_stays(void **state) {
    assert_text(grpc_web_to_grpc(&arena, SLICE("application/grpc-web")), "application/grpc");
    assert_text(grpc_web_to_grpc(&arena, SLICE("application/grpc-web-text+json")),
                "application/grpc+json");
    assert_text(grpc_web_to_grpc(&arena, SLICE("application/grpc-web+proto ; a=b+c")),
                "application/grpc+proto");
    assert_text(grpc_web_to_grpc(&arena, SLICE("application/grpc-web;a=b+c")), "application/grpc");
    assert_text(grpc_web_from_grpc(&arena, SLICE("application/grpc+proto"), GRPC_WEB_TEXT),
                "application/grpc-web-text+proto");
    assert_text(grpc_web_from_grpc(&arena, SLICE("application/grpc"), GRPC_WEB_BINARY),
                "application/grpc-web");
}

static void trailers_are_a_message_of_lines(void **state) {
    struct fields fields = {0};
    struct slice frame;

    add(&fields, FIELD_GRPC_STATUS, "5");
    add(&fields, FIELD_GRPC_MESSAGE, "");
    fields_add(&fields, &arena, FIELD_OTHER, SLICE("x-more-bin"), SLICE("AAE"));
    frame = grpc_web_trailers(&arena, &fields);
    assert_true(frame.len > GRPC_PREFIX_BYTES);
    assert_memory_equal(frame.base, "\x80\0\0\0\x31", GRPC_PREFIX_BYTES);
    assert_text(slice_skip(frame, GRPC_PREFIX_BYTES),
                "grpc-status: 5\r\ngrpc-message: \r\nx-more-bin: AAE\r\n");
}

/* Beyond what fits in one byte of the length. */
static void long_trailers_say_how_long_they_are(void **state) {
    static char value[70000];
    struct fields fields = {0};
    struct slice frame;

    memset(value, 'x', sizeof value - 1);
    add(&fields, FIELD_GRPC_MESSAGE, value);
    frame = grpc_web_trailers(&arena, &fields);
    assert_memory_equal(frame.base, "\x80\0\x01\x11\x7f", GRPC_PREFIX_BYTES);
    assert_int_equal(frame.len, GRPC_PREFIX_BYTES + 0x1117f);
}

#define ON_ARENA(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_form_is_in_the_media_type),
        ON_ARENA(the_answer_is_in_the_form_that_is_accepted_else_in_that_of_the_request),
        ON_ARENA(the_message_format_stays),
        ON_ARENA(trailers_are_a_message_of_lines),
        ON_ARENA(long_trailers_say_how_long_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
