/* Every fault that a plugin can have, against the handlers themselves: the faulting request gets
 * its one outcome, all others get theirs to the byte, the verdict is right, the worker is replaced,
 * and the process lives on. Each kind of fault has a process of its own, with other threads that
 * use malloc() and stdio meanwhile. `test_handler_matrix [FAULTS [NAME [thread | process]]]`. */
#include "support/unit.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "handler/handlers_state.h"
#include "handler/trap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INNOCENTS 6 /* at once */
#define NOISES 2
#define HANG_TIMEOUT_NS (60 * NS_PER_MS) /* of calls that are to reach it */
#define TIMEOUT_NS (2 * NS_PER_S)        /* of others, which a busy machine may hold up */
#define CHILD_S 120

enum verdict { CLEAN, DIRTY, EITHER, NO_FAULT };

static const struct kind {
    const char *name;
    enum call_outcome outcome;
    enum verdict verdict;
    unsigned most; /* faults; 0: as many as asked for */
} kinds[] = {
    {"null", CALL_FAULT, CLEAN, 0},
    {"call_null", CALL_FAULT, CLEAN, 0},
    {"call_data", CALL_FAULT, CLEAN, 0},
    {"stack_overflow", CALL_FAULT, CLEAN, 0},
    {"fpe", CALL_FAULT, CLEAN, 0},
    {"ill", CALL_FAULT, CLEAN, 0},
    {"trap", CALL_FAULT, CLEAN, 0},
    {"bus", CALL_FAULT, CLEAN, 0},
    {"sys", CALL_FAULT, CLEAN, 0},
    {"abort", CALL_FAULT, CLEAN, 0},
    {"assert", CALL_FAULT, CLEAN, 0},
    {"exit", CALL_FAULT, CLEAN, 0},
    {"_exit", CALL_FAULT, CLEAN, 0},
    {"pthread_exit", CALL_FAULT, CLEAN, 0},
    {"strlen_null", CALL_FAULT, CLEAN, 0},
    {"memcpy_bad", CALL_FAULT, CLEAN, 0},
    {"snprintf_bad", CALL_FAULT, CLEAN, 0},
    {"qsort_bad", CALL_FAULT, CLEAN, 0},
    {"double_free", CALL_FAULT, CLEAN, 0},
    {"double_free_large", CALL_FAULT, CLEAN, 0},
    {"bad_free", CALL_FAULT, CLEAN, 0},
    {"free_stack", CALL_FAULT, CLEAN, 0},
    {"realloc_freed", CALL_FAULT, CLEAN, 0},
    {"heap_overflow", CALL_FAULT, CLEAN, 0},
    {"overflow_pointer", CALL_FAULT, CLEAN, 0},
    {"use_after_free", CALL_FAULT, CLEAN, 0},
    {"alloc_overflow", CALL_FAULT, CLEAN, 0},
    {"leak", CALL_FAULT, CLEAN, 100},
    {"heap_overflow_small", CALL_CONTINUE, NO_FAULT, 0},
    {"write_after_free", CALL_CONTINUE, NO_FAULT, 0},
    {"wild_write_inside", CALL_CONTINUE, NO_FAULT, 0},
    {"wild_write_outside", CALL_FAULT, CLEAN, 0},
    {"huge", CALL_FAULT, CLEAN, 0},
    {"bad_text", CALL_FAULT, CLEAN, 0},
    {"bad_table", CALL_FAULT, CLEAN, 0},
    {"eat_memory", CALL_FAULT, CLEAN, 20},
    {"spin", CALL_HANG, CLEAN, 0},
    {"sleep", CALL_HANG, CLEAN, 0},
    {"poll", CALL_HANG, CLEAN, 0},
    {"malloc_loop", CALL_HANG, CLEAN, 0},
    {"host_loop", CALL_HANG, CLEAN, 0},
    {"log_loop", CALL_HANG, CLEAN, 0},
    {"race", CALL_HANG, EITHER, 0},
    {"block_signals", CALL_HANG, CLEAN, 0},
    {"stack_smash", CALL_FAULT, DIRTY, 100}, /* who has called it cannot be known any more */
    {"unwind", CALL_FAULT, DIRTY, 100},
    {"lock_overflow", CALL_FAULT, DIRTY, 100},
    {"stdio_bad", CALL_FAULT, DIRTY, 100},
    {"stdio_loop", CALL_HANG, EITHER, 20},
    {"syslog_bad", CALL_FAULT, DIRTY,
     1}, /* behind it syslog() is locked for good; so is dlopen() */
    {"dlopen_bad", CALL_FAULT, DIRTY, 1},
    {"free_foreign", CALL_FAULT, DIRTY, 100},
    {"raise_abort", CALL_FAULT, DIRTY, 100},
    {"vanish", CALL_HANG, DIRTY, 4},
    {"stuck", CALL_HANG, DIRTY, 4},
};

