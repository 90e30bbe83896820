/* Process isolation: plugins run in processes of their own, one for each slot and handler, without
 * any file but standard error, and with limits on their memory. What such a process does, by
 * mistake or on purpose, it does to itself.
 *
 * They are forked by the zygote, a process that the gateway forks before it has any other thread:
 * it has the plugins loaded and nothing else. It also buries them, and ends with the gateway.
 *
 * A worker thread that has taken calls of such a handler hands all of them over at once, in memory
 * that both have (the area of slot and handler), and waits: one way there and back for a batch. The
 * process works through it; what it has finished is answered when a look says that it takes its
 * time, and what it has not begun goes to other workers then. A call that takes longer than the
 * handler's timeout has its process killed.
 *
 * Nothing in an area is believed: the gateway copies it before it looks at it. */
#pragma once

#include "handler/guest.h"

#include <sys/types.h>

struct handlers;
struct handler;
struct worker_slot;
struct process_area;

#define PROCESS_MEMORY_BYTES (512ul << 20) /* that a process may map beyond what it begins with */
#define PROCESS_OUT_BYTES (4ul << 20)      /* packed answers of a batch */
#define PROCESS_LINES_MAX 16               /* of host->log() in a batch; further ones are lost */
#define PROCESS_START_NS (2 * NS_PER_S)    /* for a process to be forked and its init() to return */

/* Memory for all slots, and the zygote. -errno. Home: main, before any other thread. */
int processes_open(struct handlers *handlers);
/* The processes end. No worker runs any more. */
void processes_close(struct handlers *handlers);

/* Has the calls that @slot has taken run in its process for @handler, and sees to all of them.
 * Home: the slot's thread. */
void process_run(struct worker_slot *slot, struct handler *handler);

/* From now on, in this gateway and in later ones with the same plugin. Any thread. */
void process_demote(struct handlers *handlers, struct handler *handler);
/* Was it, by an earlier gateway? Home: main. */
bool process_is_demoted(struct handlers *handlers, const struct handler *handler);
