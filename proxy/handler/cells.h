/* Tables of cells: two numbers by key, for plugins (weir_host.table), in memory that threads,
 * worker processes and one gateway after another share.
 *
 * The memory comes from outside (a memfd that the supervisor keeps) or is anonymous and then ends
 * with its processes. A directory at its beginning names the tables; a table is found again by
 * handler, name and size, whoever made it. One that no gateway has looked after (cells_beat) for
 * CELLS_ABANDONED_NS gives up its place when another needs it.
 *
 * A table is an array of buckets, chosen by a keyed hash of the key. A bucket has one word, its
 * head, that says which of its records are in use, and with each change another number. Whoever
 * changes a cell takes a record that is not in use, fills it, and puts it into the head by one
 * compare-and-swap; nothing else ever changes a record in use. So nobody waits for anybody, a
 * reader sees whole cells, and a process may be killed between any two instructions: what it leaves
 * behind is a record that is taken for CELLS_STALE_NS. A bucket that is full lets go of the key
 * that was not used for longest.
 *
 * Nothing that is read from the memory is trusted with an address: damage costs counts, never a
 * crash. Home: shared, between threads and processes. */
#pragma once

#include "base/clock.h"
#include "base/slice.h"

#include <weir/handler.h>

#define CELLS_REGION_BYTES (128 * 1024 * 1024) /* what is not used takes no memory */
#define CELLS_TABLES_MAX 64                    /* in one region, abandoned ones included */
#define CELLS_NAME_MAX 127                     /* bytes of handler and name together */
#define CELLS_MAX 262144                       /* cells of one table */
#define CELLS_WAYS 8                           /* keys of one bucket */
#define CELLS_ABANDONED_NS (10 * NS_PER_S)
#define CELLS_STALE_NS NS_PER_S /* a record taken for longer was taken by one who died */
#define CELLS_PATIENCE_NS \
    (10 * NS_PER_MS) /* how long a change is tried while others change the same bucket */

/* A process's view of a region. */
struct cells;

/* Maps the region in @fd (not kept), lays it out if nobody has, and gives it to children by fork at
 * the same address; -1: anonymous memory. -errno; -EPROTO: it is of another version of weir. */
int cells_open(struct cells **out, int fd);
/* Accepts NULL. */
void cells_close(struct cells *cells);

/* The table of that handler, name and size; made, if need be. NULL: no room, or such a name or
 * number cannot be. The same pointer each time, valid until cells_close(). Any thread; takes a
 * second at most when somebody died here. */
struct weir_table *cells_table(struct cells *cells, struct slice handler, struct slice name,
                               unsigned count);
/* Says that the tables opened here are still looked after. Every second, in one process of those
 * that inherited them. */
void cells_beat(struct cells *cells);

/* As weir_host has them. False, too, when a key cannot be (empty, or longer than WEIR_KEY_MAX; then
 * the cell is left alone), or, of a swap, when others kept changing the bucket for
 * CELLS_PATIENCE_NS. */
bool cells_get(struct weir_table *table, struct weir_text key, struct weir_cell *cell);
bool cells_swap(struct weir_table *table, struct weir_text key, struct weir_cell *from,
                struct weir_cell to);
