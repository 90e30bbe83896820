/* Readings and actions; the thresholds are admission's (pressure.h). */
#include "gateway/overload.h"

#include "admission/memory.h"

static int64_t lasting_lag(struct gateway_loop *gl);
static void evict(struct gateway_loop *gl);
static void tell(struct gateway_loop *gl, unsigned actions);

void overload_look(struct gateway_loop *gl) {
    struct gateway *gateway = gl->gateway;
    const struct config_admission *config = &gateway->config->admission;
    unsigned actions, before = atomic_load_explicit(&gl->actions, memory_order_relaxed);

    if (gl->loop.index == 0)
        atomic_store_explicit(&gateway->memory_used, memory_used(gateway->memory_fd),
                              memory_order_relaxed);
    pressure_update(&gl->pressure, PRESSURE_FDS,
                    (double)gate_taken(&gateway->connections) / gateway->connections.limit,
                    config->shed_at_fds);
    if (gateway->memory_limit > 0)
        pressure_update(&gl->pressure, PRESSURE_MEMORY,
                        (double)atomic_load_explicit(&gateway->memory_used, memory_order_relaxed) /
                            (double)gateway->memory_limit,
                        config->shed_at_memory);
    if (config->shed_at_lag_ns > 0)
        pressure_update(&gl->pressure, PRESSURE_LAG,
                        (double)lasting_lag(gl) / (double)config->shed_at_lag_ns, 1);
    actions = pressure_actions(&gl->pressure);
    if (actions != before)
        tell(gl, actions);
    if (actions & PRESSURE_EVICT)
        evict(gl);
    for (size_t i = 0; actions & PRESSURE_CLOSE && i < gateway->config->listener_count; i++)
        h2_server_retire(&gl->listeners[i].h2, OVERLOAD_RETIRE_MAX);
    if (actions == before)
        return;
    atomic_store_explicit(&gl->actions, actions, memory_order_relaxed);
    for (size_t i = 0; i < gateway->config->listener_count; i++)
        listener_heed(&gl->listeners[i], actions);
}

/* The lesser one of two ticks. A loop that was late once was held up, by the machine or by one long
 * piece of work, and is not any more: what came meanwhile can be served. */
static int64_t lasting_lag(struct gateway_loop *gl) {
    int64_t lag_ns = atomic_load_explicit(&gl->lag_ns, memory_order_relaxed);
    int64_t before_ns = gl->lag_before_ns;

    gl->lag_before_ns = lag_ns;
    return lag_ns < before_ns ? lag_ns : before_ns;
}

enum fail overload_shed(const struct gateway_loop *gl, enum config_priority priority) {
    static const enum fail reasons[PRESSURE_RESOURCES] = {
        [PRESSURE_FDS] = FAIL_OVERLOAD_FDS,
        [PRESSURE_MEMORY] = FAIL_OVERLOAD_MEMORY,
        [PRESSURE_LAG] = FAIL_OVERLOAD_LAG,
    };
    unsigned refusing = priority == PRIORITY_BACKGROUND ? PRESSURE_SHED | PRESSURE_SHED_MORE
                        : priority == PRIORITY_DEFAULT  ? PRESSURE_SHED_MORE
                                                        : 0;

    if (!(atomic_load_explicit(&gl->actions, memory_order_relaxed) & refusing))
        return FAIL_NONE;
    for (unsigned i = 0; i < PRESSURE_RESOURCES; i++)
        if (gl->pressure.actions[i] & refusing)
            return reasons[i];
    return FAIL_NONE;
}

/* This loop's part of what is too much, the longest idle first. */
static void evict(struct gateway_loop *gl) {
    struct gateway *gateway = gl->gateway;
    double keep = OVERLOAD_EVICT_DOWN_TO * gateway->connections.limit;
    double excess = (gate_taken(&gateway->connections) - keep) / gateway->loop_count + 1;
    unsigned left = OVERLOAD_EVICT_MAX;

    if (gl->loop.now_ns < gl->evict_after_ns)
        return; /* those of the last time are still on their way out */
    if (!(gl->pressure.actions[PRESSURE_MEMORY] & PRESSURE_EVICT) && excess < left)
        left = excess > 0 ? (unsigned)excess : 0;
    for (size_t i = 0; left > 0 && i < gateway->config->listener_count; i++) {
        unsigned gone = listener_evict(&gl->listeners[i], OVERLOAD_IDLE_NS, left);

        counters_evicted(gateway->counters, gl->metrics, i, gone);
        left -= gone;
        if (gone > 0)
            gl->evict_after_ns = gl->loop.now_ns + H1_SERVER_IDLE_LINGER_NS + NS_PER_MS;
    }
}

static void tell(struct gateway_loop *gl, unsigned actions) {
    for (unsigned i = 0; i < PRESSURE_ACTIONS; i++) {
        unsigned bit = 1U << i, by = 0;
        bool was = atomic_load_explicit(&gl->actions, memory_order_relaxed) & bit;

        if (was == !!(actions & bit))
            continue;
        while (actions & bit && !(gl->pressure.actions[by] & bit))
            by++;
        if (was)
            log_limited(&gl->overload_logged, LOG_INFO, "overload: '%s' has ended on loop %u",
                        pressure_action_name(i), gl->loop.index);
        else
            log_limited(&gl->overload_logged, LOG_WARN,
                        "overload: '%s' begins on loop %u, because of %s: connections %u of %u, "
                        "memory %.0f of %.0f MiB, loop lag %.0f ms",
                        pressure_action_name(i), gl->loop.index, pressure_resource_name(by),
                        (unsigned)gate_taken(&gl->gateway->connections),
                        gl->gateway->connections.limit,
                        (double)atomic_load(&gl->gateway->memory_used) / (1 << 20),
                        (double)gl->gateway->memory_limit / (1 << 20),
                        (double)atomic_load(&gl->lag_ns) / NS_PER_MS);
    }
}
