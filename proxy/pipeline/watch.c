#include "pipeline/watch.h"

#include "base/alloc.h"
#include "base/log.h"
#include "upstream/trial.h"

#include <stdlib.h>
#include <string.h>

static void remember(struct pipeline *pipeline, struct slice address, unsigned condition);
static bool is_own(const struct pipeline_loop *part, const char *name);
static bool is_checked(const struct pipeline_loop *part, const struct endpoint *endpoint);
static bool is_in(const struct endpoint_set *set, const struct endpoint *endpoint);
static void on_found(void *ctx, struct endpoint *endpoint, bool is_healthy, const char *why);

void watch_set_up(struct pipeline *pipeline) {
    const struct config_pipeline *config = pipeline->config;
    bool is_alone = config->endpoint_count == 1 && config->endpoints[0].kind != ADDRESS_NAME;

    pipeline->endpoint = (struct endpoint_settings){
        .breaker = {.in_a_row = config->breaker.in_a_row,
                    .open_for_ns = config->breaker.open_for_ns,
                    .open_max_ns = config->breaker.open_max_ns,
                    .passes = is_alone ? 1 : WATCH_PASSES},
        .slow_start_ns = config->slow_start_ns,
        .is_checked = config->health.kind != HEALTH_OFF,
        .does_connecting_count = config->breaker.on & BREAKER_ON_CONNECT,
    };
    pipeline->outlier = (struct outlier_settings){
        .share = config->breaker.share,
        .calls_min = config->breaker.calls_min,
        .in_a_row = config->breaker.in_a_row,
        .window_ns = config->breaker.window_ns,
        .stall_ns = config->breaker.stall_ns,
        .eject_max = config->breaker.eject_max,
    };
}

struct endpoint *pipeline_set_service(struct pipeline *pipeline, struct slice address,
                                      unsigned condition) {
    unsigned others = (ENDPOINT_DRAINED | ENDPOINT_DISABLED) & ~condition;
    struct endpoint *found = NULL;

    pthread_mutex_lock(&pipeline->lock);
    for (size_t i = 0; !found && i < pipeline->set->count; i++)
        if (slice_equal(slice_str(pipeline->set->list[i]->text), address))
            found = endpoint_ref(pipeline->set->list[i]);
    if (found) {
        remember(pipeline, address, condition);
        endpoint_change(found, condition, others, clock_now_ns());
        watch_mark(pipeline, NULL, true); /* who is out of service does not count */
    }
    pthread_mutex_unlock(&pipeline->lock);
    if (found && !condition)
        breaker_reset(&found->breaker);
    return found;
}

void pipeline_remember_service(struct pipeline *pipeline, struct slice address,
                               unsigned condition) {
    pthread_mutex_lock(&pipeline->lock);
    remember(pipeline, address, condition);
    pthread_mutex_unlock(&pipeline->lock);
}

unsigned watch_order_for(const struct pipeline *pipeline, const char *address) {
    for (size_t i = 0; i < pipeline->order_count; i++)
        if (strcmp(pipeline->orders[i].address, address) == 0)
            return pipeline->orders[i].condition;
    return 0;
}

/* Of too many the oldest is forgotten. */
static void remember(struct pipeline *pipeline, struct slice address, unsigned condition) {
    struct pipeline_order order = {.condition = condition};
    size_t kept = 0;

    if (address.len >= sizeof order.address)
        return; /* there is no such endpoint */
    memcpy(order.address, address.base, address.len);
    for (size_t i = 0; i < pipeline->order_count; i++)
        if (strcmp(pipeline->orders[i].address, order.address) != 0)
            pipeline->orders[kept++] = pipeline->orders[i];
    pipeline->order_count = kept;
    if (condition == 0)
        return;
    if (kept == PIPELINE_ORDERS_MAX) {
        log_warn("pipeline '%s': more than %d endpoints are out of service by order; should '%s' "
                 "go and come back, that is forgotten",
                 pipeline->config->name, PIPELINE_ORDERS_MAX, pipeline->orders[0].address);
        memmove(pipeline->orders, pipeline->orders + 1, --kept * sizeof order);
    }
    pipeline->orders = xrealloc(pipeline->orders, (kept + 1) * sizeof order);
    pipeline->orders[kept] = order;
    pipeline->order_count = kept + 1;
}

