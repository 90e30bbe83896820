/* The promises of proxy/handler/cells.h; at the end with threads, and with processes that are
 * killed between any two instructions. */
#include "handler/cell_bucket.h"
#include "handler/cells_parts.h"

#include "base/thread.h"
#include "support/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HANDLER SLICE("limits")
#define THREADS 4
#define CHILDREN 3

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifdef IS_SANITIZED
#define ROUNDS 5000
#define KILLS 40
#else
#define ROUNDS 50000
#define KILLS 300
#endif

static struct cells *cells;

static int set_up(void **state) {
    return cells_open(&cells, -1);
}

static int tear_down(void **state) {
    cells_close(cells);
    cells = NULL;
    return 0;
}

static struct weir_text text(const char *key) {
    return (struct weir_text){key, strlen(key)};
}

static struct weir_table *table_of(const char *name, unsigned count) {
    return cells_table(cells, HANDLER, slice_str(name), count);
}

static struct weir_cell cell_of(struct weir_table *table, const char *key) {
    struct weir_cell cell = {-1, -1};

    assert_true(cells_get(table, text(key), &cell));
    return cell;
}

/* Whatever it is now. */
static void set(struct weir_table *table, const char *key, int64_t a, int64_t b) {
    struct weir_cell from = cell_of(table, key);

    assert_true(cells_swap(table, text(key), &from, (struct weir_cell){a, b}));
}

static void test_a_key_that_nobody_wrote_is_zero(void **state) {
    struct weir_cell cell = cell_of(table_of("t", 10), "nobody");

    assert_int_equal(cell.a, 0);
    assert_int_equal(cell.b, 0);
}

static void test_a_swap_needs_what_is_there(void **state) {
    struct weir_table *table = table_of("t", 10);
    struct weir_cell from = {0, 0};

    assert_true(cells_swap(table, text("k"), &from, (struct weir_cell){1, -2}));
    from = (struct weir_cell){0, 0};
    assert_false(cells_swap(table, text("k"), &from, (struct weir_cell){9, 9}));
    assert_int_equal(from.a, 1);
    assert_int_equal(from.b, -2);
    assert_true(cells_swap(table, text("k"), &from, (struct weir_cell){INT64_MIN, INT64_MAX}));
    assert_int_equal(cell_of(table, "k").a, INT64_MIN);
    assert_int_equal(cell_of(table, "k").b, INT64_MAX);
}

static void test_a_key_set_to_zero_gives_its_place_back(void **state) {
    struct weir_table *table = table_of("t", 1); /* one bucket */
    char key[16];

    for (unsigned i = 0; i < CELLS_WAYS; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        set(table, key, i + 1, 0);
    }
    set(table, "key-3", 0, 0);
    set(table, "new", 7, 0);
    for (unsigned i = 0; i < CELLS_WAYS; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(cell_of(table, key).a, i == 3 ? 0 : i + 1);
    }
    assert_int_equal(cell_of(table, "new").a, 7);
}

static void test_keys_are_all_their_bytes(void **state) {
    struct weir_table *table = table_of("t", 100);
    char longest[WEIR_KEY_MAX + 1];
    struct weir_cell cell = {3, 4};

    memset(longest, 'x', sizeof longest);
    set(table, "a", 1, 0);
    assert_true(cells_get(table, (struct weir_text){"a\0", 2}, &cell));
    assert_int_equal(cell.a, 0);
    cell = (struct weir_cell){0, 0};
    assert_true(cells_swap(table, (struct weir_text){longest, WEIR_KEY_MAX}, &cell,
                           (struct weir_cell){5, 6}));
    assert_true(cells_get(table, (struct weir_text){longest, WEIR_KEY_MAX}, &cell));
    assert_int_equal(cell.b, 6);
    assert_true(cells_get(table, (struct weir_text){longest, WEIR_KEY_MAX - 1}, &cell));
    assert_int_equal(cell.b, 0);
}

