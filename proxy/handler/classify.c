/* The classifier, and what it learns at the start. */
#include "handler/classify.h"

#include "handler/modules.h"
#include "handler/trap.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#define FRAMES_MAX 32768 /* more are on no stack of a worker */
#define HARMLESS_MAX 256

struct walk {
    bool has_begun; /* the frames of the signal handler are behind us */
    bool is_clean;
    unsigned frames;
    uintptr_t caller;
};

/* Starts of functions, sorted once learned. */
static struct {
    uintptr_t starts[HARMLESS_MAX];
    unsigned count;
    bool is_learning;
} harmless;

static _Unwind_Reason_Code look(struct _Unwind_Context *context, void *arg);
static bool is_harmless(uintptr_t start);
static void learn(uintptr_t start);
static void learn_waits(void);
static void put_right(const struct guest *guest, ucontext_t *context, uintptr_t address);

bool classify_is_clean(const struct guest *guest, ucontext_t *context, struct fault *fault) {
    struct walk walk = {.has_begun = !context};

    if (context)
        put_right(guest, context, fault->address);
    _Unwind_Backtrace(look, &walk);
    fault->caller = walk.caller;
    return walk.is_clean;
}

static _Unwind_Reason_Code look(struct _Unwind_Context *context, void *arg) {
    struct walk *walk = arg;
    int is_interrupted = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &is_interrupted);

    if (is_interrupted)
        walk->has_begun = true;
    if (!walk->has_begun)
        return _URC_NO_REASON;
    if (++walk->frames > FRAMES_MAX)
        return _URC_NORMAL_STOP;
    switch (module_of(is_interrupted ? pc : pc - 1)) {
    case MODULE_GUEST:
        if (!walk->caller)
            walk->caller = is_interrupted ? pc : pc - 1;
        return _URC_NO_REASON;
    case MODULE_WEIR:
        if (_Unwind_GetRegionStart(context) != (uintptr_t)guest_run)
            return _URC_NO_REASON;
        walk->is_clean = true;
        return _URC_NORMAL_STOP;
    case MODULE_PROCESS:
        if (harmless.is_learning)
            learn(_Unwind_GetRegionStart(context));
        return is_harmless(_Unwind_GetRegionStart(context)) ? _URC_NO_REASON : _URC_NORMAL_STOP;
    case MODULE_UNKNOWN:
        break;
    }
    return _URC_NORMAL_STOP;
}

/* A call through a bad pointer has pushed its return address and gone nowhere: its caller is where
 * that address is. */
static void put_right(const struct guest *guest, ucontext_t *context, uintptr_t address) {
#if defined(__x86_64__)
    greg_t *registers = context->uc_mcontext.gregs;
    uintptr_t pc = (uintptr_t)registers[REG_RIP], top = (uintptr_t)registers[REG_RSP];

    if (module_of(pc) != MODULE_UNKNOWN || pc != address || top % sizeof top != 0 ||
        top < guest->stack_low || top > guest->stack_high - sizeof top)
        return;
    memcpy(&registers[REG_RIP], (void *)top, sizeof top);
    registers[REG_RSP] += (greg_t)sizeof top;
#elif defined(__aarch64__)
    if (module_of(context->uc_mcontext.pc) == MODULE_UNKNOWN && context->uc_mcontext.pc == address)
        context->uc_mcontext.pc = context->uc_mcontext.regs[30];
#endif
}

static bool is_harmless(uintptr_t start) {
    for (unsigned i = 0; i < harmless.count; i++)
        if (harmless.starts[i] == start)
            return true;
    return false;
}

/* Functions that only wait for the kernel, or ask it for something. */
static void learn_waits(void) {
    static const char *const names[] = {
        "nanosleep",    "clock_nanosleep", "sleep",    "usleep",      "pause",      "poll",
        "ppoll",        "select",          "pselect",  "read",        "write",      "readv",
        "writev",       "pread64",         "pwrite64", "recv",        "recvfrom",   "recvmsg",
        "send",         "sendto",          "sendmsg",  "connect",     "accept",     "accept4",
        "open",         "open64",          "openat",   "close",       "fsync",      "fdatasync",
        "wait4",        "waitpid",         "syscall",  "sched_yield", "epoll_wait", "epoll_pwait",
        "gettimeofday", "clock_gettime",   "time"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *function = dlsym(RTLD_DEFAULT, names[i]);

        if (function)
            learn((uintptr_t)_Unwind_FindEnclosingFunction(function + 1));
    }
}

