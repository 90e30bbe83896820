/* All handlers of a gateway: their plugins, the workers that run them, and what is known of their
 * faults. Home: shared. */
#pragma once

#include "config/config.h"
#include "fds/fds.h"
#include "handler/call.h"
#include "metrics/metrics.h"

#include <jansson.h>

struct handlers;

struct handlers_options {
    const struct config *config; /* borrowed: outlives the handlers */
    unsigned loops;
    bool is_substitute; /* of a gateway that has died: a plugin that refuses its config now is told
                         * of, and tried again at its calls; everything else is served */
    int cells_fd;       /* memory for tables of cells that outlives the gateway; -1: it does not */
    void (*on_taint)(void *ctx); /* once; on any thread; may be NULL */
    void *ctx;
};

/* Loads plugins and makes one instance of each, so that what is wrong shows now; forks the zygote.
 * Before the process has any other thread. -errno; *why is then a whole message (the caller
 * frees). */
int handlers_prepare(struct handlers **out, const struct handlers_options *options, char **why);
/* Starts workers and the watchdog. */
int handlers_start(struct handlers *handlers, char **why);
/* What is open now and not in @fds (borrowed) is weir's: what comes to that after faults, theirs.
 * Accepts NULL handlers. Before there are calls. */
void handlers_know_fds(struct handlers *handlers, const struct fds *fds);
/* After the loops have ended. Accepts NULL. */
void handlers_close(struct handlers *handlers);

/* A loop's side. Home: loop. */
struct handler_desk;
struct handler_desk *handler_desk_open(struct handlers *handlers, struct loop *loop);
void handler_desk_close(struct handler_desk *desk);
/* Frees what it keeps for calls to come. */
void handler_desk_rest(struct handler_desk *desk);

/* What a plugin said of itself (enum weir_plugin_flag), and whether it has a response call. */
unsigned handlers_flags(const struct handlers *handlers, size_t handler);
bool handlers_has_phase(const struct handlers *handlers, size_t handler, enum call_phase phase);

/* When it is called, and what is to survive of that (handler/quarantine.h). */
struct quarantine;
struct quarantine *handlers_quarantine(struct handlers *handlers, size_t handler);

/* A dirty fault has happened: the process is to be replaced. Any thread. */
bool handlers_are_tainted(const struct handlers *handlers);

/* For /status, /metrics, POST /handler/reset and the state file. Any thread. */
json_t *handlers_status(struct handlers *handlers);
void handlers_collect(struct handlers *handlers, struct buffer *text);
bool handlers_reset(struct handlers *handlers, const char *name);
/* Since the start: of an enum fault_kind (handler/guest.h), and of those that were dirty. */
uint64_t handlers_faults(const struct handlers *handlers, size_t handler, unsigned kind);
uint64_t handlers_dirty_faults(const struct handlers *handlers, size_t handler);
