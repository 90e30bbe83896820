/* Traps: the signal handlers, and the ways into and out of plugin code. */
#include "handler/trap.h"

#include "handler/classify.h"
#include "handler/heap.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KICK_SIGNAL (SIGRTMIN + 4)
#define STACK_OWN_BYTES (64 * 1024) /* for the unwinder, and for a fault in it */

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

static const struct {
    int number;
    enum fault_kind kind;
} faults[] = {
    {SIGSEGV, FAULT_SEGV},  {SIGBUS, FAULT_BUS},   {SIGFPE, FAULT_FPE}, {SIGILL, FAULT_ILL},
    {SIGABRT, FAULT_ABORT}, {SIGTRAP, FAULT_TRAP}, {SIGSYS, FAULT_SYS},
};
#define FAULTS (sizeof faults / sizeof *faults)

_Thread_local struct guest *guest_current __attribute__((tls_model("initial-exec")));

static struct sigaction before[FAULTS];
static bool is_open;

static void on_fault(int number, siginfo_t *info, void *context);
static void on_kick(int number, siginfo_t *info, void *context);
static void fall_through(int number, siginfo_t *info, void *context);
static uintptr_t pc_of(const ucontext_t *context);
static void begin(struct guest *guest);
static void end(struct guest *guest);

void traps_open(void) {
    struct sigaction fault = {.sa_sigaction = on_fault,
                              .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_NODEFER)};
    struct sigaction kick = {.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (HANDLER_HAS_SANITIZER || is_open)
        return;
    is_open = true;
    for (size_t i = 0; i < FAULTS; i++)
        sigaction(faults[i].number, &fault, &before[i]);
    sigaction(KICK_SIGNAL, &kick, NULL);
}

void traps_close(void) {
    if (!is_open)
        return;
    is_open = false;
    for (size_t i = 0; i < FAULTS; i++)
        sigaction(faults[i].number, &before[i], NULL);
    signal(KICK_SIGNAL, SIG_IGN);
}

size_t trap_stack_bytes(void) {
    unsigned long least = getauxval(AT_MINSIGSTKSZ);

    return (least ? least : 8192) + STACK_OWN_BYTES;
}

void trap_enter_thread(struct guest *guest, void *memory) {
    stack_t stack = {.ss_sp = memory, .ss_size = trap_stack_bytes()};
    sigset_t open;

    guest_current = guest;
    if (HANDLER_HAS_SANITIZER)
        return;
    sigaltstack(&stack, NULL);
    sigemptyset(&open);
    for (size_t i = 0; i < FAULTS; i++)
        sigaddset(&open, faults[i].number);
    sigaddset(&open, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &open, NULL);
}

void trap_leave_thread(void) {
    stack_t stack = {.ss_flags = SS_DISABLE};

    guest_current = NULL;
    heap_current = NULL;
    if (!HANDLER_HAS_SANITIZER)
        sigaltstack(&stack, NULL);
}

bool trap_kick(struct guest *guest, uint64_t run, pid_t tid) {
    if (HANDLER_HAS_SANITIZER)
        return true; /* nobody would catch it */
    atomic_store(&guest->kick_run, run);
    return syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL) == 0 || errno != ESRCH;
}

/* Its frame is where the classifier stops, so it is nobody else's. */
__attribute__((noinline)) bool guest_run(struct guest *guest, guest_fn *enter, void *arg) {
    if (sigsetjmp(guest->out, 0)) {
        end(guest);
        return false;
    }
    begin(guest);
    enter(arg);
    end(guest);
    return true;
}

static void begin(struct guest *guest) {
    guest->in_host = guest->in_lock = guest->is_kicked = guest->is_unwinding = 0;
    guest->fault.kind = FAULT_NONE;
    atomic_store_explicit(&guest->run, atomic_load_explicit(&guest->run, memory_order_relaxed) + 1,
                          memory_order_release);
    heap_current = guest->heap;
    atomic_signal_fence(memory_order_seq_cst);
    guest->is_armed = 1;
    atomic_signal_fence(memory_order_seq_cst);
}

static void end(struct guest *guest) {
    atomic_signal_fence(memory_order_seq_cst);
    guest->is_armed = 0;
    atomic_signal_fence(memory_order_seq_cst);
    heap_current = NULL;
}

_Noreturn void guest_leave(enum fault_kind kind, const char *text) {
    struct guest *guest = guest_current;

    guest->is_unwinding = 1;
    guest->fault = (struct fault){.kind = kind};
    if (text)
        strncpy(guest->fault.text, text, sizeof guest->fault.text - 1);
    guest->fault.is_dirty = guest->in_lock || !classify_is_clean(guest, NULL, &guest->fault);
    siglongjmp(guest->out, 1);
}

static void on_fault(int number, siginfo_t *info, void *context) {
    struct guest *guest = guest_current;
    bool is_sent = info->si_code <= 0 && info->si_pid != getpid();

    if (!guest || !guest->is_armed || is_sent) {
        fall_through(number, info, context);
        return;
    }
    if (!guest->is_unwinding) {
        guest->is_unwinding = 1;
        guest->fault = (struct fault){.signal = number, .pc = pc_of(context)};
        for (size_t i = 0; i < FAULTS; i++)
            if (faults[i].number == number)
                guest->fault.kind = faults[i].kind;
        if (info->si_code > 0)
            guest->fault.address = (uintptr_t)info->si_addr;
        guest->fault.is_dirty = guest->in_lock || !classify_is_clean(guest, context, &guest->fault);
    } else {
        guest->fault.is_dirty = true; /* the classifier itself has stumbled */
    }
    siglongjmp(guest->out, 1);
}

/* Where it is not clean it is tried again a little later. */
static void on_kick(int number, siginfo_t *info, void *context) {
    struct guest *guest = guest_current;
    int saved = errno;

    if (guest)
        atomic_fetch_add(&guest->kicks, 1);
    if (!guest || !guest->is_armed || guest->is_unwinding ||
        atomic_load(&guest->kick_run) != atomic_load(&guest->run))
        return;
    if (guest->in_host) {
        guest->is_kicked = 1;
        return;
    }
    guest->is_unwinding = 1;
    guest->fault = (struct fault){.kind = FAULT_HANG, .pc = pc_of(context)};
    if (classify_is_clean(guest, context, &guest->fault))
        siglongjmp(guest->out, 1);
    guest->is_unwinding = 0;
    errno = saved;
}

/* As if we were not there: who was before tells what happened, and it happens again without any
 * handler. */
static void fall_through(int number, siginfo_t *info, void *context) {
    struct sigaction ends = {.sa_handler = SIG_DFL};

    sigaction(number, &ends, NULL);
    for (size_t i = 0; i < FAULTS; i++) {
        if (faults[i].number != number)
            continue;
        if (before[i].sa_flags & SA_SIGINFO)
            before[i].sa_sigaction(number, info, context);
        else if (before[i].sa_handler != SIG_DFL && before[i].sa_handler != SIG_IGN)
            before[i].sa_handler(number);
    }
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

static uintptr_t pc_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return context->uc_mcontext.pc;
#else
    return 0;
#endif
}
