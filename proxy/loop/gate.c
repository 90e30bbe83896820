/* The gate: an atomic count in front, one locked line behind.
 *
 * Nobody overtakes: the fast path is closed while anybody waits. Nobody is forgotten: who joins the
 * line publishes `waiting` before looking at `taken` once more, and who leaves lowers `taken`
 * before looking at `waiting`, so one of the two sees the other (both sequentially consistent). */
#include "loop/gate.h"

#include <assert.h>

static bool take(struct gate *gate);
static void pump(struct gate *gate, struct loop *here, struct list *local);
static void promise(struct gate *gate, struct gate_ticket *ticket, void *gift, struct loop *here,
                    struct list *local);
static void grant(struct list *tickets);
static void deliver(struct loop *loop, struct mail *mail);

void gate_init(struct gate *gate, uint32_t limit, uint32_t line_max) {
    atomic_init(&gate->taken, 0);
    atomic_init(&gate->waiting, 0);
    gate->limit = limit;
    gate->line_max = line_max;
    pthread_mutex_init(&gate->lock, NULL);
    list_init(&gate->line);
}

void gate_deinit(struct gate *gate) {
    assert(list_is_empty(&gate->line));
    pthread_mutex_destroy(&gate->lock);
}

void gate_desk_init(struct gate_desk *desk, struct gate *gate, struct loop *loop,
                    gate_granted_fn *granted) {
    *desk = (struct gate_desk){.gate = gate, .loop = loop, .granted = granted};
    desk->mail.deliver = deliver;
    list_init(&desk->promised);
}

enum gate_outcome gate_enter(struct gate_desk *desk, struct gate_ticket *ticket) {
    struct gate *gate = desk->gate;
    struct list local;
    bool is_in;

    assert(ticket->state == TICKET_OUT);
    ticket->desk = desk;
    if (gate_try(gate)) {
        ticket->state = TICKET_IN;
        return GATE_IN;
    }
    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    /* The line may be full of those whose right came back just now. */
    if (atomic_load(&gate->waiting) >= gate->line_max)
        pump(gate, desk->loop, &local);
    if (atomic_load(&gate->waiting) == 0 && take(gate)) {
        ticket->state = TICKET_IN;
        pthread_mutex_unlock(&gate->lock);
        grant(&local);
        return GATE_IN;
    }
    if (atomic_load(&gate->waiting) >= gate->line_max) {
        pthread_mutex_unlock(&gate->lock);
        grant(&local);
        return GATE_FULL;
    }
    ticket->state = TICKET_WAITING;
    list_push_back(&gate->line, &ticket->link);
    atomic_fetch_add(&gate->waiting, 1);
    pump(gate, desk->loop, &local);
    is_in = ticket->state == TICKET_IN;
    if (is_in)
        list_remove(&ticket->link);
    pthread_mutex_unlock(&gate->lock);
    grant(&local);
    return is_in ? GATE_IN : GATE_WAIT;
}

bool gate_try(struct gate *gate) {
    return atomic_load(&gate->waiting) == 0 && take(gate);
}

void gate_leave(struct gate *gate, struct gate_ticket *ticket, struct loop *here) {
    struct list local;

    if (ticket) {
        assert(ticket->state == TICKET_IN);
        ticket->state = TICKET_OUT;
    }
    assert(atomic_load(&gate->taken) > 0);
    atomic_fetch_sub(&gate->taken, 1);
    if (atomic_load(&gate->waiting) == 0)
        return;
    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    pump(gate, here, &local);
    pthread_mutex_unlock(&gate->lock);
    grant(&local);
}

bool gate_pass(struct gate *gate, struct loop *here, gate_gift_fn *make_gift, void *ctx) {
    struct list local;
    bool is_passed = false;

    if (atomic_load(&gate->waiting) == 0)
        return false;
    list_init(&local);
    pthread_mutex_lock(&gate->lock);
    if (!list_is_empty(&gate->line)) {
        struct gate_ticket *first = CONTAINER_OF(gate->line.next, struct gate_ticket, link);

        promise(gate, first, make_gift ? make_gift(ctx, first->desk) : NULL, here, &local);
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
        list_remove(&ticket->link);
        atomic_fetch_sub(&gate->waiting, 1);
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

static bool take(struct gate *gate) {
    uint32_t taken = atomic_load(&gate->taken);

    while (taken < gate->limit)
        if (atomic_compare_exchange_weak(&gate->taken, &taken, taken + 1))
            return true;
    return false;
}

/* Gives free rights to the line. Locked. */
static void pump(struct gate *gate, struct loop *here, struct list *local) {
    while (!list_is_empty(&gate->line) && take(gate))
        promise(gate, CONTAINER_OF(gate->line.next, struct gate_ticket, link), NULL, here, local);
}

/* Takes @ticket out of the line; its right goes to @local on the calling loop, else by mail.
 * Locked. */
static void promise(struct gate *gate, struct gate_ticket *ticket, void *gift, struct loop *here,
                    struct list *local) {
    struct gate_desk *desk = ticket->desk;

    list_remove(&ticket->link);
    atomic_fetch_sub(&gate->waiting, 1);
    ticket->gift = gift;
    if (desk->loop == here) {
        ticket->state = TICKET_IN;
        list_push_back(local, &ticket->link);
        return;
    }
    ticket->state = TICKET_PROMISED;
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
        ticket->desk->granted(ticket, gift);
    }
}

static void deliver(struct loop *loop, struct mail *mail) {
    struct gate_desk *desk = CONTAINER_OF(mail, struct gate_desk, mail);
    struct list granted, *link;

    list_init(&granted);
    pthread_mutex_lock(&desk->gate->lock);
    desk->is_posted = false;
    for (link = desk->promised.next; link != &desk->promised; link = link->next)
        CONTAINER_OF(link, struct gate_ticket, link)->state = TICKET_IN;
    list_splice(&granted, &desk->promised);
    pthread_mutex_unlock(&desk->gate->lock);
    grant(&granted);
}
