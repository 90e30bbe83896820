/* The gate: an atomic count in front, one locked line behind.
 *
 * Nobody overtakes: the fast path is closed while anybody waits. Nobody is forgotten: who joins the
 * line publishes `waiting` before looking at `taken` once more, and who leaves lowers `taken`
 * before looking at `waiting`, so one of the two sees the other (both sequentially consistent).
 *
 * In a shared row a right is taken first and the sum looked at once more behind that: of two
 * processes that take the last one at the same time at least one sees the other, and gives it back.
 * So the sum of those that kept theirs is never beyond the limit. */
#include "loop/gate.h"

#include <assert.h>

/* How often one that met another process over the last right tries again before it stands in line.
 */
#define CROSSINGS_MAX 16

static bool take(struct gate *gate, const struct gate_ticket *first);
static bool take_of_sum(struct gate *gate, const struct gate_ticket *first);
static bool is_owed_elsewhere(const struct gate *gate);
static const struct gate_ticket *first_of(const struct gate *gate);
static void publish(const struct gate *gate);
static void serve(struct gate *gate, struct loop *here);
static void pump(struct gate *gate, struct loop *here, struct list *local);
static void promise(struct gate *gate, struct gate_ticket *ticket, void *gift, struct loop *here,
                    struct list *local);
static void refuse(struct gate *gate, struct gate_ticket *ticket, struct loop *here,
                   struct list *local);
static void quit_line(struct gate *gate, struct gate_ticket *ticket);
static void tell(struct gate_desk *desk, struct gate_ticket *ticket, struct loop *here,
                 struct list *local);
static void grant(struct list *tickets);
static void deliver(struct loop *loop, struct mail *mail);

void gate_init(struct gate *gate, uint32_t limit, uint32_t line_max) {
    atomic_init(&gate->own, 0);
    gate->taken = &gate->own;
    gate->share = (struct share){0};
    atomic_init(&gate->waiting, 0);
    atomic_init(&gate->limit, limit);
    gate->line_max = line_max;
    gate->order = NULL;
    pthread_mutex_init(&gate->lock, NULL);
    list_init(&gate->line);
}

void gate_deinit(struct gate *gate) {
    assert(list_is_empty(&gate->line));
    share_release(&gate->share);
    gate->taken = &gate->own;
    pthread_mutex_destroy(&gate->lock);
}

void gate_set_order(struct gate *gate, struct gate_order *order) {
    gate->order = order;
}

void gate_set_limit(struct gate *gate, uint32_t limit, struct loop *here) {
    atomic_store(&gate->limit, limit);
    if (atomic_load(&gate->waiting) > 0)
        serve(gate, here);
}

bool gate_share(struct gate *gate, const struct share_home *home, const char *key) {
    if (!share_claim(&gate->share, home, key))
        return false;
    gate->taken = &gate->share.row->taken[gate->share.slot];
    return true;
}

bool gate_is_contested(const struct gate *gate) {
    const struct share_home home = {.table = gate->share.table, .slot = gate->share.slot};

    return gate->share.row && !share_is_alone(&home) && gate_taken_in_all(gate) >= gate_limit(gate);
}

void gate_look(struct gate *gate, struct loop *here) {
    if ((gate->share.row || gate->order) && atomic_load(&gate->waiting) > 0)
        serve(gate, here);
}

uint32_t gate_wanted(const struct gate *gate) {
    return gate->share.row && !share_is_quiet(&gate->share)
               ? share_wanted(&gate->share, gate_taken(gate))
               : 0;
}

void gate_desk_init(struct gate_desk *desk, struct gate *gate, struct loop *loop,
                    gate_granted_fn *granted) {
    *desk = (struct gate_desk){.gate = gate, .loop = loop, .granted = granted};
    desk->mail.deliver = deliver;
    list_init(&desk->promised);
}

enum gate_outcome gate_enter(struct gate_desk *desk, struct gate_ticket *ticket) {
    struct gate *gate = desk->gate;
    int64_t now_ns = desk->loop->now_ns;
    struct gate_ticket *instead = NULL;
    struct list local;
    bool is_in;

