/* What a program writes beside its answers, line by line in weir's log: a line that is too long is
 * cut, and no more lines than the program's limit lets through. Home: nursery. */
#pragma once

#include "base/clock.h"
#include "base/log.h"

#define OUTPUT_LINE_MAX 1024          /* bytes */
#define OUTPUT_TURN_BYTES (64 * 1024) /* read at a time: others want their turn */
/* Behind a line that took so long because the log's reader stands still, so long none is logged:
 * who ends and starts programs has to go on. */
#define OUTPUT_STALL_NS (50 * NS_PER_MS)
#define OUTPUT_QUIET_NS (5 * NS_PER_S)
#define OUTPUT_LINES_PER_S 50 /* of all that runs of one program */

struct output {
    const char *name;        /* of the program; borrowed: outlives it */
    struct log_limit *limit; /* borrowed: the same */
    const char *wanted;      /* borrowed: text to look for, or NULL */
    bool is_found;
    bool is_cut; /* the rest of this line is passed over */
    size_t len;
    char line[OUTPUT_LINE_MAX];
};

void output_init(struct output *output, const char *name, struct log_limit *limit);

/* Reads what is there at @fd. False: it has ended. */
bool output_read(struct output *output, int fd);

/* Logs what has no end yet. */
void output_end(struct output *output);
