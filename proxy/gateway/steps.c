/* The order of things: the one place that knows it.
 *
 * Codecs, timers and gates record events and wake the exchange; the loop then runs its current step
 * from the top of the stack. A step asks one question of a lower room and answers NEXT (go on with
 * the next step now), WAIT (an event will wake us), FAIL (c->fail says why) or DONE (the exchange
 * is gone).
 *
 *   ROUTE -> HANDLE -> QUEUE -> LEASE -> SEND -> AWAIT -> HANDLED -> RESPOND -> RELAY -> FINISH
 *                        `-> HOLD -^                 |`-- failed: REPLY -> FINISH
 *                             ^    ^------ PAUSE <---|
 *                             `----------------------' */
#include "gateway/crossing.h"

#include "base/log.h"
#include "gateway/handling.h"
#include "gateway/overload.h"
#include "gateway/rewrite.h"
#include "gateway/turns.h"

#include <assert.h>

#define PICKS_MAX 3 /* of an endpoint, in one attempt */

enum answer { NEXT, WAIT, FAIL, DONE };

static enum answer route(struct crossing *c);
static enum answer handle(struct crossing *c);
static enum answer queue(struct crossing *c);
static enum gate_outcome stand_in_line(struct crossing *c);
static enum answer lease(struct crossing *c);
static bool is_just_queued(const struct crossing *c);
static enum fail pick(struct crossing *c, struct pool **pool);
static enum answer send_request(struct crossing *c);
static enum answer await(struct crossing *c);
static enum answer handled(struct crossing *c);
static enum answer answer_of(struct crossing *c, enum handling_outcome outcome);
static enum answer respond(struct crossing *c);
static enum answer relay(struct crossing *c);
static bool request_goes_on(const struct crossing *c);
static enum answer hold(struct crossing *c);
static enum answer go_to_hold(struct crossing *c) __attribute__((cold));
static enum answer pause_before_retry(struct crossing *c);
static enum answer health(struct crossing *c);
static enum answer await_reply(struct crossing *c);
static enum answer finish(struct crossing *c);
static enum answer look_at_client(struct crossing *c);
static enum answer fail(struct crossing *c, enum fail reason, const char *why)
    __attribute__((cold));
static void handle_fail(struct crossing *c) __attribute__((cold));
static bool try_again(struct crossing *c);
static void let_go(struct crossing *c);
static void on_lease_ready(struct lease *l, enum fail reason);

typedef enum answer step_fn(struct crossing *c);

static step_fn *const steps[STEPS] = {
    [STEP_ROUTE] = route,
    [STEP_HANDLE] = handle,
    [STEP_QUEUE] = queue,
    [STEP_LEASE] = lease,
    [STEP_SEND] = send_request,
    [STEP_AWAIT] = await,
    [STEP_HANDLED] = handled,
    [STEP_RESPOND] = respond,
    [STEP_RELAY] = relay,
    [STEP_HOLD] = hold,
    [STEP_PAUSE] = pause_before_retry,
    [STEP_HEALTH] = health,
    [STEP_REPLY] = await_reply,
    [STEP_FINISH] = finish,
};

void steps_run(struct task *task) {
    struct crossing *c = crossing_of(CONTAINER_OF(task, struct exchange, task));

    if (!c->has_started)
        crossing_start(c);
    for (;;) {
        enum answer answer = look_at_client(c);

        if (answer == NEXT)
            answer = steps[c->step](c);
        switch (answer) {
        case NEXT:
            c->step++;
            break;
        case FAIL:
            handle_fail(c);
            break;
        case WAIT:
        case DONE:
            return;
        }
    }
}

void steps_permit_granted(struct gate_ticket *ticket, void *gift) {
    struct crossing *c = CONTAINER_OF(permit_told(ticket), struct crossing, permit);

    exchange_wake(&c->x, EXCHANGE_GRANTED);
}

void steps_permit_refused(struct gate_ticket *ticket) {
    struct crossing *c = CONTAINER_OF(permit_told(ticket), struct crossing, permit);

    exchange_wake(&c->x, EXCHANGE_GRANTED);
}

/* What concerns every step: the client, and the clock. */
static enum answer look_at_client(struct crossing *c) {
    struct exchange *x = &c->x;