    if (gate_enter_free(desk, ticket))
        return GATE_IN;
    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    /* The line may be full of those whose right came back just now, or who have waited in vain. */
    if (gate->order || atomic_load(&gate->waiting) >= gate->line_max)
        pump(gate, desk->loop, &local);
    if (atomic_load(&gate->waiting) == 0 && take(gate, NULL)) {
        ticket->state = TICKET_IN;
        publish(gate);
        pthread_mutex_unlock(&gate->lock);
        grant(&local);
        return GATE_IN;
    }
    if (gate->order ? !gate->order->admit(gate->order, ticket, now_ns, &instead)
                    : atomic_load(&gate->waiting) >= gate->line_max) {
        publish(gate);
        pthread_mutex_unlock(&gate->lock);
        grant(&local);
        return GATE_FULL;
    }
    if (instead)
        refuse(gate, instead, desk->loop, &local);
    ticket->state = TICKET_WAITING;
    ticket->since_ms = share_ms(now_ns);
    list_push_back(&gate->line, &ticket->link);
    atomic_fetch_add(&gate->waiting, 1);
    pump(gate, desk->loop, &local);
    is_in = ticket->state == TICKET_IN;
    if (is_in)
        list_remove(&ticket->link);
    publish(gate);
    pthread_mutex_unlock(&gate->lock);
    grant(&local);
    return is_in ? GATE_IN : GATE_WAIT;
}

bool gate_enter_free(struct gate_desk *desk, struct gate_ticket *ticket) {
    assert(ticket->state == TICKET_OUT);
    ticket->desk = desk;
    if (!gate_try(desk->gate))
        return false;
    ticket->state = TICKET_IN;
    return true;
}

bool gate_try(struct gate *gate) {
    return atomic_load(&gate->waiting) == 0 && take(gate, NULL);
}

void gate_leave(struct gate *gate, struct gate_ticket *ticket, struct loop *here) {
    if (ticket) {
        assert(ticket->state == TICKET_IN);
        ticket->state = TICKET_OUT;
    }
    assert(gate_taken(gate) > 0);
    atomic_fetch_sub(gate->taken, 1);
    if (atomic_load(&gate->waiting) > 0)
        serve(gate, here);
}

bool gate_pass(struct gate *gate, struct loop *here, gate_gift_fn *make_gift, void *ctx) {
    struct list local;
    bool is_passed = false;

    assert(!gate->order); /* a gift is for the oldest */
    if (atomic_load(&gate->waiting) == 0)
        return false;
    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    if (!list_is_empty(&gate->line) && !is_owed_elsewhere(gate)) {
        struct gate_ticket *first = CONTAINER_OF(gate->line.next, struct gate_ticket, link);

        promise(gate, first, make_gift ? make_gift(ctx, first->desk) : NULL, here, &local);
        publish(gate);
        is_passed = true;
    }
    pthread_mutex_unlock(&gate->lock);
    grant(&local);
    return is_passed;
}

enum gate_cancel_outcome gate_cancel(struct gate_ticket *ticket, void **gift) {
    enum gate_cancel_outcome outcome = GATE_CANCELLED;
    struct gate *gate;

    *gift = NULL;
    if (!ticket->desk) /* never entered */
        return GATE_CANCELLED;
    gate = ticket->desk->gate;
    pthread_mutex_lock(&gate->lock);
    if (ticket->state == TICKET_WAITING) {
        quit_line(gate, ticket);
        publish(gate);
    } else if (ticket->state == TICKET_REFUSED) {
        list_remove(&ticket->link);
    } else if (ticket->state == TICKET_PROMISED) {
        list_remove(&ticket->link);
        *gift = ticket->gift;
        outcome = GATE_OWED;
    } else if (ticket->state == TICKET_IN) {
        outcome = GATE_OWED;
    }
    ticket->gift = NULL;
    ticket->state = TICKET_OUT;
    pthread_mutex_unlock(&gate->lock);
    return outcome;
}

/* For @first in line (the gate is locked then); NULL: for who finds no line. */
static bool take(struct gate *gate, const struct gate_ticket *first) {
    uint32_t taken = gate_taken(gate);

    if (gate->share.row)
        return take_of_sum(gate, first);
    while (taken < gate_limit(gate))
        if (atomic_compare_exchange_weak(gate->taken, &taken, taken + 1))
            return true;
    return false;
}

static bool take_of_sum(struct gate *gate, const struct gate_ticket *first) {
    const uint32_t *since_ms = first ? &first->since_ms : NULL;
    uint32_t own = gate_taken(gate);
    unsigned crossings = 0;

    while (crossings < CROSSINGS_MAX) {
        uint64_t sum = own + share_others(&gate->share);

        if (sum >= gate_limit(gate) ||
            (!share_is_quiet(&gate->share) && share_yields(&gate->share, sum, since_ms)))
            return false;
        if (!atomic_compare_exchange_weak(gate->taken, &own, own + 1))
            continue;
        if (own + 1 + share_others(&gate->share) <= gate_limit(gate))
            return true;
        own = atomic_fetch_sub(gate->taken, 1) - 1;
        crossings++;
    }
    return false;
}

