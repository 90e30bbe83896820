/* Programs that stay: started, asked whether they are ready, started again when they die, replaced
 * one instance after the other when their definition changes.
 *
 *              | started it       | ready      | its tree is gone              | to be replaced
 *   IDLE       | STARTING         | -          | -                             | -
 *   STARTING   | -                | READY      | IDLE, a death                 | STOPPING
 *   READY      | -                | -          | IDLE, a death                 | STOPPING, if
 * others are ready STOPPING   | -                | -          | IDLE; a death if it has failed | -
 */
#include "base/alloc.h"
#include "base/control.h"
#include "child/nursery_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_LOOK_NS (10 * NS_PER_MS) /* between two looks at who is starting */
#define SIZE_LOOK_NS (1 * NS_PER_S)    /* between two looks at how large they are */
#define RETRY_NS NS_PER_S              /* behind a start that the nursery itself could not make */

static struct resident *find_resident(struct nursery *nursery, const char *name);
static struct resident *make_resident(struct nursery *nursery, const char *name);
static void want(struct nursery *nursery, struct resident *resident, struct program_set *set,
                 const struct program *program);
static void look_at(struct nursery *nursery, struct resident *resident, int64_t now_ns);
static void look_at_instance(struct nursery *nursery, struct instance *instance, int64_t now_ns,
                             bool may_replace);
static bool is_current(const struct instance *instance);
static bool may_replace(const struct resident *resident);
static void start(struct nursery *nursery, struct instance *instance, int64_t now_ns);
static void ask(struct instance *instance, int64_t now_ns);
static void stop(struct instance *instance, bool has_failed, int64_t now_ns);
static void enter(struct instance *instance, enum instance_state state, int64_t now_ns);
static void note_death(struct instance *instance, const struct minder_report *report,
                       int64_t now_ns);
static void describe(char *to, size_t max, const struct minder_report *report);
static void look_at_size(struct instance *instance);
static void drop_if_over(struct nursery *nursery, struct resident *resident);

void residents_serve(struct nursery *nursery, struct program_set *set) {
    struct list *at, *next;

    for (at = nursery->residents.next; at != &nursery->residents; at = next) {
        struct resident *resident = CONTAINER_OF(at, struct resident, link);
        const struct program *program =
            programs_find_name(set ? set->programs : NULL, resident->name);

        next = at->next;
        if (!program || program->is_exec)
            want(nursery, resident, NULL, NULL);
    }
    for (size_t i = 0; set && set->programs && i < set->programs->count; i++) {
        const struct program *program = &set->programs->list[i];
        struct resident *resident;

        if (program->is_exec)
            continue;
        resident = find_resident(nursery, program->name);
        if (!resident)
            resident = make_resident(nursery, program->name);
        if (resident)
            want(nursery, resident, set, program);
    }
    residents_look(nursery, clock_now_ns());
}

void residents_look(struct nursery *nursery, int64_t now_ns) {
    struct list *at, *next;
    bool is_size_due = now_ns - nursery->looked_ns >= SIZE_LOOK_NS;

    if (is_size_due)
        nursery->looked_ns = now_ns;
    for (at = nursery->residents.next; at != &nursery->residents; at = next) {
        struct resident *resident = CONTAINER_OF(at, struct resident, link);

        next = at->next;
        look_at(nursery, resident, now_ns);
        for (unsigned i = 0; is_size_due && i < CONFIG_INSTANCES_MAX; i++)
            look_at_size(&resident->instances[i]);
        drop_if_over(nursery, resident);
    }
}

int64_t residents_next_ns(const struct nursery *nursery, int64_t next_ns) {
    int64_t look_ns = clock_now_ns() + READY_LOOK_NS;

    for (const struct list *at = nursery->residents.next; at != &nursery->residents;
         at = at->next) {
        const struct resident *resident = CONTAINER_OF(at, struct resident, link);

        for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++) {
            const struct instance *instance = &resident->instances[i];

            if (instance->state == INSTANCE_STARTING && look_ns < next_ns)
                next_ns = look_ns;
            if (instance->state == INSTANCE_IDLE && resident->program &&
                i < resident->program->process->instances && instance->start_at_ns < next_ns)
                next_ns = instance->start_at_ns;
        }
    }
    return next_ns;
}