    if (!(x->events & (EXCHANGE_CLIENT_GONE | EXCHANGE_CLIENT_FAIL | EXCHANGE_DEADLINE)) ||
        c->step == STEP_FINISH)
        return NEXT;
    if (c->step == STEP_RELAY && (x->events & EXCHANGE_RESPONSE_SENT) && !x->is_tunnel)
        return NEXT; /* it has its answer: nothing that happens to the request is a failure */
    if (x->events & EXCHANGE_CLIENT_GONE) {
        x->events &= ~EXCHANGE_CLIENT_GONE;
        return fail(c, x->client_fail, NULL);
    }
    if (c->step == STEP_REPLY)
        return NEXT;
    if (x->events & EXCHANGE_CLIENT_FAIL) {
        x->events &= ~EXCHANGE_CLIENT_FAIL;
        return fail(c, x->client_fail, x->client_why);
    }
    if (x->events & EXCHANGE_DEADLINE) {
        x->events &= ~EXCHANGE_DEADLINE;
        return fail(c, FAIL_DEADLINE, NULL);
    }
    return NEXT;
}

static enum answer route(struct crossing *c) {
    struct exchange *x = &c->x;
    struct gateway_loop *gl = c->listener->gl;
    struct route_match match = {0};
    int64_t deadline_ns;
    enum fail shed, lost;

    if (x->request_head.method == METHOD_CONNECT)
        return fail(c, FAIL_CONNECT_METHOD, NULL);
    if (health_is_asked(c)) {
        c->step = STEP_HEALTH - 1;
        return NEXT;
    }
    switch (
        route_match(gl->gateway->routes, c->listener->index, &x->request_head, &x->arena, &match)) {
    case ROUTE_FOUND:
        break;
    case ROUTE_NONE:
        return fail(c, FAIL_ROUTE_NONE, NULL);
    case ROUTE_NO_METHOD:
        c->allow = match.allow;
        return fail(c, FAIL_METHOD, NULL);
    case ROUTE_BAD_TARGET:
        return fail(c, FAIL_TARGET_AMBIGUOUS, match.why);
    }
    c->route = match.route;
    c->route_index = match.index;
    c->pipeline_index = match.route->pipeline;
    c->part = &gl->parts[match.route->pipeline];
    if (match.route->is_grpc_web)
        grpc_web_look(c);
    if (forward_is_stopped(c))
        return fail(c, FAIL_MAX_FORWARDS, NULL);
    c->priority = turns_priority(c);
    shed = overload_shed(gl, c->priority);
    if (shed)
        return fail(c, shed, NULL);
    lost = affinity_find(c);
    if (lost)
        return fail(c, lost, NULL);
    if (c->is_grpc)
        grpc_begin(c);
    else if (match.route->rewrite)
        rewrite_begin(c);
    tunnel_begin(c);
    deadline_ns = match.route->deadline_ns >= 0 ? match.route->deadline_ns
                                                : c->part->shared->config->deadline_ns;
    if (match.route->is_stream)
        stream_begin(c);
    else
        stream_start_deadline(c, deadline_ns);
    return NEXT;
}

static enum answer handle(struct crossing *c) {
    return c->route->handler_count == 0 ? NEXT : answer_of(c, handling_request(c));
}

static enum answer handled(struct crossing *c) {
    return c->handling ? answer_of(c, handling_response(c)) : NEXT;
}

static enum answer answer_of(struct crossing *c, enum handling_outcome outcome) {
    switch (outcome) {
    case HANDLING_DONE:
        return NEXT;
    case HANDLING_WAIT:
        return WAIT;
    case HANDLING_ANSWERED:
        let_go(c);
        loop_timer_stop(c->x.loop, &c->x.deadline);
        reply_send(c);
        c->step = STEP_REPLY - 1;
        return NEXT;
    case HANDLING_FAILED:
        break;
    }
    return FAIL;
}

static enum answer queue(struct crossing *c) {
    const struct config_pipeline *config = c->part->shared->config;
    struct exchange *x = &c->x;

    if (c->queued_ns == 0) {
        const char *why;
        enum fail reason = programs_refuse(c, &why);

        if (reason)
            return fail(c, reason, why);
        if (again_must_hold(c))
            return go_to_hold(c);
        c->queued_ns = x->loop->now_ns;
        switch (permit_try(c->part, &c->permit) ? GATE_IN : stand_in_line(c)) {
        case GATE_IN:
            break;
        case GATE_FULL:
            return fail(c, c->permit.waiter.refused, NULL);
        case GATE_WAIT:
            loop_timer_start(x->loop, &c->wait, config->queue.max_wait_ns);
            return WAIT;
        }
    } else if (c->permit.kind == PERMIT_REFUSED) {
        return fail(c, c->permit.waiter.refused, NULL);
    } else if (c->permit.kind == PERMIT_WAITING) {
        if (x->events & CROSSING_WAIT_OVER)
            return fail(c, FAIL_QUEUE_TIMEOUT, NULL);
        return WAIT;
    }
    if (x->is_stream)
        permit_to_stream(c->part, &c->permit);
    return NEXT;
}

