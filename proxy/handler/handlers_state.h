/* The insides of the handlers, shared by the parts of the room: call.c and desk.c (the loops'
 * side), deal.c (who gets which calls), worker.c (the threads that run plugins), watchdog.c (who
 * looks after these), handlers.c.
 *
 * A call goes
 *
 *     NEW -> PENDING -> QUEUED -> TAKEN -> BACK
 *
 * with its desk until the batch of the loop's events is over, in its handler's queue, with a slot,
 * and on the loop again. Its loop may answer it before it is back; its memory stays until then.
 *
 * A slot is a place for a worker thread:
 *
 *     FREE -> RUNNING -> RETIRED -> RUNNING     its plugin faulted or was kicked out; a new thread
 *             RUNNING -> ABANDONED -> FREE      cannot be kicked out; another slot takes its place
 *
 * RUNNING to RETIRED is the worker's own doing, all others are the watchdog's. In the end, RUNNING
 * becomes OVER. */
#pragma once

#include "handler/cells.h"
#include "handler/guest.h"
#include "handler/handlers.h"
#include "handler/plugin.h"
#include "handler/quarantine.h"
#include "handler/watched.h"

#include <pthread.h>

#define WORKER_BATCH_MAX 16               /* calls that a worker takes at once */
#define WORKER_BATCH_NS (100 * NS_PER_US) /* and no more than fit into this, going by the mean */
#define WORKER_STACK_BYTES (512ul * 1024) /* of plugin code */
#define WORKER_ABANDONED_MAX 8            /* threads that hang for good, at once */
#define CALL_BLOCK_BYTES 4096             /* calls up to this are kept for the next one */
#define CALL_BLOCKS_MAX 64                /* of a desk */
#define CALL_PACKED_BYTES 512             /* an answer up to this needs no memory of its own */

enum call_place { CALL_NEW, CALL_PENDING, CALL_QUEUED, CALL_TAKEN, CALL_BACK };

struct call {
    struct list link;          /* PENDING: of the desk; QUEUED: of the handler; or of the refused */
    struct call *next;         /* in a chain that is on its way to a loop */
    struct handler_desk *desk; /* borrowed */
    struct handler *handler;   /* borrowed */
    call_done_fn *done;
    void *ctx;
    struct timer timer; /* runs until it is answered */
    int64_t deadline_ns;
    enum call_place place; /* QUEUED, TAKEN: under the lock of the handlers */
    bool is_probe;         /* the quarantine waits for how it goes */
    bool is_back, is_answered, is_forgotten, is_given_back; /* the loop's */
    bool is_pooled;                                         /* of CALL_BLOCK_BYTES */
    /* The worker's, when it is on its way back: */
    enum call_outcome outcome; /* CALL_CONTINUE: there is a packed answer */
    void *packed;              /* small, or a mapping of its own */
    size_t packed_bytes;
    char small[CALL_PACKED_BYTES];
    struct arena arena; /* of answer */
    struct call_answer answer;
    char first[512]; /* of arena */
    _Alignas(16) struct frame frame;
};

/* Home: loop, but where noted. */
struct handler_desk {
    struct handlers *handlers; /* borrowed */
    unsigned index;            /* of handlers->desks, and of the eventfd that wakes it */
    pthread_mutex_t lock;      /* of loop and of what is back: workers post through it */
    struct loop *loop;         /* borrowed; NULL: closed */
    struct list pending, refused;
    struct task flush, refuse;
    struct call *blocks; /* free ones */
    unsigned block_count;
    unsigned out;             /* calls of it that are queued or taken */
    unsigned loans;           /* processes that work for it, or did until lately */
    struct desk_watch *watch; /* owned; NULL: closed */
    /* Any thread: */
    _Atomic(struct call *) back; /* what is to be looked at, oldest first; written under the lock */
    struct call *back_last;
    _Atomic bool is_asleep; /* its loop may be in the kernel, and wants to be woken */
};

/* One of the configuration. Home: shared. */
struct handler {
    const struct config_handler *config; /* borrowed */
    struct plugin *plugin;               /* owned */
    const struct weir_plugin *functions; /* of its first image */
    struct guest_handler guest;
    struct quarantine quarantine;
    struct log_limit lines, faults_logged;
    /* Under the lock of the handlers: */
    struct list queued;
    unsigned queued_count;
    unsigned running; /* slots that have calls of it */
    int64_t mean_ns;  /* of lately finished calls */
    /* Any thread: */
    _Atomic uint64_t calls, faults[FAULT_KINDS], dirty_faults;
    _Atomic bool is_in_process, is_demoted;
    _Atomic uint64_t *events; /* owned mapping, which processes share; PLUGIN_EVENTS_MAX */
};

