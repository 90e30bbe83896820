/* The gateway's life: what is made, in which order, and how it ends. */
#include "gateway/gateway.h"

#include "admission/memory.h"
#include "base/alloc.h"
#include "base/thread.h"
#include "gateway/crossing.h"
#include "gateway/handling.h"
#include "gateway/overload.h"
#include "gateway/survival.h"
#include "transport/h2o_thread.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS (100 * NS_PER_MS)
#define DRAIN_LOOK_NS (10 * NS_PER_MS)

/* Between two looks at what other gateways have given back: while there are others, and till then.
 */
#define SHARE_LOOK_NS (10 * NS_PER_MS)
#define SHARE_ALONE_NS (100 * NS_PER_MS)
#define FAILURES_LOGGED_PER_S 10

static bool begin_to_end(struct gateway *gateway);
static int open_pipelines(struct gateway *gateway, bool may_lack_addresses, char **why);
static void close_shared(struct gateway *gateway);
static int open_loop(struct gateway *gateway, unsigned index,
                     const struct gateway_options *options);
static void *run_loop(void *arg);
static void on_retire(struct loop *loop, struct mail *mail);
static void on_drain(struct loop *loop, struct mail *mail);
static void on_end_tunnels(struct loop *loop, struct mail *mail);
static void stop_accepting(struct gateway_loop *gl);
static void on_abort(struct loop *loop, struct mail *mail);
static void on_drain_timer(struct timer *timer);
static void on_tick(struct timer *timer);
static void on_share_timer(struct timer *timer);

int gateway_open(struct gateway **out, const struct gateway_options *options, char **why) {
    const struct config *config = options->config;
    struct gateway *gateway = xcalloc(1, sizeof *gateway);
    int err;

    gateway->config = config;
    gateway->counters = options->counters;
    gateway->segment = options->segment;
    gateway->started_ns = clock_now_ns();
    gateway->children = options->children;
    gateway->fds.limit[FD_CLIENT] = config->admission.max_connections;
    gateway->fds.limit[FD_UPSTREAM] = config->admission.fd_upstream;
    gateway->fds.limit[FD_FILE] = gateway->fds.limit[FD_RESERVE] = config->admission.fd_reserve;
    gate_init(&gateway->connections, config->admission.max_connections, UINT32_MAX);
    gate_init(&gateway->handshakes, config->admission.max_handshakes, UINT32_MAX);
    addresses_init(&gateway->addresses, config->admission.max_connections_per_address,
                   config->admission.max_connections);
    gateway->memory_limit = config->admission.memory ? config->admission.memory : memory_limit("");
    gateway->memory_fd = memory_open();
    gateway->routes = route_table_new(config);
    gateway->loop_count = config->server.threads;
    gateway->handlers = options->handlers;
    gateway->handling_memory.limit = config->server.handler_memory;
    gateway->shares = (struct share_home){.table = options->shares, .slot = options->share_slot};
    share_begin(&gateway->shares);
    if (!options->shares)
        gateway->own_memo = xcalloc(1, sizeof *gateway->own_memo);
    gateway->memo = options->shares ? &options->shares->memo : gateway->own_memo;
    err = security_open(&gateway->security, config, why);
    if (!err)
        err = open_pipelines(gateway, options->may_lack_addresses, why);
    if (err) {
        close_shared(gateway);
        return err;
    }
    survival_open(gateway, options->keeper);
    gateway->loops = xcalloc(gateway->loop_count, sizeof *gateway->loops);
    for (unsigned i = 0; !err && i < gateway->loop_count; i++) {
        err = open_loop(gateway, i, options);
        if (err)
            *why = xasprintf("cannot open I/O loop %u: %s", i, strerror(-err));
    }
    /* All loops are there before any runs: they hand connections to each other. */
    for (unsigned i = 0; !err && i < gateway->loop_count; i++)
        err = thread_start(&gateway->loops[i].thread, run_loop, &gateway->loops[i]);
    if (!err)
        err = resolver_start(gateway->resolver);
    if (!err)
        err = security_start(&gateway->security);
    if (err) {
        /* Nothing can be taken back from here on but by ending: the caller exits. */
        if (!*why)
            *why = xasprintf("cannot start threads: %s", strerror(-err));
        return err;
    }
    atomic_store(&gateway->state, GATEWAY_LIVE);
    *out = gateway;
    return 0;
}

void gateway_drain(struct gateway *gateway) {
    begin_to_end(gateway);
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_exchange(&gateway->loops[i].is_drain_posted, true))
            loop_post(&gateway->loops[i].loop, &gateway->loops[i].drain_mail);
    gateway_end_tunnels(gateway);
}

