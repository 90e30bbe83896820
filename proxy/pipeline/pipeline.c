/* The shared part of a pipeline: its limits, and its addresses as they come from the resolver. */
#include "pipeline/pipeline.h"

#include "base/alloc.h"
#include "base/log.h"
#include "pipeline/watch.h"

#include <assert.h>
#include <stdlib.h>

/* One configured endpoint: an address, or a name with the addresses it has now. */
struct pipeline_source {
    struct pipeline *pipeline;           /* borrowed */
    const struct config_address *config; /* borrowed */
    struct resolver_addresses addresses;
};

static int open_source(struct pipeline_source *source, const struct pipeline_options *options,
                       char **why);
static void on_changed(void *ctx, const struct resolver_addresses *addresses);
static struct endpoint_set *make_set(struct pipeline *pipeline);
static struct endpoint *find(const struct endpoint_set *set,
                             const struct sockaddr_storage *address);
static struct endpoint *make_endpoint(struct pipeline *pipeline,
                                      const struct sockaddr_storage *address);
static void share(struct pipeline *pipeline, struct gate *gate, const char *what,
                  const char *address);
static unsigned concurrency_of(const struct config_pipeline *config);

int pipeline_open(struct pipeline **out, const struct pipeline_options *options, char **why) {
    const struct config_pipeline *config = options->config;
    struct pipeline *pipeline = xcalloc(1, sizeof *pipeline);
    unsigned loops = options->loops, dials = config->limits.dials / loops;

    pipeline->config = config;
    pipeline->loops = loops;
    pipeline->shares = options->shares;
    pipeline->pool = (struct pool_settings){
        .h1 = {.limits = {.head_bytes = config->max_head_bytes, .fields = config->max_fields},
               .max_informational = config->max_informational},
        .is_http2 = config->protocol == PROTOCOL_HTTP2,
        .h2 = {.limits = {.head_bytes = config->max_head_bytes, .fields = config->max_fields},
               .max_informational = config->max_informational,
               .streams = config->limits.streams_per_connection,
               .ping_ns = config->ping_ns,
               .pong_timeout_ns = config->pong_timeout_ns},
        .dial_timeout_ns = config->dial_timeout_ns,
        .idle_timeout_ns = config->idle_timeout_ns,
        .dials = dials ? dials : 1,
    };
    watch_set_up(pipeline);
    gate_init(&pipeline->concurrency, concurrency_of(config), config->queue.size);
    gate_init(&pipeline->streams, config->limits.streams, 0);
    pipeline->hold.max = config->queue.size;
    retry_budget_init(&pipeline->retries, config->retry.budget);
    share(pipeline, &pipeline->concurrency, "concurrency", "");
    share(pipeline, &pipeline->streams, "streams", "");
    pthread_mutex_init(&pipeline->lock, NULL);
    pipeline->parts = xcalloc(loops, sizeof(struct pipeline_loop *));
    pipeline->sources = xcalloc(config->endpoint_count, sizeof *pipeline->sources);
    for (size_t i = 0; i < config->endpoint_count; i++) {
        int err;

        pipeline->sources[i].pipeline = pipeline;
        pipeline->sources[i].config = &config->endpoints[i];
        err = open_source(&pipeline->sources[i], options, why);
        if (err) {
            pipeline_close(pipeline);
            return err;
        }
    }
    pipeline->set = make_set(pipeline);
    *out = pipeline;
    return 0;
}

void pipeline_close(struct pipeline *pipeline) {
    if (!pipeline)
        return;
    endpoint_set_unref(pipeline->set);
    gate_deinit(&pipeline->concurrency);
    gate_deinit(&pipeline->streams);
    retry_budget_deinit(&pipeline->retries);
    pthread_mutex_destroy(&pipeline->lock);
    free(pipeline->parts);
    free(pipeline->sources);
    free(pipeline->orders);
    free(pipeline);
}

struct endpoint_set *pipeline_endpoints(struct pipeline *pipeline) {
    struct endpoint_set *set;

    pthread_mutex_lock(&pipeline->lock);
    set = pipeline->set;
    atomic_fetch_add(&set->refs, 1);
    pthread_mutex_unlock(&pipeline->lock);
    return set;
}

