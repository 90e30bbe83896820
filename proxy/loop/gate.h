/* A counted right that several loops share, with one fair line for all of them.
 *
 * Taking and giving back is one atomic while nobody waits. Who waits stands in one line, oldest
 * first, whatever loop it lives on; a right that comes back goes to the front of the line and, if
 * that is another loop's, travels there by mail together with a gift (a connection that is handed
 * over, say). A ticket that is cancelled while its right is under way passes the right on. So the
 * bound and the order are exact and no right is ever lost.
 *
 * A gate may be shared with other processes (loop/share.h): its limit then holds against the rights
 * that are in use in all of them, which costs nothing but a look at theirs, and the lines are
 * served as one, by age. Nobody wakes a line when a right comes back in another process: each looks
 * after its own (gate_look()).
 *
 * The line is served oldest first, unless the gate has an order of its own (struct gate_order),
 * which says who may join, who is next, and who has waited in vain: those are taken out of the line
 * and told so, in the way in which a right is given. Age between processes is that of the oldest in
 * line whatever the order.
 *
 * Home: gate: shared; desk and ticket: their loop. */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "loop/share.h"

#include <pthread.h>
#include <stdatomic.h>

struct gate_desk;
struct gate_ticket;

/* The right (and the gift that came with it, or NULL) is now the ticket's. Called on the desk's
 * loop; may only record that and wake a task. */
typedef void gate_granted_fn(struct gate_ticket *ticket, void *gift);

/* Makes the gift for a receiver at @to, or gives NULL. Called with the gate locked: must be short.
 */
typedef void *gate_gift_fn(void *ctx, struct gate_desk *to);

/* Called on the desk's loop with a ticket that is out again: it was refused in line. May only
 * record that and wake a task. */
typedef void gate_refused_fn(struct gate_ticket *ticket);

/* Who waits is not simply the oldest first. All calls are made with the gate locked, and must be
 * short. @now_ns is of some loop's clock: those of two loops may differ by a turn. */
struct gate_order {
    /* May @ticket join the line? The order remembers it then. False: it is refused at once, with
     * GATE_FULL. *@instead, NULL before: somebody in line who has to go for it. */
    bool (*admit)(struct gate_order *order, struct gate_ticket *ticket, int64_t now_ns,
                  struct gate_ticket **instead);
    /* @ticket is in line no more, for whatever reason. */
    void (*left)(struct gate_order *order, struct gate_ticket *ticket);
    /* Somebody in line who has waited in vain and is to be refused now; NULL: nobody. Never one
     * that was admitted at @now_ns. */
    struct gate_ticket *(*shed)(struct gate_order *order, int64_t now_ns);
    /* Who is given the next right. The line is not empty. */
    struct gate_ticket *(*next)(struct gate_order *order, int64_t now_ns);
};

struct gate {
    _Atomic uint32_t *taken;  /* rights in use: own, or ours in the shared row */
    _Atomic uint32_t waiting; /* tickets in line; those with a right under way excluded */
    _Atomic uint32_t own;
    struct share share; /* none: the limit is this process's */
    _Atomic uint32_t limit;
    uint32_t line_max;        /* tickets that may wait; an order sees to that itself */
    struct gate_order *order; /* borrowed: who set it; NULL: oldest first */
    pthread_mutex_t lock;     /* guards line, order, desks' promised, tickets' state */
    struct list line;         /* struct gate_ticket, oldest first */
};

/* A loop's side of a gate. */
struct gate_desk {
    struct gate *gate; /* borrowed: whoever owns both */
    struct loop *loop; /* borrowed */
    gate_granted_fn *granted;
    gate_refused_fn *refused; /* NULL: the gate has no order */
    struct list promised;     /* struct gate_ticket whose right, or refusal, is under way */
    struct mail mail;         /* under way while is_posted */
    bool is_posted;
};

