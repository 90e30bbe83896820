/* What becomes of a handler's answer, without any handler. */
#include "fixture.h"

#include "gateway/handling.h"

#define TEXT(literal) ((struct slice){(literal), sizeof(literal) - 1})

static struct handling handling;
static struct config_handler audit = {.name = (char *)"audit"};

static int open_fixture(void **state) {
    int err = fixture_open(state);
    struct fixture *f = *state;

    handling = (struct handling){0};
    if (!err)
        f->c->handling = &handling;
    return err;
}

static enum handling_outcome apply(struct fixture *f, const struct call_answer *answer) {
    return handling_apply(f->c, &audit, answer);
}

static void edit(struct fixture *f, enum call_edit_kind kind, struct slice name,
                 struct slice value) {
    struct call_edit one = {kind, name, value};

    assert_int_equal(apply(f, &(struct call_answer){.edits = &one, .edit_count = 1}),
                     HANDLING_DONE);
}

static void to_set_replaces_the_first_and_removes_the_others(void **state) {
    struct fixture *f = *state;
    const struct fields *fields = &f->c->x.request_head.fields;

    fixture_ask(f, "X-A", "1");
    fixture_ask(f, "accept", "*/*");
    fixture_ask(f, "x-a", "2");
    edit(f, CALL_SET_FIELD, TEXT("x-A"), TEXT("new"));
    EXPECT(f, fields, "x-a", "new");
    assert_int_equal(fields->count, 2);
    assert_true(slice_equal(fields->list[0].value, SLICE("new")));
    edit(f, CALL_SET_FIELD, TEXT("x-b"), TEXT("one"));
    EXPECT(f, fields, "x-b", "one");
    edit(f, CALL_ADD_FIELD, TEXT("x-b"), TEXT("more"));
    EXPECT(f, fields, "x-b", "one | more");
    edit(f, CALL_REMOVE_FIELD, TEXT("X-B"), TEXT(""));
    EXPECT(f, fields, "x-b", ABSENT);
    edit(f, CALL_REMOVE_FIELD, TEXT("x-none"), TEXT(""));
    assert_int_equal(fields->count, 2);
}

static void what_is_edited_is_known_by_its_id(void **state) {
    struct fixture *f = *state;

    edit(f, CALL_SET_FIELD, TEXT("Content-Type"), TEXT("text/plain"));
    assert_non_null(fields_find(&f->c->x.request_head.fields, FIELD_CONTENT_TYPE));
}

static void the_answer_may_go_away(void **state) {
    struct fixture *f = *state;
    char name[] = "x-a", value[] = "1", path[] = "/new", key[] = "user", user[] = "jo";
    struct call_edit one = {CALL_ADD_FIELD, slice_str(name), slice_str(value)};
    struct call_variable variable = {slice_str(key), slice_str(user)};

    apply(f, &(struct call_answer){.edits = &one,
                                   .edit_count = 1,
                                   .path = slice_str(path),
                                   .variables = &variable,
                                   .variable_count = 1});
    memset(name, 'z', 3);
    memset(value, 'z', 1);
    memset(path, 'z', 4);
    memset(key, 'z', 4);
    memset(user, 'z', 2);
    EXPECT(f, &f->c->x.request_head.fields, "x-a", "1");
    assert_true(slice_equal(f->c->x.request_head.path, SLICE("/new")));
    assert_int_equal(handling.variable_count, 1);
    assert_true(slice_equal(handling.variables[0].name, SLICE("user")));
    assert_true(slice_equal(handling.variables[0].value, SLICE("jo")));
}

static void the_log_has_the_first_path(void **state) {
    struct fixture *f = *state;

    apply(f, &(struct call_answer){.path = TEXT("/b")});
    apply(f, &(struct call_answer){.path = TEXT("/c")});
    assert_true(slice_equal(f->c->x.request_head.path, SLICE("/c")));
    assert_true(slice_equal(handling.target, SLICE("/")));
}