struct one {
    struct request_head head;
    struct field fields[4];
    char id[24], path[64];
    char sum[17];
    struct call *call;
    bool is_fault;
};

static struct {
    struct loop loop;
    struct handlers *handlers;
    struct handler_desk *desk;
    const struct kind *kind;
    unsigned faults, others, late, wrong;
    unsigned outcomes[CALL_FULL + 1];
    bool is_fault_out, is_ending, is_in_process;
    unsigned out;
    uint64_t number;
    _Atomic bool is_quiet;
    _Atomic unsigned damage;
} world;

static unsigned long add(unsigned long sum, struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        sum = (sum ^ (unsigned char)text.base[i]) * 1099511628211ul;
    return sum;
}

static void send_one(struct one *one, const char *fault);

static void on_done(struct call *call, void *ctx) {
    const struct call_answer *answer = call_answer(call);
    struct one *one = ctx;

    world.out--;
    if (one->is_fault) {
        world.outcomes[answer->outcome]++;
        world.faults++;
        world.is_fault_out = false;
    } else {
        world.others++;
        /* While one hangs, all others of its workers' time is not theirs alone. */
        if (answer->outcome == CALL_HANG && world.kind->outcome == CALL_HANG)
            world.late++;
        else if (answer->outcome != CALL_CONTINUE || answer->edit_count != 1 ||
                 !slice_equal(answer->edits[0].name, SLICE("x-sum")) ||
                 !slice_equal(answer->edits[0].value, slice_str(one->sum))) {
            if (world.wrong++ < 5)
                fprintf(stderr, "another request got outcome %d, %u edits, status %u\n",
                        (int)answer->outcome, answer->edit_count, answer->status);
        }
    }
    call_free(call);
    one->call = NULL;
    if (!one->is_fault && !world.is_ending)
        send_one(one, NULL);
}

static void send_one(struct one *one, const char *fault) {
    struct call_input input = {.phase = CALL_REQUEST, .request = &one->head};
    unsigned long sum = 14695981039346656037ul;
    uint32_t count = 0;

    snprintf(one->id, sizeof one->id, "id-%llu", (unsigned long long)world.number);
    snprintf(one->path, sizeof one->path, "/some/where?number=%llu",
             (unsigned long long)world.number++);
    one->fields[count++] = (struct field){SLICE("accept"), SLICE("*/*"), FIELD_ACCEPT, false};
    one->fields[count++] = (struct field){SLICE("x-more"), slice_str(one->id), 0, false};
    if (fault) {
        one->fields[count++] = (struct field){SLICE("x-fault"), slice_str(fault), 0, false};
        one->fields[count++] =
            (struct field){SLICE("x-path"), SLICE(PLUGINS "/constructor.so"), 0, false};
    }
    one->is_fault = fault != NULL;
    one->head = (struct request_head){
        .method = METHOD_GET,
        .version = HTTP_1_1,
        .method_text = SLICE("GET"),
        .authority = SLICE("example.test"),
        .path = slice_str(one->path),
        .fields = {one->fields, count, count},
    };
    input.request_id = slice_str(one->id);
    input.scheme = SLICE("http");
    sum = add(add(sum, input.request_id), one->head.path);
    for (uint32_t i = 0; i < count; i++)
        sum = add(add(sum, one->fields[i].name), one->fields[i].value);
    snprintf(one->sum, sizeof one->sum, "%016lx", sum);
    world.out++;
    one->call = call_submit(world.desk, &input, on_done, one);
}

