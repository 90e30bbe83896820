/* The section "processes" of the state file: how supervised programs have died lately. The nursery,
 * which counts, neither reads nor writes files: what it shows on its board is kept, and what the
 * file has is told to it, which has an effect where it knows of nothing. Home: main thread; save:
 * the keeper's. */
#pragma once

#include "child/board.h"
#include "config/config.h"
#include "state/keeper.h"

struct histories {
    const struct config *config; /* borrowed */
    struct board *board;         /* borrowed; NULL: there are no programs */
    int nursery;                 /* borrowed: the channel to it; -1: none */
};

/* For keeper_add(). @histories outlives the keeper. */
struct keeper_section histories_section(struct histories *histories);
