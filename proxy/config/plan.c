/* The sum: reserve + listening sockets + upstream connections + client connections = fd limit. What
 * the file fixes is taken first; of what is left, upstreams get what they could use but at most
 * half, clients the rest; pipelines share by what they could use. */
#include "config/plan.h"

#include <assert.h>
#include <stdio.h>

#define THREADS_MAX 64

struct plan {
    uint64_t limit;
    uint64_t reserve;
    uint64_t listening;
    uint64_t fixed;     /* upstream connections that the file asks for by number */
    uint64_t automatic; /* addresses of the pipelines that leave it to us: one each at least */
    uint64_t wanted;    /* connections that those could use */
    uint64_t checks;    /* of health: a connection per address */
    uint64_t clients;   /* asked for by number, or 1 */
};

static void complete(struct config *config, const struct config_options *options);
static struct plan make_plan(const struct config *config);
static uint64_t connections_wanted(const struct config *config,
                                   const struct config_pipeline *pipeline);
static uint64_t least_of(const struct plan *plan);
static void share(struct config *config, const struct plan *plan);
static void refuse(const struct config *config, const struct tomlc_node *root,
                   const struct plan *plan, struct errors *errors);
static const struct tomlc_node *find(const struct tomlc_node *root, const char *section,
                                     const char *key);
static const struct tomlc_node *find_connections(const struct config *config,
                                                 const struct tomlc_node *root);

void plan_all(struct config *config, const struct tomlc_node *root,
              const struct config_options *options, struct errors *errors) {
    struct plan plan;

    complete(config, options);
    plan = make_plan(config);
    if (least_of(&plan) > plan.limit)
        refuse(config, root, &plan, errors);
    else
        share(config, &plan);
}

unsigned plan_addresses(const struct config_pipeline *pipeline) {
    unsigned addresses = pipeline->protocol == PROTOCOL_EXEC ? PLAN_EXEC_FDS : 0;

    for (size_t i = 0; i < pipeline->endpoint_count; i++)
        addresses += pipeline->endpoints[i].kind == ADDRESS_NAME ? PLAN_NAME_ADDRESSES : 1;
    return addresses;
}

static void complete(struct config *config, const struct config_options *options) {
    unsigned cores = options->cores > THREADS_MAX ? THREADS_MAX : options->cores;

    if (config->server.threads == 0)
        config->server.threads = cores > 0 ? cores : 1;
    if (config->handler_count == 0)
        config->server.handler_threads = 0;
    else if (config->server.handler_threads == 0)
        config->server.handler_threads =
            cores > PLAN_HANDLER_THREADS_MIN ? cores : PLAN_HANDLER_THREADS_MIN;
    if (config->admission.fd_reserve == 0)
        config->admission.fd_reserve =
            PLAN_RESERVE + PLAN_RESERVE_PER_THREAD * config->server.threads +
            PLAN_RESERVE_PER_HANDLER_THREAD * config->server.handler_threads;
    config->admission.fd_limit = options->fd_limit;
}

static struct plan make_plan(const struct config *config) {
    const struct config_admission *admission = &config->admission;
    struct plan plan = {
        .limit = admission->fd_limit,
        .reserve = admission->fd_reserve,
        .listening = config->listener_count * config->server.threads,
        .clients = admission->max_connections > 0 ? admission->max_connections : 1,
    };

    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct config_pipeline *pipeline = &config->pipelines[i];
        uint64_t addresses = plan_addresses(pipeline);

        if (pipeline->health.kind != HEALTH_OFF)
            plan.checks += addresses;
        if (pipeline->limits.connections > 0) {
            plan.fixed += addresses * pipeline->limits.connections;
        } else {
            plan.automatic += addresses;
            plan.wanted += addresses * connections_wanted(config, pipeline);
        }
    }
    return plan;
}

/* Per address. An HTTP/1 connection carries one exchange. An HTTP/2 one carries many, but belongs
 * to one thread: what does not fill a whole one may be spread over all threads. */
static uint64_t connections_wanted(const struct config *config,
                                   const struct config_pipeline *pipeline) {
    uint64_t exchanges = (uint64_t)pipeline->limits.concurrency + pipeline->limits.streams;

    if (pipeline->protocol != PROTOCOL_HTTP2)
        return exchanges;
    return exchanges / pipeline->limits.streams_per_connection + config->server.threads;
}

/* What must be there at least. */
static uint64_t least_of(const struct plan *plan) {
    return plan->reserve + plan->listening + plan->fixed + plan->automatic + plan->checks +
           plan->clients;
}

