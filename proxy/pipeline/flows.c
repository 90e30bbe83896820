#include "pipeline/flows.h"

#include "base/alloc.h"
#include "base/random.h"

#include <stdlib.h>

static size_t bucket_of(const struct flows *flows, uint64_t client, unsigned priority);
static struct flow *find(const struct flows *flows, uint64_t client, unsigned priority);

void flows_init(struct flows *flows) {
    *flows = (struct flows){.seed = random_next() | 1};
}

void flows_deinit(struct flows *flows) {
    while (flows->free) {
        struct flow *flow = flows->free;

        flows->free = flow->chain;
        free(flow);
    }
}

struct flow *flows_find(const struct flows *flows, uint64_t client, unsigned priority) {
    struct flow *flow = find(flows, client, priority);

    return flow || flows->count < FLOWS_MAX ? flow : find(flows, 0, priority);
}

struct flow *flows_get(struct flows *flows, uint64_t client, unsigned priority) {
    struct flow *flow = flows_find(flows, client, priority);
    size_t bucket;

    if (flow)
        return flow;
    if (flows->count >= FLOWS_MAX)
        client = 0;
    flow = flows->free;
    if (flow)
        flows->free = flow->chain;
    else
        flow = xmalloc(sizeof *flow);
    bucket = bucket_of(flows, client, priority);
    *flow = (struct flow){.chain = flows->buckets[bucket], .client = client, .priority = priority};
    list_init(&flow->in_round);
    list_init(&flow->in_overloaded);
    list_init(&flow->line);
    flows->buckets[bucket] = flow;
    flows->count++;
    return flow;
}

void flows_put(struct flows *flows, struct flow *flow) {
    struct flow **at = &flows->buckets[bucket_of(flows, flow->client, flow->priority)];

    while (*at != flow)
        at = &(*at)->chain;
    *at = flow->chain;
    list_remove(&flow->in_round);
    list_remove(&flow->in_overloaded);
    flow->chain = flows->free;
    flows->free = flow;
    flows->count--;
}

static size_t bucket_of(const struct flows *flows, uint64_t client, unsigned priority) {
    uint64_t hash = (client ^ priority) * flows->seed;

    return (hash ^ hash >> 32) % FLOWS_BUCKETS;
}

static struct flow *find(const struct flows *flows, uint64_t client, unsigned priority) {
    struct flow *flow = flows->buckets[bucket_of(flows, client, priority)];

    while (flow && (flow->client != client || flow->priority != priority))
        flow = flow->chain;
    return flow;
}