void endpoint_set_unref(struct endpoint_set *set) {
    if (!set || atomic_fetch_sub(&set->refs, 1) > 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        endpoint_unref(set->list[i]);
    free(set);
}

static int open_source(struct pipeline_source *source, const struct pipeline_options *options,
                       char **why) {
    const struct config_address *config = source->config;
    int64_t by_ns = options->names_by_ns;
    const char *reason = "";
    int err;

    if (config->kind != ADDRESS_NAME) {
        source->addresses.count = 1;
        source->addresses.list[0] = config->sockaddr;
        return 0;
    }
    err = resolver_watch(options->resolver,
                         &(struct resolver_name){
                             .host = config->host,
                             .port = config->port,
                             .interval_ns = source->pipeline->config->resolve_interval_ns,
                             .changed = on_changed,
                             .ctx = source,
                             .may_come_later = by_ns != 0,
                         },
                         by_ns ? by_ns - clock_now_ns() : PIPELINE_RESOLVE_TIMEOUT_NS,
                         &source->addresses, &reason);
    if (err)
        *why = xasprintf("cannot resolve '%s' of pipeline '%s': %s", config->host,
                         source->pipeline->config->name, reason);
    return err;
}

/* How many exchanges may be in flight: no more than the connections can carry that there may be.
 */
static unsigned concurrency_of(const struct config_pipeline *config) {
    unsigned each = config->protocol == PROTOCOL_HTTP2 ? config->limits.streams_per_connection : 1;
    uint64_t most = config->protocol == PROTOCOL_EXEC ? config->limits.connections : 0;

    for (size_t i = 0; i < config->endpoint_count; i++) {
        unsigned addresses = config->endpoints[i].kind == ADDRESS_NAME ? RESOLVER_ADDRESSES_MAX : 1;

        most += (uint64_t)config->limits.connections * addresses * each;
    }
    return most < config->limits.concurrency ? (unsigned)most : config->limits.concurrency;
}

/* The addresses of all sources; endpoints that were there before stay the same ones. */
static struct endpoint_set *make_set(struct pipeline *pipeline) {
    size_t max = pipeline->config->endpoint_count * RESOLVER_ADDRESSES_MAX;
    struct endpoint_set *set = xcalloc(1, sizeof *set + max * sizeof(struct endpoint *));

    atomic_init(&set->refs, 1);
    for (size_t i = 0; i < pipeline->config->endpoint_count; i++) {
        const struct resolver_addresses *addresses = &pipeline->sources[i].addresses;

        for (size_t j = 0; j < addresses->count; j++) {
            struct endpoint *known = find(pipeline->set, &addresses->list[j]);

            if (find(set, &addresses->list[j]))
                continue; /* two names of one address */
            set->list[set->count++] =
                known ? endpoint_ref(known) : make_endpoint(pipeline, &addresses->list[j]);
        }
    }
    return set;
}

static struct endpoint *make_endpoint(struct pipeline *pipeline,
                                      const struct sockaddr_storage *address) {
    const struct config_pipeline *config = pipeline->config;
    struct endpoint *endpoint = endpoint_new(address, config->limits.connections, pipeline->loops);

    endpoint_set(endpoint, &pipeline->endpoint);
    if (config->health.kind != HEALTH_OFF && config->health.initial == INITIAL_UNHEALTHY)
        endpoint_change(endpoint, ENDPOINT_UNCHECKED, 0, 0);
    endpoint_change(endpoint, watch_order_for(pipeline, endpoint->text), 0, clock_now_ns());
    if (pipeline->set) /* it comes to others that have their share */
        atomic_store(&endpoint->returned_ns, clock_now_ns());
    share(pipeline, &endpoint->connections, "connections", endpoint->text);
    return endpoint;
}

/* Has @gate count with the other processes, under a name that stays the same over configurations.
 */
static void share(struct pipeline *pipeline, struct gate *gate, const char *what,
                  const char *address) {
    struct share_home *shares = pipeline->shares;
    char *key;

    if (!shares || !shares->table)
        return;
    key = xasprintf("%s/%s/%s", pipeline->config->name, what, address);
    if (!gate_share(gate, shares, key) && !atomic_exchange(&shares->is_told, true))
        log_warn("limit '%s' and others are counted by each gateway for itself: there is no room "
                 "among the %d that are shared, or another gateway hangs",
                 key, SHARE_ROWS_MAX);
    free(key);
}

static struct endpoint *find(const struct endpoint_set *set,
                             const struct sockaddr_storage *address) {
    for (size_t i = 0; set && i < set->count; i++)
        if (endpoint_is_at(set->list[i], address))
            return set->list[i];
    return NULL;
}

/* The part of a loop is told by letter. */
struct set_letter {
    struct mail mail;
    struct pipeline_loop *part; /* borrowed */
    struct endpoint_set *set;   /* counted */
};

static void deliver_set(struct loop *loop, struct mail *mail) {
    struct set_letter *letter = CONTAINER_OF(mail, struct set_letter, mail);

    pipeline_loop_take(letter->part, letter->set);
    free(letter);
}

/* On the resolver's thread. */
static void on_changed(void *ctx, const struct resolver_addresses *addresses) {
    struct pipeline_source *source = ctx;
    struct pipeline *pipeline = source->pipeline;
    struct endpoint_set *old;

    log_info("'%s' of pipeline '%s' has %zu addresses now", source->config->host,
             pipeline->config->name, addresses->count);
    pthread_mutex_lock(&pipeline->lock);
    old = pipeline->set;
    source->addresses = *addresses;
    pipeline->set = make_set(pipeline);
    watch_mark(pipeline, NULL, true);
    for (unsigned i = 0; i < pipeline->loops; i++) {
        struct set_letter *letter;

        if (!pipeline->parts[i])
            continue;
        letter = xcalloc(1, sizeof *letter);
        letter->mail.deliver = deliver_set;
        letter->part = pipeline->parts[i];
        letter->set = pipeline->set;
        atomic_fetch_add(&pipeline->set->refs, 1);
        loop_post(pipeline->parts[i]->pools_shared->loop, &letter->mail);
    }
    pthread_mutex_unlock(&pipeline->lock);
    endpoint_set_unref(old);
}
