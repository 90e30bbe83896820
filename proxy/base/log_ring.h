/* A bounded ring of records between many writing threads and one reading thread.
 *
 * A writer reserves its bytes by moving `tail` (one compare-and-swap), copies, and publishes the
 * record by its header; the reader takes published records from `head` on and leaves zeroes behind,
 * so that a header that is not 0 is always a published one. Nobody waits for anybody: a full ring
 * refuses. Records of one thread keep their order. */
#pragma once

#include "base/slice.h"

#include <stdatomic.h>
#include <stdint.h>

#define LOG_RING_BYTES (1024 * 1024) /* a power of two */
#define LOG_RECORD_MAX (16 * 1024)   /* bytes of one record, newline included */

enum log_ring_push {
    LOG_RING_PUSHED = 0,
    LOG_RING_FULL = 1,
    LOG_RING_CLOSED = 2,
};

/* Home: shared; log_ring_pull() belongs to one thread. A zeroed ring is empty and closed. */
struct log_ring {
    _Alignas(64) _Atomic uint64_t tail; /* bytes ever reserved * 2 + is_open */
    _Alignas(64) _Atomic uint64_t head; /* bytes ever given back */
    _Alignas(64) char bytes[LOG_RING_BYTES];
};

/* The reader's side opens and closes; a record is either refused as CLOSED or will be pulled. */
void log_ring_open(struct log_ring *ring);
void log_ring_close(struct log_ring *ring);

/* Copies @line and a newline in, marked with @kind (0 or 1). Any thread, never waits. */
enum log_ring_push log_ring_push(struct log_ring *ring, unsigned kind, struct slice line);

/* Bytes that are reserved and not yet given back. */
uint64_t log_ring_used(struct log_ring *ring);

/* Copies the oldest record to @to (LOG_RECORD_MAX bytes) and gives its room back. Returns its
 * length, newline included; 0 when the next record is not published or there is none. */
size_t log_ring_pull(struct log_ring *ring, unsigned *kind, char *to);
