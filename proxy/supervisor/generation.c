#include "supervisor/generation.h"

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/process.h"
#include "supervisor/totals.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static int hand_over(const struct generation *generation, const struct generation_options *options);
static int make_programs(struct generation *generation, const struct run_plan *plan);
static int send_sockets(int control, const char *text, const struct kept *kept, unsigned least);

int generation_start(struct generation *generation, const struct generation_options *options) {
    const struct edition *edition = options->edition;
    char *const argv[] = {(char *)"weir", (char *)"gateway", (char *)edition->name, NULL};
    struct process_options process = {options->binary, argv, -1, -1, -1, -1};
    struct generation made = {
        .state = GENERATION_STARTING,
        .number = options->number,
        .slot = options->slot,
        .memory_fd = -1,
        .programs_fd = -1,
        .segment_bytes = (size_t)edition->plan.segment_bytes,
        .loops = (unsigned)edition->plan.threads,
        .since_ns = clock_now_ns(),
    };
    size_t board_at = (made.segment_bytes + PAGE - 1) / PAGE * PAGE;
    int ends[2], err;

    made.memory_bytes = board_at + sizeof *made.board;
    err = totals_memory("weir-counters", made.memory_bytes, &made.memory_fd, &made.memory);
    if (err)
        return err;
    made.board = (void *)((char *)made.memory + board_at);
    err = control_pair(ends);
    if (err)
        goto fail;
    made.control = ends[0];
    process.control = ends[1];
    made.pid = process_start(&process);
    close(ends[1]);
    err = made.pid < 0 ? made.pid : make_programs(&made, &edition->plan);
    if (!err)
        err = hand_over(&made, options);
    if (err) {
        close(made.control);
        if (made.pid > 0)
            kill(made.pid, SIGKILL); /* reaped as a stranger */
        goto fail;
    }
    *generation = made;
    return 0;
fail:
    munmap(made.memory, made.memory_bytes);
    close(made.memory_fd);
    if (made.programs_fd >= 0)
        close(made.programs_fd);
    return err;
}

bool generation_map(struct generation *generation) {
    void *memory = mmap(NULL, generation->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        generation->memory_fd, 0);

    if (memory == MAP_FAILED)
        return false;
    generation->memory = memory;
    generation->board =
        (void *)((char *)memory + generation->memory_bytes - sizeof *generation->board);
    return true;
}

void generation_tell(struct generation *generation, const char *format, ...) {
    char text[128];
    va_list args;
    int err;

    if (generation->control < 0)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err = control_send(generation->control, text, NULL, 0);
    if (err && err != -EPIPE)
        log_warn("cannot tell gateway %d '%s': %s", (int)generation->pid, text, strerror(-err));
}

int generation_give_nursery(struct generation *generation, struct nursery_link *nursery) {
    int channel, err;

    if (generation->programs_fd < 0 || generation->control < 0)
        return 0;
    err = nursery_link_channel(nursery, generation->number, generation->programs_fd, &channel);
    if (err)
        return err;
    err =
        control_send(generation->control, "nursery", (const int[]){channel, nursery->board_fd}, 2);
    close(channel);
    return err;
}

void generation_kill(struct generation *generation, const char *why) {
    log_warn("killing gateway %d: %s", (int)generation->pid, why);
    kill(generation->pid, SIGKILL);
    generation->end_by_ns = 0;
}

void generation_free(struct generation *generation) {
    if (generation->control >= 0)
        close(generation->control);
    munmap(generation->memory, generation->memory_bytes);
    close(generation->memory_fd);
    if (generation->programs_fd >= 0)
        close(generation->programs_fd);
    *generation = (struct generation){0};
}

void edition_deinit(struct edition *edition) {
    if (edition->text_fd >= 0)
        close(edition->text_fd);
    edition->text_fd = -1;
}

/* In memory, for nurseries that are to come too. */
static int make_programs(struct generation *generation, const struct run_plan *plan) {
    size_t len = strlen(plan->programs);
    void *memory = NULL;
    int err;

    if (len == 0)
        return 0;
    err = totals_memory("weir-programs", len, &generation->programs_fd, &memory);
    if (err)
        return err;
    memcpy(memory, plan->programs, len);
    munmap(memory, len);
    return 0;
}

/* All that it needs, before it asks: it fits the socket's buffer, or the start has failed. */
static int hand_over(const struct generation *generation,
                     const struct generation_options *options) {
    const struct run_plan *plan = &options->edition->plan;
    int control = generation->control;
    char text[CONTROL_TEXT_MAX];
    int err;

    snprintf(text, sizeof text, "config %s", options->edition->name);
    err = control_send(control, text, &options->edition->text_fd, 1);
    snprintf(text, sizeof text, "threads %u", generation->loops);
    if (!err)
        err = control_send(control, text, NULL, 0);
    if (!err && options->is_substitute)
        err = control_send(control, "substitute", NULL, 0);
    snprintf(text, sizeof text, "memory %zu", generation->segment_bytes);
    if (!err)
        err = control_send(control, text, &generation->memory_fd, 1);
    snprintf(text, sizeof text, "shares %u", generation->slot);
    if (!err)
        err = control_send(control, text, &options->shares_fd, 1);
    if (!err && options->cells_fd >= 0)
        err = control_send(control, "cells", &options->cells_fd, 1);
    if (!err && generation_give_nursery((struct generation *)generation, options->nursery) != 0)
        log_error("gateway %d has no way to the nursery: requests that need a program are refused",
                  (int)generation->pid);
    for (unsigned i = 0; !err && i < plan->listener_count; i++) {
        snprintf(text, sizeof text, "listener %u", i);
        err = send_sockets(control, text, kept_find(options->kept, plan->listeners[i].address),
                           generation->loops);
    }
    if (!err && plan->admin[0])
        err = send_sockets(control, "admin", kept_find(options->kept, plan->admin), 1);
    return err ? err : control_send(control, "start", NULL, 0);
}

/* One that all loops share is sent to each. */
static int send_sockets(int control, const char *text, const struct kept *kept, unsigned least) {
    int fds[CONTROL_FDS_MAX];
    unsigned count = 0;

    if (!kept)
        return -ENOENT;
    do
        fds[count] = kept->fds[count % kept->count];
    while (++count < (least > kept->count ? least : kept->count));
    return control_send(control, text, fds, count);
}
