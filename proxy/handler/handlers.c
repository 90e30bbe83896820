/* Handlers: loading the plugins, trying each of them once, starting and ending the threads. */
#include "handler/handlers.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "handler/classify.h"
#include "handler/handlers_state.h"
#include "handler/heap.h"
#include "handler/host.h"
#include "handler/interpose.h"
#include "handler/modules.h"
#include "handler/process.h"
#include "handler/trap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define WHY_BYTES 512
#define EVENTS_BYTES (PLUGIN_EVENTS_MAX * sizeof(uint64_t))
#define HANDLERS_END_NS (100 * NS_PER_MS) /* for calls under way at the end */
#define LINES_PER_S 10                    /* of host->log() of a handler */

static int open_desk_fds(struct handlers *handlers, unsigned loops);
static int load(struct handlers *handlers, char **why);
static int open_slots(struct handlers *handlers, char **why);
static int give_images(struct handlers *handlers, size_t at, char **why);
static int try_each(struct handlers *handlers, bool is_substitute, char **why);
static void handler_init(struct handlers *handlers, size_t at);
static void release(struct handlers *handlers);

int handlers_prepare(struct handlers **out, const struct handlers_options *options, char **why) {
    const struct config *config = options->config;
    struct handlers *handlers = xcalloc(1, sizeof *handlers);
    pthread_condattr_t monotonic;
    int err = 0;

    handlers->config = config;
    handlers->on_taint = options->on_taint;
    handlers->taint_ctx = options->ctx;
    handlers->worker_count = config->handler_count > 0 ? config->server.handler_threads : 0;
    pthread_mutex_init(&handlers->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&handlers->watch, &monotonic);
    pthread_cond_init(&handlers->over, NULL);
    pthread_condattr_destroy(&monotonic);
    if (config->handler_count > 0) {
        err = cells_open(&handlers->cells, options->cells_fd);
        if (err == -EPROTO) { /* the supervisor is of another version: our own, till it is not */
            log_warn("tables of handlers begin anew: they were another version's");
            err = cells_open(&handlers->cells, -1);
        }
        if (err)
            *why = xasprintf("cannot map memory for tables of handlers: %s", strerror(-err));
        if (!err) {
            err = watched_open(&handlers->files, config->folder ? config->folder : ".");
            if (err)
                *why = xasprintf("cannot map memory for files of handlers: %s", strerror(-err));
        }
        if (!err) {
            err = open_desk_fds(handlers, options->loops);
            if (err)
                *why = xasprintf("cannot make wake-ups for handlers: %s", strerror(-err));
        }
        if (!err)
            err = load(handlers, why);
        if (!err)
            err = open_slots(handlers, why);
        if (!err)
            err = try_each(handlers, options->is_substitute, why);
        if (!err) {
            err = processes_open(handlers);
            if (err)
                *why = xasprintf("cannot start a process for handlers: %s", strerror(-err));
        }
    }
    if (err) {
        release(handlers);
        return err;
    }
    *out = handlers;
    return 0;
}

int handlers_start(struct handlers *handlers, char **why) {
    int err = 0;

    if (handlers->count == 0)
        return 0;
    for (unsigned i = 0; !err && i < handlers->worker_count; i++)
        err = slot_start(&handlers->slots[i]);
    if (!err)
        err = watched_start(handlers->files);
    if (!err)
        err = thread_start(&handlers->watchdog, watchdog_run, handlers);
    if (err)
        *why = xasprintf("cannot start threads for handlers: %s", strerror(-err));
    return err;
}

void handlers_close(struct handlers *handlers) {
    unsigned left;

    if (!handlers)
        return;
    atomic_store(&handlers->end_ns, clock_now_ns() + HANDLERS_END_NS);
    pthread_mutex_lock(&handlers->lock);
    handlers->is_ending = true;
    deal_end(handlers);
    do {
        left = 0;
        for (unsigned i = 0; i < handlers->slot_count; i++) {
            int state = atomic_load(&handlers->slots[i].state);

            left += state == SLOT_RUNNING || state == SLOT_RETIRED;
        }
        if (left > 0)
            pthread_cond_wait(&handlers->over, &handlers->lock);
    } while (left > 0);
    handlers->is_watch_ending = true;
    pthread_cond_signal(&handlers->watch);
    pthread_mutex_unlock(&handlers->lock);
    if (handlers->watchdog)
        pthread_join(handlers->watchdog, NULL);
    if (atomic_load(&handlers->abandoned) > 0)
        return; /* they still run somewhere in it */
    for (unsigned i = 0; i < handlers->slot_count; i++)
        if (atomic_load(&handlers->slots[i].state) == SLOT_OVER)
            pthread_join(handlers->slots[i].thread, NULL);
    release(handlers);
}

