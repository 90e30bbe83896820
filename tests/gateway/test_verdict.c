/* What an attempt says of its endpoint: every answer and every failure. */
#include "fixture.h"

#define ALL_LISTED                                                                 \
    (BREAKER_ON_CONNECT | BREAKER_ON_RESET | BREAKER_ON_TIMEOUT | BREAKER_ON_502 | \
     BREAKER_ON_503 | BREAKER_ON_504)

/* An attempt that was sent, whole, and waits for an answer. */
static struct fixture *begin(void **state) {
    struct fixture *f = *state;

    f->pipeline_config.breaker.on = ALL_LISTED;
    f->c->x.response_head.status = 0;
    f->c->x.request.state = BODY_ENDED;
    f->c->step = STEP_AWAIT;
    f->c->fail = FAIL_NONE;
    assert_true(trial_begin(&f->c->trial, f->c->endpoint, 0, false, f->gl.loop.now_ns));
    trial_sent(&f->c->trial, &f->c->x.request, f->gl.loop.now_ns);
    return f;
}

/* The verdict so far; VERDICT_NONE: none yet, or none at all. */
static enum breaker_verdict given(struct fixture *f) {
    return f->c->trial.endpoint ? VERDICT_NONE : f->c->trial.given;
}

static enum breaker_verdict of_status(void **state, unsigned status) {
    struct fixture *f = begin(state);
    enum breaker_verdict verdict;

    f->c->x.response_head.status = status;
    verdict_look(f->c);
    verdict = given(f);
    trial_end(&f->c->trial, VERDICT_NONE, NULL, 0);
    return verdict;
}

static enum breaker_verdict of_failure(struct fixture *f, enum fail fail) {
    f->c->fail = fail;
    verdict_fail(f->c);
    assert_null(f->c->trial.endpoint); /* it is over, whatever it was */
    return f->c->trial.given;
}

static void answers_are_good_or_the_gateways(void **state) {
    const unsigned good[] = {101, 200, 204, 302, 400, 404, 429, 499, 501, 505};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(of_status(state, good[i]), VERDICT_GOOD);
    assert_int_equal(of_status(state, 502), VERDICT_POOR);
    assert_string_equal(f->c->endpoint->last_failure, TRIAL_502);
    assert_int_equal(of_status(state, 503), VERDICT_POOR);
    assert_int_equal(of_status(state, 504), VERDICT_POOR);
    assert_int_equal(of_status(state, 500), VERDICT_DOUBTFUL);
    assert_string_equal(f->c->endpoint->last_failure, TRIAL_500);
    assert_int_equal(of_status(state, 599), VERDICT_DOUBTFUL);
}

static void what_is_not_listed_is_doubtful(void **state) {
    struct fixture *f = begin(state);

    f->pipeline_config.breaker.on = BREAKER_ON_500;
    f->c->x.response_head.status = 503;
    verdict_look(f->c);
    assert_int_equal(given(f), VERDICT_DOUBTFUL);
    assert_int_equal(of_failure((begin(state)), FAIL_NONE + 1), VERDICT_NONE);
    f = begin(state);
    f->pipeline_config.breaker.on = BREAKER_ON_500;
    f->c->x.response_head.status = 500;
    verdict_look(f->c);
    assert_int_equal(given(f), VERDICT_POOR);
    assert_int_equal(of_failure(begin(state), FAIL_UPSTREAM_STALE), VERDICT_DOUBTFUL);
    f = begin(state);
    f->pipeline_config.breaker.on = 0;
    assert_int_equal(of_failure(f, FAIL_UPSTREAM_RESET), VERDICT_DOUBTFUL);
}

static void before_the_head_nothing_is_said(void **state) {
    assert_int_equal(of_status(state, 0), VERDICT_NONE);
}

static enum breaker_verdict of_grpc(void **state, const char *status, bool is_head) {
    struct fixture *f = begin(state);
    enum breaker_verdict verdict;

    f->c->is_grpc = true;
    f->c->x.response_head = (struct response_head){.status = 200, .version = HTTP_2};
    verdict_look(f->c);
    assert_int_equal(given(f), VERDICT_NONE); /* the status is still to come */
    if (is_head) {
        fixture_answer(f, "grpc-status", status);
    } else {
        f->c->x.response.state = BODY_ENDED;
        fields_add_known(&f->c->x.response.trailers, &f->c->x.arena, FIELD_GRPC_STATUS,
                         slice_str(status));
    }
    verdict_look(f->c);
    verdict = given(f);
    f->c->x.response.state = BODY_OPEN;
    f->c->x.response.trailers = (struct fields){0};
    f->c->x.response_head.fields = (struct fields){0};
    trial_end(&f->c->trial, VERDICT_NONE, NULL, 0);
    return verdict;
}