void residents_history(struct nursery *nursery, const char *name, const char *text) {
    struct resident *resident = find_resident(nursery, name);
    struct board_row *row;
    struct respawn respawn;

    if (resident) /* what is known is newer */
        return;
    row = nursery_row(nursery, name);
    if (!row || atomic_load(&row->death_count) > 0 || !respawn_read(&respawn, text, clock_now_ns()))
        return;
    board_show_respawn(row, &respawn); /* from there it is taken up */
    if (respawn.count > 0)
        log_info("'%s' has died %u times before this start", name, respawn.count);
}

void residents_reset(struct nursery *nursery, const char *name) {
    for (struct list *at = nursery->residents.next; at != &nursery->residents; at = at->next) {
        struct resident *resident = CONTAINER_OF(at, struct resident, link);

        if (name && strcmp(resident->name, name) != 0)
            continue;
        log_info("the crash history of '%s' was cleared: asked for by the admin plane",
                 resident->name);
        respawn_clear(&resident->respawn);
        board_show_respawn(resident->row, &resident->respawn);
        for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
            resident->instances[i].start_at_ns = 0;
    }
}

void instance_started(struct instance *instance) {
    struct resident *resident = instance->resident;

    log_info("'%s' was started: instance %u, process %d", resident->name, instance->index,
             (int)instance->child->pid);
    atomic_store(&resident->row->list[instance->index].pid, instance->child->pid);
}

void instance_gone(struct nursery *nursery, struct instance *instance,
                   const struct minder_report *report) {
    struct resident *resident = instance->resident;
    int64_t now_ns = clock_now_ns();

    if (instance->state != INSTANCE_STOPPING || instance->has_failed)
        note_death(instance, report, now_ns);
    else
        log_info("'%s' has ended: instance %u", resident->name, instance->index);
    ready_stop(&instance->ready);
    instance->child = NULL;
    atomic_store(&resident->row->list[instance->index].pid, 0);
    atomic_store(&resident->row->list[instance->index].resident_bytes, 0);
    enter(instance, INSTANCE_IDLE, now_ns);
}

void residents_free(struct nursery *nursery) {
    struct list *at, *next;

    for (at = nursery->residents.next; at != &nursery->residents; at = next) {
        struct resident *resident = CONTAINER_OF(at, struct resident, link);

        next = at->next;
        program_set_unref(resident->set);
        free(resident->name);
        free(resident);
    }
}

static struct resident *find_resident(struct nursery *nursery, const char *name) {
    for (struct list *at = nursery->residents.next; at != &nursery->residents; at = at->next)
        if (strcmp(CONTAINER_OF(at, struct resident, link)->name, name) == 0)
            return CONTAINER_OF(at, struct resident, link);
    return NULL;
}

static struct resident *make_resident(struct nursery *nursery, const char *name) {
    struct board_row *row = nursery_row(nursery, name);
    struct resident *resident;

    if (!row) {
        log_error("'%s' is not started: there is no room on the nursery's board", name);
        return NULL;
    }
    resident = xcalloc(1, sizeof *resident);
    resident->name = xstrdup(name);
    resident->row = row;
    resident->limit = (struct log_limit)LOG_LIMIT(OUTPUT_LINES_PER_S);
    board_read_respawn(row, &resident->respawn);
    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
        resident->instances[i] =
            (struct instance){.resident = resident, .index = i, .ready.fd = -1};
    list_push_back(&nursery->residents, &resident->link);
    return resident;
}

static void want(struct nursery *nursery, struct resident *resident, struct program_set *set,
                 const struct program *program) {
    struct program_set *old = resident->set;
    bool is_changed =
        program && resident->program && strcmp(program->text, resident->program->text) != 0;

    if (is_changed)
        log_info("'%s' is defined otherwise now: its instances are replaced", resident->name);
    resident->set = set ? program_set_ref(set) : NULL;
    resident->program = program;
    program_set_unref(old);
    atomic_store(&resident->row->is_wanted, program != NULL);
    if (program)
        atomic_store(&resident->row->instances, program->process->instances);
    for (unsigned i = 0; is_changed && i < CONFIG_INSTANCES_MAX; i++)
        resident->instances[i].start_at_ns = 0; /* it may be mended; a hold stays */
}

static void look_at(struct nursery *nursery, struct resident *resident, int64_t now_ns) {
    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
        look_at_instance(nursery, &resident->instances[i], now_ns, may_replace(resident));
}