/* What else a process does. */
static void *make_noise(void *arg) {
    char *blocks[100] = {0};
    uint64_t seed = 77;
    FILE *file = fopen("/dev/null", "w");

    while (!atomic_load(&world.is_quiet)) {
        size_t i = rnd(&seed) % 100, bytes = 32 + rnd(&seed) % 4000;

        if (blocks[i] && memcmp(blocks[i], blocks[i] + 1, 31) != 0)
            atomic_fetch_add(&world.damage, 1);
        free(blocks[i]);
        blocks[i] = xmalloc(bytes);
        memset(blocks[i], (int)i, bytes);
        fprintf(file, "%zu\n", bytes);
        if (i == 0)
            usleep(1000);
    }
    for (size_t i = 0; i < 100; i++)
        free(blocks[i]);
    fclose(file);
    return NULL;
}

static long resident_kib(void) {
    long pages = 0, unused;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%ld %ld", &unused, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static uint64_t sum_of_faults(const struct handler *handler) {
    uint64_t sum = 0;

    for (int i = 0; i < FAULT_KINDS; i++)
        sum += atomic_load(&handler->faults[i]);
    return sum;
}

#define CHECK(condition)                                                \
    do {                                                                \
        if (!(condition)) {                                             \
            printf("# %s: not so: %s\n", world.kind->name, #condition); \
            is_good = false;                                            \
        }                                                               \
    } while (0)

/* One kind of fault, in a process of its own. */
static bool run_kind(const char *plugin, unsigned faults) {
    struct config_handler handler = {
        .name = (char *)(uintptr_t) "faulty",
        .plugin = (char *)(uintptr_t)plugin,
        .timeout_ns = world.kind->outcome == CALL_HANG ? HANG_TIMEOUT_NS : TIMEOUT_NS,
        .fault.window_ns = 60 * NS_PER_S,
        .queue = 64,
        .isolation = world.is_in_process ? ISOLATION_PROCESS : ISOLATION_THREAD,
        .process = {.memory = 512 << 20, .cpu_ns = NS_PER_S},
        .config = (char *)(uintptr_t) "{}",
    };
    struct config config = {.server = {.handler_threads = 3, .handler_loss = 64 << 20},
                            .handlers = &handler,
                            .handler_count = 1,
                            .folder = NULL};
    struct one others[INNOCENTS], bad;
    pthread_t noise[NOISES];
    char *why = NULL;
    bool is_good = true;
    int64_t begun_ns, until_ns;
    uint64_t told, dirty, slack;
    long before_kib;

    signal(SIGPIPE, SIG_IGN);
    if (handlers_prepare(&world.handlers,
                         &(struct handlers_options){.config = &config, .loops = 1, .cells_fd = -1},
                         &why) ||
        handlers_start(world.handlers, &why)) {
        printf("# %s\n", why);
        return false;
    }
    loop_open(&world.loop, 0);
    world.desk = handler_desk_open(world.handlers, &world.loop);
    for (unsigned i = 0; i < NOISES; i++)
        thread_start(&noise[i], make_noise, NULL);
    for (unsigned i = 0; i < INNOCENTS; i++)
        send_one(&others[i], NULL);
    loop_turn(&world.loop);
    begun_ns = clock_now_ns();
    before_kib = resident_kib();
    while (world.faults < faults && clock_now_ns() - begun_ns < (CHILD_S - 20) * NS_PER_S) {
        if (!world.is_fault_out) {
            world.is_fault_out = true;
            send_one(&bad, world.kind->name);
        }
        spin(&world.loop, NULL);
        if (world.faults == faults / 2)
            before_kib = resident_kib();
    }
    CHECK(world.faults == faults);
    CHECK(world.outcomes[world.kind->outcome] == faults || world.kind->verdict == EITHER ||
          (world.is_in_process && strcmp(world.kind->name, "vanish") == 0 &&
           world.outcomes[CALL_FAULT] == faults)); /* its only thread: that is seen at once */
    /* The last one's worker may still be on its way out. */
    until_ns = clock_now_ns() + 5 * NS_PER_S;
    while (clock_now_ns() < until_ns && world.kind->verdict != NO_FAULT &&
           (sum_of_faults(&world.handlers->list[0]) < faults ||
            (!world.is_in_process && atomic_load(&world.handlers->replaced) < faults)) &&
           world.kind->verdict != EITHER)
        spin(&world.loop, NULL);
    world.is_ending = true;
    until_ns = clock_now_ns() + 5 * NS_PER_S;
    while (world.out > 0 && clock_now_ns() < until_ns)
        spin(&world.loop, NULL);
    CHECK(world.out == 0);
    CHECK(world.others >= faults);
    CHECK(world.wrong == 0);
    /* Where time is what is tested, a busy machine has some calls fail with the bad one, or end
     * before they have begun. */
    slack = world.kind->outcome == CALL_HANG ? faults / 5 + world.late : 0;
    CHECK(world.late <= world.others / 5 + 20);
    CHECK(atomic_load(&world.damage) == 0);
    told = sum_of_faults(&world.handlers->list[0]);
    dirty = atomic_load(&world.handlers->list[0].dirty_faults);
    if (world.kind->verdict != EITHER)
        CHECK(world.kind->verdict == NO_FAULT ? told == 0
                                              : told + slack >= faults && told <= faults + slack);
    if (world.kind->verdict == CLEAN || world.kind->verdict == NO_FAULT)
        CHECK(dirty == 0);
    if (world.kind->verdict == DIRTY)
        CHECK(world.is_in_process ? dirty == 0
                                  : dirty + slack >= faults && dirty <= faults + slack);
    CHECK(handlers_are_tainted(world.handlers) == (dirty > 0));
    if ((world.kind->verdict == CLEAN || world.kind->verdict == DIRTY) && !world.is_in_process)
        CHECK(atomic_load(&world.handlers->replaced) + slack >= faults);
    printf("# %-20s faults %4u  others %6u  late %u  dirty %4llu  stuck %llu  %+ld KiB\n",
           world.kind->name, world.faults, world.others, world.late, (unsigned long long)dirty,
           (unsigned long long)atomic_load(&world.handlers->abandoned),
           resident_kib() - before_kib);
    fflush(stdout);
    if (dirty > 0)
        _exit(is_good ? 0 : 1); /* as a tainted gateway does */
    atomic_store(&world.is_quiet, true);
    for (unsigned i = 0; i < NOISES; i++)
        pthread_join(noise[i], NULL);
    handler_desk_close(world.desk);
    handlers_close(world.handlers);
    CHECK(finish_loop(&world.loop) == 0);
    return is_good;
}

static bool in_child(const struct kind *kind, const char *plugin, unsigned faults,
                     bool is_in_process) {
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        if (!getenv("VERBOSE"))
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        alarm(CHILD_S);
        world.kind = kind;
        world.is_in_process = is_in_process;
        if (kind->most && kind->most < faults && !is_in_process)
            faults = kind->most;
        status = run_kind(plugin, faults) ? 0 : 1;
        fflush(stdout);
        _exit(status);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        printf("# %s: ended by SIG%s\n", kind->name, sigabbrev_np(WTERMSIG(status)));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
    unsigned faults = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20, number = 0;
    bool are_good = true;

    if (HANDLER_HAS_SANITIZER) {
        printf("1..0 # SKIP sanitizers and faults exclude each other\n");
        return 0;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bool is_good;

        if (argc > 2 && strcmp(argv[2], kinds[i].name) != 0)
            continue;
        if (argc <= 3 || strcmp(argv[3], "thread") == 0) {
            is_good = in_child(&kinds[i], PLUGINS "/fault.so", faults, false) &&
                      (i > 3 || in_child(&kinds[i], PLUGINS "/fault_statics.so", faults, false));
            printf("%sok %u - %s\n", is_good ? "" : "not ", ++number, kinds[i].name);
            are_good &= is_good;
        }
        if (argc <= 3 || strcmp(argv[3], "process") == 0) {
            is_good = in_child(&kinds[i], PLUGINS "/fault.so", faults, true);
            printf("%sok %u - %s, in a process\n", is_good ? "" : "not ", ++number, kinds[i].name);
            are_good &= is_good;
        }
    }
    printf("1..%u\n", number);
    return are_good ? 0 : 1;
}
