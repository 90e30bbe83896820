#include "gateway/survival.h"

#include "handler/quarantine.h"
#include "upstream/endpoint_state.h"

static json_t *save_endpoints(void *ctx, const struct keeper_now *now);
static json_t *save_pipeline(struct pipeline *pipeline, const struct keeper_now *now, size_t *room);
static void take_up_endpoints(void *ctx, const json_t *saved, const struct keeper_now *now);
static json_t *save_handlers(void *ctx, const struct keeper_now *now);
static void take_up_handlers(void *ctx, const json_t *saved, const struct keeper_now *now);

void survival_open(struct gateway *gateway, struct keeper *keeper) {
    keeper_add(keeper,
               &(struct keeper_section){"endpoints", gateway, save_endpoints, take_up_endpoints});
    if (gateway->handlers)
        keeper_add(keeper,
                   &(struct keeper_section){"handlers", gateway, save_handlers, take_up_handlers});
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
    return saved;
}

static void take_up_endpoints(void *ctx, const json_t *saved, const struct keeper_now *now) {
    const struct gateway *gateway = ctx;

    for (size_t i = 0; i < gateway->config->pipeline_count; i++) {
        const json_t *endpoints = json_object_get(saved, gateway->config->pipelines[i].name);
        struct endpoint_set *set = pipeline_endpoints(gateway->pipelines[i]);

        for (size_t j = 0; endpoints && j < set->count; j++)
            endpoint_take_up(set->list[j], json_object_get(endpoints, set->list[j]->text), now);
        endpoint_set_unref(set);
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