static void look_at_instance(struct nursery *nursery, struct instance *instance, int64_t now_ns,
                             bool may) {
    struct resident *resident = instance->resident;
    const struct program *program = resident->program;
    bool is_wanted = program && instance->index < program->process->instances;

    switch (instance->state) {
    case INSTANCE_IDLE:
        if (is_wanted && now_ns >= instance->start_at_ns &&
            respawn_may_start(&resident->respawn, now_ns))
            start(nursery, instance, now_ns);
        break;
    case INSTANCE_STARTING:
        if (!is_current(instance))
            stop(instance, false, now_ns);
        else
            ask(instance, now_ns);
        break;
    case INSTANCE_READY:
        if (!is_wanted || (!is_current(instance) && may)) {
            stop(instance, false, now_ns);
        } else if (program && resident->respawn.count > 0 &&
                   now_ns - instance->since_ns >= program->process->crash.window_ns &&
                   now_ns - resident->respawn.at_ns[resident->respawn.count - 1] >=
                       program->process->crash.window_ns) {
            respawn_clear(&resident->respawn);
            board_show_respawn(resident->row, &resident->respawn);
        }
        break;
    case INSTANCE_STOPPING:
        break;
    }
}

/* Does it run what is wanted? */
static bool is_current(const struct instance *instance) {
    const struct program *program = instance->resident->program;

    return program && instance->index < program->process->instances &&
           strcmp(program->text, instance->child->program->text) == 0;
}

/* One at a time: only while none is on its way. */
static bool may_replace(const struct resident *resident) {
    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++) {
        enum instance_state state = resident->instances[i].state;

        if (state == INSTANCE_STARTING || state == INSTANCE_STOPPING)
            return false;
        if (state == INSTANCE_IDLE && resident->program &&
            i < resident->program->process->instances && resident->respawn.state != RESPAWN_HELD)
            return false;
    }
    return true;
}

static void start(struct nursery *nursery, struct instance *instance, int64_t now_ns) {
    struct resident *resident = instance->resident;
    const struct config_process *process = resident->program->process;
    const struct config_address *address = &resident->program->addresses[instance->index];
    bool is_unix = address->kind == ADDRESS_UNIX;
    const char *text = is_unix ? address->text + strlen("unix:") : address->text;
    const char *colon = strrchr(text, ':');
    struct child *child;
    int counts[2] = {-1, -1};
    char env[1024];
    int len, err;

    len = snprintf(env, sizeof env, "WEIR_PIPELINE=%s%cWEIR_INSTANCE=%u%cWEIR_LISTEN=%s%c",
                   resident->name, 0, instance->index, 0, address->text, 0);
    if (is_unix)
        len += snprintf(env + len, sizeof env - (size_t)len, "WEIR_SOCKET=%s%c", text, 0);
    else if (colon)
        len += snprintf(env + len, sizeof env - (size_t)len, "WEIR_HOST=%.*s%cWEIR_PORT=%s%c",
                        (int)(colon - text), text, 0, colon + 1, 0);
    if (is_unix)
        unlink(text); /* what an instance that was killed has left: nobody can bind there else */
    if (process->is_mcp && control_pair(counts) < 0)
        log_error("what the bridge of '%s' counts will not be known", resident->name);
    err = child_start(nursery, &child,
                      &(struct child_options){.set = resident->set,
                                              .program = resident->program,
                                              .row = resident->row,
                                              .limit = &resident->limit,
                                              .env = env,
                                              .env_bytes = (size_t)len,
                                              .in = counts[1],
                                              .out = -1});
    if (counts[1] >= 0)
        close(counts[1]);
    if (err) {
        if (counts[0] >= 0)
            close(counts[0]);
        log_error("cannot start '%s': %s", resident->name, strerror(-err));
        atomic_fetch_add(&resident->row->failed_starts, 1);
        instance->start_at_ns = now_ns + RETRY_NS;
        return;
    }
    if (counts[0] >= 0)
        child_watch_counts(nursery, child, counts[0]);
    child->instance = instance;
    child->output.wanted = process->ready.line;
    instance->child = child;
    instance->has_failed = false;
    ready_stop(&instance->ready);
    ready_init(&instance->ready, process, address, now_ns);
    enter(instance, INSTANCE_STARTING, now_ns);
}

