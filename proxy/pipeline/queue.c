#include "pipeline/queue.h"

#include "base/random.h"

#include <assert.h>

static bool admit(struct gate_order *order, struct gate_ticket *ticket, int64_t now_ns,
                  struct gate_ticket **instead);
static void left(struct gate_order *order, struct gate_ticket *ticket);
static struct gate_ticket *shed(struct gate_order *order, int64_t now_ns);
static struct gate_ticket *next(struct gate_order *order, int64_t now_ns);
static struct waiter *pick(const struct queue *queue);
static struct flow *flow_of(const struct queue *queue, const struct queue_class *class);
static struct flow *oldest_of(const struct queue_class *class);
static bool has_its_share(const struct queue_class *class, const struct flow *flow);
static struct waiter *pick_of(const struct queue *queue, const struct flow *flow);
static void see(struct queue *queue, const struct waiter *waiter);
static void look_at(struct codel *codel, struct codel_look *look);
static struct waiter *victim_of_full(struct queue *queue, const struct waiter *waiter);
static struct waiter *victim_of_class(struct queue_class *class, unsigned own);
static struct waiter *expired(struct queue *queue);
static bool is_late(const struct queue *queue, int64_t since_ns);
static bool may_be_answered(const struct queue *queue, const struct waiter *waiter,
                            int64_t wait_ns);
static bool will_be_answered(const struct queue *queue, const struct waiter *waiter);
static int64_t wait_of(const struct queue *queue, const struct waiter *waiter);
static unsigned ahead_of(const struct flow *other, const struct flow *flow, unsigned own);
static unsigned kept(const struct queue *queue, unsigned flows);
static double rate_of(const struct queue *queue);
static bool refuse(struct queue *queue, struct waiter *waiter, enum fail reason);
static void forget(struct queue *queue, struct flow *flow);
static void owe(struct queue *queue);
static void set_now(struct queue *queue, int64_t now_ns);
static int64_t target_of(const struct queue *queue);

static struct waiter *waiter_of(struct gate_ticket *ticket) {
    return CONTAINER_OF(ticket, struct waiter, ticket);
}

static struct waiter *in_class(struct list *link) {
    return CONTAINER_OF(link, struct waiter, in_class);
}

static struct waiter *in_flow(struct list *link) {
    return CONTAINER_OF(link, struct waiter, in_flow);
}

static struct flow *in_round(struct list *link) {
    return CONTAINER_OF(link, struct flow, in_round);
}

void queue_init(struct queue *queue, struct gate *gate, const struct config_pipeline *config) {
    *queue = (struct queue){
        .order = {.admit = admit, .left = left, .shed = shed, .next = next},
        .gate = gate,
        .size = config->queue.size,
        .target_ns = config->queue.target_ns,
    };
    flows_init(&queue->flows);
    list_init(&queue->overloaded);
    for (unsigned i = 0; i < QUEUE_PRIORITIES; i++) {
        list_init(&queue->classes[i].line);
        list_init(&queue->classes[i].fresh);
        list_init(&queue->classes[i].served);
    }
    gate_set_order(gate, &queue->order);
}

void queue_deinit(struct queue *queue) {
    assert(queue->count == 0);
    while (!list_is_empty(&queue->overloaded))
        flows_put(&queue->flows, CONTAINER_OF(queue->overloaded.next, struct flow, in_overloaded));
    flows_deinit(&queue->flows);
}

void queue_learn(struct queue *queue, const struct service_sample *sample, int64_t now_ns) {
    pthread_mutex_lock(&queue->gate->lock);
    set_now(queue, now_ns);
    service_learn(&queue->service, sample, queue->now_ns);
    pthread_mutex_unlock(&queue->gate->lock);
}

bool queue_is_overloaded(struct queue *queue) {
    struct list *link;
    bool is = false;

    pthread_mutex_lock(&queue->gate->lock);
    for (unsigned i = 0; i < QUEUE_PRIORITIES; i++)
        is |= queue->classes[i].codel.is_overloaded && queue->classes[i].count > 0;
    for (link = queue->overloaded.next; link != &queue->overloaded; link = link->next)
        is |= CONTAINER_OF(link, struct flow, in_overloaded)->count > 0;
    pthread_mutex_unlock(&queue->gate->lock);
    return is;
}

