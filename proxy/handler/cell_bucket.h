/* A bucket of a table of cells: see cells.h. Home: shared, between threads and processes. */
#pragma once

#include "handler/cells.h"

#include <stdatomic.h>
#include <stdint.h>

/* A way in the head is four bits: 0 for none, or the number of a record. With all ways in use there
 * are seven left for changes under way. */
#define BUCKET_RECORDS 15
#define BUCKET_KEY_WORDS (WEIR_KEY_MAX / 8)

struct bucket_record {
    _Atomic uint64_t taken_ns; /* by who fills it, since; 0: by nobody */
    _Atomic uint64_t tag;      /* the key's hash */
    _Atomic uint64_t check;    /* of tag, len, a and b: wrong if two filled it at once */
    _Atomic uint64_t used_ns;  /* last looked at or written; a hint */
    _Atomic uint64_t len;
    _Atomic uint64_t a, b;
    _Atomic uint64_t key[BUCKET_KEY_WORDS]; /* what is behind its length is 0 */
};

struct bucket {
    _Atomic uint64_t head; /* the upper half counts changes, the lower has the ways */
    struct bucket_record records[BUCKET_RECORDS]; /* number n is at n - 1 */
};

/* A key as it is kept. */
struct bucket_key {
    uint64_t tag, len;
    uint64_t words[BUCKET_KEY_WORDS];
};

/* 0 for a key that is not there. False: it changed all the time. */
bool bucket_get(struct bucket *bucket, const struct bucket_key *key, struct weir_cell *cell);
/* As cells_swap(). */
bool bucket_swap(struct bucket *bucket, const struct bucket_key *key, struct weir_cell *from,
                 struct weir_cell to);