/* Its process is there already when its minder says so. */
static void ask(struct instance *instance, int64_t now_ns) {
    const struct config_process *process = instance->child->program->process;
    bool is_ready = false;

    /* What is asked for may be gone with the definition that it was started with. */
    instance->ready.process = process;
    instance->ready.address = &instance->child->program->addresses[instance->index];
    if (instance->child->pid > 0) {
        switch (process->ready.check) {
        case READY_TCP:
        case READY_HTTP:
        case READY_GRPC:
            is_ready = ready_look(&instance->ready, now_ns);
            break;
        case READY_LINE:
            is_ready = instance->child->output.is_found;
            break;
        case READY_NONE:
            is_ready = true;
            break;
        }
    }
    if (is_ready) {
        log_info("'%s' is ready: instance %u, after %.2f s", instance->resident->name,
                 instance->index, (double)(now_ns - instance->since_ns) / 1e9);
        enter(instance, INSTANCE_READY, now_ns);
    } else if (now_ns - instance->since_ns >= process->ready.timeout_ns) {
        log_error("'%s' was not ready in time: instance %u is ended", instance->resident->name,
                  instance->index);
        stop(instance, true, now_ns);
    }
}

static void stop(struct instance *instance, bool has_failed, int64_t now_ns) {
    ready_stop(&instance->ready);
    instance->has_failed = has_failed;
    enter(instance, INSTANCE_STOPPING, now_ns);
    child_end(instance->child);
}

static void enter(struct instance *instance, enum instance_state state, int64_t now_ns) {
    struct board_instance *shown = &instance->resident->row->list[instance->index];

    instance->state = state;
    instance->since_ns = now_ns;
    atomic_store(&shown->since_ns, now_ns);
    atomic_store(&shown->state, (int32_t)state);
}

static void note_death(struct instance *instance, const struct minder_report *report,
                       int64_t now_ns) {
    struct resident *resident = instance->resident;
    const struct config_process *process = instance->child->program->process;
    struct respawn_settings settings = {process->crash.deaths, process->crash.window_ns,
                                        process->crash.hold_ns};
    int64_t lived_ns = instance->state == INSTANCE_READY ? now_ns - instance->since_ns : 0;
    bool is_trip;
    int64_t wait_ns = respawn_died(&resident->respawn, &settings, now_ns, lived_ns, &is_trip);
    char how[128];

    describe(how, sizeof how, report);
    atomic_fetch_add(&resident->row->deaths, 1);
    board_show_respawn(resident->row, &resident->respawn);
    instance->start_at_ns = now_ns + wait_ns;
    if (is_trip)
        log_error("'%s' %s, as %u times lately: it is not started again for %lld s, or until POST "
                  "/reset on the admin plane",
                  resident->name, how, resident->respawn.count,
                  (long long)(settings.hold_ns / NS_PER_S));
    else
        log_error("'%s' %s: instance %u is started again in %.2f s", resident->name, how,
                  instance->index, (double)wait_ns / 1e9);
}

static void describe(char *to, size_t max, const struct minder_report *report) {
    if (report->word == MINDER_FAILED)
        snprintf(to, max, "could not be started");
    else if (report->has_run_out)
        snprintf(to, max, "was killed: it needed more than limits.total_memory");
    else if (WIFSIGNALED(report->status))
        snprintf(to, max, "died by signal %d (%s)", WTERMSIG(report->status),
                 strsignal(WTERMSIG(report->status)));
    else
        snprintf(to, max, "ended with status %d", WEXITSTATUS(report->status));
}

static void look_at_size(struct instance *instance) {
    unsigned long pages = 0;
    char path[32];
    FILE *file;

    if (!instance->child || instance->child->pid <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)instance->child->pid);
    file = fopen(path, "re");
    if (!file)
        return;
    if (fscanf(file, "%*u %lu", &pages) == 1)
        atomic_store(&instance->resident->row->list[instance->index].resident_bytes,
                     (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE));
    fclose(file);
}

/* Its history stays on the board. */
static void drop_if_over(struct nursery *nursery, struct resident *resident) {
    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
        if (resident->program || resident->instances[i].state != INSTANCE_IDLE)
            return;
    list_remove(&resident->link);
    free(resident->name);
    nursery_bury(nursery, resident);
}
