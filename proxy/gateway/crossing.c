/* Crossings, pooled per loop: the usual request allocates nothing. */
#include "gateway/crossing.h"

_Static_assert(offsetof(struct crossing, memory) <= EXCHANGE_WAY_BACK_BYTES,
               "what lies behind an exchange is asked for with it");

static void on_wait_over(struct timer *timer);
static void on_turn_over(struct timer *timer);

struct crossing *crossing_new(struct gateway_listener *listener) {
    struct gateway_loop *gl = listener->gl;
    struct crossing *c = spares_take(&gl->spare_crossings, sizeof *c);

    /* The next one's memory. */
    loop_prefetch(&gl->loop, gl->spare_crossings.first,
                  offsetof(struct crossing, memory) + CROSSING_USED_BYTES);
    /* x sees to itself. */
    memset(&c->link, 0, offsetof(struct crossing, memory) - offsetof(struct crossing, link));
    c->listener = listener;
    gl->active_crossings++;
    gl->begun++;
    c->step = STEP_ROUTE;
    list_init(&c->link);
    list_init(&c->watch);
    timer_init(&c->wait, on_wait_over);
    timer_init(&c->turn, on_turn_over);
    exchange_init(&c->x, &gl->loop, steps_run, c->memory, sizeof c->memory);
    return c;
}

void crossing_start(struct crossing *c) {
    struct gateway_loop *gl = c->listener->gl;

    c->has_started = true;
    c->is_grpc = request_is_grpc(&c->x.request_head);
    c->is_trusted = gateway_trusts(c->listener, c->x.client_address);
    c->request_id = forward_request_id(c);
    list_push_back(&gl->crossings, &c->link);
    counters_exchange_active(gl->gateway->counters, gl->metrics, 1);
}

void crossing_free(struct crossing *c) {
    struct gateway_loop *gl = c->listener->gl;

    loop_timer_stop(&gl->loop, &c->wait);
    loop_timer_stop(&gl->loop, &c->turn);
    list_remove(&c->link);
    list_remove(&c->watch);
    exchange_deinit(&c->x);
    if (c->endpoint)
        endpoint_unref(c->endpoint);
    gl->active_crossings--;
    spares_give(&gl->spare_crossings, c, CROSSING_POOL_MAX);
}

static void on_wait_over(struct timer *timer) {
    exchange_wake(&CONTAINER_OF(timer, struct crossing, wait)->x, CROSSING_WAIT_OVER);
}

static void on_turn_over(struct timer *timer) {
    exchange_wake(&CONTAINER_OF(timer, struct crossing, turn)->x, CROSSING_TURN_OVER);
}