static void test_a_key_that_cannot_be_is_refused(void **state) {
    struct weir_table *table = table_of("t", 100);
    char longest[WEIR_KEY_MAX + 1] = {0};
    struct weir_cell cell = {3, 4};

    assert_false(cells_get(table, (struct weir_text){longest, sizeof longest}, &cell));
    assert_false(cells_get(table, (struct weir_text){"", 0}, &cell));
    assert_false(cells_swap(table, (struct weir_text){longest, sizeof longest}, &cell, cell));
    assert_int_equal(cell.a, 3);
    assert_int_equal(cell.b, 4);
}

static void test_a_full_bucket_lets_go_of_the_key_not_used_for_longest(void **state) {
    struct weir_table *table = table_of("t", 1);
    char key[16];

    for (unsigned i = 0; i < CELLS_WAYS; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        set(table, key, i + 1, 0);
    }
    cell_of(table, "key-0"); /* a look is a use */
    set(table, "new", 100, 0);
    for (unsigned i = 0; i < CELLS_WAYS; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(cell_of(table, key).a, i == 1 ? 0 : i + 1);
    }
    assert_int_equal(cell_of(table, "new").a, 100);
}

static void test_nearly_as_many_keys_as_asked_for_find_a_place(void **state) {
    enum { COUNT = 10000 };
    struct weir_table *table = table_of("t", COUNT);
    unsigned found = 0;
    char key[16];

    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "%u", i);
        set(table, key, i + 1, 0);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "%u", i);
        found += cell_of(table, key).a == i + 1;
    }
    assert_true(found >= COUNT * 95 / 100);
}

static void test_a_table_is_bounded(void **state) {
    struct weir_table *table = table_of("t", 100);
    unsigned found = 0;
    char key[16];

    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "%u", i);
        set(table, key, 1, 0);
    }
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "%u", i);
        found += cell_of(table, key).a == 1;
    }
    assert_true(found <= 100 / 5 * CELLS_WAYS);
    assert_true(found >= 100);
}

static void test_tables_are_known_by_handler_name_and_size(void **state) {
    struct weir_table *table = table_of("t", 10);

    set(table, "k", 1, 1);
    assert_ptr_equal(table_of("t", 10), table);
    assert_ptr_not_equal(table_of("t", 11), table);
    assert_ptr_not_equal(table_of("u", 10), table);
    assert_ptr_not_equal(cells_table(cells, SLICE("other"), SLICE("t"), 10), table);
    assert_int_equal(cell_of(table_of("u", 10), "k").a, 0);
    assert_int_equal(cell_of(table_of("t", 11), "k").a, 0);
}

static void test_a_table_that_cannot_be_is_refused(void **state) {
    char name[CELLS_NAME_MAX + 1];

    memset(name, 'n', sizeof name);
    assert_null(table_of("t", 0));
    assert_null(table_of("t", CELLS_MAX + 1));
    assert_non_null(table_of("t", CELLS_MAX));
    assert_null(cells_table(cells, SLICE("h"), slice_of(name, CELLS_NAME_MAX - 1), 1));
    assert_non_null(cells_table(cells, SLICE("h"), slice_of(name, CELLS_NAME_MAX - 2), 1));
    assert_null(cells_table(cells, SLICE("h"), slice_of("a\0b", 3), 1));
}

static void test_there_are_no_more_tables_than_have_room(void **state) {
    char name[16];

    for (unsigned i = 0; i < CELLS_TABLES_MAX; i++) {
        snprintf(name, sizeof name, "t%u", i);
        assert_non_null(table_of(name, 1));
    }
    assert_null(table_of("one-more", 1));
    assert_non_null(table_of("t7", 1));
}

static void test_there_are_no_more_cells_than_memory(void **state) {
    assert_non_null(table_of("a", CELLS_MAX));
    assert_null(table_of("b", CELLS_MAX));
    assert_non_null(table_of("c", 1000));
}

/* What a memfd is to one gateway after another. */
static int make_region(void) {
    int fd = memfd_create("cells", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CELLS_REGION_BYTES), 0);
    return fd;
}