void gateway_retire(struct gateway *gateway) {
    if (begin_to_end(gateway))
        for (unsigned i = 0; i < gateway->loop_count; i++)
            loop_post(&gateway->loops[i].loop, &gateway->loops[i].retire_mail);
}

bool gateway_has_retired(const struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_load(&gateway->loops[i].has_retired))
            return false;
    return true;
}

void gateway_end_tunnels(struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_exchange(&gateway->loops[i].are_tunnels_posted, true))
            loop_post(&gateway->loops[i].loop, &gateway->loops[i].tunnels_mail);
}

void gateway_abort(struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_exchange(&gateway->loops[i].is_abort_posted, true))
            loop_post(&gateway->loops[i].loop, &gateway->loops[i].abort_mail);
}

bool gateway_is_drained(const struct gateway *gateway) {
    for (unsigned i = 0; i < gateway->loop_count; i++)
        if (!atomic_load(&gateway->loops[i].has_ended))
            return false;
    return true;
}

bool gateway_close(struct gateway *gateway, struct census *census) {
    *census = (struct census){0};
    for (unsigned i = 0; i < gateway->loop_count; i++)
        pthread_join(gateway->loops[i].thread, NULL);
    /* A letter may have come to a loop that had ended already. */
    for (unsigned i = 0; i < gateway->loop_count; i++) {
        struct gateway_loop *gl = &gateway->loops[i];

        census->handles += loop_close(&gl->loop);
        census->connections += gl->loop.conns;
        census->timers += gl->loop.wheel.running;
        census->exchanges += gl->active_crossings;
        for (struct list *at = gl->programs.runs.next; at != &gl->programs.runs; at = at->next)
            census->children++;
        for (size_t j = 0; j < gateway->config->listener_count; j++)
            listener_deinit(&gl->listeners[j]);
        spares_drop(&gl->spare_crossings);
        pool_loop_deinit(&gl->pools);
        buffer_deinit(&gl->scratch);
        free(gl->listeners);
        free(gl->parts);
        free(gl->child_rows);
    }
    census->fds = fds_used(&gateway->fds, FD_CLIENT) + fds_used(&gateway->fds, FD_UPSTREAM);
    census->permits = gate_taken(&gateway->connections) + gate_taken(&gateway->handshakes);
    for (size_t i = 0; i < gateway->config->pipeline_count; i++)
        census->permits += gate_taken(&gateway->pipelines[i]->concurrency) +
                           gate_taken(&gateway->pipelines[i]->streams);
    census->permits += atomic_load(&gateway->handling_memory.used) > 0;
    free(gateway->loops);
    close_shared(gateway);
    return census->handles + census->connections + census->timers + census->exchanges +
               census->fds + census->permits + census->children ==
           0;
}

bool gateway_trusts(const struct gateway_listener *listener, const struct sockaddr *client) {
    for (size_t i = 0; i < listener->config->trust_count; i++)
        if (config_cidr_has(&listener->config->trust[i], client))
            return true;
    return false;
}