static void learn(uintptr_t start) {
    if (start != 0 && !is_harmless(start) && harmless.count < HARMLESS_MAX)
        harmless.starts[harmless.count++] = start;
}

/* What is made to fault: each reads or writes @bad, which cannot be accessed from some byte on. */
/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.strcpy,clang-analyzer-core.StackAddressEscape) */
static char copy[8192];
static volatile size_t sink;

static int fault_in_compare(const void *a, const void *b) {
    sink = *(const volatile unsigned char *)*(char *const *)a;
    return 0;
}

static void try_one(unsigned which, char *bad) {
    char *pair[2] = {bad, bad};
    size_t n = sizeof copy;

    switch (which) {
    case 0:
        memcpy(copy, bad, n);
        break;
    case 1:
        memcpy(bad, copy, n);
        break;
    case 2:
        memmove(bad, copy, n);
        break;
    case 3:
        memset(bad, 'a', n);
        break;
    case 4:
        sink = (size_t)memcmp(bad, copy, n);
        break;
    case 5:
        sink = (size_t)memchr(bad, 'b', n);
        break;
    case 6:
        sink = (size_t)memrchr(bad, 'b', n);
        break;
    case 7:
        sink = (size_t)rawmemchr(bad, 'b');
        break;
    case 8:
        sink = strlen(bad);
        break;
    case 9:
        sink = strnlen(bad, n);
        break;
    case 10:
        strcpy(copy, bad);
        break;
    case 11:
        strncpy(copy, bad, n - 1);
        break;
    case 12:
        strcpy(bad, copy);
        break;
    case 13:
        sink = (size_t)strcmp(bad, copy);
        break;
    case 14:
        sink = (size_t)strncmp(bad, copy, n);
        break;
    case 15:
        sink = (size_t)strcasecmp(bad, copy);
        break;
    case 16:
        sink = (size_t)strncasecmp(bad, copy, n);
        break;
    case 17:
        sink = (size_t)strchr(bad, 'b');
        break;
    case 18:
        sink = (size_t)strrchr(bad, 'b');
        break;
    case 19:
        sink = (size_t)strchrnul(bad, 'b');
        break;
    case 20:
        sink = strspn(bad, "a");
        break;
    case 21:
        sink = strcspn(bad, "b");
        break;
    case 22:
        sink = (size_t)strstr(bad, "ba");
        break;
    case 23:
        sink = (size_t)strtol(bad, NULL, 16);
        break;
    case 24:
        sink = (size_t)strtod(bad, NULL);
        break;
    case 25:
        sink = (size_t)snprintf(copy, n, "%s", bad);
        break;
    case 26:
        qsort(pair, 2, sizeof *pair, fault_in_compare);
        break;
    case 27:
        sink = (size_t)bsearch(pair, pair, 2, sizeof *pair, fault_in_compare);
        break;
    case 28:
        stpcpy(copy, bad);
        break;
    case 29:
        strncpy(bad, copy, n);
        break;
    case 30:
        sink = (size_t)memmem(bad, n, "ba", 2);
        break;
    default:
        break;
    }
}
/* NOLINTEND(clang-analyzer-security.insecureAPI.strcpy,clang-analyzer-core.StackAddressEscape) */
#define TRIES 31

struct attempt {
    unsigned which;
    char *bad;
};

static void run_attempt(void *arg) {
    const struct attempt *attempt = arg;

    try_one(attempt->which, attempt->bad);
}

void classify_learn(void) {
    /* So far before the edge: short and long ways through a function. */
    static const size_t distances[] = {0, 1, 8, 24, 48, 100, 200, 500, 1000, 4096};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct guest learner = {0}, *before = guest_current;

    assert(pages != MAP_FAILED);
    memset(pages, 'a', 2 * page);
    memset(copy, 'a', sizeof copy - 1);
    mprotect(pages + 2 * page, 2 * page, PROT_NONE);
    harmless.is_learning = true;
    guest_current = &learner;
    for (unsigned which = 0; which < TRIES; which++)
        for (size_t i = 0; i < sizeof distances / sizeof *distances; i++) {
            struct attempt attempt = {which, pages + 2 * page - distances[i]};

            guest_run(&learner, run_attempt, &attempt);
            memset(copy, 'a', sizeof copy - 1);
        }
    guest_current = before;
    harmless.is_learning = false;
    learn_waits();
    munmap(pages, 4 * page);
}
