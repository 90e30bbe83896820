/* Heaps: pages, blocks of a size in a page with a bit for each, and runs of pages. */
#include "handler/heap.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES (HEAP_BYTES / HEAP_PAGE)
#define STRIDE (HEAP_BYTES + HEAP_GUARD)
#define BLOCK_MIN 16
#define WORDS (HEAP_PAGE / BLOCK_MIN / 64)
#define NONE UINT32_MAX

/* What a page is: a class of block sizes + 1, or one of these. */
enum page_kind { PAGE_FREE = 0, PAGE_RUN = 0xfe, PAGE_RUN_REST = 0xff };

/* Those up to BLOCK_MAX; each power of two among them, so that blocks can be aligned. */
static const uint16_t sizes[] = {16,   32,   48,   64,   80,   96,   112, 128, 160,
                                 192,  224,  256,  320,  384,  448,  512, 640, 768,
                                 1024, 1344, 1632, 2048, 2720, 4096, 8192};
#define CLASSES (sizeof sizes / sizeof *sizes)
#define BLOCK_MAX 8192

struct heap_page {
    uint32_t prev, next;  /* in the list of its class while a block is free; NONE at the ends */
    uint32_t free;        /* blocks; of a run: its pages */
    uint64_t bits[WORDS]; /* one per block: it is free */
};

struct heap {
    char *base;
    uint32_t top;              /* pages below have been used */
    uint32_t open;             /* pages below can be accessed */
    uint32_t used;             /* pages in use */
    uint32_t search;           /* no page below is free */
    int64_t outside;           /* bytes; may be below 0 for a while */
    uint32_t partial[CLASSES]; /* first page with a free block */
    uint8_t kinds[PAGES];      /* enum page_kind */
    struct heap_page pages[PAGES];
};

_Thread_local struct heap *heap_current __attribute__((tls_model("initial-exec")));
uintptr_t heaps_base, heaps_size;

/* Which class a size of 16 * (i + 1) is of, up to SMALL_MAX; larger ones are searched for. */
#define SMALL_MAX 1024
static uint8_t class_of_size[SMALL_MAX / BLOCK_MIN];
static struct heap *heaps; /* owned mapping */
static unsigned heap_count;

static unsigned class_of(size_t size);
static void *take_block(struct heap *heap, unsigned class);
static void give_block(struct heap *heap, uint32_t at, unsigned class, size_t index);
static uint32_t take_pages(struct heap *heap, uint32_t count, uint32_t align);
static bool open_pages(struct heap *heap, uint32_t count);
static void give_pages(struct heap *heap, uint32_t at, uint32_t count);
static void link_page(struct heap *heap, unsigned class, uint32_t at);
static void unlink_page(struct heap *heap, unsigned class, uint32_t at);
static char *page_memory(const struct heap *heap, uint32_t at);