unsigned queue_retry_ms(const struct queue *queue, int64_t now_ns) {
    int64_t left_ms =
        (atomic_load_explicit(&queue->retry_at_ns, memory_order_relaxed) - now_ns) / 1000000;
    unsigned ms = QUEUE_RETRY_MIN_MS;

    if (left_ms > ms)
        ms = left_ms < QUEUE_RETRY_MAX_MS ? (unsigned)left_ms : QUEUE_RETRY_MAX_MS;
    ms += (unsigned)random_below(ms);
    return ms < QUEUE_RETRY_MAX_MS ? ms : QUEUE_RETRY_MAX_MS;
}

static bool admit(struct gate_order *order, struct gate_ticket *ticket, int64_t now_ns,
                  struct gate_ticket **instead) {
    struct queue *queue = CONTAINER_OF(order, struct queue, order);
    struct waiter *waiter = waiter_of(ticket), *victim = NULL;
    struct queue_class *class = &queue->classes[waiter->priority];
    struct flow *flow = flows_find(&queue->flows, waiter->client, waiter->priority);

    set_now(queue, now_ns);
    waiter->refused = FAIL_NONE;
    if (queue->count > 0)
        see(queue, pick(queue));
    if (!will_be_answered(queue, waiter))
        return refuse(queue, waiter, FAIL_DEADLINE_UNMET);
    if (flow && flow->codel.is_overloaded && flow->count >= kept(queue, class->flows))
        return refuse(queue, waiter, FAIL_OVERLOADED);
    if (class->codel.is_overloaded && class->count >= kept(queue, 1)) {
        victim = victim_of_class(class, flow ? flow->count + 1 : 1);
        if (!victim)
            return refuse(queue, waiter, FAIL_OVERLOADED);
        refuse(queue, victim, FAIL_OVERLOADED);
    } else if (queue->count >= queue->size) {
        victim = victim_of_full(queue, waiter);
        if (!victim)
            return refuse(queue, waiter, FAIL_QUEUE_FULL);
        refuse(queue, victim, FAIL_QUEUE_FULL);
    }
    *instead = victim ? &victim->ticket : NULL;

    flow = flows_get(&queue->flows, waiter->client, waiter->priority);
    waiter->flow = flow;
    waiter->since_ns = queue->now_ns;
    if (class->count == 0)
        codel_begin(&class->codel, target_of(queue), queue->now_ns);
    if (queue->count == 0)
        service_drain_begin(&queue->service, queue->now_ns);
    if (flow->count == 0) {
        if (!flow->codel.ended_ns)
            flow->codel.ended_ns = class->flow_ended_ns;
        codel_begin(&flow->codel, target_of(queue), queue->now_ns);
        class->flows++;
        flow->turn_ns = queue->now_ns;
        list_push_back(&class->fresh, &flow->in_round);
    }
    list_push_back(&class->line, &waiter->in_class);
    list_push_back(&flow->line, &waiter->in_flow);
    class->count++;
    class->fair += flow->count++ < QUEUE_FAIR;
    queue->count++;
    return true;
}

static void left(struct gate_order *order, struct gate_ticket *ticket) {
    struct queue *queue = CONTAINER_OF(order, struct queue, order);
    struct waiter *waiter = waiter_of(ticket);
    struct queue_class *class = &queue->classes[waiter->priority];
    struct flow *flow = waiter->flow;

    list_remove(&waiter->in_class);
    list_remove(&waiter->in_flow);
    waiter->flow = NULL;
    class->fair -= flow->count <= QUEUE_FAIR;
    if (--flow->count == 0) {
        list_remove(&flow->in_round);
        codel_end(&flow->codel, queue->now_ns);
        class->flows--;
        forget(queue, flow);
    }
    if (--class->count == 0)
        codel_end(&class->codel, queue->now_ns);
    if (--queue->count == 0)
        service_drain_end(&queue->service, queue->now_ns);
}