static enum gate_outcome stand_in_line(struct crossing *c) {
    const struct timer *deadline = &c->x.deadline;
    struct waiter *waiter = &c->permit.waiter;

    waiter->priority = c->priority;
    waiter->client = turns_client(c);
    waiter->deadline_ns = timer_is_running(deadline) ? deadline->at_ms * NS_PER_MS : 0;
    return permit_acquire(c->part, &c->permit);
}

static enum answer lease(struct crossing *c) {
    struct exchange *x = &c->x;
    struct pool *pool;
    enum fail reason;
    const char *why;

    if (c->lease.state == LEASE_HELD)
        return NEXT;
    if (programs_is_exec(c)) {
        c->attempts++;
        return NEXT;
    }
    if (x->events & CROSSING_LEASE_OVER) {
        x->events &= ~CROSSING_LEASE_OVER;
        return fail(c, c->lease_fail, NULL);
    }
    if (c->lease.state != LEASE_NONE) {
        if (x->events & CROSSING_WAIT_OVER)
            return fail(c, FAIL_CONNECTIONS_BUSY, NULL);
        return WAIT;
    }
    if (!is_just_queued(c)) {
        reason = programs_refuse(c, &why);
        if (reason)
            return fail(c, reason, why);
        if (again_must_hold(c))
            return go_to_hold(c);
    }
    c->attempts++; /* that there is none counts too, or it would be tried for ever */
    reason = pick(c, &pool);
    if (reason)
        return fail(c, reason, NULL);
    if (c->endpoint)
        endpoint_unref(c->endpoint);
    c->endpoint = endpoint_ref(pool->endpoint);
    c->lease.ready = on_lease_ready;
    switch (pool_lease(pool, &c->lease, c->needs_fresh, &c->lease_fail)) {
    case POOL_READY:
        return NEXT;
    case POOL_FAILED:
        return fail(c, c->lease_fail, NULL);
    case POOL_WAIT:
        break;
    }
    if (!timer_is_running(&c->wait) && !(x->events & CROSSING_WAIT_OVER))
        loop_timer_start(x->loop, &c->wait, c->part->shared->config->queue.max_wait_ns);
    return WAIT;
}

/* Has it come through the queue without a wait, where the pipeline was asked a moment ago? */
static bool is_just_queued(const struct crossing *c) {
    return c->attempts == 0 && c->queued_ns == c->x.loop->now_ns && c->held_ns == 0;
}

/* An endpoint that lets the exchange in. Other loops may be quicker where only one may enter: then
 * another one is picked. */
static enum fail pick(struct crossing *c, struct pool **pool) {
    struct loop *loop = c->x.loop;
    enum fail lost = affinity_check(c);

    if (lost)
        return lost;
    /* Who waited, or failed before, is not sent to find out whether an endpoint is back. */
    c->wish.avoid = c->endpoint;
    c->wish.is_sure = c->endpoint || c->held_ns;
    for (unsigned tries = 0; tries < PICKS_MAX; tries++) {
        bool is_last;

        *pool = balancer_pick(c->part, &c->wish);
        if (!*pool)
            return FAIL_ENDPOINT_NONE;
        is_last = !endpoint_is_usable((*pool)->endpoint, loop->now_ns);
        if (trial_begin(&c->trial, (*pool)->endpoint, loop->index, is_last, loop->now_ns))
            return FAIL_NONE;
        if (is_last)
            break;
    }
    return FAIL_BREAKER_OPEN;
}

static void on_lease_ready(struct lease *l, enum fail reason) {
    struct crossing *c = CONTAINER_OF(l, struct crossing, lease);

    c->lease_fail = reason;
    exchange_wake(&c->x, reason ? CROSSING_LEASE_OVER : 0);
}

static enum answer send_request(struct crossing *c) {
    struct exchange *x = &c->x;
    struct content content = x->request_content;
    struct request_head head;

    loop_timer_stop(x->loop, &c->wait);
    x->events &= ~(CROSSING_WAIT_OVER | CROSSING_LEASE_OVER | EXCHANGE_UPSTREAM_FAIL);
    c->sent_ns = x->loop->now_ns;
    if (programs_is_exec(c)) {
        const char *why;
        enum fail refusal = programs_start(c, &why);

        return refusal ? fail(c, refusal, why) : NEXT;
    }
    again_sent(c);
    trial_sent(&c->trial, &x->request, c->sent_ns);
    forward_request(c, &head);
    if (c->is_grpc)
        grpc_send(c, &head, &content);
    if (c->rewrite)
        content = rewrite_length(c, content);
    tunnel_send(c);
    if (c->part->shared->config->protocol == PROTOCOL_HTTP2 || again_is_repeatable(c))
        body_keep(&x->request);
    lease_start(&c->lease, x, &head, content);
    return NEXT;
}