struct slice gateway_date(struct gateway_loop *gl) {
    if (gl->loop.now_ns >= gl->date_until_ns) {
        int64_t wall_ns = clock_wall_ns();
        time_t seconds = (time_t)(wall_ns / NS_PER_S);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        gl->date_len = strftime(gl->date, sizeof gl->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        gl->date_until_ns = gl->loop.now_ns + NS_PER_S - wall_ns % NS_PER_S;
    }
    return slice_of(gl->date, gl->date_len);
}

/* True the first time. */
static bool begin_to_end(struct gateway *gateway) {
    if (atomic_exchange(&gateway->state, GATEWAY_DRAINING) == GATEWAY_DRAINING)
        return false;
    resolver_close(gateway->resolver); /* no new addresses from here on */
    gateway->resolver = NULL;
    return true;
}

static int open_pipelines(struct gateway *gateway, bool may_lack_addresses, char **why) {
    const struct config *config = gateway->config;
    struct pipeline_options options = {
        .shares = &gateway->shares,
        .loops = gateway->loop_count,
        .names_by_ns = may_lack_addresses ? clock_now_ns() + GATEWAY_NAMES_NS : 0,
    };
    int err = resolver_open(&gateway->resolver, config->server.resolver);

    if (err) {
        *why = xasprintf("cannot use server.resolver '%s': %s",
                         config->server.resolver ? config->server.resolver : "of the system",
                         strerror(-err));
        return err;
    }
    options.resolver = gateway->resolver;
    gateway->pipelines = xcalloc(config->pipeline_count, sizeof(struct pipeline *));
    for (size_t i = 0; !err && i < config->pipeline_count; i++) {
        options.config = &config->pipelines[i];
        err = pipeline_open(&gateway->pipelines[i], &options, why);
        if (!err)
            gateway->pipelines[i]->pool.tls = gateway->security.clients[i];
    }
    return err;
}

/* What belongs to no loop. */
static void close_shared(struct gateway *gateway) {
    rest_close(gateway);
    resolver_close(gateway->resolver);
    for (size_t i = 0; gateway->pipelines && i < gateway->config->pipeline_count; i++)
        pipeline_close(gateway->pipelines[i]);
    free(gateway->pipelines);
    gate_deinit(&gateway->connections);
    gate_deinit(&gateway->handshakes);
    security_close(&gateway->security);
    addresses_deinit(&gateway->addresses);
    if (gateway->memory_fd >= 0)
        close(gateway->memory_fd);
    route_table_free(gateway->routes);
    free(gateway->own_memo);
    free(gateway);
}

static int open_loop(struct gateway *gateway, unsigned index,
                     const struct gateway_options *options) {
    const struct config *config = gateway->config;
    struct gateway_loop *gl = &gateway->loops[index];
    int err = loop_open(&gl->loop, index);

    if (err)
        return err;
    gl->gateway = gateway;
    gl->metrics = metrics_open(gateway->segment, index);
    gl->failures_logged = (struct log_limit)LOG_LIMIT(FAILURES_LOGGED_PER_S);
    if (options->board) {
        gl->loop.pulse = &options->board->loops[index];
        atomic_store(&gl->loop.pulse->alive_ns, gl->loop.now_ns);
        atomic_store(&gl->loop.pulse->state, PULSE_RUNNING);
    }
    gl->retire_mail.deliver = on_retire;
    gl->overload_logged = (struct log_limit)LOG_LIMIT(PRESSURE_ACTIONS);
    gl->tunnels_mail.deliver = on_end_tunnels;
    gl->drain_mail.deliver = on_drain;
    gl->abort_mail.deliver = on_abort;
    gl->pools = (struct pool_loop){.loop = &gl->loop, .fds = &gateway->fds};
    gl->pools.failures_logged = (struct log_limit)LOG_LIMIT(FAILURES_LOGGED_PER_S);
    run_loop_init(&gl->programs, &gl->loop, &gateway->fds);
    if (options->nursery >= 0)
        programs_open(gl, options->nursery);
    list_init(&gl->crossings);
    list_init(&gl->watches);
    timer_init(&gl->tick, on_tick);
    timer_init(&gl->drain_timer, on_drain_timer);
    timer_init(&gl->share_timer, on_share_timer);
    if (options->shares)
        loop_timer_start(&gl->loop, &gl->share_timer, 0);
    gl->tick_due_ns = gl->loop.now_ns + TICK_NS;
    loop_timer_start(&gl->loop, &gl->tick, TICK_NS);
    if (gateway->handlers)
        gl->desk = handler_desk_open(gateway->handlers, &gl->loop);
    gl->parts = xcalloc(config->pipeline_count, sizeof *gl->parts);
    gl->child_rows = xcalloc(config->pipeline_count, sizeof(const struct board_row *));
    for (size_t i = 0; i < config->pipeline_count; i++)
        pipeline_loop_open(&gl->parts[i], gateway->pipelines[i], &gl->pools, steps_permit_granted,
                           steps_permit_refused, again_let_go);
    gl->listeners = xcalloc(config->listener_count, sizeof *gl->listeners);
    for (size_t i = 0; !err && i < config->listener_count; i++) {
        listener_init(&gl->listeners[i], gl, i);
        err = listener_open(&gl->listeners[i], options);
    }
    return err;
}

static void *run_loop(void *arg) {
    struct gateway_loop *gl = arg;
    char name[16];

    snprintf(name, sizeof name, "weir-loop-%u", gl->loop.index);
    pthread_setname_np(pthread_self(), name);
    loop_run(&gl->loop);
    h2o_thread_deinit();
    atomic_store(&gl->loop.pulse->state, PULSE_ENDED);
    atomic_store(&gl->has_ended, true);
    return NULL;
}

static void on_retire(struct loop *loop, struct mail *mail) {
    struct gateway_loop *gl = CONTAINER_OF(mail, struct gateway_loop, retire_mail);

    for (size_t i = 0; i < gl->gateway->config->listener_count; i++)
        listener_retire(&gl->listeners[i]);
    stop_accepting(gl);
}

static void on_drain(struct loop *loop, struct mail *mail) {
    struct gateway_loop *gl = CONTAINER_OF(mail, struct gateway_loop, drain_mail);

    stop_accepting(gl);
    for (size_t i = 0; i < gl->gateway->config->listener_count; i++)
        listener_drain(&gl->listeners[i]);
}

static void on_end_tunnels(struct loop *loop, struct mail *mail) {
    struct gateway_loop *gl = CONTAINER_OF(mail, struct gateway_loop, tunnels_mail);

    gl->are_tunnels_ending = true;
    for (struct list *link = gl->crossings.next; link != &gl->crossings; link = link->next)
        tunnel_end(CONTAINER_OF(link, struct crossing, link));
}

static void stop_accepting(struct gateway_loop *gl) {
    if (gl->is_draining)
        return;
    gl->is_draining = true;
    health_drain(gl);
    for (size_t i = 0; i < gl->gateway->config->listener_count; i++)
        listener_close(&gl->listeners[i]);
    atomic_store(&gl->has_retired, true);
    loop_timer_stop(&gl->loop, &gl->tick);
    loop_timer_start(&gl->loop, &gl->drain_timer, 0);
}

static void on_abort(struct loop *loop, struct mail *mail) {
    struct gateway_loop *gl = CONTAINER_OF(mail, struct gateway_loop, abort_mail);
    struct list *link;

    for (size_t i = 0; i < gl->gateway->config->listener_count; i++)
        listener_abort(&gl->listeners[i]);
    for (link = gl->crossings.next; link != &gl->crossings; link = link->next) {
        struct exchange *x = &CONTAINER_OF(link, struct crossing, link)->x;

        if (!x->client)
            exchange_wake(x, EXCHANGE_DEADLINE); /* no listener knows it any more */
    }
}

/* Goes on once no client connection and no exchange is left: first the upstream connections end,
 * then the loop. */
static void on_drain_timer(struct timer *timer) {
    struct gateway_loop *gl = CONTAINER_OF(timer, struct gateway_loop, drain_timer);
    bool has_clients = !list_is_empty(&gl->crossings);

    if (gl->desk && gl->loop.index == 0)
        handling_count(gl);
    for (size_t i = 0; i < gl->gateway->config->listener_count; i++)
        has_clients |= listener_connections(&gl->listeners[i]) > 0;
    if (!has_clients && !gl->are_pools_closed) {
        gl->are_pools_closed = true;
        for (size_t i = 0; i < gl->gateway->config->pipeline_count; i++)
            pipeline_loop_close(&gl->parts[i]);
    }
    if (gl->are_pools_closed && gl->loop.conns == 0) {
        loop_timer_stop(&gl->loop, &gl->share_timer);
        run_loop_close(&gl->programs);
        if (gl->desk)
            handler_desk_close(gl->desk);
        gl->desk = NULL;
        loop_stop(&gl->loop);
    } else {
        loop_timer_start(&gl->loop, timer, DRAIN_LOOK_NS);
    }
}

static void on_share_timer(struct timer *timer) {
    struct gateway_loop *gl = CONTAINER_OF(timer, struct gateway_loop, share_timer);
    const struct share_home *shares = &gl->gateway->shares;
    bool is_alone = share_is_alone(shares);

    /* Alone, too: who has left may have left rights that a line here waits for. */
    share_beat(shares);
    for (size_t i = 0; i < gl->gateway->config->pipeline_count; i++)
        pipeline_loop_look(&gl->parts[i]);
    loop_timer_start(&gl->loop, timer, is_alone ? SHARE_ALONE_NS : SHARE_LOOK_NS);
}

static void on_tick(struct timer *timer) {
    struct gateway_loop *gl = CONTAINER_OF(timer, struct gateway_loop, tick);
    int64_t late_ns = gl->loop.now_ns - gl->tick_due_ns, oldest_ns = 0;

    if (!list_is_empty(&gl->crossings))
        oldest_ns = CONTAINER_OF(gl->crossings.next, struct crossing, link)->x.started_ns;
    atomic_store_explicit(&gl->oldest_ns, oldest_ns, memory_order_relaxed);
    atomic_store_explicit(&gl->lag_ns, late_ns > 0 ? late_ns : 0, memory_order_relaxed);
    overload_look(gl);
    if (gl->desk && gl->loop.index == 0)
        handling_count(gl);
    health_look(gl);
    rest_look(gl);
    for (size_t i = 0; i < gl->gateway->config->pipeline_count; i++)
        pipeline_loop_tick(&gl->parts[i]);
    if (gl->loop.index == 0)
        survival_look(gl->gateway, gl->loop.now_ns);
    gl->tick_due_ns = gl->loop.now_ns + TICK_NS;
    loop_timer_start(&gl->loop, timer, TICK_NS);
}
