/* What can still be done for an exchange that has failed, or has nowhere to go: wait for an
 * endpoint in the hold, or try again.
 *
 * It is tried again only while nothing has been said to the client and its request can be said
 * again, and only what surely was not processed or may be processed twice: by its method (RFC 9110
 * section 9.2.2), or because its route says so. What never reached an upstream costs it nothing, so
 * it is outside the budget; and it may go to the hold however often it was tried. */
#include "gateway/crossing.h"

static bool may_be_said_again(const struct crossing *c);
static bool is_listed(const struct crossing *c, enum fail fail);
static bool is_charged(enum fail fail);
static int64_t pushback_of(const struct crossing *c);
static unsigned retry_on_of(const struct crossing *c);
static const char *why_held(const struct crossing *c);

enum again again_after(struct crossing *c, enum fail fail) {
    const struct config_pipeline *config = c->part ? c->part->shared->config : NULL;
    int64_t pushback_ns, now_ns = c->x.loop->now_ns;
    unsigned tries;
    bool is_free;

    if (!config || !may_be_said_again(c))
        return AGAIN_NOT;
    if (fail_row(fail)->retry == FAIL_RETRY_UNSENT && again_must_hold(c)) {
        c->attempts--; /* it was none */
        return AGAIN_HOLD;
    }
    if (!is_listed(c, fail))
        return AGAIN_NOT;
    if (fail == FAIL_UPSTREAM_GOAWAY) {
        c->retries += c->goaways <= CROSSING_GOAWAYS_MAX;
        return c->goaways <= CROSSING_GOAWAYS_MAX ? AGAIN_NOW : AGAIN_NOT;
    }
    /* Those that were sent, and those that were not, each by themselves. */
    tries =
        fail_row(fail)->retry == FAIL_RETRY_UNSENT ? c->attempts - c->sends : c->sends - c->goaways;
    if (tries >= config->retry.attempts)
        return AGAIN_NOT;
    pushback_ns = fail == FAIL_UPSTREAM_STATUS ? pushback_of(c) : 0;
    if (pushback_ns > RETRY_BACKOFF_MAX_NS)
        return AGAIN_NOT;
    is_free = !is_charged(fail);
    if (!is_free && !retry_budget_take(&c->part->shared->retries, &c->part->retries, now_ns)) {
        c->has_no_budget = true;
        return AGAIN_NOT;
    }
    c->retries++;
    /* Nothing is wrong that time would mend: another endpoint is there, or the connection was too
     * old. But when that happens again the upstream is dying, and all of them are. */
    if (is_free || (fail == FAIL_UPSTREAM_STALE && c->retries == 1))
        return AGAIN_NOW;
    c->pause_ns = pushback_ns > 0 ? pushback_ns : retry_backoff_ns(c->retries);
    return AGAIN_LATER;
}

void again_prepare(struct crossing *c, enum fail fail) {
    struct exchange *x = &c->x;

    x->events &= ~(EXCHANGE_UPSTREAM_FAIL | EXCHANGE_RESPONSE_HEAD | EXCHANGE_UPSTREAM_DONE |
                   CROSSING_LEASE_OVER | CROSSING_TURN_OVER);
    x->response_head = (struct response_head){0};
    x->upstream_code = 0;
    body_deinit(&x->response);
    body_init(&x->response, x->loop);
    body_rewind(&x->request);
    c->needs_fresh = fail == FAIL_UPSTREAM_STALE;
    c->fail = FAIL_NONE;
}

bool again_is_repeatable(const struct crossing *c) {
    return method_is_idempotent(c->x.request_head.method) || (c->route && c->route->is_idempotent);
}

bool again_is_unwelcome(struct crossing *c) {
    const struct response_head *head = &c->x.response_head;
    const struct field *status = NULL;
    unsigned on = retry_on_of(c);

    /* Trailers only: the call was answered with nothing but its status. */
    if (c->is_grpc && head->status == 200)
        status = fields_find(&head->fields, FIELD_GRPC_STATUS);
    return (head->status == 502 && (on & RETRY_ON_502)) ||
           (head->status == 504 && (on & RETRY_ON_504)) ||
           ((on & RETRY_ON_503) &&
            (head->status == 503 ||
             (status && grpc_parse_status(status->value) == GRPC_UNAVAILABLE)));
}

