/* What an attempt says of its endpoint.
 *
 * Bad is what the endpoint itself has failed in, as far as the pipeline's breaker.on lists it:
 * that counts in a row. Poor is an answer that breaker.on lists: under overload all endpoints say
 * it, so that it counts where the peers do not. Doubtful is what may be the request's fault (any
 * other 5xx, a deadline that the client has set) and is only held against an endpoint when its
 * peers fare better. What the client has caused, and what the upstream has refused unprocessed,
 * says nothing. */
#include "gateway/crossing.h"

static enum breaker_verdict of_answer(const struct crossing *c, const char **what);
static enum breaker_verdict of_grpc(const struct crossing *c, const char **what);
static enum breaker_verdict of_fail(const struct crossing *c);
static enum breaker_verdict of_deadline(const struct crossing *c);
static enum breaker_verdict bad_if(const struct crossing *c, unsigned reason);
static enum breaker_verdict poor_if(const struct crossing *c, unsigned reason);

void verdict_look(struct crossing *c) {
    const char *what = NULL;
    enum breaker_verdict verdict;

    if (!c->trial.endpoint || c->x.response_head.status == 0)
        return;
    verdict = of_answer(c, &what);
    if (verdict != VERDICT_NONE)
        trial_end(&c->trial, verdict, what, c->x.loop->now_ns);
}

void verdict_fail(struct crossing *c) {
    enum breaker_verdict verdict = of_fail(c);
    const char *what = fail_row(c->fail)->reason;
    int64_t now_ns = c->x.loop->now_ns;

    /* The answer began well, and then broke off. */
    if (!c->trial.endpoint && c->trial.given == VERDICT_GOOD && verdict != VERDICT_NONE)
        trial_tell(c->endpoint, c->x.loop->index, verdict, what, now_ns);
    c->trial.given = VERDICT_NONE;
    trial_end(&c->trial, verdict, what, now_ns);
}

/* NONE: not known yet. */
static enum breaker_verdict of_answer(const struct crossing *c, const char **what) {
    unsigned status = c->x.response_head.status;

    if (c->is_grpc && status == 200)
        return of_grpc(c, what);
    if (status < 500)
        return VERDICT_GOOD;
    switch (status) {
    case 500:
        *what = TRIAL_500;
        return poor_if(c, BREAKER_ON_500);
    case 502:
        *what = TRIAL_502;
        return poor_if(c, BREAKER_ON_502);
    case 503:
        *what = TRIAL_503;
        return poor_if(c, BREAKER_ON_503);
    case 504:
        *what = TRIAL_504;
        return poor_if(c, BREAKER_ON_504);
    case 501: /* of the method, whoever is asked */
    case 505:
        return VERDICT_GOOD;
    default:
        *what = TRIAL_5XX;
        return VERDICT_DOUBTFUL;
    }
}

static enum breaker_verdict of_grpc(const struct crossing *c, const char **what) {
    const struct exchange *x = &c->x;
    enum grpc_status status;

    if (x->response.state != BODY_ENDED &&
        !fields_find(&x->response_head.fields, FIELD_GRPC_STATUS))
        return x->is_stream ? VERDICT_GOOD : VERDICT_NONE;
    status = grpc_outcome(c);
    *what = grpc_status_name(status);
    switch (status) {
    case GRPC_UNAVAILABLE:
        return poor_if(c, BREAKER_ON_503);
    case GRPC_UNKNOWN:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_RESOURCE_EXHAUSTED:
    case GRPC_INTERNAL:
    case GRPC_DATA_LOSS:
        return VERDICT_DOUBTFUL;
    default:
        return VERDICT_GOOD;
    }
}

static enum breaker_verdict of_fail(const struct crossing *c) {
    switch (c->fail) {
    case FAIL_UPSTREAM_RESET:
    case FAIL_UPSTREAM_INCOMPLETE:
        return bad_if(c, BREAKER_ON_RESET);
    case FAIL_UPSTREAM_MALFORMED: /* of what was asked for, or always? */
        return poor_if(c, BREAKER_ON_RESET);
    case FAIL_UPSTREAM_STALE:
        return VERDICT_DOUBTFUL; /* a race now and then; an endpoint that resets much is none */
    case FAIL_UPSTREAM_STALLED:
    case FAIL_TRY_TIMEOUT:
        return bad_if(c, BREAKER_ON_TIMEOUT);
    case FAIL_DEADLINE:
        return of_deadline(c);
    case FAIL_CONNECT_REFUSED:
    case FAIL_CONNECT_TIMEOUT:
    case FAIL_CONNECT_FAILED:
    case FAIL_TLS_PROTOCOL:
    case FAIL_TLS_CERTIFICATE:
    case FAIL_TLS_ALERT:
        /* The dial was counted, once for all that waited for it. */
        return c->trial.is_probe ? VERDICT_BAD : VERDICT_NONE;
    default:
        return VERDICT_NONE;
    }
}

/* Whose fault is it? The upstream's, while it has the whole request and we wait for its word. */
static enum breaker_verdict of_deadline(const struct crossing *c) {
    if (c->step != STEP_AWAIT || c->x.request.state != BODY_ENDED)
        return VERDICT_NONE;
    return c->grpc_deadline_ns ? VERDICT_DOUBTFUL : bad_if(c, BREAKER_ON_TIMEOUT);
}

static enum breaker_verdict bad_if(const struct crossing *c, unsigned reason) {
    return c->part->shared->config->breaker.on & reason ? VERDICT_BAD : VERDICT_DOUBTFUL;
}

static enum breaker_verdict poor_if(const struct crossing *c, unsigned reason) {
    return bad_if(c, reason) == VERDICT_BAD ? VERDICT_POOR : VERDICT_DOUBTFUL;
}