static void grpc_says_it_in_its_status(void **state) {
    for (unsigned is_head = 0; is_head < 2; is_head++) {
        assert_int_equal(of_grpc(state, "0", is_head), VERDICT_GOOD);
        assert_int_equal(of_grpc(state, "5", is_head), VERDICT_GOOD);
        assert_int_equal(of_grpc(state, "12", is_head), VERDICT_GOOD);
        assert_int_equal(of_grpc(state, "14", is_head), VERDICT_POOR);
        assert_int_equal(of_grpc(state, "2", is_head), VERDICT_DOUBTFUL);
        assert_int_equal(of_grpc(state, "4", is_head), VERDICT_DOUBTFUL);
        assert_int_equal(of_grpc(state, "8", is_head), VERDICT_DOUBTFUL);
        assert_int_equal(of_grpc(state, "13", is_head), VERDICT_DOUBTFUL);
    }
}

static void a_stream_that_has_begun_is_good(void **state) {
    struct fixture *f = begin(state);

    f->c->is_grpc = f->c->x.is_stream = true;
    f->c->x.response_head = (struct response_head){.status = 200, .version = HTTP_2};
    verdict_look(f->c);
    assert_int_equal(given(f), VERDICT_GOOD);
}

static void failures_of_the_upstream_count(void **state) {
    const enum fail bad[] = {FAIL_UPSTREAM_RESET, FAIL_UPSTREAM_INCOMPLETE, FAIL_UPSTREAM_STALLED,
                             FAIL_DEADLINE};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(of_failure(begin(state), bad[i]), VERDICT_BAD);
    assert_int_equal(of_failure(begin(state), FAIL_UPSTREAM_MALFORMED), VERDICT_POOR);
}

static void those_of_others_do_not(void **state) {
    const enum fail none[] = {FAIL_CLIENT_GONE,      FAIL_CLIENT_SLOW,      FAIL_REQUEST_TIMEOUT,
                              FAIL_UPSTREAM_GOAWAY,  FAIL_UPSTREAM_REFUSED, FAIL_FDS_USED_UP,
                              FAIL_CONNECTIONS_BUSY, FAIL_STREAM_IDLE,      FAIL_DRAINING};

    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(of_failure(begin(state), none[i]), VERDICT_NONE);
}

/* The dial was counted where it failed, once for all that waited for it. */
static void a_failed_dial_is_only_told_by_a_probe(void **state) {
    struct fixture *f = begin(state);

    assert_int_equal(of_failure(f, FAIL_CONNECT_REFUSED), VERDICT_NONE);
    f = begin(state);
    f->c->trial.is_probe = true;
    assert_int_equal(of_failure(f, FAIL_CONNECT_REFUSED), VERDICT_BAD);
}

static void a_deadline_may_be_the_clients_doing(void **state) {
    struct fixture *f = begin(state);

    f->c->x.request.state = BODY_OPEN; /* it was still sending */
    assert_int_equal(of_failure(f, FAIL_DEADLINE), VERDICT_NONE);
    f = begin(state);
    f->c->step = STEP_QUEUE; /* it was not sent at all */
    assert_int_equal(of_failure(f, FAIL_DEADLINE), VERDICT_NONE);
    f = begin(state);
    f->c->grpc_deadline_ns = 1; /* it has chosen it */
    assert_int_equal(of_failure(f, FAIL_DEADLINE), VERDICT_DOUBTFUL);
}

static void a_good_answer_that_breaks_off_counts_once_more(void **state) {
    struct fixture *f = begin(state);

    f->c->x.response_head.status = 200;
    verdict_look(f->c);
    verdict_look(f->c);
    of_failure(f, FAIL_UPSTREAM_INCOMPLETE);
    of_failure(f, FAIL_UPSTREAM_INCOMPLETE);
    assert_int_equal(f->c->endpoint->tallies[0].calls, 2);
    assert_int_equal(f->c->endpoint->tallies[0].bad, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_open, fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(answers_are_good_or_the_gateways),
        TEST(what_is_not_listed_is_doubtful),
        TEST(before_the_head_nothing_is_said),
        TEST(grpc_says_it_in_its_status),
        TEST(a_stream_that_has_begun_is_good),
        TEST(failures_of_the_upstream_count),
        TEST(those_of_others_do_not),
        TEST(a_failed_dial_is_only_told_by_a_probe),
        TEST(a_deadline_may_be_the_clients_doing),
        TEST(a_good_answer_that_breaks_off_counts_once_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
