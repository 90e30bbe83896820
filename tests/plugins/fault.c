/* A plugin for tests only: what can go wrong in one, on demand. The request field x-fault names it
 * (x-path: a file that it needs); without, a request is worked on as a good plugin would do it, and
 * told what its fields add up to, so that whoever asks can see whether another one's fault has
 * changed that. */
#include <weir/handler.h>

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

#define TEXT(literal) WEIR_TEXT(literal)

struct state {
    const struct weir_host *host;
    char *kept[64]; /* what an instance remembers */
    unsigned next;
};

struct scene {
    const struct weir_host *host;
    struct weir_call *call;
    const struct weir_request *request;
    const char *path;
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

static void double_free(struct scene *s) {
    char *volatile block = malloc(100);
    char *volatile again = block;

    free(block);
    free(again);
}

static void double_free_large(struct scene *s) {
    char *volatile block = malloc(300000);
    char *volatile again = block;

    free(block);
    free(again);
}

static void bad_free(struct scene *s) {
    char *volatile block = malloc(100);

    free(block + 16);
}

static void free_stack(struct scene *s) {
    char room[64];
    char *volatile at = room;

    free(at + (16 - (uintptr_t)at % 16));
}

static void realloc_freed(struct scene *s) {
    char *volatile block = malloc(100);
    char *volatile again = block;

    free(block);
    sink = (size_t)realloc(again, 1000);
}

static void heap_overflow(struct scene *s) {
    volatile char *block = malloc(100);

    for (size_t i = 0;; i++)
        block[i] = (char)i;
}

static void heap_overflow_small(struct scene *s) {
    volatile char *block = malloc(40);

    for (size_t i = 0; i < 400; i++)
        block[i] = (char)i;
}

static void write_after_free(struct scene *s) {
    char *volatile block = malloc(100);
    volatile char *again = block;

    free(block);
    for (size_t i = 0; i < 100; i++)
        again[i] = (char)i;
}

/* Somewhere in its own heap. */
static void wild_write_inside(struct scene *s) {
    volatile char *block = malloc(100);

    block = (volatile char *)((uintptr_t)block & ~(uintptr_t)4095);
    for (size_t i = 0; i < 4096; i++)
        block[i] = (char)i;
}

/* Beyond it: between heaps, and where nothing is. */
static void wild_write_outside(struct scene *s) {
    volatile char *block = malloc(100);

    for (size_t i = 0; i < 4096; i++)
        block[(256l << 20) + (long)i] = (char)i;
}

static void huge(struct scene *s) {
    volatile size_t bytes = 20ul << 30;
    volatile char *volatile block = malloc(bytes);

    for (size_t i = 0; i < bytes; i++)
        block[i] = 1;
}

static void eat_memory(struct scene *s) {
    volatile char *volatile block;

    do {
        block = malloc(4 << 20);
        block[0] = 1;
    } while (block);
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

/* No faults, but what shows how calls are handled. */

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
    char text[24];

    snprintf(text, sizeof text, "%lu", ++counted);
    s->host->set_field(s->call, TEXT("x-count"), (struct weir_text){text, strlen(text)});
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

/* Memory of libc's own allocator. */
static void free_foreign(struct scene *s) {
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/comm", "r");
    ssize_t len = getline(&line, &room, file);
    char *volatile again = line;

    fclose(file);
    sink = (size_t)len;
    free(line);
    free(again);
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

static const struct {
    const char *name;
    void (*run)(struct scene *s);
} faults[] = {
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
    {"double_free", double_free},
    {"double_free_large", double_free_large},
    {"bad_free", bad_free},
    {"free_stack", free_stack},
    {"realloc_freed", realloc_freed},
    {"heap_overflow", heap_overflow},
    {"heap_overflow_small", heap_overflow_small},
    {"write_after_free", write_after_free},
    {"wild_write_inside", wild_write_inside},
    {"wild_write_outside", wild_write_outside},
    {"huge", huge},
    {"eat_memory", eat_memory},
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
    {"free_foreign", free_foreign},
    {"raise_abort", raise_abort},
    {"vanish", vanish},
    {"stuck", stuck},
};

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
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct scene scene = {state->host, call, asked, file};

        if (fault.len == strlen(faults[i].name) &&
            memcmp(fault.base, faults[i].name, fault.len) == 0)
            faults[i].run(&scene);
    }
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
