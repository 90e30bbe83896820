#include "supervisor/totals.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const result_names[RELOAD_RESULTS] = {"ok", "refused", "failed"};

static void replace_base(struct totals *totals, struct metrics_segment *base, size_t bytes);

int totals_open(struct totals *totals) {
    struct metrics_builder *builder = metrics_builder_new();
    unsigned family;
    void *memory = NULL;
    int err;

    *totals = (struct totals){.own_fd = -1, .base_fd = -1};
    family = metrics_family(builder, METRICS_COUNTER, "weir_gateway_restarts_total",
                            "Gateway processes started in place of one that had died or hung.");
    totals->restarts = metrics_series(builder, family, "");
    family = metrics_family(builder, METRICS_COUNTER, "weir_config_reloads_total",
                            "Reloads, by result: refused means that the file has errors.");
    for (unsigned i = 0; i < RELOAD_RESULTS; i++) {
        struct buffer labels = {0};

        metrics_label(&labels, "result", result_names[i]);
        buffer_append_char(&labels, '\0');
        totals->reloads[i] = metrics_series(builder, family, labels.base);
        buffer_deinit(&labels);
    }
    totals->segment_bytes = metrics_segment_size(builder, 1);
    err = totals_memory("weir-supervisor", totals->segment_bytes, &totals->own_fd, &memory);
    if (!err) {
        totals->segment = metrics_segment_init(memory, totals->segment_bytes, builder, 1);
        totals->own = metrics_open(totals->segment, 0);
    }
    metrics_builder_free(builder);
    return err;
}

void totals_close(struct totals *totals) {
    if (totals->segment)
        munmap(totals->segment, totals->segment_bytes);
    if (totals->own_fd >= 0)
        close(totals->own_fd);
    if (totals->base_fd >= 0)
        close(totals->base_fd);
    free(totals->base);
}

void totals_count_restart(struct totals *totals) {
    metrics_add(totals->own, totals->restarts, 1);
}

void totals_count_reload(struct totals *totals, enum reload_result result) {
    metrics_add(totals->own, totals->reloads[result], 1);
}

void totals_fold(struct totals *totals, const void *memory, size_t bytes) {
    size_t room = (bytes + 63) / 64 * 64, size;
    void *copy = aligned_alloc(64, room);
    const struct metrics_segment *parts[2] = {totals->base};
    struct metrics_segment *sum;
    size_t count = totals->base ? 1 : 0;

    if (!copy)
        abort(); /* out of memory */
    memcpy(copy, memory, bytes);
    parts[count] = metrics_segment_attach(copy, bytes);
    if (!parts[count]) {
        log_warn("the counters of the gateway that has ended are unreadable and left out");
    } else {
        sum = metrics_merge(parts, count + 1, false, &size);
        if (sum)
            replace_base(totals, sum, size);
        else
            log_warn("there are too many metric series over all configurations: the counters of "
                     "the gateway that has ended are left out");
    }
    free(copy);
    malloc_trim(0); /* as much will be wanted when the next one ends, and no sooner */
}

/* Its counts are added to a base: this version may count other things. */
bool totals_take_own(struct totals *totals, int fd, size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return false;
    totals_fold(totals, memory, bytes);
    munmap(memory, bytes);
    close(fd);
    return true;
}

bool totals_take_base(struct totals *totals, int fd) {
    off_t bytes = lseek(fd, 0, SEEK_END);

    return bytes > 0 && totals_take_own(totals, fd, (size_t)bytes);
}

int totals_memory(const char *name, size_t bytes, int *fd, void **memory) {
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int err;

    if (made < 0)
        return -errno;
    if (ftruncate(made, (off_t)bytes) < 0 ||
        fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        err = -errno;
        close(made);
        return err;
    }
    *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
    if (*memory == MAP_FAILED) {
        err = -errno;
        close(made);
        return err;
    }
    *fd = made;
    return 0;
}

/* The old one stays as it is for whoever still reads it. */
static void replace_base(struct totals *totals, struct metrics_segment *base, size_t bytes) {
    void *memory = NULL;
    int fd = -1, err = totals_memory("weir-base", bytes, &fd, &memory);

    if (err) {
        log_warn("cannot keep the counters of the gateway that has ended: %s", strerror(-err));
        free(base);
        return;
    }
    assert(memory);
    memcpy(memory, base, bytes);
    munmap(memory, bytes);
    if (totals->base_fd >= 0)
        close(totals->base_fd);
    free(totals->base);
    totals->base_fd = fd;
    totals->base = base;
}
