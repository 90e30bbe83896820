/* The directory at the beginning of a region of cells: see cells.h. Home: shared, between threads
 * and processes. */
#pragma once

#include "handler/cells.h"

#include <stdatomic.h>
#include <stdint.h>

#define CELLS_MAGIC UINT64_C(0x77656972636c6c31) /* "weircll1": another layout, another number */
#define CELLS_PAGE 4096
#define CELLS_DIRECTORY_BYTES \
    ((sizeof(struct cells_region) + CELLS_PAGE - 1) / CELLS_PAGE * CELLS_PAGE)

struct cells_entry {
    _Atomic uint32_t is_ready;
    _Atomic uint32_t buckets;
    _Atomic uint64_t count;   /* as asked for */
    _Atomic uint64_t offset;  /* bytes into the region */
    _Atomic uint64_t seen_ns; /* looked after, by any process */
    char name[CELLS_NAME_MAX + 1];
};

struct cells_region {
    _Atomic uint64_t magic;
    _Atomic uint64_t claimed_ns; /* the directory is being changed, since; 0: it is not */
    uint64_t seed[2];            /* of the hash: clients choose keys */
    struct cells_entry entries[CELLS_TABLES_MAX];
};