/* A handler in a slot. Home: the slot's thread. */
struct handler_instance {
    struct heap *heap;          /* borrowed */
    struct plugin_image *image; /* borrowed; NULL: there is none for this slot */
    struct guest_files files;
    void *state;
    bool is_ready;
    struct process_area *area; /* owned mapping; NULL: it never runs in a process */
    /* Any thread, about that process: */
    _Atomic int64_t served_ns;        /* time in which it had calls, */
    _Atomic int64_t serving_since_ns; /* but for those that it has now; 0: none */
    _Atomic bool is_spent;            /* it is ended for the CPU time that it used */
    /* The watchdog's: */
    struct {
        pid_t pid; /* who that is about */
        int64_t cpu_ns, served_ns, seen_ns;
        int64_t excess_ns; /* CPU time beyond what is allowed */
    } spent;
};

enum slot_state {
    SLOT_FREE,
    SLOT_RUNNING,
    SLOT_RETIRED,
    SLOT_ABANDONED,
    SLOT_ENDED, /* it was abandoned, and has got out */
    SLOT_OVER,  /* all is over */
};

/* What a worker that rests is woken for. */
enum bell { BELL_SILENT, BELL_CALLS, BELL_END };

struct worker_slot {
    struct handlers *handlers; /* borrowed */
    unsigned index;
    struct worker_slot *next_idle; /* under the lock; or in a list of those that have got calls */
    _Atomic uint32_t bell;         /* enum bell; its thread waits for it */
    pthread_t thread;
    _Atomic pid_t tid;
    _Atomic int state; /* enum slot_state */
    char *memory;      /* owned mapping: stack for signals, stack, answer room, guards */
    char *stack, *signal_stack;
    struct answer_room *room;
    struct guest guest;
    struct handler_instance *instances;             /* owned; as in the config */
    _Atomic(struct call *) taken[WORKER_BATCH_MAX]; /* not begun yet */
    _Atomic(struct call *) current;
    _Atomic(struct call *) done;  /* ready to be posted; newest first */
    _Atomic int64_t kick_at_ns;   /* when the run has lasted long enough; 0: there is none */
    struct handler *_Atomic busy; /* whose calls it has taken */
    struct process_batch *batch;  /* owned; NULL: no handler can be in a process */
    /* While its process works for a loop: whoever puts NULL here has the batch. */
    _Atomic(struct handler_desk *) lender;
    _Atomic(struct process_area *) lent;
    _Atomic int64_t lent_ns; /* since when */
    /* What a thread that ends so leaves for the watchdog: */
    struct handler *failed;
    char failed_id[64];
    /* The watchdog's: */
    uint64_t seen_run;
    int64_t kicked_since_ns; /* 0: it is not being kicked */
    int64_t kicked_cpu_ns;   /* what its thread had used then */
    uint32_t kicks_before, kicks_sent;
    int64_t kick_next_ns;
    struct call *abandoned; /* the call that it hangs in */
    size_t held_bytes;      /* that are lost as long as it does */
};

/* Eventfds that wake the loop of a desk. Processes have theirs, so that one that reads where it
 * should not does not take from others what is meant for the loop. */
struct desk_fds {
    int by_threads, by_processes;
};

/* Home: shared. */
struct handlers {
    const struct config *config; /* borrowed */
    struct handler *list;        /* owned; as in the config */
    size_t count;
    struct cells *cells;
    struct watched_files *files;
    struct worker_slot *slots; /* owned */
    unsigned slot_count, worker_count;
    pid_t zygote; /* 0: there is none */
    int zygote_socket;
    _Atomic pid_t *pids;         /* owned mapping; the zygote's: by slot and handler; 0: none */
    struct handler_desk **desks; /* owned; for handlers_close() */
    unsigned desk_count;
    struct desk_fds *desk_fds; /* owned; by desk */
    unsigned desk_max;
    pthread_t watchdog;
    /* The watchdog's: */
    int64_t beat_ns;     /* when the tables of cells are looked after again */
    int64_t cpu_look_ns; /* when the processes' CPU time is */
    int64_t fds_look_ns; /* when open files are, at the earliest */
    bool has_lost;       /* there was a fault since */
    void (*on_taint)(void *ctx);
    void *taint_ctx;
    pthread_mutex_t lock;        /* of what follows, of the queues and of calls in them */
    pthread_cond_t watch;        /* a slot has retired, or works again, or it is over */
    pthread_cond_t over;         /* a worker has ended in good order, or was given up */
    struct worker_slot *resting; /* idle of them; the last to come is the first to go */
    unsigned queued, idle, next; /* next: whose turn it is */
    bool is_watch_asleep, is_retired_seen;
    bool is_ending, is_watch_ending; /* of the workers; of the watchdog behind them */
    /* Any thread: */
    _Atomic int64_t end_ns; /* 0: not yet; then whatever still runs is kicked out */
    _Atomic bool is_tainted;
    _Atomic bool is_zygote_gone;
    _Atomic uint64_t replaced, abandoned; /* threads */
    const struct fds *fds;                /* borrowed; of are_fds_known */
    _Atomic bool are_fds_known;
    _Atomic int64_t other_fds;   /* that are open and not in the ledger, without faults */
    _Atomic uint64_t lost_fds;   /* as lost_bytes */
    _Atomic uint64_t lost_bytes; /* by faults in threads: nobody can give them back */
};

