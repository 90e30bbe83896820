/* One gateway process, as its supervisor sees it.
 *
 *               ready         a successor is ready     its process ends
 *     STARTING  SERVING
 *     SERVING                 RETIRING                 FREE
 *     RETIRING                                         FREE
 * Every one ends in FREE when its process does. Home: supervisor. */
#pragma once

#include "loop/pulse.h"
#include "supervisor/control.h"
#include "supervisor/kept.h"
#include "supervisor/nursery_link.h"
#include "supervisor/run_plan.h"

#include <sys/types.h>

enum generation_state {
    GENERATION_FREE,
    GENERATION_STARTING,
    GENERATION_SERVING,
    GENERATION_RETIRING
};

/* A configuration as it was when it was checked: the file may have changed since. */
struct edition {
    const char *name; /* of the file, for messages; borrowed: static */
    int text_fd;      /* a memfd; owned; -1: there is none */
    struct run_plan plan;
};

struct generation {
    enum generation_state state;
    unsigned number; /* counts from 1 */
    pid_t pid;
    int control;     /* owned; -1 once its end has been seen */
    int memory_fd;   /* owned */
    int programs_fd; /* owned: those of its configuration; -1: there are none */
    void *memory;    /* owned mapping: the segment, and the board behind it */
    size_t memory_bytes;
    size_t segment_bytes;
    struct pulse_board *board; /* in memory */
    unsigned loops;
    unsigned slot;     /* in the table of shared limits */
    int64_t since_ns;  /* of its state */
    int64_t end_by_ns; /* when it is killed; 0: it may go on */
    bool is_live;      /* it was told so */
    bool has_retired;  /* it said so */
    bool end_soon;     /* nothing of it moves any more */
    bool is_wedged;    /* and was told of in the log */
    bool is_tainted;   /* it said so: what it has in memory is in doubt */
};

struct generation_options {
    const char *binary;
    const struct edition *edition;
    const struct kept_list *kept;
    unsigned number;
    int shares_fd;      /* the table of shared limits */
    unsigned slot;      /* in it */
    int cells_fd;       /* memory for the cells of handlers; -1: none */
    bool is_substitute; /* its predecessor has died */
    struct nursery_link *nursery;
};

/* Starts a process. -errno; @generation is free then. */
int generation_start(struct generation *generation, const struct generation_options *options);

/* Maps its memory, of which the fd and the sizes are known. */
bool generation_map(struct generation *generation);

/* Tells it something, if it is still there to hear. */
void generation_tell(struct generation *generation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Hands it a channel to the nursery, if it has programs. -errno. */
int generation_give_nursery(struct generation *generation, struct nursery_link *nursery);

void generation_kill(struct generation *generation, const char *why);

/* Its process was reaped: releases what is left. */
void generation_free(struct generation *generation);

void edition_deinit(struct edition *edition);
