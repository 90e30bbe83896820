/* Where plugin code runs: a thread of weir's, or the one thread of a worker process. guest_run()
 * lets plugin code in under guard: what goes wrong in it ends that run, not the thread's process,
 * as far as that can be had (handler/trap.h). While it runs, malloc() means the instance's own heap
 * (handler/interpose.c), and the host functions (handler/host.h) know the call by the guest of
 * their thread.
 *
 * Home: the thread that runs it; what is atomic or volatile is also its signal handlers'. */
#pragma once

#include "base/log.h"
#include "handler/answer.h"

#include <setjmp.h>
#include <signal.h>

struct guest;
struct heap;

/* What ended a run before its time. */
enum fault_kind {
    FAULT_NONE,
    FAULT_SEGV,
    FAULT_BUS,
    FAULT_FPE,
    FAULT_ILL,
    FAULT_ABORT,
    FAULT_TRAP,
    FAULT_SYS,
    FAULT_EXIT,   /* exit() and its like */
    FAULT_HEAP,   /* what free() or realloc() was given is no memory of the instance's */
    FAULT_HANG,   /* it was kicked out behind its deadline */
    FAULT_ANSWER, /* it returned, but what it left is no answer */
    FAULT_INIT,   /* init() refused, where it had not before */
    FAULT_CPU,    /* its process used more CPU than its calls had time */
    FAULT_STATE,  /* its process wrote over what it shares with the gateway */
    FAULT_KINDS
};

#define FAULT_TEXT_MAX 128

struct fault {
    enum fault_kind kind;
    bool is_dirty;     /* a lock or a structure of the process may have been left in disorder */
    int signal;        /* 0: none */
    uintptr_t address; /* that it failed on; or 0 */
    uintptr_t pc;      /* where; 0: not known */
    uintptr_t caller;  /* the innermost place in the plugin's code; 0: not known */
    char text[FAULT_TEXT_MAX]; /* what the plugin said, as of a failed assertion; "" */
};

/* The label of weir_handler_faults_total: "segv", "hang", ... */
const char *fault_kind_name(enum fault_kind kind);

/* The call under way, as host functions know it. The plugin has a pointer and no more. */
struct weir_call {
    const struct frame *frame; /* NULL in init() */
    struct answer_room *room;  /* NULL in init() */
};

/* What host functions need of the handler whose code runs. */
struct guest_handler {
    const char *name;         /* borrowed: the config */
    _Atomic uint64_t *events; /* one per event of the plugin; may be memory shared with others */
    unsigned event_count;
    struct log_limit *lines;       /* of host->log() */
    struct cells *cells;           /* borrowed; NULL: there are no tables */
    struct watched_files *watched; /* borrowed; NULL: no files */
};

#define GUEST_FILES_MAX 8 /* that one instance watches */

/* Of an instance: closed when it is. */
struct guest_files {
    struct weir_file *list[GUEST_FILES_MAX];
    unsigned count;
};

typedef void guest_fn(void *arg);

typedef void guest_say_fn(struct guest *guest, enum log_level level, const char *text, size_t len);

struct guest {
    struct weir_call call;
    const struct guest_handler *handler; /* borrowed */
    struct heap *heap;                   /* borrowed: the instance that runs; NULL: malloc's own */
    struct guest_files *files;           /* borrowed: the same; NULL: none can be watched */
    uintptr_t stack_low, stack_high;     /* of its thread */
    sigjmp_buf out;
    volatile sig_atomic_t is_armed;     /* plugin code runs */
    volatile sig_atomic_t in_host;      /* in a host function: kicks wait until it returns */
    volatile sig_atomic_t in_lock;      /* which may hold a lock: a fault here is dirty */
    volatile sig_atomic_t is_kicked;    /* a kick waits */
    volatile sig_atomic_t is_unwinding; /* the classifier runs: a fault now is dirty */
    _Atomic uint64_t run;               /* number of this run, or of the last; never 0 in one */
    _Atomic uint64_t kick_run; /* which one is to be kicked out; of another nothing comes */
    _Atomic uint32_t kicks;    /* that have arrived, ever */
    guest_say_fn *say;         /* what host->log() does in a process; NULL: the log */
    void *say_to;
    struct fault fault; /* why guest_run() returned false */
};

/* The guest of this thread; NULL: no plugin code ever runs here. */
extern _Thread_local struct guest *guest_current __attribute__((tls_model("initial-exec")));

/* Calls @enter(@arg), in which plugin code runs. False: it did not return, but faulted or was
 * kicked out; guest->fault says how. What @enter was about to do is then undone or not. */
bool guest_run(struct guest *guest, guest_fn *enter, void *arg);

/* Leaves guest_run() now, by @kind. From host functions and interposed ones, while plugin code
 * runs. Where that is not clean, guest->fault says so. */
_Noreturn void guest_leave(enum fault_kind kind, const char *text);

/* Plugin code runs in this thread, and is not in a host function. */
static inline bool guest_is_inside(void) {
    const struct guest *guest = guest_current;

    return guest && guest->is_armed && !guest->in_host;
}