static enum answer await(struct crossing *c) {
    struct exchange *x = &c->x;

    if (x->events & EXCHANGE_UPSTREAM_FAIL) {
        x->events &= ~EXCHANGE_UPSTREAM_FAIL;
        return fail(c, x->upstream_fail, x->upstream_why);
    }
    if (c->is_grpc && grpc_is_streaming(c))
        stream_begin(c);
    if (x->events & EXCHANGE_RESPONSE_HEAD) {
        trial_answered(&c->trial, x->loop->now_ns);
        verdict_look(c);
        if (again_is_unwelcome(c) && (c->again = again_after(c, FAIL_UPSTREAM_STATUS)))
            return fail(c, FAIL_UPSTREAM_STATUS, NULL);
    } else if (x->events & CROSSING_TURN_OVER) {
        x->events &= ~CROSSING_TURN_OVER;
        /* Given up on only for another try. */
        c->again = again_after(c, FAIL_TRY_TIMEOUT);
        return c->again ? fail(c, FAIL_TRY_TIMEOUT, NULL) : WAIT;
    } else {
        return WAIT;
    }
    loop_timer_stop(x->loop, &c->turn);
    c->first_byte_ns = x->loop->now_ns;
    body_forget(&x->request);
    return NEXT;
}

static enum answer respond(struct crossing *c) {
    struct exchange *x = &c->x;

    forward_response(c);
    affinity_respond(c);
    if (c->web)
        grpc_web_respond(c);
    if (c->rewrite)
        rewrite_respond(c);
    c->status = x->response_head.status;
    if (x->response_head.status == 101)
        x->is_tunnel = true;
    if (x->is_tunnel || stream_is_of_events(&x->response_head))
        stream_begin(c);
    if (!x->is_stream && !c->is_grpc && x->response_head.status < 500)
        permit_answered(c->part, c->endpoint, c->first_byte_ns - c->sent_ns);
    hold_leave(c->part, &c->held, true); /* a stream has no end to wait for */
    x->is_response_begun = true;
    x->client->send_response(x, x->response_content);
    if (c->listener->gl->are_tunnels_ending)
        tunnel_end(c);
    return NEXT;
}

static enum answer relay(struct crossing *c) {
    struct exchange *x = &c->x;

    if (x->events & EXCHANGE_UPSTREAM_DONE) {
        /* What is still to be sent to the client waits here: the upstream is free. */
        x->events &= ~EXCHANGE_UPSTREAM_DONE;
        c->is_upstream_done = true;
        /* Which a gRPC call turns out to be is seen at its end only, and its head may come before
         * anything was done. */
        if (!x->is_stream && c->is_grpc && grpc_outcome(c) == GRPC_OK)
            permit_answered(c->part, c->endpoint, x->loop->now_ns - c->sent_ns);
        verdict_look(c);
        let_go(c);
    }
    if (x->response.state == BODY_RESET)
        return fail(c, x->response.fail, x->upstream_why);
    if (c->is_grpc && grpc_is_streaming(c))
        stream_begin(c);
    tunnel_look(c);
    if (!(x->events & EXCHANGE_RESPONSE_SENT))
        return WAIT;
    if (!c->is_upstream_done && request_goes_on(c))
        return WAIT;
    c->step = STEP_FINISH - 1;
    return NEXT;
}

/* Half-closed: the other direction of a tunnel; and, over HTTP/2, where the end of a response is
 * not the end of its stream (RFC 9113 section 8.1), the rest of a request whose answer did not wait
 * for it. Either lasts as long as both sides want it. Behind a refusal, which such an answer mostly
 * is, the rest would be carried for nobody. */
static bool request_goes_on(const struct crossing *c) {
    const struct exchange *x = &c->x;

    return x->is_tunnel || (x->request_head.version == HTTP_2 && c->status < 400 &&
                            x->request.state != BODY_RESET && !(x->events & EXCHANGE_DEADLINE));
}