unsigned handlers_flags(const struct handlers *handlers, size_t handler) {
    return handlers->list[handler].functions->flags;
}

bool handlers_has_phase(const struct handlers *handlers, size_t handler, enum call_phase phase) {
    const struct weir_plugin *functions = handlers->list[handler].functions;

    return phase == CALL_REQUEST ? functions->request != NULL : functions->response != NULL;
}

bool handlers_are_tainted(const struct handlers *handlers) {
    return handlers && atomic_load(&handlers->is_tainted);
}

static int open_desk_fds(struct handlers *handlers, unsigned loops) {
    handlers->desk_fds = xcalloc(loops, sizeof *handlers->desk_fds);
    for (unsigned i = 0; i < loops; i++)
        handlers->desk_fds[i] = (struct desk_fds){-1, -1};
    for (; handlers->desk_max < loops; handlers->desk_max++) {
        struct desk_fds *fds = &handlers->desk_fds[handlers->desk_max];

        fds->by_threads = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fds->by_processes = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fds->by_threads < 0 || fds->by_processes < 0)
            return -errno;
    }
    return 0;
}

static int load(struct handlers *handlers, char **why) {
    const struct config *config = handlers->config;
    int err;

    interpose_open();
    modules_note_process();
    handlers->list = xcalloc(config->handler_count, sizeof *handlers->list);
    for (size_t i = 0; i < config->handler_count; i++) {
        struct plugin *plugin;

        err = plugin_open(&plugin, config->handlers[i].plugin, why);
        if (err) {
            char *what = *why;

            *why = xasprintf("handler '%s': %s", config->handlers[i].name, what);
            free(what);
            return err;
        }
        handlers->list[i].plugin = plugin;
        handler_init(handlers, i);
        if (config->handlers[i].on_quarantine == QUARANTINE_BYPASS &&
            !(handlers_flags(handlers, i) & WEIR_SKIPPABLE)) {
            *why = xasprintf("handler '%s': on_quarantine = \"bypass\" is not for plugin '%s', "
                             "which requests must not pass without: use \"refuse\"",
                             config->handlers[i].name, config->handlers[i].plugin);
            return -EINVAL;
        }
    }
    return 0;
}

