/* The ring of records. Positions count bytes from the start of time; a record takes its header and
 * its bytes, rounded up to the header's size, and never wraps: what is left at the end of the ring
 * becomes a record of its own without a line. */
#include "base/log_ring.h"

#include <assert.h>

#define HEADER_BYTES 8
#define IS_OPEN 1u

enum record_kind { RECORD_LINE = 1, RECORD_PADDING = 3 }; /* lines of kind 0 and 1 are 1 and 2 */

static _Atomic uint64_t *header_at(struct log_ring *ring, uint64_t position);
static uint64_t header_of(unsigned record_kind, size_t len);
static size_t record_bytes(size_t len);

void log_ring_open(struct log_ring *ring) {
    atomic_fetch_or(&ring->tail, IS_OPEN);
}

void log_ring_close(struct log_ring *ring) {
    atomic_fetch_and(&ring->tail, ~(uint64_t)IS_OPEN);
}

enum log_ring_push log_ring_push(struct log_ring *ring, unsigned kind, struct slice line) {
    size_t bytes = record_bytes(line.len + 1);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t position, padding;
    char *to;

    assert(line.len < LOG_RECORD_MAX);
    do {
        uint64_t left;

        if (!(tail & IS_OPEN))
            return LOG_RING_CLOSED;
        position = tail >> 1;
        left = LOG_RING_BYTES - position % LOG_RING_BYTES;
        padding = left < bytes ? left : 0;
        if (position + padding + bytes - atomic_load_explicit(&ring->head, memory_order_acquire) >
            LOG_RING_BYTES)
            return LOG_RING_FULL;
    } while (!atomic_compare_exchange_weak(&ring->tail, &tail, tail + 2 * (padding + bytes)));

    if (padding > 0)
        atomic_store_explicit(header_at(ring, position),
                              header_of(RECORD_PADDING, (size_t)padding - HEADER_BYTES),
                              memory_order_release);
    position += padding;
    to = &ring->bytes[position % LOG_RING_BYTES + HEADER_BYTES];
    if (line.len > 0)
        memcpy(to, line.base, line.len);
    to[line.len] = '\n';
    atomic_store_explicit(header_at(ring, position), header_of(RECORD_LINE + kind, line.len + 1),
                          memory_order_release);
    return LOG_RING_PUSHED;
}

uint64_t log_ring_used(struct log_ring *ring) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    return (atomic_load(&ring->tail) >> 1) - head;
}

size_t log_ring_pull(struct log_ring *ring, unsigned *kind, char *to) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    while (head < atomic_load(&ring->tail) >> 1) {
        uint64_t header = atomic_load_explicit(header_at(ring, head), memory_order_acquire);
        unsigned record_kind = header & 3;
        size_t len = (size_t)(header >> 2);
        char *record = &ring->bytes[head % LOG_RING_BYTES];

        if (header == 0)
            return 0; /* reserved, not yet published */
        if (record_kind != RECORD_PADDING)
            memcpy(to, record + HEADER_BYTES, len);
        memset(record, 0, record_bytes(len));
        head += record_bytes(len);
        atomic_store_explicit(&ring->head, head, memory_order_release);
        if (record_kind != RECORD_PADDING) {
            *kind = record_kind - RECORD_LINE;
            return len;
        }
    }
    return 0;
}

static _Atomic uint64_t *header_at(struct log_ring *ring, uint64_t position) {
    return (_Atomic uint64_t *)(void *)&ring->bytes[position % LOG_RING_BYTES];
}

static uint64_t header_of(unsigned record_kind, size_t len) {
    return (uint64_t)len << 2 | record_kind;
}

static size_t record_bytes(size_t len) {
    return (HEADER_BYTES + len + HEADER_BYTES - 1) / HEADER_BYTES * HEADER_BYTES;
}