static struct gate_ticket *shed(struct gate_order *order, int64_t now_ns) {
    struct queue *queue = CONTAINER_OF(order, struct queue, order);
    struct waiter *waiter;

    if (queue->count == 0)
        return NULL;
    set_now(queue, now_ns);
    waiter = expired(queue);
    if (waiter) {
        refuse(queue, waiter, FAIL_QUEUE_DROPPED);
        return &waiter->ticket;
    }
    waiter = pick(queue);
    if (may_be_answered(queue, waiter, 0))
        return NULL;
    refuse(queue, waiter, FAIL_DEADLINE_UNMET);
    return &waiter->ticket;
}

static struct gate_ticket *next(struct gate_order *order, int64_t now_ns) {
    struct queue *queue = CONTAINER_OF(order, struct queue, order);
    struct waiter *waiter;

    set_now(queue, now_ns);
    waiter = pick(queue);
    see(queue, waiter);
    service_drained(&queue->service, queue->now_ns);
    list_remove(&waiter->flow->in_round);
    list_push_back(&queue->classes[waiter->priority].served, &waiter->flow->in_round);
    waiter->flow->turn_ns = queue->now_ns;
    return &waiter->ticket;
}

/* Whose turn it is. */
static struct waiter *pick(const struct queue *queue) {
    unsigned i = 0;

    while (queue->classes[i].count == 0)
        i++;
    return pick_of(queue, flow_of(queue, &queue->classes[i]));
}

static struct flow *flow_of(const struct queue *queue, const struct queue_class *class) {
    int64_t target_ns = target_of(queue);
    const struct waiter *first, *last;
    struct flow *oldest;

    if (list_is_empty(&class->fresh))
        return in_round(class->served.next);
    if (class->codel.is_overloaded)
        return in_round(class->fresh.prev);
    oldest = oldest_of(class);
    if (!codel_is_standing(&class->codel, target_ns, queue->now_ns))
        return oldest;
    first = in_class(class->line.next);
    last = in_class(class->line.prev);
    if (is_late(queue, first->since_ns) && has_its_share(class, first->flow))
        return first->flow;
    if (is_late(queue, oldest->turn_ns))
        return oldest;
    if (has_its_share(class, last->flow))
        return last->flow;
    return in_round(class->fresh.prev);
}

/* Who waits longest for its turn. */
static struct flow *oldest_of(const struct queue_class *class) {
    struct flow *fresh = in_round(class->fresh.next), *served = in_round(class->served.next);

    if (list_is_empty(&class->fresh))
        return served;
    return !list_is_empty(&class->served) && served->turn_ns < fresh->turn_ns ? served : fresh;
}

/* Has it no more waiting than the others, give or take QUEUE_FAIR? */
static bool has_its_share(const struct queue_class *class, const struct flow *flow) {
    return flow->count * class->flows <= class->count + QUEUE_FAIR * class->flows;
}

static struct waiter *pick_of(const struct queue *queue, const struct flow *flow) {
    int64_t target_ns = target_of(queue);
    struct waiter *oldest = in_flow(flow->line.next), *newest = in_flow(flow->line.prev);

    if (queue->classes[flow->priority].codel.is_overloaded || flow->codel.is_overloaded)
        return newest;
    if (codel_is_standing(&flow->codel, target_ns, queue->now_ns) &&
        !is_late(queue, oldest->since_ns))
        return newest;
    return oldest;
}

/* @waiter is served, or would be next: how long does one like it wait? Where newest first has begun
 * no single wait tells, but Little's law does, whatever the order. What a client with much waits
 * for is its own: for all it is no more than QUEUE_FAIR. */
static void see(struct queue *queue, const struct waiter *waiter) {
    struct queue_class *class = &queue->classes[waiter->priority];
    struct flow *flow = waiter->flow;
    int64_t now_ns = queue->now_ns, target_ns = target_of(queue), turn_ns = 0;
    int64_t wait_ns = now_ns - in_flow(flow->line.next)->since_ns;
    double rate = rate_of(queue);

    if (rate > 0)
        turn_ns = (int64_t)(class->fair / rate * 1e9);
    if (rate > 0 && codel_is_standing(&flow->codel, target_ns, now_ns))
        wait_ns = (int64_t)((double)flow->count * class->flows / rate * 1e9);
    look_at(&class->codel, &(struct codel_look){target_ns, now_ns, turn_ns, class->count});
    look_at(&flow->codel, &(struct codel_look){target_ns, now_ns, wait_ns, flow->count});
    if (!flow->codel.is_overloaded)
        list_remove(&flow->in_overloaded);
    else if (!list_is_linked(&flow->in_overloaded))
        list_push_back(&queue->overloaded, &flow->in_overloaded);
}

