/* grpc.health.v1.Health, answered by weir itself for listeners with health_service: Check says how
 * a service is now, Watch says it and every change of it. "" is weir; another name is as well as
 * the pipeline that its calls would go to. */
#include "codec/grpc_health.h"
#include "gateway/crossing.h"

#define REQUEST_BYTES_MAX 1024 /* content; a service name is far shorter */

static void on_content(struct body *body);
static bool read_service(const struct body *body, struct arena *arena, struct slice *service);
static enum grpc_serving status_of(struct crossing *c, struct slice service);
static bool is_usable(struct pipeline *pipeline);
static void say(struct crossing *c, enum grpc_serving serving);
static void end_with(struct crossing *c, enum grpc_status status, struct slice message);
static void start_answer(struct crossing *c);

static const struct body_sink_ops sink = {.ready = on_content};

bool health_is_asked(const struct crossing *c) {
    const struct slice path = c->x.request_head.path;

    return c->is_grpc && c->listener->config->health_service &&
           (slice_equal(path, SLICE(GRPC_HEALTH_CHECK)) ||
            slice_equal(path, SLICE(GRPC_HEALTH_WATCH)));
}

enum health_outcome health_answer(struct crossing *c) {
    struct exchange *x = &c->x;
    enum grpc_serving serving;

    if (c->watched.base)
        return HEALTH_WAIT;
    if (!x->request.sink)
        body_attach_sink(&x->request, &sink, c);
    if (body_waiting(&x->request) > REQUEST_BYTES_MAX)
        return HEALTH_BAD;
    if (x->request.state == BODY_OPEN)
        return HEALTH_WAIT;
    if (!read_service(&x->request, &x->arena, &c->watched))
        return HEALTH_BAD;
    body_drop(&x->request, body_waiting(&x->request));
    x->request.sink = NULL;
    serving = status_of(c, c->watched);
    if (slice_equal(x->request_head.path, SLICE(GRPC_HEALTH_WATCH))) {
        x->is_stream = true;
        start_answer(c);
        say(c, serving);
        list_push_back(&c->listener->gl->watches, &c->watch);
        return HEALTH_WAIT;
    }
    if (serving == GRPC_SERVICE_UNKNOWN) {
        end_with(c, GRPC_NOT_FOUND, SLICE("weir: no route for this service"));
        start_answer(c);
    } else {
        say(c, serving);
        end_with(c, GRPC_OK, SLICE_NONE);
        start_answer(c);
    }
    return HEALTH_ANSWERED;
}

void health_look(struct gateway_loop *gl) {
    for (struct list *link = gl->watches.next; link != &gl->watches; link = link->next) {
        struct crossing *c = CONTAINER_OF(link, struct crossing, watch);
        enum grpc_serving serving = status_of(c, c->watched);

        if ((unsigned)serving != c->watched_status && body_waiting(&c->x.response) == 0) {
            say(c, serving);
            body_flush(&c->x.response);
        }
    }
}

void health_drain(struct gateway_loop *gl) {
    struct list *link;

    while ((link = list_pop(&gl->watches))) {
        struct crossing *c = CONTAINER_OF(link, struct crossing, watch);

        say(c, GRPC_NOT_SERVING);
        end_with(c, GRPC_UNAVAILABLE, SLICE("weir: the proxy is shutting down"));
        c->step = STEP_REPLY;
        body_flush(&c->x.response);
    }
}

static void on_content(struct body *body) {
    exchange_wake(&((struct crossing *)body->sink_ctx)->x, 0);
}

static bool read_service(const struct body *body, struct arena *arena, struct slice *service) {
    uv_buf_t bufs[BODY_BUFS_MAX];
    unsigned count = body_peek(body, bufs, BODY_BUFS_MAX);
    struct slice all = SLICE("");

    for (unsigned i = 0; i < count; i++)
        all = ARENA_JOIN(arena, all, slice_of(bufs[i].base, bufs[i].len));
    return body->state == BODY_ENDED && grpc_health_read_request(all, service);
}

static enum grpc_serving status_of(struct crossing *c, struct slice service) {
    struct gateway *gateway = c->listener->gl->gateway;
    struct request_head head = c->x.request_head;
    struct route_match match = {0};
    max_align_t memory[64];
    struct arena arena;
    enum route_outcome outcome;

    if (atomic_load(&gateway->state) == GATEWAY_DRAINING)
        return GRPC_NOT_SERVING;
    if (service.len == 0)
        return GRPC_SERVING;
    arena_init(&arena, memory, sizeof memory);
    head.path = ARENA_JOIN(&arena, SLICE("/"), service, SLICE("/"));
    outcome = route_match(gateway->routes, c->listener->index, &head, &arena, &match);
    arena_deinit(&arena);
    if (outcome != ROUTE_FOUND)
        return GRPC_SERVICE_UNKNOWN;
    return is_usable(gateway->pipelines[match.route->pipeline]) ? GRPC_SERVING : GRPC_NOT_SERVING;
}

/* Its active checks are believed, though calls are sent on where all of them fail. */
static bool is_usable(struct pipeline *pipeline) {
    struct endpoint_set *set = pipeline_endpoints(pipeline);
    int64_t now_ns = clock_now_ns();
    bool is = pipeline->config->protocol == PROTOCOL_EXEC; /* started when it is asked for */

    for (size_t i = 0; i < set->count && !is; i++)
        is = endpoint_is_up(set->list[i]) && endpoint_is_usable(set->list[i], now_ns) &&
             !(atomic_load(&set->list[i]->conditions) & ENDPOINT_UNHEALTHY);
    endpoint_set_unref(set);
    return is;
}

static void say(struct crossing *c, enum grpc_serving serving) {
    char message[GRPC_HEALTH_RESPONSE_BYTES];

    c->watched_status = serving;
    body_push_copy(&c->x.response, grpc_health_write_response(message, serving));
}

static void end_with(struct crossing *c, enum grpc_status status, struct slice message) {
    grpc_add_status(&c->x.response.trailers, &c->x.arena, status, message);
    body_end(&c->x.response);
}

static void start_answer(struct crossing *c) {
    struct exchange *x = &c->x;

    x->response_head = (struct response_head){.status = 200, .version = HTTP_2};
    fields_add_known(&x->response_head.fields, &x->arena, FIELD_CONTENT_TYPE,
                     SLICE("application/grpc"));
    fields_add_known(&x->response_head.fields, &x->arena, FIELD_X_REQUEST_ID, c->request_id);
    c->status = 200;
    x->is_response_begun = true;
    x->client->send_response(x, (struct content){CONTENT_CHUNKED, 0});
}
