/* SIGUSR2: the binary at our path takes our place. It has to accept the configuration that is
 * served first. Then it is executed in this very process, so that gateways stay its children, with
 * every socket and segment still open and a description of them (a memfd, named in the
 * environment). It takes them up, starts a gateway of its own and lets the old one retire, as for a
 * reload.
 *
 * The description is lines behind a plan (run_plan.h), and changes only when the first line of the
 * plan does: a binary whose plan begins otherwise is not executed. */
#include "base/log.h"
#include "config/address.h"
#include "supervisor/state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char variable[] = "WEIR_HANDOVER";

static void describe(const struct supervisor *s, FILE *to);
static void keep_open(const struct supervisor *s, bool is_kept);
static void mark(int fd, bool is_kept);
static char *read_all(int fd);
static bool take_all(struct supervisor *s, char *text);
static bool take_line(struct supervisor *s, const char *line);
static bool take_shares(struct supervisor *s, int fd);
static bool take_kept(struct supervisor *s, const char *line);
static bool take_generation(struct supervisor *s, const char *line);

void supervisor_examine_upgrade(struct supervisor *s) {
    int err;

    if (s->options->text) {
        log_warn("SIGUSR2: only what was started with a file can be replaced");
        return;
    }
    err = examination_start(&s->examination, &(struct examination_options){
                                                 .binary = s->options->binary,
                                                 .name = s->options->name,
                                                 .text_fd = s->current.text_fd,
                                             });
    s->is_upgrade = !err;
    if (!err && s->serving)
        generation_tell(s->serving, "save");
    if (err)
        log_error("cannot try '%s': %s", s->options->binary, strerror(-err));
}

void supervisor_upgrade(struct supervisor *s) {
    char *const argv[] = {(char *)"weir", (char *)"run", (char *)s->options->name, NULL};
    int fd = memfd_create("weir-handover", 0);
    char number[16];
    FILE *to = fd < 0 ? NULL : fdopen(dup(fd), "w");

    if (!to) {
        log_error("cannot hand over to '%s': %s", s->options->binary, strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    describe(s, to);
    fclose(to);
    snprintf(number, sizeof number, "%d", fd);
    setenv(variable, number, 1);
    log_info("handing over to '%s'", s->options->binary);
    keep_open(s, true);
    execv(s->options->binary, argv);
    log_error("cannot execute '%s': %s", s->options->binary, strerror(errno));
    keep_open(s, false);
    unsetenv(variable);
    close(fd);
}

bool supervisor_take_up(struct supervisor *s) {
    const char *number = getenv(variable);
    char *text;
    int fd, err;

    if (!number)
        return false;
    fd = (int)strtol(number, NULL, 10);
    unsetenv(variable);
    text = read_all(fd);
    if (!text || !take_all(s, text)) {
        /* Its gateways end with this process, and whoever looks after it starts it anew. */
        fprintf(stderr, "weir: cannot understand what the binary before has left\n");
        s->is_over = true;
        s->status = 1;
    } else {
        close(fd);
        keep_open(s, false);
        s->has_served = true;
        log_info("took over from the binary before");
        err = examination_start(&s->examination, &(struct examination_options){
                                                     .binary = s->options->binary,
                                                     .name = s->options->name,
                                                     .text_fd = s->current.text_fd,
                                                 });
        if (err)
            log_error("cannot check '%s': %s", s->options->name, strerror(-err));
    }
    free(text);
    return true;
}

static void describe(const struct supervisor *s, FILE *to) {
    run_plan_write(&s->current.plan, to);
    fprintf(to, "text %d\nown %d %zu\nbase %d\n", s->current.text_fd, s->totals.own_fd,
            s->totals.segment_bytes, s->totals.base_fd);
    fprintf(to, "started %u\nshares %d\ncells %d\n", s->started, s->shares_fd, s->cells_fd);
    fprintf(to, "nursery %d %d %d\n", (int)s->nursery.pid, s->nursery.socket, s->nursery.board_fd);
    for (size_t i = 0; i < s->kept.count; i++) {
        const struct kept *kept = &s->kept.items[i];

        fprintf(to, "kept %d %d %u", kept->is_shared, kept->is_inherited, kept->count);
        for (unsigned j = 0; j < kept->count; j++)
            fprintf(to, " %d", kept->fds[j]);
        fprintf(to, " %s\n", kept->address.text);
    }
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        const struct generation *g = &s->generations[i];

        if (g->state == GENERATION_SERVING || g->state == GENERATION_RETIRING)
            fprintf(to, "gateway %d %u %d %d %d %zu %zu %u %d %d %" PRId64 " %" PRId64 " %u %d\n",
                    (int)g->state, g->number, (int)g->pid, g->control, g->memory_fd,
                    g->memory_bytes, g->segment_bytes, g->loops, g->is_live, g->has_retired,
                    g->since_ns, g->end_by_ns, g->slot, g->programs_fd);
    }
}

static void keep_open(const struct supervisor *s, bool is_kept) {
    mark(s->current.text_fd, is_kept);
    mark(s->totals.own_fd, is_kept);
    mark(s->totals.base_fd, is_kept);
    mark(s->shares_fd, is_kept);
    mark(s->cells_fd, is_kept);
    mark(s->nursery.socket, is_kept);
    mark(s->nursery.board_fd, is_kept);
    for (size_t i = 0; i < s->kept.count; i++)
        for (unsigned j = 0; j < s->kept.items[i].count; j++)
            mark(s->kept.items[i].fds[j], is_kept);
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        if (!s->generations[i].state)
            continue;
        mark(s->generations[i].control, is_kept);
        mark(s->generations[i].memory_fd, is_kept);
        mark(s->generations[i].programs_fd, is_kept);
    }
}