void again_sent(struct crossing *c) {
    const struct config_pipeline *config = c->part->shared->config;

    if (c->sends++ == 0)
        retry_budget_count(&c->part->shared->retries, &c->part->retries, c->x.loop->now_ns);
    c->hold_until_ns = 0;
    if ((config->retry.on & RETRY_ON_TIMEOUT) && !c->x.is_stream)
        loop_timer_start(c->x.loop, &c->turn, config->retry.timeout_ns);
}

bool again_must_hold(const struct crossing *c) {
    return c->part->shared->config->hold_ns > 0 && !programs_is_exec(c) && hold_is_due(c->part);
}

enum again_hold again_hold(struct crossing *c) {
    struct exchange *x = &c->x;
    int64_t now_ns = x->loop->now_ns;

    switch (c->held.state) {
    case HOLD_NONE:
        loop_timer_stop(x->loop, &c->wait);
        x->events &= ~(CROSSING_WAIT_OVER | CROSSING_TURN_OVER);
        permit_release(c->part, &c->permit);
        if (c->hold_until_ns == 0)
            c->hold_until_ns = now_ns + c->part->shared->config->hold_ns;
        if (c->hold_until_ns <= now_ns)
            break;
        c->hold_since_ns = now_ns;
        loop_timer_start(x->loop, &c->turn, c->hold_until_ns - now_ns);
        if (!hold_enter(c->part, &c->held, &c->permit))
            return AGAIN_HOLD_FULL;
        return AGAIN_HOLD_WAIT; /* it may be let go already: then it is awake */
    case HOLD_HELD:
        if (x->events & CROSSING_TURN_OVER)
            break;
        return AGAIN_HOLD_WAIT;
    case HOLD_OUT:
        loop_timer_stop(x->loop, &c->turn);
        x->events &= ~CROSSING_TURN_OVER;
        c->held_ns += now_ns - c->hold_since_ns;
        /* That was no wait for a permit. */
        c->queued_ns = c->queued_ns ? c->queued_ns + now_ns - c->hold_since_ns : now_ns;
        return AGAIN_HOLD_OVER;
    }
    c->held_ns += now_ns - c->hold_since_ns;
    c->why = why_held(c);
    return AGAIN_HOLD_TIMEOUT;
}

void again_let_go(struct hold_ticket *ticket) {
    exchange_wake(&CONTAINER_OF(ticket, struct crossing, held)->x, EXCHANGE_GRANTED);
}

static bool may_be_said_again(const struct crossing *c) {
    const struct exchange *x = &c->x;

    return x->client && !x->is_response_begun && x->request.state != BODY_RESET &&
           body_may_rewind(&x->request);
}

static bool is_listed(const struct crossing *c, enum fail fail) {
    unsigned on = retry_on_of(c);

    switch (fail_row(fail)->retry) {
    case FAIL_RETRY_NEVER:
        return false;
    case FAIL_RETRY_UNSENT:
        return on & RETRY_ON_CONNECT;
    case FAIL_RETRY_REFUSED:
        return on & RETRY_ON_REFUSED;
    case FAIL_RETRY_IDEMPOTENT:
        /* The keepalive race is nobody's failure; other resets must be listed. A status or a
         * timeout is only looked at when it is. */
        return again_is_repeatable(c) && (fail != FAIL_UPSTREAM_RESET || (on & RETRY_ON_RESET));
    }
    return false;
}

/* Does it add to the upstream's load? */
static bool is_charged(enum fail fail) {
    return fail_row(fail)->retry != FAIL_RETRY_UNSENT;
}

/* What the upstream says of coming again; 0: nothing. */
static int64_t pushback_of(const struct crossing *c) {
    const struct fields *fields = &c->x.response_head.fields;
    const struct field *field = fields_find(fields, FIELD_RETRY_AFTER);

    if (field)
        return retry_after_ns(field->value);
    field = c->is_grpc ? fields_find_name(fields, SLICE("grpc-retry-pushback-ms")) : NULL;
    return field ? retry_pushback_ns(field->value) : 0;
}

static unsigned retry_on_of(const struct crossing *c) {
    return c->part->shared->config->retry.on;
}

static const char *why_held(const struct crossing *c) {
    enum fail outage = balancer_outage(c->part);

    return outage ? fail_row(outage)->title : NULL;
}