static void test_the_next_gateway_finds_what_the_last_one_counted(void **state) {
    int fd = make_region();
    struct cells *first, *second;
    struct weir_cell cell = {0, 0};

    assert_int_equal(cells_open(&first, fd), 0);
    assert_true(cells_swap(cells_table(first, HANDLER, SLICE("t"), 100), text("k"), &cell,
                           (struct weir_cell){42, 43}));
    cells_close(first);
    assert_int_equal(cells_open(&second, fd), 0);
    assert_true(cells_get(cells_table(second, HANDLER, SLICE("t"), 100), text("k"), &cell));
    assert_int_equal(cell.a, 42);
    assert_int_equal(cell.b, 43);
    cells_close(second);
    close(fd);
}

static void test_another_version_is_left_alone(void **state) {
    int fd = make_region();
    uint64_t magic = 1;
    struct cells *other;

    assert_int_equal(pwrite(fd, &magic, sizeof magic, 0), sizeof magic);
    assert_int_equal(cells_open(&other, fd), -EPROTO);
    assert_int_equal(pread(fd, &magic, sizeof magic, 0), sizeof magic);
    assert_int_equal(magic, 1);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(cells_open(&other, fd), -EINVAL);
    close(fd);
}

static struct cells_region *map_directory(int fd) {
    struct cells_region *region =
        mmap(NULL, sizeof *region, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_true(region != MAP_FAILED);
    return region;
}

/* As if nobody had looked after the tables for so long. */
static void abandon(struct cells_region *region) {
    for (unsigned i = 0; i < CELLS_TABLES_MAX; i++)
        region->entries[i].seen_ns = (uint64_t)(clock_now_ns() - CELLS_ABANDONED_NS - NS_PER_S);
}

static void test_an_abandoned_table_makes_room(void **state) {
    int fd = make_region();
    struct cells_region *region = map_directory(fd);
    struct weir_cell cell = {0, 0};
    struct cells *first, *second;
    struct weir_table *table;

    assert_int_equal(cells_open(&first, fd), 0);
    table = cells_table(first, HANDLER, SLICE("big"), CELLS_MAX);
    assert_true(cells_swap(table, text("k"), &cell, (struct weir_cell){1, 1}));
    assert_int_equal(cells_open(&second, fd), 0);
    assert_null(cells_table(second, HANDLER, SLICE("bigger"), CELLS_MAX - 1));
    abandon(region);
    assert_non_null(cells_table(second, HANDLER, SLICE("big"), CELLS_MAX)); /* still the same */
    abandon(region);
    assert_null(cells_table(second, HANDLER, SLICE("bigger"), CELLS_MAX - 1)); /* its own */
    cells_close(second);
    assert_int_equal(cells_open(&second, fd), 0);
    table = cells_table(second, HANDLER, SLICE("bigger"), CELLS_MAX - 1);
    assert_non_null(table);
    cell = (struct weir_cell){9, 9};
    assert_true(cells_get(table, text("k"), &cell));
    assert_int_equal(cell.a, 0);
    cells_close(first);
    cells_close(second);
    munmap(region, sizeof *region);
    close(fd);
}

static void test_a_table_that_is_looked_after_stays(void **state) {
    int fd = make_region();
    struct cells_region *region = map_directory(fd);
    struct cells *first, *second;

    assert_int_equal(cells_open(&first, fd), 0);
    assert_int_equal(cells_open(&second, fd), 0);
    assert_non_null(cells_table(first, HANDLER, SLICE("big"), CELLS_MAX));
    abandon(region);
    cells_beat(second); /* it has opened none */
    assert_true(region->entries[0].seen_ns + CELLS_ABANDONED_NS < (uint64_t)clock_now_ns());
    cells_beat(first);
    assert_null(cells_table(second, HANDLER, SLICE("bigger"), CELLS_MAX - 1));
    cells_close(first);
    cells_close(second);
    munmap(region, sizeof *region);
    close(fd);
}

/* Who died while changing the directory is waited for, then passed by. */
static void test_a_dead_claimer_is_passed_by(void **state) {
    int fd = make_region();
    uint64_t claim = (uint64_t)clock_now_ns();
    struct cells *other;
    int64_t before_ns = clock_now_ns();

    assert_int_equal(pwrite(fd, &claim, sizeof claim, sizeof(uint64_t)), sizeof claim);
    assert_int_equal(cells_open(&other, fd), 0);
    assert_true(clock_now_ns() - before_ns >= CELLS_STALE_NS);
    assert_non_null(cells_table(other, HANDLER, SLICE("t"), 1));
    cells_close(other);
    close(fd);
}

/* As if so many had died while they filled a record. */
static void test_records_of_the_dead_are_taken_after_a_while(void **state) {
    int fd = make_region();
    struct weir_cell cell = {0, 0};
    struct weir_table *table;
    struct bucket *bucket;
    struct cells *other;
    char *memory;

    assert_int_equal(cells_open(&other, fd), 0);
    table = cells_table(other, HANDLER, SLICE("t"), 1);
    memory =
        mmap(NULL, CELLS_DIRECTORY_BYTES + CELLS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(memory != MAP_FAILED);
    bucket = (struct bucket *)(memory + CELLS_DIRECTORY_BYTES);
    for (unsigned i = 0; i < BUCKET_RECORDS; i++)
        bucket->records[i].taken_ns = (uint64_t)clock_now_ns();
    assert_false(cells_swap(table, text("k"), &cell, (struct weir_cell){1, 1}));
    assert_true(cells_get(table, text("k"), &cell)); /* who only looks is not kept waiting */
    for (unsigned i = 0; i < BUCKET_RECORDS; i++)
        bucket->records[i].taken_ns = (uint64_t)(clock_now_ns() - CELLS_STALE_NS - NS_PER_MS);
    assert_true(cells_swap(table, text("k"), &cell, (struct weir_cell){1, 1}));
    munmap(memory, CELLS_DIRECTORY_BYTES + CELLS_PAGE);
    cells_close(other);
    close(fd);
}

/* A worker process may have written anything anywhere. */
static void test_damage_is_no_crash(void **state) {
    uint64_t seed = 1;

    for (unsigned round = 0; round < 20; round++) {
        int fd = make_region();
        struct weir_cell cell = {0, 0};
        struct weir_table *table;
        struct cells *other;
        uint64_t *memory;
        char key[16];

        assert_int_equal(cells_open(&other, fd), 0);
        table = cells_table(other, HANDLER, SLICE("t"), 100);
        memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(memory != MAP_FAILED);
        for (size_t i = 2; i < 65536 / 8; i++)
            memory[i] = round % 2 ? UINT64_MAX : rnd(&seed);
        for (unsigned i = 0; i < 200; i++) {
            snprintf(key, sizeof key, "%u", i);
            cells_get(table, text(key), &cell);
            cells_swap(table, text(key), &cell, (struct weir_cell){i, i});
        }
        cells_table(other, HANDLER, SLICE("t"), 100);
        cells_table(other, HANDLER, SLICE("u"), 100);
        munmap(memory, 65536);
        cells_close(other);
        close(fd);
    }
}

/* Adds 1 to a, takes 1 from b; others do, too. */
static bool add_one(struct weir_table *table, const char *key) {
    struct weir_cell cell = {0, 0};

    if (!cells_get(table, text(key), &cell))
        return false;
    for (unsigned i = 0; i < 1000000; i++)
        if (cells_swap(table, text(key), &cell, (struct weir_cell){cell.a + 1, cell.b - 1}))
            return true;
    return false;
}

static const char *const shared_keys[] = {"one", "two", "three"};

/* Nothing that was counted is unseen afterwards, by whomever. */
static void *count(void *arg) {
    int64_t seen[3] = {0};

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weir_cell cell = {0, 0};
        unsigned j = i % 3;

        if (!add_one(arg, shared_keys[j]) || !cells_get(arg, text(shared_keys[j]), &cell) ||
            cell.a != -cell.b || cell.a <= seen[j])
            return arg;
        seen[j] = cell.a;
    }
    return NULL;
}

static void test_threads_lose_no_count_and_see_whole_cells(void **state) {
    struct weir_table *table = table_of("t", 1); /* all in one bucket */
    pthread_t threads[THREADS];
    int64_t sum = 0;

    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(thread_start(&threads[i], count, table), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    for (unsigned i = 0; i < 3; i++)
        sum += cell_of(table, shared_keys[i]).a;
    assert_int_equal(sum, (int64_t)THREADS * ROUNDS);
}

/* What a child has done for certain. */
struct tally {
    _Atomic int64_t done[CHILDREN];
};

static pid_t start_child(struct weir_table *table, struct tally *tally, unsigned index) {
    pid_t child = fork();

    assert_true(child >= 0);
    if (child != 0)
        return child;
    for (;;)
        if (add_one(table, "shared"))
            atomic_fetch_add(&tally->done[index], 1);
}

/* Each killed child may have been between its swap and its tally: one count more than the tally. */
static void test_processes_killed_in_the_middle_leave_whole_tables(void **state) {
    struct weir_table *table = table_of("t", 1);
    struct tally *tally =
        mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[CHILDREN];
    int64_t sum = 0;
    uint64_t seed = 7;

    assert_true(tally != MAP_FAILED);
    for (unsigned i = 0; i < CHILDREN; i++)
        children[i] = start_child(table, tally, i);
    for (unsigned kills = 0; kills < KILLS; kills++) {
        unsigned index = kills % CHILDREN;
        int64_t before = atomic_load(&tally->done[index]), until = before + 1 + rnd(&seed) % 50;
        int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;

        while (atomic_load(&tally->done[index]) < until && clock_now_ns() < give_up_ns)
            nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
        assert_true(atomic_load(&tally->done[index]) >= until); /* it gets on */
        kill(children[index], SIGKILL);
        assert_int_equal(waitpid(children[index], NULL, 0), children[index]);
        children[index] = start_child(table, tally, index);
    }
    for (unsigned i = 0; i < CHILDREN; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
        sum += atomic_load(&tally->done[i]);
    }
    assert_true(add_one(table, "shared"));
    assert_in_range(cell_of(table, "shared").a, sum + 1, sum + 1 + KILLS + CHILDREN);
    assert_int_equal(cell_of(table, "shared").a, -cell_of(table, "shared").b);
    munmap(tally, sizeof *tally);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_key_that_nobody_wrote_is_zero),
        TEST(test_a_swap_needs_what_is_there),
        TEST(test_a_key_set_to_zero_gives_its_place_back),
        TEST(test_keys_are_all_their_bytes),
        TEST(test_a_key_that_cannot_be_is_refused),
        TEST(test_a_full_bucket_lets_go_of_the_key_not_used_for_longest),
        TEST(test_nearly_as_many_keys_as_asked_for_find_a_place),
        TEST(test_a_table_is_bounded),
        TEST(test_tables_are_known_by_handler_name_and_size),
        TEST(test_a_table_that_cannot_be_is_refused),
        TEST(test_there_are_no_more_tables_than_have_room),
        TEST(test_there_are_no_more_cells_than_memory),
        TEST(test_the_next_gateway_finds_what_the_last_one_counted),
        TEST(test_another_version_is_left_alone),
        TEST(test_an_abandoned_table_makes_room),
        TEST(test_a_table_that_is_looked_after_stays),
        TEST(test_a_dead_claimer_is_passed_by),
        TEST(test_records_of_the_dead_are_taken_after_a_while),
        TEST(test_damage_is_no_crash),
        TEST(test_threads_lose_no_count_and_see_whole_cells),
        TEST(test_processes_killed_in_the_middle_leave_whole_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