/* Would a right that is given back here go to a line elsewhere? Locked. */
static bool is_owed_elsewhere(const struct gate *gate) {
    return gate->share.row &&
           share_yields(&gate->share, gate_taken(gate) + share_others(&gate->share) - 1,
                        &first_of(gate)->since_ms);
}

/* NULL: nobody waits. Locked. */
static const struct gate_ticket *first_of(const struct gate *gate) {
    return list_is_empty(&gate->line) ? NULL
                                      : CONTAINER_OF(gate->line.next, struct gate_ticket, link);
}

/* Lets the others know of the line as it is now. Locked. */
static void publish(const struct gate *gate) {
    const struct gate_ticket *first = first_of(gate);

    if (gate->share.row)
        share_publish(&gate->share, atomic_load(&gate->waiting), first ? first->since_ms : 0,
                      gate_limit(gate));
}

/* Gives the line what there is for it. */
static void serve(struct gate *gate, struct loop *here) {
    struct list local;

    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    pump(gate, here, &local);
    publish(gate);
    pthread_mutex_unlock(&gate->lock);
    grant(&local);
}

/* Gives free rights to the line, and refuses who has waited in vain. Locked. */
static void pump(struct gate *gate, struct loop *here, struct list *local) {
    struct gate_order *order = gate->order;

    for (;;) {
        struct gate_ticket *next;

        while (order && (next = order->shed(order, here->now_ns)))
            refuse(gate, next, here, local);
        if (list_is_empty(&gate->line) || !take(gate, first_of(gate)))
            return;
        next = order ? order->next(order, here->now_ns)
                     : CONTAINER_OF(gate->line.next, struct gate_ticket, link);
        promise(gate, next, NULL, here, local);
    }
}

/* Takes @ticket out of the line; its right goes to @local on the calling loop, else by mail.
 * Locked. */
static void promise(struct gate *gate, struct gate_ticket *ticket, void *gift, struct loop *here,
                    struct list *local) {
    quit_line(gate, ticket);
    ticket->gift = gift;
    ticket->state = ticket->desk->loop == here ? TICKET_IN : TICKET_PROMISED;
    tell(ticket->desk, ticket, here, local);
}

/* The same, without a right. Locked. */
static void refuse(struct gate *gate, struct gate_ticket *ticket, struct loop *here,
                   struct list *local) {
    assert(ticket->state == TICKET_WAITING);
    quit_line(gate, ticket);
    ticket->state = ticket->desk->loop == here ? TICKET_OUT : TICKET_REFUSED;
    tell(ticket->desk, ticket, here, local);
}

static void quit_line(struct gate *gate, struct gate_ticket *ticket) {
    list_remove(&ticket->link);
    atomic_fetch_sub(&gate->waiting, 1);
    if (gate->order)
        gate->order->left(gate->order, ticket);
}

static void tell(struct gate_desk *desk, struct gate_ticket *ticket, struct loop *here,
                 struct list *local) {
    if (desk->loop == here) {
        list_push_back(local, &ticket->link);
        return;
    }
    list_push_back(&desk->promised, &ticket->link);
    if (!desk->is_posted) {
        desk->is_posted = true;
        loop_post(desk->loop, &desk->mail);
    }
}

static void grant(struct list *tickets) {
    struct list *link;

    while ((link = list_pop(tickets))) {
        struct gate_ticket *ticket = CONTAINER_OF(link, struct gate_ticket, link);
        void *gift = ticket->gift;

        ticket->gift = NULL;
        if (ticket->state == TICKET_IN)
            ticket->desk->granted(ticket, gift);
        else
            ticket->desk->refused(ticket);
    }
}

static void deliver(struct loop *loop, struct mail *mail) {
    struct gate_desk *desk = CONTAINER_OF(mail, struct gate_desk, mail);
    struct list granted, *link;

    list_init(&granted);
    pthread_mutex_lock(&desk->gate->lock);
    desk->is_posted = false;
    for (link = desk->promised.next; link != &desk->promised; link = link->next) {
        struct gate_ticket *ticket = CONTAINER_OF(link, struct gate_ticket, link);

        ticket->state = ticket->state == TICKET_PROMISED ? TICKET_IN : TICKET_OUT;
    }
    list_splice(&granted, &desk->promised);
    pthread_mutex_unlock(&desk->gate->lock);
    grant(&granted);
}
