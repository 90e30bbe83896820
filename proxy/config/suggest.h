/* "Did you mean": the known name nearest to one that is not known. */
#pragma once

#include "base/slice.h"

#define SUGGEST_LENGTH_MAX 64 /* longer names are not compared */

/* The search so far; start with the unknown name in @word and the rest zero. */
struct suggest {
    struct slice word;    /* borrowed */
    struct slice best;    /* borrowed: a candidate; empty: none is near */
    unsigned best_change; /* letters to add, drop, change or swap, to get there */
};

void suggest_offer(struct suggest *suggest, struct slice candidate);
