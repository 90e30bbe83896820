/* What h2_message gives nghttp2 to submit: which fields may stay in its table, and what is copied.
 */
#include "codec/h2_message.h"
#include "support/unit.h"

static struct arena arena;
static char memory[4096];
static struct h2_block block;

static int set_up(void **state) {
    arena_init(&arena, memory, sizeof memory);
    return 0;
}

static int tear_down(void **state) {
    h2_block_deinit(&block);
    block = (struct h2_block){0};
    arena_deinit(&arena);
    return 0;
}

static void add(struct fields *fields, const char *name, const char *value) {
    struct slice text = slice_str(name);
    enum field_id id = field_id_of(text);

    fields_add(fields, &arena, id, id ? field_name(id) : text, slice_str(value));
}

static unsigned flags_of(const char *name) {
    for (size_t i = 0; i < h2_block_count(&block); i++) {
        const nghttp2_nv *line = &h2_block_list(&block)[i];

        if (slice_equal(slice_of((const char *)line->name, line->namelen), slice_str(name)))
            return line->flags;
    }
    fail_msg("no line '%s'", name);
    return 0;
}

static void what_never_comes_again_stays_out_of_the_table(void **state) {
    struct request_head head = {.method = METHOD_POST, .method_text = SLICE("POST")};

    add(&head.fields, "x-request-id", "0123456789abcdef");
    add(&head.fields, "traceparent", "00-1-2-3");
    add(&head.fields, "grpc-timeout", "99u");
    add(&head.fields, "user-agent", "me");
    add(&head.fields, "x-mine", "1");
    h2_write_request(&block, &head, (struct content){CONTENT_NONE, 0}, false);
    assert_true(flags_of("x-request-id") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_true(flags_of("traceparent") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_true(flags_of("grpc-timeout") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_false(flags_of("user-agent") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_false(flags_of("x-mine") & NGHTTP2_NV_FLAG_NO_INDEX);
}

static void a_teaching_head_puts_names_into_the_table_but_no_secrets(void **state) {
    struct request_head head = {.method = METHOD_POST, .method_text = SLICE("POST")};

    add(&head.fields, "x-request-id", "0123456789abcdef");
    add(&head.fields, "traceparent", "00-1-2-3");
    head.fields.list[1].is_secret = true;
    h2_write_request(&block, &head, (struct content){CONTENT_NONE, 0}, true);
    assert_false(flags_of("x-request-id") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_true(flags_of("traceparent") & NGHTTP2_NV_FLAG_NO_INDEX);
}

static size_t packed(nghttp2_hd_deflater *deflater, const struct request_head *head,
                     bool is_teaching) {
    static uint8_t bytes[1000];
    ssize_t n;

    h2_write_request(&block, head, (struct content){CONTENT_NONE, 0}, is_teaching);
    n = nghttp2_hd_deflate_hd(deflater, bytes, sizeof bytes, h2_block_list(&block),
                              h2_block_count(&block));
    assert_true(n > 0);
    return (size_t)n;
}

static void a_name_that_was_taught_is_no_longer_spelt_out(void **state) {
    struct request_head head = {.method = METHOD_POST, .method_text = SLICE("POST")};
    nghttp2_hd_deflater *deflater;
    size_t spelt;

    assert_int_equal(nghttp2_hd_deflate_new(&deflater, 4096), 0);
    add(&head.fields, "x-request-id", "0123456789abcdef");
    packed(deflater, &head, false); /* what else there is is known from then on */
    spelt = packed(deflater, &head, false);
    packed(deflater, &head, true);
    assert_true(packed(deflater, &head, false) + 8 <= spelt);
    nghttp2_hd_deflate_del(deflater);
}

/* They may be in upper case, and die with their exchange. */
static void names_that_came_with_the_message_are_copied(void **state) {
    struct response_head head = {.status = 200};

    add(&head.fields, "X-Mine", "1");
    fields_add(&head.fields, &arena, FIELD_SERVER, SLICE("Server"), SLICE("s"));
    add(&head.fields, "date", "now");
    h2_write_response(&block, &head, (struct content){CONTENT_LENGTH, 1}, false);
    assert_false(flags_of("X-Mine") & NGHTTP2_NV_FLAG_NO_COPY_NAME);
    assert_false(flags_of("Server") & NGHTTP2_NV_FLAG_NO_COPY_NAME);
    assert_true(flags_of("date") & NGHTTP2_NV_FLAG_NO_COPY_NAME);
    assert_int_equal(h2_block_count(&block), 5);
}

static void what_may_not_be_indexed_is_not(void **state) {
    const struct h1_limits limits = {.head_bytes = 1000, .fields = 10};
    struct h2_reading reading;
    struct response_head head = {.status = 200};

    h2_read_begin(&reading, &limits, &arena);
    assert_true(h2_read_field(&reading, SLICE("x-key"), SLICE("1"), NGHTTP2_NV_FLAG_NO_INDEX));
    assert_true(h2_read_field(&reading, SLICE("x-mine"), SLICE("1"), NGHTTP2_NV_FLAG_NONE));
    head.fields = reading.fields;
    h2_write_response(&block, &head, (struct content){CONTENT_NONE, 0}, false);
    assert_true(flags_of("x-key") & NGHTTP2_NV_FLAG_NO_INDEX);
    assert_false(flags_of("x-mine") & NGHTTP2_NV_FLAG_NO_INDEX);
}

static void any_number_of_fields_is_written(void **state) {
    struct request_head head = {.method = METHOD_GET, .method_text = SLICE("GET")};

    for (unsigned i = 0; i < 40; i++) {
        add(&head.fields, "x-mine", "1");
        h2_write_request(&block, &head, (struct content){CONTENT_LENGTH, 7}, false);
        assert_int_equal(h2_block_count(&block), i + 1 + 5);
    }
}

int main(void) {
#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_ARENA(what_never_comes_again_stays_out_of_the_table),
        WITH_ARENA(a_teaching_head_puts_names_into_the_table_but_no_secrets),
        WITH_ARENA(a_name_that_was_taught_is_no_longer_spelt_out),
        WITH_ARENA(names_that_came_with_the_message_are_copied),
        WITH_ARENA(what_may_not_be_indexed_is_not),
        WITH_ARENA(any_number_of_fields_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