static void share(struct config *config, const struct plan *plan) {
    uint64_t left = plan->limit - plan->reserve - plan->listening - plan->checks;
    uint64_t upstream = plan->fixed + plan->wanted;
    uint64_t most = config->admission.max_connections > 0 ? left - plan->clients : left / 2;
    uint64_t spare, wanted_beyond_one;

    if (upstream > most)
        upstream = most;
    if (upstream < plan->fixed + plan->automatic)
        upstream = plan->fixed + plan->automatic;
    config->admission.fd_upstream = (unsigned)(upstream + plan->checks);
    if (config->admission.max_connections == 0)
        config->admission.max_connections = (unsigned)(left - upstream);

    /* One each; what is spare in proportion to what is wanted beyond that. The product fits:
     * spare < 2^32, and one pipeline wants less than 2^31. */
    spare = upstream - plan->fixed - plan->automatic;
    wanted_beyond_one = plan->wanted - plan->automatic;
    for (size_t i = 0; i < config->pipeline_count; i++) {
        struct config_pipeline *pipeline = &config->pipelines[i];
        uint64_t addresses = plan_addresses(pipeline);
        uint64_t beyond_one = addresses * (connections_wanted(config, pipeline) - 1);

        if (pipeline->limits.connections > 0 || addresses == 0)
            continue;
        pipeline->limits.connections =
            (unsigned)(1 + (wanted_beyond_one ? spare * beyond_one / wanted_beyond_one / addresses
                                              : 0));
    }
}

/* The error stands where the file asks for too much; when it asks for nothing, at its start. */
static void refuse(const struct config *config, const struct tomlc_node *root,
                   const struct plan *plan, struct errors *errors) {
    static const struct {
        const char *section, *key;
    } asked[] = {
        {"admission", "max_connections"}, {"admission", "fd_reserve"}, {"server", "threads"}};
    const struct tomlc_node *where = NULL;
    struct buffer remedy = {0};
    struct buffer need = {0};
    char path[64] = "admission";

    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        const struct tomlc_node *node = find(root, asked[i].section, asked[i].key);

        if (!node || node->kind != TOMLC_INTEGER)
            continue;
        buffer_printf(&remedy, "%s%s.%s", remedy.len ? " or " : "lower ", asked[i].section,
                      asked[i].key);
        if (!where)
            snprintf(path, sizeof path, "%s.%s", asked[i].section, asked[i].key);
        where = where ? where : node;
    }
    if (plan->fixed > 0) {
        buffer_printf(&remedy, "%spipeline.limits.connections", remedy.len ? " or " : "lower ");
        if (!where)
            snprintf(path, sizeof path, "pipeline.limits.connections");
        where = where ? where : find_connections(config, root);
    }
    buffer_printf(&need, "%llu", (unsigned long long)least_of(plan));
    buffer_append_char(&need, '\0');
    errors_add(errors, where ? where->at : root->at,
               "%s: found a need of %s fds = %llu in reserve + %llu to listen (%zu listener%s x %u "
               "threads) + %llu to upstreams + %llu for clients, expected at most the fd limit of "
               "%llu: %.*s%sraise the limit (ulimit -n, LimitNOFILE=) to %s",
               path, need.base, (unsigned long long)plan->reserve,
               (unsigned long long)plan->listening, config->listener_count,
               config->listener_count == 1 ? "" : "s", config->server.threads,
               (unsigned long long)plan->fixed + plan->automatic + plan->checks,
               (unsigned long long)plan->clients, (unsigned long long)plan->limit,
               SLICE_ARG(remedy), remedy.len ? ", or " : "", need.base);
    buffer_deinit(&need);
    buffer_deinit(&remedy);
}

static const struct tomlc_node *find(const struct tomlc_node *root, const char *section,
                                     const char *key) {
    const struct tomlc_node *node = tomlc_find(root, section);

    return node ? tomlc_find(node, key) : NULL;
}

/* The first limit on connections in the file. */
static const struct tomlc_node *find_connections(const struct config *config,
                                                 const struct tomlc_node *root) {
    const struct tomlc_node *pipelines = tomlc_find(root, "pipeline");

    for (size_t i = 0; i < config->pipeline_count; i++) {
        const struct tomlc_node *limits = tomlc_find(&pipelines->children[i], "limits");
        const struct tomlc_node *node = limits ? tomlc_find(limits, "connections") : NULL;

        if (node && node->kind == TOMLC_INTEGER)
            return node;
    }
    return NULL;
}
