/* A bucket of a table of cells. Whatever reads a record loads the head before and after: if it is
 * the same, the records that it names were in use all the while, and stood still. Every word of a
 * record is stored with release and loaded with acquire: who sees one word of a record that is
 * being filled again sees the head that let go of it. */
#include "handler/cell_bucket.h"

#include <sched.h>

#define NONE UINT32_MAX
#define TRIES_PER_LOOK_AT_THE_CLOCK 16

/* What a look at the bucket has found. */
struct view {
    uint64_t head;
    uint32_t way; /* of the key; NONE */
    struct weir_cell cell;
    uint32_t room; /* the way for a new key: an empty one, else the one not used for longest */
};

/* Tries under way. */
struct effort {
    unsigned tries;
    int64_t until_ns;
};

static bool look(struct bucket *bucket, const struct bucket_key *key, uint64_t now_ns,
                 struct view *view);
static bool is_record_of(const struct bucket_record *record, const struct bucket_key *key,
                         struct weir_cell *cell);
static uint32_t take_record(struct bucket *bucket, const struct view *view, uint64_t now_ns);
static void give_back(struct bucket_record *record, uint64_t taken_ns);
static void fill(struct bucket_record *record, const struct bucket_key *key, struct weir_cell cell,
                 uint64_t now_ns);
static bool is_stale(uint64_t taken_ns, uint64_t now_ns);
static bool may_try_again(struct effort *effort);
static uint64_t check_of(uint64_t tag, uint64_t len, struct weir_cell cell);
static uint64_t get(const _Atomic uint64_t *word);
static void put(_Atomic uint64_t *word, uint64_t value);

static inline uint32_t record_at(uint64_t head, uint32_t way) {
    return (uint32_t)(head >> (way * 4)) & 15;
}

/* The head behind @head, with @record in @way. */
static inline uint64_t head_with(uint64_t head, uint32_t way, uint32_t record) {
    uint64_t ways = head & UINT32_MAX;

    ways = (ways & ~(UINT64_C(15) << (way * 4))) | (uint64_t)record << (way * 4);
    return ((head >> 32) + 1) << 32 | ways;
}

bool bucket_get(struct bucket *bucket, const struct bucket_key *key, struct weir_cell *cell) {
    uint64_t now_ns = (uint64_t)clock_now_ns();
    struct effort effort = {0};
    struct view view;

    while (!look(bucket, key, now_ns, &view))
        if (!may_try_again(&effort))
            return false;
    *cell = view.cell;
    return true;
}

bool bucket_swap(struct bucket *bucket, const struct bucket_key *key, struct weir_cell *from,
                 struct weir_cell to) {
    bool is_gone = to.a == 0 && to.b == 0;
    struct effort effort = {0};
    struct view view;

    do {
        uint64_t now_ns = (uint64_t)clock_now_ns();
        uint32_t record = 0;
        bool is_done;

        if (!look(bucket, key, now_ns, &view))
            continue;
        if (view.cell.a != from->a || view.cell.b != from->b) {
            *from = view.cell;
            return false;
        }
        if (is_gone && view.way == NONE)
            return true;
        if (!is_gone) {
            record = take_record(bucket, &view, now_ns);
            if (record == 0)
                continue;
            fill(&bucket->records[record - 1], key, to, now_ns);
        }
        is_done = atomic_compare_exchange_strong(
            &bucket->head, &view.head,
            head_with(view.head, view.way == NONE ? view.room : view.way, record));
        if (record != 0)
            give_back(&bucket->records[record - 1], now_ns);
        if (is_done)
            return true;
    } while (may_try_again(&effort));
    return false;
}

