#include "gateway/handling.h"

#include "handler/guest.h"

#include <weir/handler.h>

_Static_assert(CONFIG_ROUTE_HANDLERS_MAX <= 32, "a bit of handling.wanting for each");

static enum handling_outcome call_all(struct crossing *c, enum call_phase phase);
static bool is_called(const struct crossing *c, enum call_phase phase);
static void advance(struct handling *h);
static enum handling_outcome begin(struct crossing *c, size_t handler);
static void submit(struct crossing *c, size_t handler, struct call_input *input);
static unsigned port_of(const struct sockaddr *address);
static void on_done(struct call *call, void *ctx);
static enum handling_outcome take(struct crossing *c);

enum handling_outcome handling_request(struct crossing *c) {
    if (!c->handling) {
        c->handling = arena_alloc(&c->x.arena, sizeof *c->handling);
        *c->handling = (struct handling){0};
    }
    return call_all(c, CALL_REQUEST);
}

enum handling_outcome handling_response(struct crossing *c) {
    struct handling *h = c->handling;

    handling_give_back(c, false);
    if (!h->is_response) {
        h->is_response = true;
        h->next = c->route->handler_count - 1;
    }
    return call_all(c, CALL_RESPONSE);
}

void handling_let_go(struct crossing *c) {
    struct handling *h = c->handling;

    if (h->call && h->is_answered)
        call_free(h->call);
    else if (h->call)
        call_forget(h->call);
    h->call = NULL;
    h->is_response = false; /* another attempt has another response */
    handling_give_back(c, true);
}

void handling_count(struct gateway_loop *gl) {
    const struct gateway *gateway = gl->gateway;

    for (size_t i = 0; i < gateway->config->handler_count; i++) {
        for (unsigned kind = FAULT_NONE + 1; kind < FAULT_KINDS; kind++)
            counters_handler_faults(gateway->counters, gl->metrics, i, kind,
                                    handlers_faults(gateway->handlers, i, kind));
        counters_handler_dirty(gateway->counters, gl->metrics, i,
                               handlers_dirty_faults(gateway->handlers, i));
    }
}

enum handling_outcome handling_fail(struct crossing *c, const struct config_handler *handler,
                                    enum fail reason) {
    c->handling->last = handler;
    c->fail = reason;
    c->why = arena_printf(&c->x.arena, "handler '%s'", handler->name).base;
    return HANDLING_FAILED;
}

static enum handling_outcome call_all(struct crossing *c, enum call_phase phase) {
    struct handling *h = c->handling;
    enum handling_outcome outcome;

    for (;;) {
        if (h->call) {
            outcome = h->is_answered ? take(c) : HANDLING_WAIT;
            if (outcome != HANDLING_DONE)
                return outcome;
            advance(h);
        }
        /* Below the first is beyond the last. */
        while (h->next < c->route->handler_count && !is_called(c, phase))
            advance(h);
        if (h->next >= c->route->handler_count)
            return HANDLING_DONE;
        outcome = begin(c, c->route->handlers[h->next]);
        if (outcome != HANDLING_DONE)
            return outcome;
    }
}

/* Is the next one? */
static bool is_called(const struct crossing *c, enum call_phase phase) {
    const struct handlers *handlers = c->listener->gl->gateway->handlers;
    size_t handler = c->route->handlers[c->handling->next];

    return handlers_has_phase(handlers, handler, phase) &&
           (phase == CALL_REQUEST ||
            !(handlers_flags(handlers, handler) & WEIR_RESPONSE_IF_WANTED) ||
            c->handling->wanting >> c->handling->next & 1);
}

static void advance(struct handling *h) {
    h->next += h->is_response ? SIZE_MAX : 1;
}

/* HANDLING_DONE: the call is under way. */
static enum handling_outcome begin(struct crossing *c, size_t handler) {
    struct gateway_loop *gl = c->listener->gl;
    const struct config_handler *config = &gl->gateway->config->handlers[handler];
    unsigned flags = handlers_flags(gl->gateway->handlers, handler);
    struct call_input input = {.handler = handler};
    struct buffer content = {0};
    enum handling_outcome outcome;

    if (!c->handling->is_response && (flags & WEIR_WANTS_BODY) && handling_has_content(c)) {
        outcome = handling_collect(c, config, flags);
        if (outcome != HANDLING_DONE)
            return outcome;
        handling_content(c, config, &content, &input.is_body_truncated);
        input.has_body = true;
        input.body = buffer_slice(&content);
    }
    submit(c, handler, &input);
    buffer_deinit(&content);
    return HANDLING_DONE;
}

static void submit(struct crossing *c, size_t handler, struct call_input *input) {
    struct exchange *x = &c->x;
    struct handling *h = c->handling;
    char address[INET6_ADDRSTRLEN];

    input->phase = h->is_response ? CALL_RESPONSE : CALL_REQUEST;
    input->request = &x->request_head;
    input->response = h->is_response ? &x->response_head : NULL;
    input->request_id = c->request_id;
    input->scheme = x->is_secure ? SLICE("https") : SLICE("http");
    input->listener = slice_str(c->listener->config->name);
    input->route = slice_str(c->route->name);
    input->client_address =
        conn_address_text((const union conn_address *)x->client_address, address);
    input->client_port = port_of(x->client_address);
    input->client_certificate = x->client_certificate;
    input->client_subject = x->client_subject;
    input->is_trusted = c->is_trusted;
    input->is_secure = x->is_secure;
    input->is_grpc = c->is_grpc;
    input->variables = h->variables;
    input->variable_count = h->variable_count;
    h->is_answered = false;
    h->called_ns = x->loop->now_ns;
    h->call = call_submit(c->listener->gl->desk, input, on_done, c);
}

static unsigned port_of(const struct sockaddr *address) {
    switch (address->sa_family) {
    case AF_INET:
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    case AF_INET6:
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    default:
        return 0;
    }
}

static void on_done(struct call *call, void *ctx) {
    struct crossing *c = ctx;

    c->handling->is_answered = true;
    exchange_wake(&c->x, 0);
}

/* HANDLING_DONE: on to the next. */
static enum handling_outcome take(struct crossing *c) {
    struct gateway_loop *gl = c->listener->gl;
    struct handling *h = c->handling;
    size_t handler = c->route->handlers[h->next];
    const struct call_answer *answer = call_answer(h->call);
    enum handling_outcome outcome;

    counters_handler(gl->gateway->counters, gl->metrics, handler, answer->outcome,
                     gl->loop.now_ns - h->called_ns);
    if (answer->wants_response && !h->is_response)
        h->wanting |= UINT32_C(1) << h->next;
    outcome = handling_apply(c, &gl->gateway->config->handlers[handler], answer);
    call_free(h->call);
    h->call = NULL;
    return outcome;
}
