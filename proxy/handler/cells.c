/* Regions and tables of cells; buckets are in cell_bucket.c. The directory is changed by one at a
 * time; who dies meanwhile leaves an entry that is not ready, and a claim that goes stale. */
#include "handler/cells.h"

#include "base/alloc.h"
#include "handler/cell_bucket.h"
#include "handler/cells_parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_NS (100 * NS_PER_US) /* at a claimer that is waited for */
/* Keys are spread unevenly; with 5 of 8 places of a bucket in use on average, nearly all find one.
 */
#define CELLS_PER_BUCKET 5

struct weir_table {
    _Atomic(struct bucket *) buckets; /* in the region; NULL: not opened */
    uint32_t count;                   /* of buckets */
    uint64_t seed[2];
};

struct cells {
    struct cells_region *region; /* owned: mapped */
    size_t bytes;
    struct weir_table tables[CELLS_TABLES_MAX]; /* as the region's entries */
};

static int lay_out(struct cells_region *region);
static bool claim(struct cells_region *region, uint64_t *token);
static void unclaim(struct cells_region *region, uint64_t token);
static struct cells_entry *find(struct cells *cells, const char *name, unsigned count);
static struct cells_entry *make(struct cells *cells, const char *name, unsigned count);
static bool find_place(const struct cells *cells, size_t bytes, uint64_t now_ns, size_t *offset);
static bool is_alive(const struct cells *cells, unsigned index, uint64_t now_ns);
static struct weir_table *open_entry(struct cells *cells, struct cells_entry *entry);
static bool keep_key(const struct weir_table *table, struct weir_text text, struct bucket_key *key);
static struct bucket *bucket_of(const struct weir_table *table, const struct bucket_key *key);
static uint64_t siphash(const uint64_t seed[2], const uint64_t *words, unsigned count,
                        uint64_t len);

static size_t table_bytes(uint64_t buckets) {
    return (buckets * sizeof(struct bucket) + CELLS_PAGE - 1) / CELLS_PAGE * CELLS_PAGE;
}

int cells_open(struct cells **out, int fd) {
    struct cells *cells = xcalloc(1, sizeof *cells);
    size_t bytes = CELLS_REGION_BYTES;
    struct stat about = {0};
    void *memory = MAP_FAILED;
    int err = 0;

    if (fd >= 0 && fstat(fd, &about) < 0)
        err = -errno;
    else if (fd >= 0)
        bytes = (size_t)about.st_size;
    if (!err && bytes < CELLS_DIRECTORY_BYTES + CELLS_PAGE)
        err = -EINVAL;
    if (!err) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
        err = memory == MAP_FAILED ? -errno : 0;
    }
    if (!err) {
        cells->region = memory;
        cells->bytes = bytes;
        err = lay_out(cells->region);
    }
    if (err) {
        cells_close(cells);
        return err;
    }
    *out = cells;
    return 0;
}

void cells_close(struct cells *cells) {
    if (!cells)
        return;
    if (cells->region)
        munmap(cells->region, cells->bytes);
    free(cells);
}

struct weir_table *cells_table(struct cells *cells, struct slice handler, struct slice name,
                               unsigned count) {
    char full[CELLS_NAME_MAX + 1] = {0};
    struct cells_entry *entry;
    uint64_t token;

    if (count == 0 || count > CELLS_MAX || handler.len + 1 + name.len > CELLS_NAME_MAX ||
        memchr(handler.base, '\0', handler.len) || memchr(name.base, '\0', name.len) ||
        !claim(cells->region, &token))
        return NULL;
    memcpy(full, handler.base, handler.len);
    full[handler.len] = '/';
    memcpy(full + handler.len + 1, name.base, name.len);
    entry = find(cells, full, count);
    if (!entry)
        entry = make(cells, full, count);
    if (entry)
        atomic_store(&entry->seen_ns, (uint64_t)clock_now_ns());
    unclaim(cells->region, token);
    return entry ? open_entry(cells, entry) : NULL;
}

void cells_beat(struct cells *cells) {
    uint64_t now_ns = (uint64_t)clock_now_ns();

    for (unsigned i = 0; i < CELLS_TABLES_MAX; i++)
        if (atomic_load(&cells->tables[i].buckets))
            atomic_store(&cells->region->entries[i].seen_ns, now_ns);
}