enum gate_ticket_state {
    TICKET_OUT,
    TICKET_WAITING,
    TICKET_PROMISED, /* its right is under way to its loop */
    TICKET_REFUSED,  /* the same of its refusal */
    TICKET_IN,
};

/* Zeroed memory is a ticket that is out. */
struct gate_ticket {
    struct list link;
    struct gate_desk *desk; /* borrowed */
    enum gate_ticket_state state;
    uint32_t since_ms; /* TICKET_WAITING: of its loop's time */
    void *gift;        /* TICKET_PROMISED */
};

enum gate_outcome {
    GATE_IN,   /* the right is the ticket's */
    GATE_WAIT, /* in line: granted() will be called */
    GATE_FULL, /* line_max tickets are waiting, or the order refuses it */
};

void gate_init(struct gate *gate, uint32_t limit, uint32_t line_max);
void gate_deinit(struct gate *gate);

/* Serves the line in @order, which outlives the gate. Before the gate is used. */
void gate_set_order(struct gate *gate, struct gate_order *order);

/* Another limit from now on: what is beyond a lower one comes back in its own time. Home: the loop
 * @here. */
void gate_set_limit(struct gate *gate, uint32_t limit, struct loop *here);

static inline uint32_t gate_limit(const struct gate *gate) {
    return atomic_load_explicit(&gate->limit, memory_order_relaxed);
}

/* Counts from now on in the row of @key, with all processes that share it, each of which holds its
 * own limit against the sum. To be called before the gate is used. False: there is no room in the
 * table; the limit stays this process's. */
bool gate_share(struct gate *gate, const struct share_home *home, const char *key);

/* Rights in use in this process. */
static inline uint32_t gate_taken(const struct gate *gate) {
    return atomic_load(gate->taken);
}

/* Rights in use in all processes: what the limit is held against. */
static inline uint32_t gate_taken_in_all(const struct gate *gate) {
    return gate_taken(gate) + (gate->share.row ? (uint32_t)share_others(&gate->share) : 0);
}

/* Might a right that is given back now be one too many for who looks from outside? It is the last,
 * and other processes are there to take it. */
bool gate_is_contested(const struct gate *gate);

/* Gives the line what has come back in other processes, and has its order look who has waited in
 * vain. To be called every 100 ms, or more often while there are others. Home: the loop @here. */
void gate_look(struct gate *gate, struct loop *here);

/* How many wait in other processes for what is in use here: what is kept but not needed should be
 * given back. Any thread. */
uint32_t gate_wanted(const struct gate *gate);

/* Where the gate has an order, desk->refused is to be set behind it. */
void gate_desk_init(struct gate_desk *desk, struct gate *gate, struct loop *loop,
                    gate_granted_fn *granted);

/* The ticket must be out. Home: the desk's loop. */
enum gate_outcome gate_enter(struct gate_desk *desk, struct gate_ticket *ticket);

/* The same where a right is free and nobody waits; else false, and nothing has been done. */
bool gate_enter_free(struct gate_desk *desk, struct gate_ticket *ticket);

/* Takes a right that no ticket stands for, if one is free and nobody waits. Any thread. */
bool gate_try(struct gate *gate);

/* Gives back the right of @ticket, or one that no ticket stands for (NULL). @here is the calling
 * loop. */
void gate_leave(struct gate *gate, struct gate_ticket *ticket, struct loop *here);

/* Hands one's right on to the first in line, with a gift. False when nobody waits, or when who
 * comes first waits in another process: the right stays the caller's, and no gift was made. */
bool gate_pass(struct gate *gate, struct loop *here, gate_gift_fn *make_gift, void *ctx);

enum gate_cancel_outcome {
    GATE_CANCELLED, /* it waited, or was out; nothing is owed */
    GATE_OWED, /* a right was under way, or the ticket was in: it is the caller's to pass on or to
                  leave with a NULL ticket; *gift is what came with it */
};

/* Takes the ticket out, whatever its state. Home: the desk's loop. */
enum gate_cancel_outcome gate_cancel(struct gate_ticket *ticket, void **gift);
