/* The insides of the supervisor, shared by its parts. */
#pragma once

#include "loop/share.h"
#include "supervisor/crashes.h"
#include "supervisor/examination.h"
#include "supervisor/generation.h"
#include "supervisor/kept.h"
#include "supervisor/notify.h"
#include "supervisor/nursery_link.h"
#include "supervisor/supervisor.h"
#include "supervisor/totals.h"

#define GENERATIONS_MAX (SUPERVISOR_RETIRING_MAX + 2) /* and one that serves, one that starts */

_Static_assert(GENERATIONS_MAX == SHARE_SLOTS, "each generation has a slot");

/* What was last seen of a listening socket. */
struct socket_look {
    uint32_t looks;
    int64_t since_ns; /* of that number, while somebody waited */
};

/* Our own attempts to connect to a listener (reach.c). */
struct reach {
    int fd; /* owned while is_under_way */
    bool is_under_way;
    bool is_lost;     /* the last one failed */
    uint32_t looks;   /* of the gateway, when last seen */
    int64_t since_ns; /* of that number, or of the attempt under way */
};

struct supervisor {
    const struct supervisor_options *options; /* borrowed */
    int signals;                              /* signalfd */
    struct edition current;                   /* what is served; no text: nothing yet */
    struct edition next;                      /* what a reload wants to serve */
    struct kept_list kept;
    struct totals totals;
    int shares_fd;              /* owned; -1: not made yet */
    struct share_table *shares; /* owned mapping: a slot per generation */
    struct nursery_link nursery;
    int cells_fd; /* owned; memory for the cells of handlers; -1: there is none */
    struct notify notify;
    struct crashes crashes;
    struct examination examination;
    struct generation generations[GENERATIONS_MAX];
    struct generation *serving;  /* NULL: none */
    struct generation *starting; /* NULL: none */
    unsigned started;            /* generations so far */
    bool is_next;                /* the starting one is of the next edition */
    bool is_upgrade_wanted;
    bool is_upgrade; /* the check that is under way is by the new binary */
    bool is_reload_wanted;
    bool is_reload_told;                                  /* that it has to wait */
    bool is_reload_done;                                  /* once its gateway is live */
    int64_t start_at_ns;                                  /* when to start one; 0: not */
    const struct kept *listeners[RUN_PLAN_LISTENERS_MAX]; /* borrowed: kept; of the current plan */
    struct socket_look looks[RUN_PLAN_LISTENERS_MAX][KEPT_SOCKETS_MAX];
    struct reach reaches[RUN_PLAN_LISTENERS_MAX];
    int64_t looked_ns;     /* when the heartbeats were last looked at */
    int64_t trusted_ns;    /* silence before this is not held against anybody */
    int64_t taint_next_ns; /* no tainted gateway is replaced before this */
    bool has_served;
    bool is_ending;
    bool is_finishing; /* no gateway is left: what the nursery has ends */
    bool is_over;
    int status;
};

/* changes.c: what leads from one generation to the next. */

/* Has the configuration read and checked, for the first gateway or for a reload. */
void supervisor_examine(struct supervisor *s);

/* The check has ended with @status (wait(2)). */
void supervisor_examined(struct supervisor *s, int status);

/* Starts a gateway of the current edition, or of the next. */
void supervisor_start(struct supervisor *s, bool is_next);

/* The one that was starting is ready: it takes over. */
void supervisor_take_over(struct supervisor *s);

/* A process has ended with @status (wait(2)). */
void supervisor_ended(struct supervisor *s, struct generation *g, int status);

/* No other accepts any more: tells the serving one that it is the one, and whose counters to add. A
 * reload is done by then: who connects is served by the new configuration. */
void supervisor_make_live(struct supervisor *s);

/* upgrade.c: another binary takes this one's place. */

/* Has the binary that is at our path now check the configuration that is served. */
void supervisor_examine_upgrade(struct supervisor *s);

/* It accepts: executes it, with all that there is. Returns when that has failed. */
void supervisor_upgrade(struct supervisor *s);

/* Takes up what the binary before left, if one did; false: this is a start of its own. */
bool supervisor_take_up(struct supervisor *s);

/* watch.c: looks after the heartbeats, and replaces a gateway that hangs. */
void supervisor_watch(struct supervisor *s, int64_t now_ns);

/* reach.c: sees that clients can connect, while a gateway serves. */
#define SUPERVISOR_QUIET_NS (5 * NS_PER_S) /* then a listener that nobody came to is tried */
void supervisor_reach(struct supervisor *s, int64_t now_ns);
/* Forgets what is under way. */
void supervisor_reach_end(struct supervisor *s);

unsigned supervisor_retiring(const struct supervisor *s);

/* nurture.c: the nursery as one of our processes. */

/* Makes sure that there is one if @plan has programs. */
void supervisor_need_nursery(struct supervisor *s, const struct run_plan *plan);

/* What the serving gateway's configuration has is to be running now. */
void supervisor_serve_programs(struct supervisor *s);

/* Reaps and replaces it, and reaps whoever has become our child without our doing. */
void supervisor_reap_others(struct supervisor *s);
void supervisor_look_after_nursery(struct supervisor *s, int64_t now_ns);

/* No gateway is left, or none will come: ends when the nursery has. */
void supervisor_finish(struct supervisor *s);