static void a_response_has_no_path(void **state) {
    struct fixture *f = *state;

    handling.is_response = true;
    edit(f, CALL_ADD_FIELD, TEXT("x-a"), TEXT("1"));
    EXPECT(f, &f->c->x.response_head.fields, "x-a", "1");
    apply(f, &(struct call_answer){.path = TEXT("/b"), .status = 404});
    assert_true(slice_equal(f->c->x.request_head.path, SLICE("/")));
    assert_int_equal(f->c->x.response_head.status, 404);
    assert_true(slice_equal(f->c->x.response_head.reason, SLICE("Not Found")));
}

static void a_status_that_frames_stays(void **state) {
    static const unsigned fixed[] = {101, 204, 304};
    struct fixture *f = *state;

    handling.is_response = true;
    for (size_t i = 0; i < 3; i++) {
        f->c->x.response_head.status = fixed[i];
        apply(f, &(struct call_answer){.status = 200});
        assert_int_equal(f->c->x.response_head.status, fixed[i]);
        f->c->x.response_head.status = 200;
        apply(f, &(struct call_answer){.status = fixed[i]});
        assert_int_equal(f->c->x.response_head.status, 200);
    }
}

static void what_went_wrong_has_a_row_and_names_the_handler(void **state) {
    static const struct {
        enum call_outcome outcome;
        enum fail fail;
    } cases[] = {
        {CALL_FAULT, FAIL_HANDLER_FAULT},
        {CALL_HANG, FAIL_HANDLER_HANG},
        {CALL_QUARANTINED, FAIL_HANDLER_QUARANTINED},
        {CALL_FULL, FAIL_HANDLER_FULL},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(apply(f, &(struct call_answer){.outcome = cases[i].outcome}),
                         HANDLING_FAILED);
        assert_int_equal(f->c->fail, cases[i].fail);
        assert_string_equal(f->c->why, "handler 'audit'");
        assert_ptr_equal(handling.last, &audit);
    }
    assert_int_equal(apply(f, &(struct call_answer){.outcome = CALL_BYPASSED}), HANDLING_DONE);
}

static void an_answer_of_its_own_is_filled_in(void **state) {
    static const struct call_edit fields[] = {{CALL_ADD_FIELD, {"x-a", 3}, {"1", 1}},
                                              {CALL_ADD_FIELD, {"x-a", 3}, {"2", 1}}};
    struct fixture *f = *state;
    struct call_answer answer = {.outcome = CALL_RESPOND,
                                 .status = 418,
                                 .fields = fields,
                                 .field_count = 2,
                                 .content = TEXT("teapot")};

    assert_int_equal(apply(f, &answer), HANDLING_ANSWERED);
    assert_int_equal(f->c->x.response_head.status, 418);
    EXPECT(f, &f->c->x.response_head.fields, "x-a", "1 | 2");
    EXPECT(f, &f->c->x.response_head.fields, "x-request-id", "id-1");
    assert_int_equal(f->c->x.response_content.kind, CONTENT_LENGTH);
    assert_int_equal(f->c->x.response_content.length, 6);
    assert_int_equal(body_waiting(&f->c->x.response), 6);
    assert_int_equal(f->c->x.response.state, BODY_ENDED);
    assert_int_equal(f->c->fail, FAIL_NONE);
    answer.status = 204;
    apply(f, &answer);
    assert_int_equal(f->c->x.response_content.kind, CONTENT_NONE);
    assert_int_equal(body_waiting(&f->c->x.response), 0);
}

static void of_a_grpc_call_it_is_trailers(void **state) {
    struct fixture *f = *state;
    struct call_answer answer = {.outcome = CALL_RESPOND, .status = 429, .content = TEXT("slower")};

    f->c->is_grpc = true;
    assert_int_equal(apply(f, &answer), HANDLING_ANSWERED);
    assert_int_equal(f->c->x.response_head.status, 200);
    EXPECT(f, &f->c->x.response_head.fields, "content-type", "application/grpc");
    EXPECT(f, &f->c->x.response_head.fields, "grpc-status", "8");
    EXPECT(f, &f->c->x.response_head.fields, "grpc-message", "slower");
    assert_int_equal(f->c->x.response_content.kind, CONTENT_NONE);
}