static void handler_init(struct handlers *handlers, size_t at) {
    struct handler *handler = &handlers->list[at];

    handler->config = &handlers->config->handlers[at];
    handler->functions = plugin_functions(handler->plugin);
    handler->lines = (struct log_limit)LOG_LIMIT(LINES_PER_S);
    handler->faults_logged = (struct log_limit)LOG_LIMIT(FAULTS_LOGGED_PER_S);
    handler->events =
        mmap(NULL, EVENTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(handler->events != MAP_FAILED);
    handler->guest = (struct guest_handler){
        .name = handler->config->name,
        .events = handler->events,
        .event_count = handler->plugin->event_count,
        .lines = &handler->lines,
        .cells = handlers->cells,
        .watched = handlers->files,
    };
    quarantine_init(&handler->quarantine, handler->config);
    list_init(&handler->queued);
    atomic_init(&handler->is_demoted, handler->config->isolation == ISOLATION_THREAD &&
                                          process_is_demoted(handlers, handler));
    atomic_init(&handler->is_in_process,
                handler->config->isolation == ISOLATION_PROCESS || handler->is_demoted);
    handlers->count++;
}

static int open_slots(struct handlers *handlers, char **why) {
    int err;

    handlers->slot_count = handlers->worker_count + WORKER_ABANDONED_MAX;
    handlers->slots = xcalloc(handlers->slot_count, sizeof *handlers->slots);
    err = heaps_reserve(handlers->slot_count * (unsigned)handlers->count);
    for (unsigned i = 0; !err && i < handlers->slot_count; i++)
        err = slot_open(&handlers->slots[i], handlers, i);
    if (err) {
        *why = xasprintf("cannot reserve addresses for %u threads of handlers: %s",
                         handlers->slot_count, strerror(-err));
        return err;
    }
    for (size_t i = 0; !err && i < handlers->count; i++)
        err = give_images(handlers, i, why);
    modules_note_guests();
    return err;
}

/* Plugins with static data: an image for each worker, and one for who takes the place of a worker
 * that is given up, because then it is too late to load another. */
static int give_images(struct handlers *handlers, size_t at, char **why) {
    struct handler *handler = &handlers->list[at];
    struct plugin_image *image = handler->plugin->images;

    for (unsigned i = 0; i < handlers->slot_count; i++) {
        if (i > 0 && (handler->functions->flags & WEIR_HAS_STATICS))
            image = i <= handlers->worker_count ? plugin_add_image(handler->plugin, why) : NULL;
        if (!image && i <= handlers->worker_count)
            return -ENOEXEC;
        handlers->slots[i].instances[at].image = image;
    }
    return 0;
}

/* One instance of each, here and now. */
static int try_each(struct handlers *handlers, bool is_substitute, char **why) {
    struct guest guest = {.stack_high = UINTPTR_MAX}, *before = guest_current;
    char said[WHY_BYTES];
    int err = 0;

    traps_open();
    if (!HANDLER_HAS_SANITIZER)
        classify_learn();
    guest_current = &guest;
    for (size_t i = 0; !err && i < handlers->count; i++) {
        struct handler *handler = &handlers->list[i];
        struct handler_instance *instance = &handlers->slots[0].instances[i];

        if (!instance_start(&guest, handler, instance, said, sizeof said)) {
            if (is_substitute && guest.fault.kind == FAULT_NONE) {
                log_error(
                    "handler '%s' fails until that is mended: its plugin refuses its config: %s",
                    handler->config->name, said[0] ? said : "no reason given");
                heap_drop(instance->heap);
                continue;
            }
            err = -EINVAL;
            *why = guest.fault.kind != FAULT_NONE
                       ? xasprintf("handler '%s': plugin '%s' failed in init (%s)",
                                   handler->config->name, handler->config->plugin,
                                   fault_kind_name(guest.fault.kind))
                       : xasprintf("handler '%s': its plugin refuses its config: %s",
                                   handler->config->name, said[0] ? said : "no reason given");
            if (guest.fault.kind != FAULT_NONE)
                fault_report(handler, &guest.fault, SLICE_NONE);
        } else if (!instance_end(&guest, handler, instance)) {
            err = -EINVAL;
            *why = xasprintf("handler '%s': plugin '%s' failed in end (%s)", handler->config->name,
                             handler->config->plugin, fault_kind_name(guest.fault.kind));
        }
        if (handler->functions->flags & WEIR_HAS_STATICS)
            plugin_image_reset(instance->image);
    }
    guest_current = before;
    return err;
}

/* Nothing of it runs. */
static void release(struct handlers *handlers) {
    processes_close(handlers);
    traps_close();
    for (unsigned i = 0; i < handlers->slot_count; i++)
        slot_close(&handlers->slots[i]);
    free(handlers->slots);
    heaps_release();
    watched_close(handlers->files);
    for (size_t i = 0; i < handlers->count; i++) {
        calls_drop(&handlers->list[i]);
        quarantine_deinit(&handlers->list[i].quarantine);
        plugin_close(handlers->list[i].plugin);
        if (handlers->list[i].events)
            munmap(handlers->list[i].events, EVENTS_BYTES);
    }
    free(handlers->list);
    cells_close(handlers->cells);
    for (unsigned i = 0; i < handlers->desk_count; i++) {
        pthread_mutex_destroy(&handlers->desks[i]->lock);
        free(handlers->desks[i]);
    }
    free(handlers->desks);
    for (unsigned i = 0; i < handlers->desk_max; i++) {
        close(handlers->desk_fds[i].by_threads);
        close(handlers->desk_fds[i].by_processes);
    }
    free(handlers->desk_fds);
    pthread_cond_destroy(&handlers->watch);
    pthread_cond_destroy(&handlers->over);
    pthread_mutex_destroy(&handlers->lock);
    free(handlers);
}
