/* Counts that several processes keep together, in memory that a supervisor owns: how many rights of
 * a limit are in use, one row per limit, in it one slot per process. Each process writes its own
 * slot only, and the limit is held against the sum of all; so whoever buries a process has but to
 * zero its slot. What a gate does with a row is the gate's (loop/gate.h).
 *
 * A row is found by its key, a text that means the same to every process. It belongs to whoever
 * uses it; once nobody does, another key may have it. Claiming is done by one at a time; a claimer
 * that dies is unlocked with its slot, one that is stopped is waited for a bounded time.
 *
 * Home: shared, between threads and processes. */
#pragma once

#include "base/clock.h"
#include "loop/memo.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_SLOTS 6       /* processes at once */
#define SHARE_ROWS_MAX 1024 /* limits at once */
#define SHARE_KEY_MAX 255   /* bytes */

/* How long a claimer is waited for. */
#define SHARE_CLAIM_NS NS_PER_S

/* Nobody yields to a process that has been silent for so long. */
#define SHARE_SILENT_MS 300

/* What a right is counted with fits a cache line. Times are of CLOCK_MONOTONIC, in milliseconds;
 * they wrap, and are compared by their difference. */
struct share_row {
    alignas(64) _Atomic uint32_t taken[SHARE_SLOTS];    /* rights in use */
    _Atomic uint32_t waiting[SHARE_SLOTS];              /* how many stand in line for one */
    _Atomic uint16_t users[SHARE_SLOTS];                /* claims of the row */
    alignas(64) _Atomic uint32_t since_ms[SHARE_SLOTS]; /* the first in line has waited since */
    _Atomic uint32_t limit[SHARE_SLOTS];                /* what the sum is held against there */
    char key[SHARE_KEY_MAX + 1];                        /* stays while anybody uses the row */
};

struct share_table {
    uint64_t magic;
    uint64_t bytes;                        /* of the table: another version has another size */
    _Atomic uint32_t claimer;              /* slot + 1 of who claims now; 0: nobody */
    _Atomic uint32_t rows_used;            /* those from here on were never used */
    _Atomic uint32_t alive[SHARE_SLOTS];   /* is there a process? */
    _Atomic uint32_t seen_ms[SHARE_SLOTS]; /* when it last looked at its lines */
    struct share_row rows[SHARE_ROWS_MAX];
    struct memo memo; /* of which endpoint a session belongs to */
};

/* A process's side of a table. */
struct share_home {
    struct share_table *table; /* borrowed: mapped for the life of the process; NULL: none */
    unsigned slot;
    _Atomic bool is_told; /* that a limit is not shared */
};

/* A claimed row. Zeroed memory is none. */
struct share {
    struct share_table *table; /* borrowed */
    struct share_row *row;     /* in table; NULL: none */
    unsigned slot;
};

/* Lays a table out in zeroed memory of sizeof(struct share_table) bytes. */
struct share_table *share_table_init(void *memory);
/* Looks at memory that somebody else laid out; NULL: it is none, or of another version. */
struct share_table *share_table_attach(void *memory, size_t bytes);
/* Its process has ended: gives back all that it had. The supervisor alone may say so. */
void share_table_clear(struct share_table *table, unsigned slot);

/* The process is there: from now on others know that they are not alone. */
void share_begin(const struct share_home *home);
/* It is still there, and looks at its lines. Every 100 ms, or more often. */
void share_beat(const struct share_home *home);
/* Is no other process there? */
bool share_is_alone(const struct share_home *home);

/* Claims the row of @key. False: there is no table or no room in it, or whoever claims does not get
 * on; *@share is none then. */
bool share_claim(struct share *share, const struct share_home *home, const char *key);
/* Forgets the row, in which nothing of ours is in use. Accepts none. */
void share_release(struct share *share);

/* Rights in use elsewhere. */
static inline uint64_t share_others(const struct share *share) {
    uint64_t sum = 0;

#pragma GCC unroll 8 /* whole: every request asks */
    for (unsigned i = 0; i < SHARE_SLOTS; i++) {
        uint64_t taken = atomic_load(&share->row->taken[i]);

        sum += i == share->slot ? 0 : taken;
    }
    return sum;
}

/* Does nobody wait, here or elsewhere? */
static inline bool share_is_quiet(const struct share *share) {
    uint32_t waiting = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < SHARE_SLOTS; i++)
        waiting |= atomic_load(&share->row->waiting[i]);
    return waiting == 0;
}

/* Tells the others of our line: @count wait, the first since @since_ms, for a place below @limit.
 */
void share_publish(const struct share *share, uint32_t count, uint32_t since_ms, uint32_t limit);

/* With @taken rights in use in all: does another process's line come before ours, and may it have
 * one more? Ours has stood since *@since_ms; NULL: it is empty. */
bool share_yields(const struct share *share, uint64_t taken, const uint32_t *since_ms);

/* How many wait elsewhere for one of the @own rights that are in use here. */
uint32_t share_wanted(const struct share *share, uint32_t own);

static inline uint32_t share_ms(int64_t ns) {
    return (uint32_t)(ns / NS_PER_MS);
}