static void mark(int fd, bool is_kept) {
    if (fd >= 0)
        fcntl(fd, F_SETFD, is_kept ? 0 : FD_CLOEXEC);
}

static char *read_all(int fd) {
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = size < 0 ? NULL : calloc(1, (size_t)size + 1);

    if (text && pread(fd, text, (size_t)size, 0) != size) {
        free(text);
        return NULL;
    }
    return text;
}

static bool take_all(struct supervisor *s, char *text) {
    static const char end[] = "\nend\n";
    char *rest = strstr(text, end), *save = NULL;

    if (!rest)
        return false;
    rest += strlen(end);
    rest[-1] = '\0';
    s->current.name = s->options->name;
    if (run_plan_parse(&s->current.plan, text))
        return false;
    for (char *line = strtok_r(rest, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!take_line(s, line))
            return false;
    return s->serving && s->current.text_fd >= 0;
}

static bool take_line(struct supervisor *s, const char *line) {
    size_t bytes;
    int fd, pid;

    if (sscanf(line, "text %d", &fd) == 1) {
        s->current.text_fd = fd;
        return true;
    }
    if (sscanf(line, "own %d %zu", &fd, &bytes) == 2)
        return totals_take_own(&s->totals, fd, bytes);
    if (sscanf(line, "base %d", &fd) == 1)
        return fd < 0 || totals_take_base(&s->totals, fd);
    if (sscanf(line, "started %u", &s->started) == 1)
        return true;
    if (sscanf(line, "shares %d", &fd) == 1)
        return take_shares(s, fd);
    if (sscanf(line, "cells %d", &s->cells_fd) == 1)
        return true;
    if (sscanf(line, "nursery %d %d %d", &pid, &s->nursery.socket, &s->nursery.board_fd) == 3) {
        s->nursery.pid = pid;
        return true;
    }
    if (strncmp(line, "kept ", 5) == 0)
        return take_kept(s, line + 5);
    if (strncmp(line, "gateway ", 8) == 0)
        return take_generation(s, line + 8);
    return true;
}

/* One that this version cannot use stays with the gateways that do: from here on they count for
 * themselves. */
static bool take_shares(struct supervisor *s, int fd) {
    off_t bytes = lseek(fd, 0, SEEK_END);
    void *memory;

    if (bytes <= 0)
        return false;
    memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return false;
    s->shares = share_table_attach(memory, (size_t)bytes);
    if (s->shares) {
        s->shares_fd = fd;
        return true;
    }
    log_warn("limits are not shared with the gateways of the binary before: it counts otherwise");
    munmap(memory, (size_t)bytes);
    close(fd);
    return true;
}

static bool take_kept(struct supervisor *s, const char *line) {
    struct kept *kept = &s->kept.items[s->kept.count];
    struct buffer guess = {0};
    unsigned count;
    int is_shared, is_inherited, at;

    if (s->kept.count == KEPT_MAX ||
        sscanf(line, "%d %d %u%n", &is_shared, &is_inherited, &count, &at) != 3 ||
        count > KEPT_SOCKETS_MAX)
        return false;
    *kept = (struct kept){.is_shared = is_shared != 0,
                          .is_inherited = is_inherited != 0,
                          .count = count,
                          .sure = count};
    for (unsigned i = 0; i < count; i++) {
        int more;

        line += at;
        if (sscanf(line, " %d%n", &kept->fds[i], &more) != 1)
            return false;
        at = more;
    }
    line += at + 1;
    if (address_parse(&kept->address, slice_str(line), ADDRESS_TO_LISTEN, &guess))
        return false;
    s->kept.count++;
    return true;
}

static bool take_generation(struct supervisor *s, const char *line) {
    struct generation g = {0};
    int state, pid, is_live, has_retired;
    unsigned i = 0;

    g.programs_fd = -1;
    g.slot = SHARE_SLOTS; /* a binary that shares nothing names none */
    if (sscanf(line, "%d %u %d %d %d %zu %zu %u %d %d %" SCNd64 " %" SCNd64 " %u %d", &state,
               &g.number, &pid, &g.control, &g.memory_fd, &g.memory_bytes, &g.segment_bytes,
               &g.loops, &is_live, &has_retired, &g.since_ns, &g.end_by_ns, &g.slot,
               &g.programs_fd) < 12)
        return false;
    if (!s->shares)
        g.slot = SHARE_SLOTS; /* of another table */
    g.state = (enum generation_state)state;
    g.pid = pid;
    g.is_live = is_live != 0;
    g.has_retired = has_retired != 0;
    if (!generation_map(&g))
        return false;
    while (i < GENERATIONS_MAX && s->generations[i].state)
        i++;
    assert(i < GENERATIONS_MAX);
    s->generations[i] = g;
    if (g.state == GENERATION_SERVING)
        s->serving = &s->generations[i];
    return true;
}
