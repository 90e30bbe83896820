/* The balancer: which endpoint an exchange goes to.
 *
 * "least": the better of two that were picked at random, that is the one with fewer exchanges in
 * flight for its weight. "latency": the same, but that each counts as long as an answer of that
 * endpoint takes (peak.h): one that takes five times as long gets next to nothing, where "least"
 * gives it a fifth of a share, that is the slowest tenth of all. "hash": requests with the same key
 * go to the same endpoint, by rendezvous hashing: each endpoint has a score for the key, the
 * highest wins, and when an endpoint comes or goes only its own keys move. No table is needed, and
 * every process chooses alike. The load is bounded: one that has BALANCER_BOUND_PERCENT of its
 * share already, and BALANCER_BOUND_MIN in flight, is passed over for the next one in the key's own
 * order.
 *
 * An endpoint in its slow start (endpoint_weight()) gets that part of its share, or of its keys.
 * Home: loop. */
#pragma once

#include "pipeline/pipeline.h"

#define BALANCER_BOUND_PERCENT 125
#define BALANCER_BOUND_MIN 8 /* so few are no load that would be worth a place elsewhere */

/* What an exchange brings along. Zeroed memory: nothing. */
struct balancer_wish {
    const struct endpoint *avoid; /* borrowed: the last attempt failed there; NULL: none */
    bool is_sure;                 /* none whose last dial has failed, if there is a choice */
    bool is_keyed;
    uint64_t key;
    uint64_t home; /* the id of the endpoint that it belongs to; 0: none */
};

/* Usable is one that is in service (endpoint_is_usable())
 * and has an idle connection or one with room, or may be dialled. NULL when there is no endpoint in
 * service; when none is usable, one that says why. */
struct pool *balancer_pick(const struct pipeline_loop *part, const struct balancer_wish *wish);

/* The one with that id, if it may be used by who belongs to it; NULL: it may not, or is gone.
 * *@is_known, if it is not NULL: it is there. */
struct pool *balancer_find(const struct pipeline_loop *part, uint64_t id, bool *is_known);

/* Where the key leads without regard to load; 0: nowhere. */
uint64_t balancer_home(const struct pipeline_loop *part, uint64_t key);

/* FAIL_NONE when an endpoint can be used, as far as is known. Else why not: each is out of service,
 * or its last dial has failed and nothing is connected. That it may be dialled again says nothing
 * yet. */
enum fail balancer_outage(const struct pipeline_loop *part);
