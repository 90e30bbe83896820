/* Process isolation: plugins run in processes of their own, one for each slot and handler, without
 * any file but standard error and eventfds of desks, and with limits on their memory. What such a
 * process does, by mistake or on purpose, it does to itself. Where it writes to an eventfd a loop
 * looks in vain, once; where it reads one, calls in processes may wait until the watchdog looks.
 *
 * They are forked by the zygote, a process that the gateway forks before it has any other thread:
 * it has the plugins loaded and nothing else. It also buries them, and ends with the gateway.
 *
 * Calls of such a handler are handed over all at once, in memory that both sides have (the area of
 * slot and handler): one way there and back for a batch. As long as all is well the loop that
 * brought the calls does so itself, and the slot's thread sleeps: it has lent its process. That
 * thread goes on with the batch when the process has ended, or has not come back at the watchdog's
 * next look but one; or does all from the start where the process is not ready. Then what the
 * process has finished is answered when a look says that it takes its time, and what it has not
 * begun goes to other workers. A call that takes longer than the handler's timeout has its process
 * killed.
 *
 * So does one that leaves something running that its calls have no part in (process_cpu.c). It
 * cannot be RLIMIT_CPU, which counts all that a process ever did: one that serves for long enough
 * reaches it in good health, and nobody without privileges may raise it again.
 *
 * Nothing in an area is believed: the gateway copies it before it looks at it. */
#pragma once

#include "handler/guest.h"

#include <sys/types.h>

struct handlers;
struct handler;
struct worker_slot;
struct process_area;
struct handler_desk;

#define PROCESS_OUT_BYTES (4ul << 20)   /* packed answers of a batch */
#define PROCESS_LINES_MAX 16            /* of host->log() in a batch; further ones are lost */
#define PROCESS_START_NS (2 * NS_PER_S) /* for a process to be forked and its init() to return */

/* Memory for all slots, and the zygote. -errno. Home: main, before any other thread. */
int processes_open(struct handlers *handlers);
/* The processes end. No worker runs any more. */
void processes_close(struct handlers *handlers);

/* Has the calls that @slot has taken, or that were lent and are not back, run in its process for
 * @handler, and sees to all of them. Returns how many. Home: the slot's thread. */
unsigned process_run(struct worker_slot *slot, struct handler *handler);

/* process_loan.c: what a loop does without the slot's thread. */

/* Hands the calls that @slot has been dealt to its process, for @desk. False: its thread has to.
 * Home: loop. */
bool process_lend(struct worker_slot *slot, struct handler_desk *desk);
/* Says whether processes are to wake the loop of @desk. Home: loop. */
void process_loans_expect(const struct handler_desk *desk, bool is_asleep);
/* Is one of them back? Home: loop. */
bool process_loans_are_back(const struct handler_desk *desk);
/* Sees to all that are back. False: there were none. Home: loop. */
bool process_loans_take_back(struct handler_desk *desk);
/* Leaves them to the slots' threads: the loop ends. Home: loop. */
void process_loans_give_up(struct handler_desk *desk);
/* Wakes the slot's thread for a loan that is late or whose process has ended. Home: watchdog. */
void process_loan_look(struct worker_slot *slot, int64_t now_ns);
/* Is the thread of @slot to go on with one? Home: the slot's thread. */
bool process_is_lent(const struct worker_slot *slot);

/* Tells the zygote. False: it is gone. Any thread. */
enum process_order { PROCESS_START, PROCESS_KILL };
bool process_order(struct handlers *handlers, enum process_order what, unsigned slot,
                   unsigned handler);

/* Looks at what CPU time the processes have used, and has those ended that used too much: beyond
 * the time in which they had calls, and one part of all time in PROCESS_CPU_SHARE, more than the
 * handler's process.cpu. Home: watchdog. */
#define PROCESS_CPU_SHARE 20 /* for what goes along with calls, such as falling asleep */
#define PROCESS_CPU_LOOK_NS (100 * NS_PER_MS)
void processes_look_at_cpu(struct handlers *handlers, int64_t now_ns);

/* The calls to come, of this gateway, of all handlers that may run in processes. Any thread. */
void process_take_all(struct handlers *handlers);
/* From now on, in this gateway and in later ones with the same plugin. Any thread. */
void process_demote(struct handlers *handlers, struct handler *handler);
/* Was it, by an earlier gateway? Home: main. */
bool process_is_demoted(struct handlers *handlers, const struct handler *handler);
