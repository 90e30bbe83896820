/* A plugin for tests only: what can go wrong in one, on demand. The request field x-fault names it
 * (x-path: a file that it needs); without, a request is worked on as a good plugin would do it, and
 * told what its fields add up to, so that whoever asks can see whether another one's fault has
 * changed that. */
#include "fault.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

struct state {
    const struct weir_host *host;
    char *kept[64]; /* what an instance remembers */
    unsigned next;
};

static volatile int zero;
static volatile char *volatile nowhere; /* NULL */
static volatile size_t sink;

static void null(struct scene *s) {
    nowhere[0] = 1;
}

static void call_null(struct scene *s) {
    void (*volatile function)(void) = NULL;

    function();
}

static void call_data(struct scene *s) {
    static char data[16];
    void (*volatile function)(void) = (void (*)(void))(uintptr_t)data;

    function();
}

/* Not a tail call, and each level has memory of its own. */
static int deep(int n) {
    volatile char room[200];

    room[n % 200] = (char)n;
    return deep(n + 1) + room[(n + 1) % 200];
}

static void stack_overflow(struct scene *s) {
    sink = (size_t)deep(zero);
}

static void fpe(struct scene *s) {
    volatile int some = 7;

    sink = (size_t)(some / zero);
}

static void ill(struct scene *s) {
    __builtin_trap();
}

static void trap(struct scene *s) {
#if defined(__x86_64__)
    __asm__ volatile("int3");
#else
    __builtin_trap();
#endif
}

static void bus(struct scene *s) {
    int fd = memfd_create("short", 0);
    volatile char *map;

    if (ftruncate(fd, 4096) < 0)
        return;
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ftruncate(fd, 0) < 0)
        return;
    close(fd);
    map[0] = 1;
}

static void sys(struct scene *s) {
#if defined(__x86_64__)
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_tgkill), "D"((long)getpid()), "S"(syscall(SYS_gettid)),
                       "d"((long)SIGSYS)
                     : "rcx", "r11", "memory");
#else
    raise(SIGSYS);
#endif
}

static void call_abort(struct scene *s) {
    abort();
}

static void failed_assert(struct scene *s) {
    assert(zero == 1);
}

static void call_exit(struct scene *s) {
    exit(3);
}

static void call__exit(struct scene *s) {
    _exit(3);
}

static void call_pthread_exit(struct scene *s) {
    pthread_exit(NULL);
}

static void strlen_null(struct scene *s) {
    sink = strlen((const char *)nowhere);
}

static void memcpy_bad(struct scene *s) {
    memcpy((char *)nowhere + 4096, s->request, 300);
}

static void snprintf_bad(struct scene *s) {
    char room[64];

    sink = (size_t)snprintf(room, sizeof room, "%s", (const char *)nowhere + 8);
}

static int compare_bad(const void *a, const void *b) {
    return nowhere[0];
}

static void qsort_bad(struct scene *s) {
    int list[] = {3, 2, 1};

    qsort(list, 3, sizeof *list, compare_bad);
}

static void stack_smash(struct scene *s) {
    volatile char room[16];
    volatile char *volatile at = room;

    for (int i = 0; i < 64; i++)
        at[i] = 'x';
}

/* So that neither a handler of a signal nor an unwinder finds a stack. */
static void unwind(struct scene *s) {
#if defined(__x86_64__)
    __asm__ volatile("mov $0x1000, %%rsp\n\tmov $0x1000, %%rbp\n\tpush %%rax" ::: "memory");
#else
    nowhere[0] = 1;
#endif
}

/* The stack ends while a host function is at work that may hold a lock. */
static int deeper(struct scene *s, int n) {
    volatile char room[16];
    unsigned char digest[32];

    room[n % 16] = (char)n;
    s->host->sha256(TEXT("some"), digest);
    return deeper(s, n + 1) + room[(n + 1) % 16];
}

static void lock_overflow(struct scene *s) {
    sink = (size_t)deeper(s, zero);
}

static void spin(struct scene *s) {
    for (;;)
        sink++;
}

static void call_sleep(struct scene *s) {
    sleep(1000);
}

static void call_poll(struct scene *s) {
    poll(NULL, 0, -1);
}

static void malloc_loop(struct scene *s) {
    for (;;)
        free(malloc(sink++ % 5000));
}

static void host_loop(struct scene *s) {
    for (;;)
        sink += (size_t)s->host->set_field(s->call, TEXT("x-loop"), TEXT("1"));
}