static void look_at(struct codel *codel, struct codel_look *look) {
    if (look->count <= QUEUE_FEW)
        look->wait_ns = 0;
    codel_see(codel, look);
}

/* All places are taken: who has to make room for @waiter; NULL: nobody does. */
static struct waiter *victim_of_full(struct queue *queue, const struct waiter *waiter) {
    const struct flow *flow = flows_find(&queue->flows, waiter->client, waiter->priority);

    if (queue->size == 0)
        return NULL;
    for (unsigned i = QUEUE_PRIORITIES - 1; i > (unsigned)waiter->priority; i--)
        if (queue->classes[i].count > 0)
            return victim_of_class(&queue->classes[i], 0);
    return victim_of_class(&queue->classes[waiter->priority], flow ? flow->count + 1 : 1);
}

/* The newest of a client that has more than @own waiting, and not less than its share; NULL: there
 * is none. There is always one above its share unless all are equal. */
static struct waiter *victim_of_class(struct queue_class *class, unsigned own) {
    struct list *rounds[] = {&class->served, &class->fresh};

    for (unsigned i = 0; i < 2; i++)
        for (struct list *link = rounds[i]->next; link != rounds[i]; link = link->next) {
            const struct flow *flow = in_round(link);

            if (flow->count > own && flow->count * class->flows >= class->count)
                return in_flow(flow->line.prev);
        }
    return NULL;
}

/* One that an overloaded line has kept for too long; NULL: none. Lines of clients are looked at in
 * turns. */
static struct waiter *expired(struct queue *queue) {
    for (unsigned i = 0; i < QUEUE_PRIORITIES; i++) {
        struct queue_class *class = &queue->classes[i];

        if (class->count == 0 || !class->codel.is_overloaded ||
            !is_late(queue, in_class(class->line.next)->since_ns))
            continue;
        return in_class(class->line.next);
    }
    for (unsigned i = 0; i < QUEUE_LOOKS_MAX && !list_is_empty(&queue->overloaded); i++) {
        struct flow *flow = CONTAINER_OF(queue->overloaded.next, struct flow, in_overloaded);

        if (flow->count > 0 && is_late(queue, in_flow(flow->line.next)->since_ns))
            return in_flow(flow->line.next);
        list_remove(&flow->in_overloaded);
        list_push_back(&queue->overloaded, &flow->in_overloaded);
        forget(queue, flow);
    }
    return NULL;
}

/* Has it waited for twice the target? */
static bool is_late(const struct queue *queue, int64_t since_ns) {
    return queue->now_ns - since_ns > CODEL_DROP_AFTER * target_of(queue);
}

/* If it waits for @wait_ns more? */
static bool may_be_answered(const struct queue *queue, const struct waiter *waiter,
                            int64_t wait_ns) {
    return waiter->deadline_ns == 0 ||
           queue->now_ns + wait_ns + service_floor_ns(&queue->service) <= waiter->deadline_ns;
}

/* If it joins the line? Mostly it would even if all others came first, which costs less to know. */
static bool will_be_answered(const struct queue *queue, const struct waiter *waiter) {
    double rate = rate_of(queue);
    int64_t most_ns = rate > 0 ? (int64_t)(queue->count / rate * 1e9) : 0;

    return may_be_answered(queue, waiter, most_ns) ||
           may_be_answered(queue, waiter, wait_of(queue, waiter));
}

