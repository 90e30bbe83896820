#include "gateway/survival.h"

#include "handler/quarantine.h"
#include "upstream/endpoint_state.h"

static uint64_t sum_up(const struct gateway *gateway);
static json_t *save_endpoints(void *ctx, const struct keeper_now *now);
static json_t *save_pipeline(struct pipeline *pipeline, const struct keeper_now *now, size_t *room);
static void save_orders(struct pipeline *pipeline, json_t *to, size_t *room);
static void take_up_endpoints(void *ctx, const json_t *saved, const struct keeper_now *now);
static void take_up_orders(struct pipeline *pipeline, const json_t *saved);
static json_t *save_handlers(void *ctx, const struct keeper_now *now);
static void take_up_handlers(void *ctx, const json_t *saved, const struct keeper_now *now);

void survival_open(struct gateway *gateway, struct keeper *keeper) {
    gateway->keeper = keeper;
    keeper_add(keeper,
               &(struct keeper_section){"endpoints", gateway, save_endpoints, take_up_endpoints});
    if (gateway->handlers)
        keeper_add(keeper,
                   &(struct keeper_section){"handlers", gateway, save_handlers, take_up_handlers});
    gateway->survival_sum = sum_up(gateway);
}

void survival_look(struct gateway *gateway, int64_t now_ns) {
    uint64_t sum;

    if (!gateway->keeper || now_ns - gateway->survival_looked_ns < SURVIVAL_LOOK_NS)
        return;
    gateway->survival_looked_ns = now_ns;
    sum = sum_up(gateway);
    if (sum != gateway->survival_sum)
        keeper_hurry(gateway->keeper);
    gateway->survival_sum = sum;
}

/* Of all states; another one when any of them has changed. */
static uint64_t sum_up(const struct gateway *gateway) {
    uint64_t sum = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
        struct endpoint_set *set = pipeline_endpoints(gateway->pipelines[i]);

        for (size_t j = 0; j < set->count; j++)
            sum = (sum ^ (unsigned)atomic_load(&set->list[j]->breaker.state) ^
                   atomic_load(&set->list[j]->conditions) << 2) *
                  UINT64_C(1099511628211);
        endpoint_set_unref(set);
    }
    for (size_t i = 0; gateway->handlers && i < gateway->config->handler_count; i++)
        sum = (sum ^ quarantine_is_on(handlers_quarantine(gateway->handlers, i))) *
              UINT64_C(1099511628211);
    return sum;
}

static json_t *save_endpoints(void *ctx, const struct keeper_now *now) {
    const struct gateway *gateway = ctx;
    json_t *saved = json_object();
    size_t room = SURVIVAL_ENDPOINTS_MAX;

    for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
        json_t *endpoints = save_pipeline(gateway->pipelines[i], now, &room);

        if (json_object_size(endpoints) > 0)
            json_object_set(saved, gateway->config->pipelines[i].name, endpoints);
        json_decref(endpoints);
    }
    return saved;
}

static json_t *save_pipeline(struct pipeline *pipeline, const struct keeper_now *now,
                             size_t *room) {
    struct endpoint_set *set = pipeline_endpoints(pipeline);
    json_t *saved = json_object();

    for (size_t i = 0; i<set->count && * room> 0; i++) {
        json_t *endpoint = endpoint_save(set->list[i], now);

        /* A path that is no UTF-8 cannot be a key, and is left out. */
        if (endpoint && json_object_set_new(saved, set->list[i]->text, endpoint) == 0)
            --*room;
    }
    endpoint_set_unref(set);
    save_orders(pipeline, saved, room);
    return saved;
}

/* For addresses that names do not have now. */
static void save_orders(struct pipeline *pipeline, json_t *to, size_t *room) {
    pthread_mutex_lock(&pipeline->lock);
    for (size_t i = 0; i<pipeline->order_count && * room> 0; i++) {
        const struct pipeline_order *order = &pipeline->orders[i];

        if (!json_object_get(to, order->address) &&
            json_object_set_new(to, order->address, endpoint_save_order(order->condition)) == 0)
            --*room;
    }
    pthread_mutex_unlock(&pipeline->lock);
}

static void take_up_endpoints(void *ctx, const json_t *saved, const struct keeper_now *now) {
    const struct gateway *gateway = ctx;

    for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
        const json_t *endpoints = json_object_get(saved, gateway->config->pipelines[i].name);
        struct endpoint_set *set = pipeline_endpoints(gateway->pipelines[i]);

        for (size_t j = 0; endpoints && j < set->count; j++)
            endpoint_take_up(set->list[j], json_object_get(endpoints, set->list[j]->text), now);
        endpoint_set_unref(set);
        take_up_orders(gateway->pipelines[i], endpoints);
        pipeline_mark(gateway->pipelines[i]);
    }
}

static void take_up_orders(struct pipeline *pipeline, const json_t *saved) {
    const char *address;
    json_t *endpoint;

    json_object_foreach((json_t *)saved, address, endpoint) {
        unsigned order = endpoint_saved_order(endpoint);

        if (order && pipeline->order_count < PIPELINE_ORDERS_MAX)
            pipeline_remember_service(pipeline, slice_str(address), order);
    }
}

static json_t *save_handlers(void *ctx, const struct keeper_now *now) {
    const struct gateway *gateway = ctx;
    json_t *saved = json_object();

    for (size_t i = 0; i < gateway->config->handler_count; i++) {
        json_t *handler = quarantine_save(handlers_quarantine(gateway->handlers, i), now);

        if (handler)
            json_object_set_new(saved, gateway->config->handlers[i].name, handler);
    }
    return saved;
}

static void take_up_handlers(void *ctx, const json_t *saved, const struct keeper_now *now) {
    const struct gateway *gateway = ctx;

    for (size_t i = 0; i < gateway->config->handler_count; i++) {
        const json_t *handler = json_object_get(saved, gateway->config->handlers[i].name);

        if (handler)
            quarantine_take_up(handlers_quarantine(gateway->handlers, i), handler, now);
    }
}