void pipeline_mark(struct pipeline *pipeline) {
    pthread_mutex_lock(&pipeline->lock);
    watch_mark(pipeline, NULL, true);
    pthread_mutex_unlock(&pipeline->lock);
}

void pipeline_loop_tick(struct pipeline_loop *part) {
    struct loop *loop = part->pools_shared->loop;

    for (size_t i = 0; i < part->set->count; i++)
        trial_look(part->set->list[i], loop->index, loop->now_ns);
    if (is_own(part, part->shared->config->name))
        outlier_look(part->set->list, part->set->count, &part->shared->outlier, loop->now_ns);
}

void watch_take(struct pipeline_loop *part) {
    struct health_options options = {
        .config = part->shared->config,
        .pool = &part->shared->pool,
        .found = on_found,
        .ctx = part->shared,
    };
    size_t kept = 0;

    if (options.config->health.kind == HEALTH_OFF)
        return;
    for (size_t i = 0; i < part->check_count; i++) {
        if (is_in(part->set, health_endpoint(part->checks[i])))
            part->checks[kept++] = part->checks[i];
        else
            health_close(part->checks[i]);
    }
    part->check_count = kept;
    part->checks = xrealloc(part->checks, (kept + part->set->count + 1) * sizeof(struct health *));
    for (size_t i = 0; i < part->set->count; i++) {
        struct endpoint *endpoint = part->set->list[i];

        if (is_own(part, endpoint->text) && !is_checked(part, endpoint))
            part->checks[part->check_count++] = health_new(endpoint, part->pools_shared, &options);
    }
}

void watch_close(struct pipeline_loop *part) {
    for (size_t i = 0; i < part->check_count; i++)
        health_close(part->checks[i]);
    part->check_count = 0;
    free(part->checks);
    part->checks = NULL;
}

void watch_mark(struct pipeline *pipeline, struct endpoint *endpoint, bool is_healthy) {
    const struct config_pipeline *config = pipeline->config;
    bool is_panic;

    if (config->health.kind == HEALTH_OFF)
        return;
    is_panic = health_mark(pipeline->set->list, pipeline->set->count, endpoint, is_healthy,
                           config->health.panic, clock_now_ns());
    if (is_panic && !pipeline->is_panic)
        log_warn("less than %.0f%% of the endpoints of pipeline '%s' are healthy: all are used",
                 100 * config->health.panic, config->name);
    else if (!is_panic && pipeline->is_panic)
        log_info("enough endpoints of pipeline '%s' are healthy: only these are used",
                 config->name);
    pipeline->is_panic = is_panic;
}

static void on_found(void *ctx, struct endpoint *endpoint, bool is_healthy, const char *why) {
    struct pipeline *pipeline = ctx;

    if (!is_healthy)
        log_warn("endpoint '%s' of pipeline '%s' is unhealthy: %s", endpoint->text,
                 pipeline->config->name, why);
    else
        log_info("endpoint '%s' of pipeline '%s' is healthy", endpoint->text,
                 pipeline->config->name);
    atomic_store(&endpoint->unhealthy_why, is_healthy ? NULL : why);
    pthread_mutex_lock(&pipeline->lock);
    watch_mark(pipeline, endpoint, is_healthy);
    pthread_mutex_unlock(&pipeline->lock);
    if (is_healthy)
        breaker_hint(&endpoint->breaker, clock_now_ns());
}

/* FNV-1a. */
static bool is_own(const struct pipeline_loop *part, const char *name) {
    uint32_t hash = 2166136261;

    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619;
    return hash % part->shared->loops == part->pools_shared->loop->index;
}

static bool is_checked(const struct pipeline_loop *part, const struct endpoint *endpoint) {
    for (size_t i = 0; i < part->check_count; i++)
        if (health_endpoint(part->checks[i]) == endpoint)
            return true;
    return false;
}

static bool is_in(const struct endpoint_set *set, const struct endpoint *endpoint) {
    for (size_t i = 0; i < set->count; i++)
        if (set->list[i] == endpoint)
            return true;
    return false;
}
