/* The keeper's thread and its sections; see keeper.h. */
#include "state/keeper.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/thread.h"
#include "state/state_file.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FAR_MS (INT64_C(366) * 24 * 3600 * 1000)

struct keeper {
    char *path;    /* owned */
    json_t *found; /* owned; what the file had; NULL: nothing, or it has started */
    struct keeper_section sections[KEEPER_SECTIONS_MAX];
    unsigned section_count;

    /* Home: the keeper's thread. */
    json_t *written; /* owned; NULL: nothing yet */
    int failed;      /* -errno of the last try; 0: it was written */
    int64_t told_ns; /* when that was logged */

    pthread_t thread;
    bool has_started;
    atomic_bool is_released;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t woken;
    bool is_hurried, is_ending;
};

static void *run(void *arg);
static void await_turn(struct keeper *keeper);
static void save(struct keeper *keeper);
static json_t *collect(const struct keeper *keeper);
static void tell(struct keeper *keeper, int err);
static const char *reason(int err);
static void wake(struct keeper *keeper, bool *what);

struct keeper *keeper_open(const char *path) {
    struct keeper *keeper;
    pthread_condattr_t attr;

    if (!path)
        return NULL;
    keeper = xcalloc(1, sizeof *keeper);
    keeper->path = xstrdup(path);
    keeper->found = state_file_read(path);
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->woken, &attr);
    pthread_condattr_destroy(&attr);
    return keeper;
}

void keeper_add(struct keeper *keeper, const struct keeper_section *section) {
    const json_t *saved;
    struct keeper_now now = keeper_now();

    if (!keeper)
        return;
    assert(!keeper->has_started && keeper->section_count < KEEPER_SECTIONS_MAX);
    keeper->sections[keeper->section_count++] = *section;
    saved = json_object_get(keeper->found, section->name);
    if (json_is_object(saved))
        section->take_up(section->ctx, saved, &now);
}

void keeper_start(struct keeper *keeper) {
    int err;

    if (!keeper)
        return;
    json_decref(keeper->found);
    keeper->found = NULL;
    err = thread_start(&keeper->thread, run, keeper);
    keeper->has_started = !err;
    if (err)
        log_error("the state file '%s' is not kept, no thread can be started: %s", keeper->path,
                  strerror(-err));
}

void keeper_hurry(struct keeper *keeper) {
    if (keeper)
        wake(keeper, &keeper->is_hurried);
}

void keeper_release(struct keeper *keeper) {
    if (!keeper)
        return;
    atomic_store(&keeper->is_released, true);
    wake(keeper, &keeper->is_ending);
}

void keeper_close(struct keeper *keeper) {
    if (!keeper)
        return;
    wake(keeper, &keeper->is_ending);
    if (keeper->has_started)
        pthread_join(keeper->thread, NULL);
    pthread_mutex_destroy(&keeper->lock);
    pthread_cond_destroy(&keeper->woken);
    json_decref(keeper->found);
    json_decref(keeper->written);
    free(keeper->path);
    free(keeper);
}

struct keeper_now keeper_now(void) {
    return (struct keeper_now){clock_now_ns(), clock_wall_ns()};
}

json_t *keeper_instant(int64_t at_ns, const struct keeper_now *now) {
    return json_integer((now->wall_ns + (at_ns - now->now_ns)) / NS_PER_MS);
}

bool keeper_ahead(const json_t *instant, const struct keeper_now *now, int64_t *ahead_ns) {
    int64_t wall_ms = now->wall_ns / NS_PER_MS, at_ms = json_integer_value(instant);

    if (!json_is_integer(instant) || at_ms < wall_ms - FAR_MS || at_ms > wall_ms + FAR_MS)
        return false;
    *ahead_ns = (at_ms - wall_ms) * NS_PER_MS;
    return true;
}

static void *run(void *arg) {
    struct keeper *keeper = arg;
    bool is_last;

    pthread_setname_np(pthread_self(), "weir-state");
    pthread_mutex_lock(&keeper->lock);
    do {
        is_last = keeper->is_ending;
        keeper->is_hurried = false;
        pthread_mutex_unlock(&keeper->lock);
        save(keeper);
        pthread_mutex_lock(&keeper->lock);
        if (!is_last)
            await_turn(keeper);
    } while (!is_last);
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void await_turn(struct keeper *keeper) {
    int64_t due_ns = clock_now_ns() + KEEPER_INTERVAL_NS;
    struct timespec until = {due_ns / NS_PER_S, due_ns % NS_PER_S};

    while (!keeper->is_ending && !keeper->is_hurried && clock_now_ns() < due_ns)
        pthread_cond_timedwait(&keeper->woken, &keeper->lock, &until);
}

static void save(struct keeper *keeper) {
    json_t *sections;
    int err;

    if (atomic_load(&keeper->is_released))
        return;
    sections = collect(keeper);
    if (keeper->written && json_equal(keeper->written, sections)) {
        json_decref(sections);
        return;
    }
    err = state_file_write(keeper->path, sections, &keeper->is_released);
    if (err) {
        json_decref(sections);
    } else {
        json_decref(keeper->written);
        keeper->written = sections;
    }
    if (err != -ECANCELED)
        tell(keeper, err);
}

static json_t *collect(const struct keeper *keeper) {
    struct keeper_now now = keeper_now();
    json_t *sections = json_object();

    for (unsigned i = 0; i < keeper->section_count; i++) {
        const struct keeper_section *section = &keeper->sections[i];

        json_object_set_new(sections, section->name, section->save(section->ctx, &now));
    }
    return sections;
}

static void tell(struct keeper *keeper, int err) {
    int64_t now_ns = clock_now_ns();

    if (err && (err != keeper->failed || now_ns - keeper->told_ns >= KEEPER_TOLD_NS)) {
        log_warn("cannot write the state file '%s', trying again (what it is for is lost if weir "
                 "ends before): %s",
                 keeper->path, reason(err));
        keeper->told_ns = now_ns;
    } else if (!err && keeper->failed) {
        log_info("the state file '%s' is written again", keeper->path);
    }
    keeper->failed = err;
}

static const char *reason(int err) {
    switch (err) {
    case -EBUSY:
        return "another process is writing it";
    case -EINVAL:
        return "what is there is no regular file";
    default:
        return strerror(-err);
    }
}

static void wake(struct keeper *keeper, bool *what) {
    pthread_mutex_lock(&keeper->lock);
    *what = true;
    pthread_cond_signal(&keeper->woken);
    pthread_mutex_unlock(&keeper->lock);
}