int heaps_reserve(unsigned count) {
    size_t bytes = count * STRIDE + HEAP_GUARD + HEAP_STEP;
    char *range, *known;

    assert(!heaps);
    range = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
        return -errno;
    known = mmap(NULL, count * sizeof(struct heap), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (known == MAP_FAILED) {
        munmap(range, bytes);
        return -errno;
    }
    for (unsigned i = 0, class = 0; i < SMALL_MAX / BLOCK_MIN; i++) {
        if (sizes[class] < (i + 1) * BLOCK_MIN)
            class ++;
        class_of_size[i] = (uint8_t) class;
    }
    heaps = (void *)known;
    heap_count = count;
    heaps_base = (uintptr_t)range;
    range = (char *)(((uintptr_t)range + HEAP_STEP - 1) & ~(HEAP_STEP - 1)) + HEAP_GUARD;
    for (unsigned i = 0; i < count; i++) {
        heaps[i].base = range + i * STRIDE;
        memset(heaps[i].partial, 0xff, sizeof heaps[i].partial);
    }
    heaps_size = bytes;
    return 0;
}

void heaps_release(void) {
    if (!heaps)
        return;
    munmap((void *)heaps_base, heaps_size);
    munmap(heaps, heap_count * sizeof *heaps);
    heaps = NULL;
    heaps_base = heaps_size = 0;
}

struct heap *heap_at(unsigned index) {
    assert(index < heap_count);
    return &heaps[index];
}

void heap_drop(struct heap *heap) {
    if (heap->open > 0) {
        void *fresh = mmap(heap->base, heap->open * HEAP_PAGE, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

        assert(fresh == heap->base);
    }
    memset(heap->kinds, PAGE_FREE, heap->top);
    memset(heap->partial, 0xff, sizeof heap->partial);
    heap->top = heap->open = heap->used = heap->search = 0;
    heap->outside = 0;
}

void *heap_alloc(struct heap *heap, size_t size) {
    uint32_t at;

    if (size <= BLOCK_MAX)
        return take_block(heap, class_of(size));
    if (size > HEAP_BYTES)
        return NULL;
    at = take_pages(heap, (uint32_t)((size + HEAP_PAGE - 1) / HEAP_PAGE), 1);
    return at == NONE ? NULL : page_memory(heap, at);
}

void *heap_alloc_aligned(struct heap *heap, size_t align, size_t size) {
    size_t power = BLOCK_MIN;
    uint32_t at;

    while (power < size || power < align) {
        power *= 2;
        if (power > HEAP_BYTES)
            return NULL;
    }
    if (power <= BLOCK_MAX)
        return take_block(heap, class_of(power));
    if (size > HEAP_BYTES)
        return NULL;
    at = take_pages(heap, size > 0 ? (uint32_t)((size + HEAP_PAGE - 1) / HEAP_PAGE) : 1,
                    align > HEAP_PAGE ? (uint32_t)(align / HEAP_PAGE) : 1);
    return at == NONE ? NULL : page_memory(heap, at);
}

bool heap_free(struct heap *heap, void *memory) {
    uintptr_t offset = (uintptr_t)memory - (uintptr_t)heap->base;
    uint32_t at = (uint32_t)(offset / HEAP_PAGE);
    unsigned class;
    size_t index;

    if (offset >= HEAP_BYTES || heap->kinds[at] == PAGE_FREE || heap->kinds[at] == PAGE_RUN_REST)
        return false;
    offset %= HEAP_PAGE;
    if (heap->kinds[at] == PAGE_RUN) {
        if (offset != 0)
            return false;
        give_pages(heap, at, heap->pages[at].free);
        return true;
    }
    class = heap->kinds[at] - 1u;
    index = offset / sizes[class];
    if (offset % sizes[class] != 0 || index >= HEAP_PAGE / sizes[class] ||
        heap->pages[at].bits[index / 64] >> (index % 64) & 1)
        return false;
    give_block(heap, at, class, index);
    return true;
}

size_t heap_size(const struct heap *heap, const void *memory) {
    uintptr_t offset = (uintptr_t)memory - (uintptr_t)heap->base;
    uint32_t at = (uint32_t)(offset / HEAP_PAGE);
    size_t size, index;

    if (offset >= HEAP_BYTES || heap->kinds[at] == PAGE_FREE || heap->kinds[at] == PAGE_RUN_REST)
        return 0;
    offset %= HEAP_PAGE;
    if (heap->kinds[at] == PAGE_RUN)
        return offset == 0 ? heap->pages[at].free * HEAP_PAGE : 0;
    size = sizes[heap->kinds[at] - 1];
    index = offset / size;
    return offset % size == 0 && index < HEAP_PAGE / size &&
                   !(heap->pages[at].bits[index / 64] >> (index % 64) & 1)
               ? size
               : 0;
}

size_t heap_used(const struct heap *heap) {
    return heap->used * HEAP_PAGE;
}

void heap_note_outside(struct heap *heap, int64_t bytes) {
    heap->outside += bytes;
}

size_t heap_outside(const struct heap *heap) {
    return heap->outside > 0 ? (size_t)heap->outside : 0;
}

static unsigned class_of(size_t size) {
    unsigned class;

    if (size <= SMALL_MAX)
        return class_of_size[size > 0 ? (size - 1) / BLOCK_MIN : 0];
    class = class_of_size[SMALL_MAX / BLOCK_MIN - 1];
    while (sizes[class] < size)
        class ++;
    return class;
}

static void *take_block(struct heap *heap, unsigned class) {
    uint32_t at = heap->partial[class];
    struct heap_page *page;
    unsigned word = 0, bit;

    if (at == NONE) {
        unsigned count = HEAP_PAGE / sizes[class];

        at = take_pages(heap, 1, 1);
        if (at == NONE)
            return NULL;
        heap->kinds[at] = (uint8_t)(class + 1);
        page = &heap->pages[at];
        page->free = count;
        for (unsigned i = 0; i < WORDS; i++, count -= count < 64 ? count : 64)
            page->bits[i] = count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
        link_page(heap, class, at);
    }
    page = &heap->pages[at];
    while (!page->bits[word])
        word++;
    bit = (unsigned)__builtin_ctzll(page->bits[word]);
    page->bits[word] &= page->bits[word] - 1;
    if (--page->free == 0)
        unlink_page(heap, class, at);
    return page_memory(heap, at) + (word * 64 + bit) * sizes[class];
}

/* Of pages without a block in use one is kept. */
static void give_block(struct heap *heap, uint32_t at, unsigned class, size_t index) {
    struct heap_page *page = &heap->pages[at];

    page->bits[index / 64] |= UINT64_C(1) << (index % 64);
    if (page->free++ == 0)
        link_page(heap, class, at);
    if (page->free == HEAP_PAGE / sizes[class] && (page->prev != NONE || page->next != NONE)) {
        unlink_page(heap, class, at);
        page->free = 1;
        give_pages(heap, at, 1);
    }
}

/* First fit, a run; NONE when there is no room. The first is a multiple of @align. */
static uint32_t take_pages(struct heap *heap, uint32_t count, uint32_t align) {
    uint32_t at = heap->search, end;

    for (;;) {
        at = (at + align - 1) / align * align;
        if (at > PAGES || count > PAGES - at)
            return NONE;
        for (end = at; end < at + count && end < heap->top && heap->kinds[end] == PAGE_FREE;)
            end++;
        if (end == at + count || end >= heap->top)
            break;
        at = end + 1;
    }
    if (!open_pages(heap, at + count))
        return NONE;
    if (at + count > heap->top)
        heap->top = at + count;
    if (at == heap->search)
        heap->search = at + count;
    heap->kinds[at] = PAGE_RUN;
    memset(heap->kinds + at + 1, PAGE_RUN_REST, count - 1);
    heap->pages[at].free = count;
    heap->used += count;
    return at;
}

static bool open_pages(struct heap *heap, uint32_t count) {
    uint32_t step = HEAP_STEP / HEAP_PAGE, open = (count + step - 1) / step * step;

    if (count <= heap->open)
        return true;
    if (mprotect(page_memory(heap, heap->open), (open - heap->open) * HEAP_PAGE,
                 PROT_READ | PROT_WRITE) < 0)
        return false;
    heap->open = open;
    return true;
}

static void give_pages(struct heap *heap, uint32_t at, uint32_t count) {
    memset(heap->kinds + at, PAGE_FREE, count);
    heap->used -= count;
    if (at < heap->search)
        heap->search = at;
    if (count * HEAP_PAGE >= HEAP_STEP)
        madvise(page_memory(heap, at), count * HEAP_PAGE, MADV_DONTNEED);
}

static void link_page(struct heap *heap, unsigned class, uint32_t at) {
    uint32_t next = heap->partial[class];

    heap->pages[at].prev = NONE;
    heap->pages[at].next = next;
    if (next != NONE)
        heap->pages[next].prev = at;
    heap->partial[class] = at;
}

static void unlink_page(struct heap *heap, unsigned class, uint32_t at) {
    const struct heap_page *page = &heap->pages[at];

    if (page->prev != NONE)
        heap->pages[page->prev].next = page->next;
    else
        heap->partial[class] = page->next;
    if (page->next != NONE)
        heap->pages[page->next].prev = page->prev;
}

static char *page_memory(const struct heap *heap, uint32_t at) {
    return heap->base + (size_t)at * HEAP_PAGE;
}