static void log_loop(struct scene *s) {
    for (;;)
        s->host->log(s->call, WEIR_LOG_DEBUG, TEXT("again"));
}

/* What the host is given is no memory. */
static void bad_text(struct scene *s) {
    s->host->set_field(s->call, TEXT("x-bad"),
                       (struct weir_text){(const char *)(uintptr_t)4096, 100000});
}

static void bad_table(struct scene *s) {
    struct weir_cell cell;

    s->host->cell_get((struct weir_table *)(uintptr_t)4096, TEXT("key"), &cell);
}

/* As long as it may, to the point. */
static void race(struct scene *s) {
    while (s->host->now_ns() < s->request->deadline_ns)
        ;
}

static void block_signals(struct scene *s) {
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    signal(SIGSEGV, SIG_DFL);
    spin(s);
}

/* Leaves a thread behind, that its call has no part in. */
static void *burn_on(void *unused) {
    for (;;)
        sink++;
    return unused;
}

static void burn(struct scene *s) {
    pthread_t thread;

    pthread_create(&thread, NULL, burn_on, NULL);
}

/* No faults, but what shows how calls are handled. */

void fault_tell(struct scene *s, const char *name, unsigned long number) {
    char text[24];

    snprintf(text, sizeof text, "%lu", number);
    s->host->set_field(s->call, (struct weir_text){name, strlen(name)},
                       (struct weir_text){text, strlen(text)});
}

static void nap(struct scene *s) {
    usleep(50000);
}

/* Until the test has made the file that the environment names. */
static void wait_at_gate(struct scene *s) {
    const char *gate = getenv("WEIR_TEST_GATE");

    while (gate && access(gate, F_OK) != 0)
        usleep(1000);
}

static void say(struct scene *s) {
    s->host->log(s->call, WEIR_LOG_WARN, TEXT("as was asked for"));
}

static void call_kill(struct scene *s) {
    kill(getpid(), SIGKILL);
}

static unsigned long counted;

static void count(struct scene *s) {
    fault_tell(s, "x-count", ++counted);
}

static void no_reply(struct scene *s) {
    s->host->set_variable(s->call, TEXT("verdict"), TEXT("respond"));
}

static void large_reply(struct scene *s) {
    size_t len = 500000;
    char *content = s->host->alloc(s->call, len);

    memset(content, 'c', len);
    s->host->respond(s->call, 200, (struct weir_text){content, len});
    s->host->set_variable(s->call, TEXT("verdict"), TEXT("respond"));
}

/* From here on libc is in the middle of something. */

static void stdio_bad(struct scene *s) {
    FILE *file = fopen("/dev/null", "w");

    fprintf(file, "%s", (const char *)nowhere + 8);
}

static void stdio_loop(struct scene *s) {
    FILE *file = fopen("/dev/null", "w");

    for (;;)
        fprintf(file, "%zu\n", sink++);
}

static void syslog_bad(struct scene *s) {
    syslog(LOG_DEBUG, "%s", (const char *)nowhere + 8);
}

/* Its constructor faults, with the loader's lock held. */
static void dlopen_bad(struct scene *s) {
    sink = (size_t)dlopen(s->path, RTLD_NOW);
}

static void raise_abort(struct scene *s) {
    raise(SIGABRT);
}

static void vanish(struct scene *s) {
#if defined(__x86_64__)
    __asm__ volatile("syscall" ::"a"((long)SYS_exit), "D"(0L) : "rcx", "r11", "memory");
#endif
}

/* What no signal reaches. */
static void stuck(struct scene *s) {
    unsigned long all = ~0ul;

    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    spin(s);
}