static void a_refusal_has_its_own_status_and_words(void **state) {
    static const struct call_edit fields[] = {
        {CALL_ADD_FIELD, {"content-type", 12}, {"text/html", 9}},
        {CALL_ADD_FIELD, {"retry-after", 11}, {"9", 1}}};
    struct fixture *f = *state;
    struct call_answer answer = {.outcome = CALL_REFUSE,
                                 .status = 503,
                                 .title = TEXT("closed"),
                                 .remedy = TEXT("come on Monday"),
                                 .fields = fields,
                                 .field_count = 2};

    assert_int_equal(apply(f, &answer), HANDLING_FAILED);
    assert_int_equal(f->c->fail, FAIL_HANDLER_REFUSED);
    reply_make(f->c);
    assert_int_equal(f->c->x.response_head.status, 503);
    EXPECT(f, &f->c->x.response_head.fields, "content-type", "application/problem+json");
    EXPECT(f, &f->c->x.response_head.fields, "retry-after", "9");
    f->c->is_grpc = true;
    apply(f, &answer);
    reply_make(f->c);
    EXPECT(f, &f->c->x.response_head.fields, "grpc-status", "14");
    EXPECT(f, &f->c->x.response_head.fields, "grpc-message",
           "weir: closed (handler 'audit'); come on Monday");
}

/* Of weir, or of a handler behind, in whatever form. */
static void fields_can_be_left_for_whoever_answers(void **state) {
    static const struct call_edit fields[] = {
        {CALL_ADD_FIELD, {"content-type", 12}, {"text/html", 9}},
        {CALL_ADD_FIELD, {"x-a", 3}, {"1", 1}},
    };
    struct fixture *f = *state;
    const struct fields *answered = &f->c->x.response_head.fields;
    struct call_answer answer = {.fields = fields, .field_count = 2};

    assert_int_equal(apply(f, &answer), HANDLING_DONE);
    EXPECT(f, &f->c->x.request_head.fields, "x-a", ABSENT);
    f->c->fail = FAIL_QUEUE_FULL;
    reply_make(f->c);
    EXPECT(f, answered, "x-a", "1");
    EXPECT(f, answered, "content-type", "application/problem+json");
    apply(f, &(struct call_answer){.outcome = CALL_RESPOND, .status = 200});
    EXPECT(f, answered, "x-a", "1");
    apply(f, &(struct call_answer){.outcome = CALL_REFUSE, .status = 401});
    reply_make(f->c);
    EXPECT(f, answered, "x-a", "1");
}

static void http_statuses_are_those_of_grpc(void **state) {
    static const struct {
        unsigned http;
        enum grpc_status grpc;
    } cases[] = {
        {200, GRPC_OK},
        {302, GRPC_UNKNOWN},
        {400, GRPC_INVALID_ARGUMENT},
        {401, GRPC_UNAUTHENTICATED},
        {403, GRPC_PERMISSION_DENIED},
        {404, GRPC_NOT_FOUND},
        {409, GRPC_ABORTED},
        {412, GRPC_FAILED_PRECONDITION},
        {418, GRPC_UNKNOWN},
        {429, GRPC_RESOURCE_EXHAUSTED},
        {500, GRPC_INTERNAL},
        {501, GRPC_UNIMPLEMENTED},
        {503, GRPC_UNAVAILABLE},
        {504, GRPC_DEADLINE_EXCEEDED},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(handling_grpc_status(cases[i].http), cases[i].grpc);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, open_fixture, fixture_close)
    const struct CMUnitTest tests[] = {
        T(to_set_replaces_the_first_and_removes_the_others),
        T(what_is_edited_is_known_by_its_id),
        T(the_answer_may_go_away),
        T(the_log_has_the_first_path),
        T(a_response_has_no_path),
        T(a_status_that_frames_stays),
        T(what_went_wrong_has_a_row_and_names_the_handler),
        T(an_answer_of_its_own_is_filled_in),
        T(of_a_grpc_call_it_is_trailers),
        T(a_refusal_has_its_own_status_and_words),
        T(fields_can_be_left_for_whoever_answers),
        cmocka_unit_test(http_statuses_are_those_of_grpc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