/* call.c */

/* Tasks of a desk: the end of a batch of the loop's events; calls that were refused. */
void calls_flush(struct task *task);
void calls_tell_refused(struct task *task);
/* It is back on its loop. */
void call_take_back(struct call *call);
/* Nobody knows it any more. Home: loop; any thread, once the desk is closed. */
void call_destroy(struct call *call);
/* Hands calls of any desks that are linked by next, newest first, back to their loops. Any thread.
 */
void calls_post_all(struct call *newest);
/* Puts what was taken in front of its queue again. Any thread. */
void calls_requeue(struct call *call);
/* Those that wait when there is no loop and no worker any more. */
void calls_drop(struct handler *handler);
/* A call that has run: its handler's quarantine learns of it. */
void call_tell(struct call *call, bool is_fault, int64_t now_ns);

/* desk.c */

/* Hands calls that are linked by next, oldest first, all of @desk, back to their loop. Any thread.
 */
void desk_post(struct handler_desk *desk, struct call *first);
/* Calls of it go to workers now, which may be through with them before the loop sleeps. Home: loop.
 */
void desk_expect(struct handler_desk *desk);

/* deal.c */

/* What a worker was busy with. */
struct deal_done {
    struct handler *handler; /* NULL: nothing */
    unsigned calls;
    int64_t ns; /* that these took */
};

/* The worker of @slot is through with @done: waits for calls, and takes some of one handler. NULL:
 * it is over. */
struct handler *deal_take(struct worker_slot *slot, const struct deal_done *done);
/* Gives calls that wait to workers that rest. Returns these, for deal_ring(). Under the lock of the
 * handlers. */
struct worker_slot *deal_out(struct handlers *handlers);
/* Wakes them; or hands their calls to their processes, for @desk. Home: any thread; with a desk,
 * its loop. */
void deal_ring(struct worker_slot *dealt, struct handler_desk *desk);
/* Wakes one that has calls. Any thread. */
void deal_wake(struct worker_slot *slot);
/* A loop is through with @done, in the process of @slot: its worker rests on, or gets the next
 * calls. Home: loop. */
void deal_put_back(struct worker_slot *slot, const struct deal_done *done,
                   struct handler_desk *desk);
/* Wakes all workers that rest, for the last time. Under the lock of the handlers. */
void deal_end(struct handlers *handlers);

/* fault.c: counts it, and says it in the log, at most FAULTS_LOGGED_PER_S of a handler. */
#define FAULTS_LOGGED_PER_S 5
void fault_report(struct handler *handler, const struct fault *fault, struct slice id);

/* worker.c */

/* Memory and instances of a slot. -errno. Home: main, watchdog. */
int slot_open(struct worker_slot *slot, struct handlers *handlers, unsigned index);
void slot_close(struct worker_slot *slot);
/* Starts its thread. -errno. */
int slot_start(struct worker_slot *slot);
/* Takes what a thread that does not run any more left behind out of the way. How many bytes of that
 * cannot be given back. */
size_t slot_clear(struct worker_slot *slot);
/* Takes from @slot what it has not begun, or not posted, and sees to it. Any thread. */
void slot_relieve(struct worker_slot *slot);
/* Runs the plugin for guest.call; an argument of guest_run(). */
void slot_call_plugin(void *arg); /* the slot */
/* Posts what is done. */
void slot_post(struct worker_slot *slot);
void slot_push_done(struct worker_slot *slot, struct call *call);
/* Looks at @call's packed answer: it is one, or a fault. */
void slot_finish(struct worker_slot *slot, struct call *call);
/* Room for a packed answer of @bytes. */
void *call_packed_room(struct call *call, size_t bytes);
/* Makes an instance. False: the fault is in the slot's guest, or *why says why it refused. Home:
 * the guest's. */
bool instance_start(struct guest *guest, struct handler *handler, struct handler_instance *instance,
                    char *why, size_t why_size);
/* Ends one in good order; false: it faulted. */
bool instance_end(struct guest *guest, struct handler *handler, struct handler_instance *instance);

/* losses.c */
#define LOST_FDS_MAX 64 /* more have the gateway replaced */
void losses_add(struct handlers *handlers, size_t bytes);
/* Behind faults. Home: watchdog. */
void losses_look_at_fds(struct handlers *handlers);

/* watchdog.c */
void *watchdog_run(void *arg); /* the handlers */
/* The process is to be replaced; what is left of its calls runs in processes where it may. Any
 * thread. */
void handlers_taint(struct handlers *handlers, const char *why);