static const struct fault_kind faults[] = {
    {"null", null},
    {"call_null", call_null},
    {"call_data", call_data},
    {"stack_overflow", stack_overflow},
    {"fpe", fpe},
    {"ill", ill},
    {"trap", trap},
    {"bus", bus},
    {"sys", sys},
    {"abort", call_abort},
    {"assert", failed_assert},
    {"exit", call_exit},
    {"_exit", call__exit},
    {"pthread_exit", call_pthread_exit},
    {"strlen_null", strlen_null},
    {"memcpy_bad", memcpy_bad},
    {"snprintf_bad", snprintf_bad},
    {"qsort_bad", qsort_bad},
    {"stack_smash", stack_smash},
    {"unwind", unwind},
    {"lock_overflow", lock_overflow},
    {"burn", burn},
    {"spin", spin},
    {"sleep", call_sleep},
    {"poll", call_poll},
    {"malloc_loop", malloc_loop},
    {"host_loop", host_loop},
    {"log_loop", log_loop},
    {"bad_text", bad_text},
    {"bad_table", bad_table},
    {"race", race},
    {"block_signals", block_signals},
    {"nap", nap},
    {"wait", wait_at_gate},
    {"say", say},
    {"kill", call_kill},
    {"count", count},
    {"no_reply", no_reply},
    {"large_reply", large_reply},
    {"stdio_bad", stdio_bad},
    {"stdio_loop", stdio_loop},
    {"syslog_bad", syslog_bad},
    {"dlopen_bad", dlopen_bad},
    {"raise_abort", raise_abort},
    {"vanish", vanish},
    {"stuck", stuck},
    {NULL, NULL},
};

/* Does what of @kinds has that name. */
static void run(const struct fault_kind *kinds, struct weir_text name, struct scene *scene) {
    for (; kinds->name; kinds++)
        if (name.len == strlen(kinds->name) && memcmp(name.base, kinds->name, name.len) == 0)
            kinds->run(scene);
}

static struct weir_text find(const struct weir_request *request, const char *name) {
    for (size_t i = 0; i < request->field_count; i++)
        if (request->fields[i].name.len == strlen(name) &&
            strncasecmp(request->fields[i].name.base, name, strlen(name)) == 0)
            return request->fields[i].value;
    return TEXT("");
}

/* FNV-1a of all that the request has. */
static unsigned long add(unsigned long sum, struct weir_text text) {
    for (size_t i = 0; i < text.len; i++)
        sum = (sum ^ (unsigned char)text.base[i]) * 1099511628211ul;
    return sum;
}

/* Some memory comes and goes, some stays for a while, all of it is looked at. */
static bool work(struct state *state, unsigned long sum) {
    char *block = malloc(16 + sum % 3000);
    char **kept = &state->kept[state->next++ % 64];

    if (!block)
        return false;
    memset(block, (int)(sum & 0x7f) | 1, 16);
    if (*kept && memcmp(*kept, *kept + 1, 15) != 0)
        return false;
    free(*kept);
    *kept = block;
    return true;
}

static enum weir_verdict request(void *arg, struct weir_call *call,
                                 const struct weir_request *asked) {
    struct state *state = arg;
    struct weir_text fault = find(asked, "x-fault"), path = find(asked, "x-path");
    unsigned long sum = 14695981039346656037ul;
    char text[32], file[512] = "";
    struct scene scene = {state->host, call, asked, file};

    sum = add(add(sum, asked->id), asked->path);
    for (size_t i = 0; i < asked->field_count; i++)
        sum = add(add(sum, asked->fields[i].name), asked->fields[i].value);
    sum = add(sum, asked->body);
    if (fault.len == 0 && !work(state, sum)) {
        state->host->respond(call, 418, TEXT("its memory was changed"));
        return WEIR_RESPOND;
    }
    if (path.len < sizeof file)
        memcpy(file, path.base, path.len);
    run(faults, fault, &scene);
    run(fault_memory_kinds, fault, &scene);
    snprintf(text, sizeof text, "%016lx", sum);
    state->host->set_field(call, TEXT("x-sum"), (struct weir_text){text, strlen(text)});
    state->host->count(call, 0, 1);
    return state->host->variable(call, TEXT("verdict")).len > 0 ? WEIR_RESPOND : WEIR_CONTINUE;
}

static int init(const struct weir_host *host, struct weir_text config, void **state, char *why,
                size_t why_size) {
    struct state *made = calloc(1, sizeof *made);

    if (!made) {
        snprintf(why, why_size, "there is no memory");
        return -1;
    }
    made->host = host;
    *state = made;
    return 0;
}

static void end(void *arg) {
    struct state *state = arg;

    for (size_t i = 0; i < 64; i++)
        free(state->kept[i]);
    free(state);
}

static const char *const events[] = {"worked", NULL};

WEIR_PLUGIN = {
    .size = sizeof(struct weir_plugin),
    .abi = WEIR_ABI,
#ifdef FAULT_FLAGS
    .flags = FAULT_FLAGS,
#endif
    .name = "fault",
    .version = "1",
    .events = events,
    .init = init,
    .request = request,
    .end = end,
};
