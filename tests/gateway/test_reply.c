/* weir's own answers. */
#include "fixture.h"

#include <jansson.h>
#include <stdio.h>

static json_t *problem; /* of the last reply that had content; owned */

static int close_all(void **state) {
    json_decref(problem);
    problem = NULL;
    return fixture_close(state);
}

/* What waits in the response's body, into @to. */
static size_t content_of(struct fixture *f, char *to, size_t max) {
    uv_buf_t bufs[BODY_BORROWED_MAX];
    unsigned count = body_peek(&f->c->x.response, bufs, BODY_BORROWED_MAX);
    size_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        assert_true(len + bufs[i].len <= max);
        memcpy(to + len, bufs[i].base, bufs[i].len);
        len += bufs[i].len;
    }
    return len;
}

/* Makes the answer to @fail and reads it; returns its fields. */
static const struct fields *reply(struct fixture *f, enum fail fail) {
    struct content content;
    char text[2048];
    size_t len;

    f->c->fail = fail;
    reply_make(f->c);
    content = f->c->x.response_content;
    assert_int_equal(content.kind, CONTENT_LENGTH);
    assert_int_equal(f->c->x.response.state, BODY_ENDED);
    len = content_of(f, text, sizeof text);
    json_decref(problem);
    problem = NULL;
    if (f->c->x.request_head.method != METHOD_HEAD) {
        assert_int_equal(content.length, len);
        problem = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(problem);
    } else {
        assert_int_equal(len, 0);
        assert_true(content.length > 0);
    }
    return &f->c->x.response_head.fields;
}

static const char *member(const char *name) {
    return json_string_value(json_object_get(problem, name));
}

static void every_failure_has_its_status_and_a_problem_document(void **state) {
    struct fixture *f = *state;

    f->c->allow = SLICE("GET");
    for (unsigned fail = FAIL_NONE + 1; fail < FAILS; fail++) {
        const struct fail_row *row = fail_row(fail);
        const struct fields *fields = reply(f, fail);
        char type[80];

        snprintf(type, sizeof type, "urn:weir:%s", row->reason);
        assert_int_equal(f->c->x.response_head.status, row->http);
        EXPECT(f, fields, "content-type", "application/problem+json");
        EXPECT(f, fields, "cache-control", "no-store");
        assert_string_equal(member("type"), type);
        assert_string_equal(member("title"), row->title);
        assert_string_equal(member("detail"), row->remedy);
        assert_int_equal(json_integer_value(json_object_get(problem, "status")), row->http);
        assert_string_equal(member("pipeline"), "engine");
        assert_string_equal(member("request_id"), "id-1");
    }
}

static void proxy_status_tells_the_error_and_its_reason(void **state) {
    struct fixture *f = *state;

    EXPECT(f, reply(f, FAIL_CONNECT_REFUSED), "proxy-status",
           "weir; error=connection_refused; details=\"connect_refused\"");
    EXPECT(f, reply(f, FAIL_QUEUE_FULL), "proxy-status",
           "weir; error=connection_limit_reached; details=\"queue_full\"");
}

static void retry_after_comes_with_503_alone(void **state) {
    struct fixture *f = *state;

    for (unsigned fail = FAIL_NONE + 1; fail < FAILS; fail++) {
        const char *value = fixture_values(f, reply(f, fail), "retry-after");

        if (fail_row(fail)->http != 503)
            assert_string_equal(value, ABSENT);
        else
            assert_true(strcmp(value, "1") == 0 || strcmp(value, "2") == 0);
    }
}

static void retry_after_is_what_the_queue_says(void **state) {
    struct fixture *f = *state;

    atomic_store(&f->pipeline.queue.retry_at_ns, f->gl.loop.now_ns + 100 * NS_PER_S);
    EXPECT(f, reply(f, FAIL_QUEUE_FULL), "retry-after", "60");
    /* Where no pipeline is known there is nothing to be measured. */
    f->c->part = NULL;
    EXPECT(f, reply(f, FAIL_DRAINING), "retry-after", "1");
}

static void every_405_has_an_allow(void **state) {
    struct fixture *f = *state;

    f->c->allow = SLICE("GET, HEAD");
    EXPECT(f, reply(f, FAIL_METHOD), "allow", "GET, HEAD");
    assert_int_equal(f->c->x.response_head.status, 405);
    EXPECT(f, reply(f, FAIL_ROUTE_NONE), "allow", ABSENT);
    f->c->allow = SLICE_NONE;
    EXPECT(f, reply(f, FAIL_MAX_FORWARDS), "allow", "");
    assert_int_equal(f->c->x.response_head.status, 405);
}

static void a_head_request_gets_the_length_and_no_content(void **state) {
    struct fixture *f = *state;
    char length[24];

    reply(f, FAIL_ROUTE_NONE);
    snprintf(length, sizeof length, "%ju", (uintmax_t)f->c->x.response.pushed);
    f->c->x.request_head.method = METHOD_HEAD;
    EXPECT(f, reply(f, FAIL_ROUTE_NONE), "content-length", length);
    assert_int_equal(f->c->x.response_head.status, 404);
    assert_true(body_is_done(&f->c->x.response));
}

static void a_reason_stands_before_the_remedy(void **state) {
    struct fixture *f = *state;

    f->c->why = "no status line";
    reply(f, FAIL_UPSTREAM_MALFORMED);
    assert_string_equal(member("detail"), "no status line; correct the upstream");
}

static void without_a_pipeline_none_is_named(void **state) {
    struct fixture *f = *state;

    f->c->part = NULL;
    reply(f, FAIL_ROUTE_NONE);
    assert_null(json_object_get(problem, "pipeline"));
}

static void what_others_have_named_is_escaped(void **state) {
    struct fixture *f = *state;

    f->c->request_id = SLICE("a\"b\\c");
    f->pipeline_config.name = (char *)"p\"\n\\";
    EXPECT(f, reply(f, FAIL_DRAINING), "x-request-id", "a\"b\\c");
    assert_string_equal(member("request_id"), "a\"b\\c");
    assert_string_equal(member("pipeline"), "p\"\n\\");
}

static void nothing_of_the_upstreams_response_is_left(void **state) {
    struct fixture *f = *state;

    fixture_answer(f, "Set-Cookie", "secret");
    body_push_copy(&f->c->x.response, SLICE("half of it"));
    EXPECT(f, reply(f, FAIL_UPSTREAM_RESET), "set-cookie", ABSENT);
    assert_int_equal(f->c->x.response_head.status, 502);
    assert_true(slice_equal(f->c->x.response_head.reason, SLICE("Bad Gateway")));
    assert_string_not_equal(fixture_values(f, &f->c->x.response_head.fields, "date"), ABSENT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_open, close_all)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(every_failure_has_its_status_and_a_problem_document),
        T(proxy_status_tells_the_error_and_its_reason),
        T(retry_after_comes_with_503_alone),
        T(retry_after_is_what_the_queue_says),
        T(every_405_has_an_allow),
        T(a_head_request_gets_the_length_and_no_content),
        T(a_reason_stands_before_the_remedy),
        T(without_a_pipeline_none_is_named),
        T(what_others_have_named_is_escaped),
        T(nothing_of_the_upstreams_response_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