/* How long @waiter will have to wait, at least, if it joins. */
static int64_t wait_of(const struct queue *queue, const struct waiter *waiter) {
    const struct queue_class *class = &queue->classes[waiter->priority];
    const struct flow *flow = flows_find(&queue->flows, waiter->client, waiter->priority);
    double rate = rate_of(queue);
    struct list *link;
    unsigned own = flow ? flow->count : 0, ahead = own;

    /* Newest first: it may be next. */
    if (rate <= 0 || class->codel.is_overloaded ||
        (flow && (flow->codel.is_overloaded ||
                  codel_is_standing(&flow->codel, target_of(queue), queue->now_ns))))
        return 0;
    for (link = class->fresh.next; link != &class->fresh; link = link->next)
        ahead += ahead_of(in_round(link), flow, own);
    for (link = class->served.next; link != &class->served; link = link->next)
        ahead += ahead_of(in_round(link), flow, own);
    for (unsigned i = 0; i < (unsigned)waiter->priority; i++)
        ahead += queue->classes[i].count;
    return (int64_t)(ahead / rate * 1e9);
}

/* How many of @other are served before the next one of @flow, of which @own wait. */
static unsigned ahead_of(const struct flow *other, const struct flow *flow, unsigned own) {
    unsigned turns = own + 1;

    return other == flow ? 0 : other->count < turns ? other->count : turns;
}

/* How many an overloaded line keeps, one of @flows. */
static unsigned kept(const struct queue *queue, unsigned flows) {
    double drained = rate_of(queue) * (double)target_of(queue) / 1e9;
    unsigned count = (unsigned)(drained / QUEUE_KEEP_SHARE / (flows > 0 ? flows : 1));

    return count > QUEUE_FEW ? count : QUEUE_FEW;
}

static double rate_of(const struct queue *queue) {
    return service_rate(&queue->service, gate_limit(queue->gate), queue->now_ns);
}

/* Always false. */
static bool refuse(struct queue *queue, struct waiter *waiter, enum fail reason) {
    struct flow *flow = flows_find(&queue->flows, waiter->client, waiter->priority);

    waiter->refused = reason;
    codel_refused(&queue->classes[waiter->priority].codel, queue->now_ns);
    if (flow)
        codel_refused(&flow->codel, queue->now_ns);
    owe(queue);
    return false;
}

/* If there is nothing left to remember of it. */
static void forget(struct queue *queue, struct flow *flow) {
    struct queue_class *class = &queue->classes[flow->priority];

    if (flow->count > 0 || !codel_is_over(&flow->codel, target_of(queue), queue->now_ns))
        return;
    if (flow->codel.is_overloaded)
        class->flow_ended_ns = flow->codel.empty_ns;
    else if (flow->codel.ended_ns > class->flow_ended_ns)
        class->flow_ended_ns = flow->codel.ended_ns;
    flows_put(&queue->flows, flow);
}

/* One more was refused: when may the last of them expect to be served, if they all come back? */
static void owe(struct queue *queue) {
    double rate = rate_of(queue), most = rate * QUEUE_RETRY_MAX_MS / 1e3, wait_s;

    if (rate <= 0)
        return;
    queue->owed -= rate * (double)(queue->now_ns - queue->owed_ns) / 1e9;
    queue->owed = (queue->owed > 0 ? queue->owed : 0) + 1;
    queue->owed = queue->owed < most ? queue->owed : most;
    queue->owed_ns = queue->now_ns;
    wait_s = (queue->count + queue->owed) / rate;
    atomic_store_explicit(&queue->retry_at_ns, queue->now_ns + (int64_t)(wait_s * 1e9),
                          memory_order_relaxed);
}

static void set_now(struct queue *queue, int64_t now_ns) {
    if (now_ns > queue->now_ns)
        queue->now_ns = now_ns;
}

static int64_t target_of(const struct queue *queue) {
    int64_t least_ns = queue->service.mean_ns * 2 / 3;
    double few_ns;

    /* As long as nothing is known of it: none. */
    if (queue->target_ns == 0 || least_ns == 0)
        return 0;
    if (queue->service.per_s > 0) {
        few_ns = QUEUE_FEW * 1e9 / queue->service.per_s;
        least_ns = few_ns > (double)least_ns ? (int64_t)few_ns : least_ns;
    }
    return least_ns > queue->target_ns ? least_ns : queue->target_ns;
}