static enum answer hold(struct crossing *c) {
    switch (again_hold(c)) {
    case AGAIN_HOLD_WAIT:
        return WAIT;
    case AGAIN_HOLD_FULL:
        return fail(c, FAIL_HOLD_FULL, NULL);
    case AGAIN_HOLD_TIMEOUT:
        return fail(c, FAIL_HOLD_TIMEOUT, c->why);
    case AGAIN_HOLD_OVER:
        break;
    }
    if (c->x.is_stream)
        permit_to_stream(c->part, &c->permit);
    c->step = STEP_LEASE - 1;
    return NEXT;
}

static enum answer go_to_hold(struct crossing *c) {
    hold_leave(c->part, &c->held, false); /* it was let go too early */
    c->step = STEP_HOLD - 1;
    return NEXT;
}

static enum answer pause_before_retry(struct crossing *c) {
    if (!(c->x.events & CROSSING_TURN_OVER))
        return WAIT;
    c->x.events &= ~CROSSING_TURN_OVER;
    c->step = STEP_LEASE - 1;
    return NEXT;
}

static enum answer health(struct crossing *c) {
    switch (health_answer(c)) {
    case HEALTH_ANSWERED:
        return NEXT;
    case HEALTH_BAD:
        return fail(c, FAIL_REQUEST_MALFORMED, "no HealthCheckRequest");
    case HEALTH_WAIT:
        break;
    }
    return WAIT;
}

/* weir's own answer is out, or nobody is there to read it. */
static enum answer await_reply(struct crossing *c) {
    return c->x.events & EXCHANGE_RESPONSE_SENT ? NEXT : WAIT;
}

static enum answer finish(struct crossing *c) {
    struct exchange *x = &c->x;
    struct gateway_loop *gl = c->listener->gl;

    if (!c->is_upstream_done) /* else it has let go already */
        let_go(c);
    trial_end(&c->trial, VERDICT_NONE, NULL, x->loop->now_ns);
    access_record(c);
    if (x->is_stream && c->is_counted_stream)
        counters_stream_active(gl->gateway->counters, gl->metrics, c->is_counted_tunnel, -1);
    counters_exchange_active(gl->gateway->counters, gl->metrics, -1);
    if (x->client)
        x->client->finished(x);
    crossing_free(c);
    return DONE;
}

static enum answer fail(struct crossing *c, enum fail reason, const char *why) {
    c->fail = reason;
    c->why = why;
    return FAIL;
}

/* Tries again, or answers, or breaks off what was begun. */
static void handle_fail(struct crossing *c) {
    struct exchange *x = &c->x;

    verdict_fail(c);
    lease_end(&c->lease);
    if (c->fail == FAIL_DEADLINE && c->step == STEP_AWAIT && !x->is_stream)
        permit_answered(c->part, c->endpoint, x->loop->now_ns - c->sent_ns);
    loop_timer_stop(x->loop, &c->turn);
    c->goaways += c->fail == FAIL_UPSTREAM_GOAWAY;
    if (try_again(c))
        return;
    let_go(c);
    access_log_failure(c);
    loop_timer_stop(x->loop, &x->deadline);
    if (!x->client) {
        c->step = STEP_FINISH;
    } else if (x->is_response_begun && grpc_end(c)) {
        c->step = STEP_REPLY;
    } else if (x->is_response_begun) {
        x->client->abort(x);
        c->step = STEP_FINISH;
    } else {
        reply_make(c);
        reply_send(c);
        c->step = STEP_REPLY;
    }
}

static bool try_again(struct crossing *c) {
    enum again again = c->again ? c->again : again_after(c, c->fail);

    c->again = AGAIN_NOT;
    if (again == AGAIN_NOT)
        return false;
    log_debug("%s after '%s' from '%s' xid=%.*s", again == AGAIN_HOLD ? "holding" : "retrying",
              fail_row(c->fail)->reason, c->endpoint ? c->endpoint->text : "",
              SLICE_ARG(c->request_id));
    again_prepare(c, c->fail);
    if (again == AGAIN_HOLD)
        go_to_hold(c);
    c->step = again == AGAIN_HOLD ? STEP_HOLD : again == AGAIN_LATER ? STEP_PAUSE : STEP_LEASE;
    if (again == AGAIN_LATER)
        loop_timer_start(c->x.loop, &c->turn, c->pause_ns);
    return true;
}

/* Gives back connection and permit, as soon as they are of no more use. */
static void let_go(struct crossing *c) {
    lease_end(&c->lease);
    programs_let_go(c);
    if (c->handling)
        handling_let_go(c);
    if (!c->part)
        return;
    permit_release(c->part, &c->permit);
    hold_leave(c->part, &c->held, c->first_byte_ns > 0);
    hold_look(c->part);
}