/* False: the bucket changed meanwhile. */
static bool look(struct bucket *bucket, const struct bucket_key *key, uint64_t now_ns,
                 struct view *view) {
    uint64_t oldest_ns = UINT64_MAX;

    *view = (struct view){.head = get(&bucket->head), .way = NONE};
    for (uint32_t way = 0; way < CELLS_WAYS; way++) {
        uint32_t number = record_at(view->head, way);
        struct bucket_record *record = number ? &bucket->records[number - 1] : NULL;
        uint64_t used_ns =
            record ? atomic_load_explicit(&record->used_ns, memory_order_relaxed) : 0;

        if (record && view->way == NONE && is_record_of(record, key, &view->cell)) {
            view->way = way;
            /* Perhaps of another key already: it is a hint. */
            atomic_store_explicit(&record->used_ns, now_ns, memory_order_relaxed);
        }
        if (used_ns < oldest_ns) {
            oldest_ns = used_ns;
            view->room = way;
        }
    }
    return get(&bucket->head) == view->head;
}

/* With the cell, if it is whole. */
static bool is_record_of(const struct bucket_record *record, const struct bucket_key *key,
                         struct weir_cell *cell) {
    struct weir_cell found;

    if (get(&record->tag) != key->tag || get(&record->len) != key->len)
        return false;
    for (unsigned i = 0; i < BUCKET_KEY_WORDS; i++)
        if (get(&record->key[i]) != key->words[i])
            return false;
    found = (struct weir_cell){(int64_t)get(&record->a), (int64_t)get(&record->b)};
    if (get(&record->check) != check_of(key->tag, key->len, found))
        return false;
    *cell = found;
    return true;
}

/* A record that nobody uses or fills, for us alone; 0: there is none, or the head has changed. */
static uint32_t take_record(struct bucket *bucket, const struct view *view, uint64_t now_ns) {
    uint32_t in_use = 0;

    for (uint32_t way = 0; way < CELLS_WAYS; way++)
        in_use |= 1U << record_at(view->head, way);
    for (uint32_t number = 1; number <= BUCKET_RECORDS; number++) {
        struct bucket_record *record = &bucket->records[number - 1];
        uint64_t taken_ns = get(&record->taken_ns);

        if (in_use & 1U << number || (taken_ns != 0 && !is_stale(taken_ns, now_ns)) ||
            !atomic_compare_exchange_strong(&record->taken_ns, &taken_ns, now_ns))
            continue;
        /* Somebody may have put it into use since we looked; from now on nobody can. */
        if (get(&bucket->head) == view->head)
            return number;
        give_back(record, now_ns);
        return 0;
    }
    return 0;
}

static void give_back(struct bucket_record *record, uint64_t taken_ns) {
    atomic_compare_exchange_strong(&record->taken_ns, &taken_ns, 0);
}

static void fill(struct bucket_record *record, const struct bucket_key *key, struct weir_cell cell,
                 uint64_t now_ns) {
    put(&record->tag, key->tag);
    put(&record->len, key->len);
    for (unsigned i = 0; i < BUCKET_KEY_WORDS; i++)
        put(&record->key[i], key->words[i]);
    put(&record->a, (uint64_t)cell.a);
    put(&record->b, (uint64_t)cell.b);
    put(&record->check, check_of(key->tag, key->len, cell));
    put(&record->used_ns, now_ns);
}

/* Times of others may be a little ahead of ours; what is far ahead is damage. */
static bool is_stale(uint64_t taken_ns, uint64_t now_ns) {
    int64_t age_ns = (int64_t)(now_ns - taken_ns);

    return age_ns > CELLS_STALE_NS || age_ns < -CELLS_STALE_NS;
}

static bool may_try_again(struct effort *effort) {
    effort->tries++;
    if (effort->tries % TRIES_PER_LOOK_AT_THE_CLOCK != 0)
        return true;
    if (effort->until_ns == 0)
        effort->until_ns = clock_now_ns() + CELLS_PATIENCE_NS;
    sched_yield();
    return clock_now_ns() < effort->until_ns;
}

static uint64_t check_of(uint64_t tag, uint64_t len, struct weir_cell cell) {
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t sum = (tag + len) * factor;

    sum = (sum ^ sum >> 32 ^ (uint64_t)cell.a) * factor;
    sum = (sum ^ sum >> 32 ^ (uint64_t)cell.b) * factor;
    return sum ^ sum >> 32;
}

static uint64_t get(const _Atomic uint64_t *word) {
    return atomic_load_explicit(word, memory_order_acquire);
}

static void put(_Atomic uint64_t *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_release);
}