bool cells_get(struct weir_table *table, struct weir_text key, struct weir_cell *cell) {
    struct bucket_key kept;

    return keep_key(table, key, &kept) && bucket_get(bucket_of(table, &kept), &kept, cell);
}

bool cells_swap(struct weir_table *table, struct weir_text key, struct weir_cell *from,
                struct weir_cell to) {
    struct bucket_key kept;

    return keep_key(table, key, &kept) && bucket_swap(bucket_of(table, &kept), &kept, from, to);
}

/* Memory that is new is zero. */
static int lay_out(struct cells_region *region) {
    uint64_t token;
    int err = 0;

    if (!claim(region, &token))
        return -ETIMEDOUT;
    if (atomic_load(&region->magic) == 0) {
        if (getrandom(region->seed, sizeof region->seed, 0) != (ssize_t)sizeof region->seed)
            err = -EIO;
        else
            atomic_store(&region->magic, CELLS_MAGIC);
    } else if (atomic_load(&region->magic) != CELLS_MAGIC) {
        err = -EPROTO;
    }
    unclaim(region, token);
    return err;
}

/* A claim that stays the same for CELLS_STALE_NS is that of one who died. */
static bool claim(struct cells_region *region, uint64_t *token) {
    int64_t begin_ns = clock_now_ns(), since_ns = begin_ns;
    uint64_t seen = 0;

    for (;;) {
        int64_t now_ns = clock_now_ns();
        uint64_t found = 0;

        *token = (uint64_t)now_ns;
        if (atomic_compare_exchange_strong(&region->claimed_ns, &found, *token))
            return true;
        if (found != seen) {
            seen = found;
            since_ns = now_ns;
        } else if (now_ns - since_ns >= CELLS_STALE_NS &&
                   atomic_compare_exchange_strong(&region->claimed_ns, &found, *token)) {
            return true;
        }
        if (now_ns - begin_ns >= 2 * CELLS_STALE_NS)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

static void unclaim(struct cells_region *region, uint64_t token) {
    atomic_compare_exchange_strong(&region->claimed_ns, &token, 0);
}

static struct cells_entry *find(struct cells *cells, const char *name, unsigned count) {
    for (unsigned i = 0; i < CELLS_TABLES_MAX; i++) {
        struct cells_entry *entry = &cells->region->entries[i];

        if (atomic_load(&entry->is_ready) && atomic_load(&entry->count) == count &&
            strncmp(entry->name, name, sizeof entry->name) == 0)
            return entry;
    }
    return NULL;
}

/* In the place of nothing, or of tables that nobody looks after. */
static struct cells_entry *make(struct cells *cells, const char *name, unsigned count) {
    uint32_t buckets = (count + CELLS_PER_BUCKET - 1) / CELLS_PER_BUCKET;
    uint64_t now_ns = (uint64_t)clock_now_ns();
    size_t bytes = table_bytes(buckets), offset;
    struct cells_entry *entry = NULL;

    if (!find_place(cells, bytes, now_ns, &offset))
        return NULL;
    for (unsigned i = 0; i < CELLS_TABLES_MAX; i++) {
        struct cells_entry *other = &cells->region->entries[i];
        uint64_t from = atomic_load(&other->offset);

        if (is_alive(cells, i, now_ns))
            continue;
        /* Whoever comes back to find it must not find it on top of ours. */
        if (from < offset + bytes && offset < from + table_bytes(atomic_load(&other->buckets)))
            atomic_store(&other->is_ready, 0);
        if (!entry || !atomic_load(&other->is_ready))
            entry = other;
    }
    if (!entry)
        return NULL;
    atomic_store(&entry->is_ready, 0);
    if (madvise((char *)cells->region + offset, bytes, MADV_REMOVE) < 0)
        memset((char *)cells->region + offset, 0, bytes);
    strncpy(entry->name, name, sizeof entry->name);
    atomic_store(&entry->buckets, buckets);
    atomic_store(&entry->count, count);
    atomic_store(&entry->offset, offset);
    atomic_store(&entry->seen_ns, now_ns);
    atomic_store(&entry->is_ready, 1);
    return entry;
}

/* The first gap between tables that are alive: behind the directory, or behind one of them. */
static bool find_place(const struct cells *cells, size_t bytes, uint64_t now_ns, size_t *offset) {
    size_t best = SIZE_MAX;

    for (unsigned i = 0; i <= CELLS_TABLES_MAX; i++) {
        const struct cells_entry *before = i > 0 ? &cells->region->entries[i - 1] : NULL;
        size_t from = CELLS_DIRECTORY_BYTES;
        bool is_free = true;

        if (before && !is_alive(cells, i - 1, now_ns))
            continue;
        if (before)
            from = atomic_load(&before->offset) + table_bytes(atomic_load(&before->buckets));
        if (from > cells->bytes || cells->bytes - from < bytes || from >= best)
            continue;
        for (unsigned j = 0; j < CELLS_TABLES_MAX && is_free; j++) {
            const struct cells_entry *other = &cells->region->entries[j];
            uint64_t at = atomic_load(&other->offset);

            is_free = !is_alive(cells, j, now_ns) || at >= from + bytes ||
                      at + table_bytes(atomic_load(&other->buckets)) <= from;
        }
        if (is_free)
            best = from;
    }
    *offset = best;
    return best != SIZE_MAX;
}

static bool is_alive(const struct cells *cells, unsigned index, uint64_t now_ns) {
    const struct cells_entry *entry = &cells->region->entries[index];
    uint64_t seen_ns = atomic_load(&entry->seen_ns);

    return atomic_load(&entry->is_ready) &&
           (atomic_load(&cells->tables[index].buckets) || seen_ns + CELLS_ABANDONED_NS > now_ns);
}

/* Claimed. What the entry says is looked at as if anybody had written it. */
static struct weir_table *open_entry(struct cells *cells, struct cells_entry *entry) {
    struct weir_table *table = &cells->tables[entry - cells->region->entries];
    uint64_t words[(CELLS_NAME_MAX + 1) / 8];
    uint64_t buckets = atomic_load(&entry->buckets), offset = atomic_load(&entry->offset);
    struct bucket *at;

    if (buckets == 0 || buckets > CELLS_MAX || offset % CELLS_PAGE != 0 ||
        offset < CELLS_DIRECTORY_BYTES || offset > cells->bytes ||
        cells->bytes - offset < table_bytes(buckets))
        return NULL;
    at = (struct bucket *)((char *)cells->region + offset);
    if (atomic_load(&table->buckets))
        return atomic_load(&table->buckets) == at && table->count == buckets ? table : NULL;
    memcpy(words, entry->name, sizeof words);
    table->count = (uint32_t)buckets;
    table->seed[0] = cells->region->seed[0];
    table->seed[1] = cells->region->seed[1] ^
                     siphash(cells->region->seed, words, sizeof words / sizeof *words, buckets);
    atomic_store(&table->buckets, at);
    return table;
}

static bool keep_key(const struct weir_table *table, struct weir_text text,
                     struct bucket_key *key) {
    *key = (struct bucket_key){.len = text.len};
    if (text.len == 0 || text.len > WEIR_KEY_MAX)
        return false;
    memcpy(key->words, text.base, text.len);
    key->tag = siphash(table->seed, key->words, (unsigned)(text.len + 7) / 8, text.len);
    return true;
}

static struct bucket *bucket_of(const struct weir_table *table, const struct bucket_key *key) {
    return &table->buckets[(key->tag >> 32) * table->count >> 32];
}

static inline uint64_t rotate(uint64_t x, unsigned by) {
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein) over whole words: which keys share a bucket cannot be guessed.
 */
static uint64_t siphash(const uint64_t seed[2], const uint64_t *words, unsigned count,
                        uint64_t len) {
    uint64_t v[4] = {seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
                     seed[0] ^ UINT64_C(0x6c7967656e657261),
                     seed[1] ^ UINT64_C(0x7465646279746573)};

    for (unsigned i = 0; i <= count; i++) {
        uint64_t word = i < count ? words[i] : len;

        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
