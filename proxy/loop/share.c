/* The table of shared counts. Slots are written by their process only, and by the supervisor once
 * that has ended; whatever another process may have written, it can do no more than keep rights
 * from us. */
#include "loop/share.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#define SHARE_MAGIC UINT64_C(0x7765697273686172) /* "weirshar" */
#define LOOK_NS (100 * INT64_C(1000))            /* at a claimer that is waited for */

static bool lock(struct share_table *table, unsigned slot);
static struct share_row *find(struct share_table *table, const char *key);
static bool is_free(const struct share_row *row);
static bool may_be_heard(const struct share *share, unsigned slot);

struct share_table *share_table_init(void *memory) {
    struct share_table *table = memory;

    table->magic = SHARE_MAGIC;
    table->bytes = sizeof *table;
    return table;
}

struct share_table *share_table_attach(void *memory, size_t bytes) {
    struct share_table *table = memory;

    if (bytes != sizeof *table || table->magic != SHARE_MAGIC || table->bytes != bytes)
        return NULL;
    return table;
}

void share_table_clear(struct share_table *table, unsigned slot) {
    uint32_t claimer = slot + 1, rows = atomic_load(&table->rows_used);

    for (uint32_t i = 0; i < rows && i < SHARE_ROWS_MAX; i++) {
        struct share_row *row = &table->rows[i];

        atomic_store(&row->waiting[slot], 0);
        atomic_store(&row->taken[slot], 0);
        atomic_store(&row->users[slot], 0);
    }
    atomic_store(&table->alive[slot], 0);
    atomic_compare_exchange_strong(&table->claimer, &claimer, 0);
}

void share_begin(const struct share_home *home) {
    if (!home->table)
        return;
    share_beat(home);
    atomic_store(&home->table->alive[home->slot], 1);
}

void share_beat(const struct share_home *home) {
    if (home->table)
        atomic_store(&home->table->seen_ms[home->slot], share_ms(clock_now_ns()));
}

bool share_is_alone(const struct share_home *home) {
    for (unsigned i = 0; home->table && i < SHARE_SLOTS; i++)
        if (i != home->slot && atomic_load_explicit(&home->table->alive[i], memory_order_relaxed))
            return false;
    return true;
}

bool share_claim(struct share *share, const struct share_home *home, const char *key) {
    struct share_table *table = home->table;
    struct share_row *row = NULL;

    *share = (struct share){0};
    if (!table || strlen(key) > SHARE_KEY_MAX || !lock(table, home->slot))
        return false;
    row = find(table, key);
    if (row) {
        memcpy(row->key, key, strlen(key) + 1);
        atomic_fetch_add(&row->users[home->slot], 1);
        *share = (struct share){table, row, home->slot};
    }
    atomic_store(&table->claimer, 0);
    return row;
}

/* The key stays: who claims it meanwhile finds the row as it is. */
void share_release(struct share *share) {
    if (share->row)
        atomic_fetch_sub(&share->row->users[share->slot], 1);
    *share = (struct share){0};
}

void share_publish(const struct share *share, uint32_t count, uint32_t since_ms, uint32_t limit) {
    struct share_row *row = share->row;

    atomic_store_explicit(&row->since_ms[share->slot], since_ms, memory_order_relaxed);
    atomic_store_explicit(&row->limit[share->slot], limit, memory_order_relaxed);
    atomic_store(&row->waiting[share->slot], count);
}

bool share_yields(const struct share *share, uint64_t taken, const uint32_t *since_ms) {
    const struct share_row *row = share->row;

    for (unsigned i = 0; i < SHARE_SLOTS; i++) {
        int32_t ahead;

        if (i == share->slot || atomic_load(&row->waiting[i]) == 0 ||
            taken >= atomic_load(&row->limit[i]) || !may_be_heard(share, i))
            continue;
        if (!since_ms)
            return true;
        ahead = (int32_t)(*since_ms - atomic_load(&row->since_ms[i]));
        if (ahead > 0 || (ahead == 0 && i < share->slot))
            return true;
    }
    return false;
}

uint32_t share_wanted(const struct share *share, uint32_t own) {
    const struct share_row *row = share->row;
    uint32_t wanted = 0;

    for (unsigned i = 0; i < SHARE_SLOTS; i++) {
        uint32_t waiting = i == share->slot ? 0 : atomic_load(&row->waiting[i]), limit;
        uint64_t others;

        if (waiting <= wanted || !may_be_heard(share, i))
            continue;
        limit = atomic_load(&row->limit[i]);
        others = share_others(share);
        if (others < limit && others + own >= limit)
            wanted = waiting;
    }
    return wanted;
}

static bool lock(struct share_table *table, unsigned slot) {
    int64_t until_ns = 0;

    for (;;) {
        uint32_t nobody = 0;

        if (atomic_compare_exchange_strong(&table->claimer, &nobody, slot + 1))
            return true;
        if (until_ns == 0)
            until_ns = clock_now_ns() + SHARE_CLAIM_NS;
        else if (clock_now_ns() >= until_ns)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

/* The row of @key, else one that is free. NULL: there is none. Locked. */
static struct share_row *find(struct share_table *table, const char *key) {
    uint32_t rows = atomic_load(&table->rows_used);
    struct share_row *first_free = NULL;

    for (uint32_t i = 0; i < rows && i < SHARE_ROWS_MAX; i++) {
        struct share_row *row = &table->rows[i];

        if (strncmp(row->key, key, sizeof row->key) == 0)
            return row;
        if (!first_free && is_free(row))
            first_free = row;
    }
    if (first_free || rows >= SHARE_ROWS_MAX)
        return first_free;
    atomic_store(&table->rows_used, rows + 1);
    return &table->rows[rows];
}

static bool is_free(const struct share_row *row) {
    for (unsigned i = 0; i < SHARE_SLOTS; i++)
        if (atomic_load(&row->users[i]) > 0)
            return false;
    return true;
}

/* Does it still look after its lines, as we do? */
static bool may_be_heard(const struct share *share, unsigned slot) {
    const struct share_table *table = share->table;

    return (int32_t)(atomic_load_explicit(&table->seen_ms[share->slot], memory_order_relaxed) -
                     atomic_load_explicit(&table->seen_ms[slot], memory_order_relaxed)) <
           SHARE_SILENT_MS;
}
