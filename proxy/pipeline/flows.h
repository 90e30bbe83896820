/* Who waits, by client: exchanges of one client and one priority are a flow, and there is a flow
 * for each client that has something waiting, or was refused a moment ago, so nobody can fill the
 * table by having been there. Clients beyond FLOWS_MAX at once share one flow. Home: whoever owns
 * it. */
#pragma once

#include "base/list.h"
#include "pipeline/codel.h"

#include <stddef.h>

#define FLOWS_MAX 1024 /* with exchanges that wait, over all priorities */
#define FLOWS_BUCKETS 1024

struct flow {
    struct flow *chain;        /* of its bucket, or of free ones */
    struct list in_round;      /* the order in which flows of a priority are served */
    int64_t turn_ns;           /* since when it waits for its turn */
    struct list in_overloaded; /* those that are so; else linked to itself */
    struct list line;          /* struct waiter by in_flow, oldest first */
    struct codel codel;
    uint64_t client;
    unsigned priority;
    unsigned count; /* of line */
};

struct flows {
    struct flow *buckets[FLOWS_BUCKETS];
    struct flow *free; /* owned */
    unsigned count;    /* that are in use */
    uint64_t seed;     /* so that nobody can choose a bucket */
};

void flows_init(struct flows *flows);
/* Nobody waits any more. */
void flows_deinit(struct flows *flows);

/* The flow of @client (0: whoever shares one) at @priority; NULL: nothing of it waits. */
struct flow *flows_find(const struct flows *flows, uint64_t client, unsigned priority);
/* The same; a new one, in no round, if there is none. */
struct flow *flows_get(struct flows *flows, uint64_t client, unsigned priority);
/* Its last one is gone. */
void flows_put(struct flows *flows, struct flow *flow);
