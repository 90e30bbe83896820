/* The sockets that the supervisor keeps, whatever becomes of the gateways that accept on them.
 *
 * A TCP address has a socket per loop (SO_REUSEPORT). Their number only grows: a socket that is
 * closed takes its backlog with it, so when a gateway has fewer loops than its predecessor, some
 * loops accept on two. A change of configuration is prepared first, with sockets that are bound but
 * let nobody in, and then either kept or forgotten. Home: supervisor. */
#pragma once

#include "config/config.h"
#include "supervisor/run_plan.h"

#define KEPT_SOCKETS_MAX RUN_PLAN_THREADS_MAX /* of one address */
#define KEPT_MAX (2 * (RUN_PLAN_LISTENERS_MAX + 1))

struct kept {
    struct config_address address; /* owned */
    int fds[KEPT_SOCKETS_MAX];     /* owned */
    unsigned count;
    unsigned sure;     /* of count; the rest is prepared only */
    bool is_shared;    /* one socket for all loops: unix, or inherited */
    bool is_inherited; /* from systemd, which keeps it and its file */
    bool is_wanted;    /* by the plan that is being prepared */
};

struct kept_list {
    struct kept items[KEPT_MAX];
    size_t count;
};

/* Makes what @plan needs and is not there. -errno, and *@why says what is in the way (the caller
 * frees); nothing has changed then. */
int kept_prepare(struct kept_list *list, const struct run_plan *plan, char **why);

/* What was prepared is kept, what that plan did not want is closed (and its socket file removed).
 */
void kept_commit(struct kept_list *list);

/* What was prepared is closed. */
void kept_forget(struct kept_list *list);

/* NULL: no such address. */
const struct kept *kept_find(const struct kept_list *list, const char *address);

/* Closes every socket; the addresses stay known. */
void kept_close(struct kept_list *list);

/* The files of unix sockets. */
void kept_remove_files(const struct kept_list *list);

void kept_deinit(struct kept_list *list);
