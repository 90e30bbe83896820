/* Exchanges with a deadline, and those without: streams. */
#include "gateway/crossing.h"

void stream_start_deadline(struct crossing *c, int64_t ns) {
    struct exchange *x = &c->x;
    int64_t left_ns = c->grpc_deadline_ns - x->loop->now_ns;

    if (c->grpc_deadline_ns && (ns == 0 || left_ns < ns))
        ns = left_ns > 0 ? left_ns : 1;
    if (ns > 0)
        loop_timer_start(x->loop, &x->deadline, ns);
    else
        loop_timer_stop(x->loop, &x->deadline);
}

void stream_begin(struct crossing *c) {
    struct gateway_loop *gl = c->listener->gl;

    loop_timer_stop(c->x.loop, &c->wait);
    c->x.is_stream = true;
    verdict_look(c);
    stream_start_deadline(c, 0);
    permit_to_stream(c->part, &c->permit);
    if (!c->is_counted_stream) {
        c->is_counted_stream = true;
        c->is_counted_tunnel = c->x.is_tunnel;
        counters_stream_active(gl->gateway->counters, gl->metrics, c->x.is_tunnel, 1);
    }
}

bool stream_is_of_events(const struct response_head *head) {
    static const struct slice type = {"text/event-stream", 17};
    const struct field *field = fields_find(&head->fields, FIELD_CONTENT_TYPE);

    return field && field->value.len >= type.len &&
           slice_equal_case(slice_of(field->value.base, type.len), type);
}
