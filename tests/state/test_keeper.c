/* Tests of the keeper: sections, its thread, and when the file is replaced. */
#include "state/keeper.h"

#include "base/log.h"
#include "directory.h"
#include "state/state_file.h"

#include <stdatomic.h>

#define PATIENCE_NS (20 * NS_PER_S)

/* A section that keeps a number and notes what it was handed. */
struct number {
    _Atomic int value;
    _Atomic unsigned saves;
    int taken; /* 0: nothing */
};

static json_t *save(void *ctx, const struct keeper_now *now) {
    struct number *number = ctx;
    int value = atomic_load(&number->value);

    atomic_fetch_add(&number->saves, 1);
    return value ? json_pack("{s:i}", "value", value) : json_object();
}

static void take_up(void *ctx, const json_t *saved, const struct keeper_now *now) {
    struct number *number = ctx;

    assert_true(json_is_object(saved));
    number->taken = (int)json_integer_value(json_object_get(saved, "value"));
}

static void add(struct keeper *keeper, const char *name, struct number *number) {
    keeper_add(keeper, &(struct keeper_section){name, number, save, take_up});
}

/* What the file has for @name; 0: nothing. */
static int in_file(const char *name) {
    json_t *sections = state_file_read(PATH);
    json_t *value = json_object_get(json_object_get(sections, name), "value");
    int found = (int)json_integer_value(value);

    json_decref(sections);
    return found;
}

static void await_save(struct keeper *keeper, struct number *number) {
    unsigned before = atomic_load(&number->saves);
    int64_t until_ns = clock_now_ns() + PATIENCE_NS;

    keeper_hurry(keeper);
    while (atomic_load(&number->saves) == before)
        assert_true(clock_now_ns() < until_ns);
}

/* Until what the file has for "a" is @value. */
static void await_file(int value) {
    int64_t until_ns = clock_now_ns() + PATIENCE_NS;

    while (in_file("a") != value)
        assert_true(clock_now_ns() < until_ns);
}

static void what_one_keeps_the_next_takes_up(void **state) {
    struct number a = {.value = 1}, b = {.value = 2}, next_a = {0}, next_b = {0};
    struct keeper *keeper = keeper_open(PATH);

    add(keeper, "a", &a);
    add(keeper, "b", &b);
    keeper_start(keeper);
    await_file(1); /* it writes at once */
    atomic_store(&a.value, 3);
    keeper_close(keeper); /* and at the end */
    assert_int_equal(a.taken, 0);
    keeper = keeper_open(PATH);
    add(keeper, "a", &next_a);
    add(keeper, "b", &next_b);
    keeper_close(keeper);
    assert_int_equal(next_a.taken, 3);
    assert_int_equal(next_b.taken, 2);
}

static void a_section_that_nobody_adds_is_dropped(void **state) {
    struct number a = {.value = 1}, b = {.value = 2};
    struct keeper *keeper = keeper_open(PATH);

    add(keeper, "a", &a);
    add(keeper, "b", &b);
    keeper_start(keeper);
    keeper_close(keeper);
    assert_int_equal(in_file("b"), 2);
    keeper = keeper_open(PATH);
    add(keeper, "a", &a);
    keeper_start(keeper);
    keeper_close(keeper);
    assert_int_equal(in_file("a"), 1);
    assert_int_equal(in_file("b"), 0);
}

static void a_section_that_is_no_object_is_not_handed_on(void **state) {
    static const char text[] = "{\"weir_state\": 1, \"sections\": {\"a\": [1]}}";
    struct number a = {.taken = -1};
    struct keeper *keeper;

    put_file(PATH, text, strlen(text));
    keeper = keeper_open(PATH);
    add(keeper, "a", &a);
    keeper_close(keeper);
    assert_int_equal(a.taken, -1);
}

static void all_sections_that_may_be_are_kept(void **state) {
    static const char *const names[KEEPER_SECTIONS_MAX] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                                           "i", "j", "k", "l", "m", "n", "o", "p"};
    struct number numbers[KEEPER_SECTIONS_MAX] = {0};
    struct keeper *keeper = keeper_open(PATH);

    for (int i = 0; i < KEEPER_SECTIONS_MAX; i++) {
        numbers[i].value = i + 1;
        add(keeper, names[i], &numbers[i]);
    }
    keeper_start(keeper);
    keeper_close(keeper);
    for (int i = 0; i < KEEPER_SECTIONS_MAX; i++)
        assert_int_equal(in_file(names[i]), i + 1);
}

static void what_has_not_changed_is_not_written_again(void **state) {
    struct number a = {.value = 1};
    struct keeper *keeper = keeper_open(PATH);

    add(keeper, "a", &a);
    keeper_start(keeper);
    await_file(1);
    unlink(PATH);
    for (int i = 0; i < 10; i++)
        await_save(keeper, &a);
    keeper_close(keeper);
    assert_false(is_there(PATH));
}

static void one_that_has_not_started_writes_nothing(void **state) {
    struct number a = {.value = 1};
    struct keeper *keeper = keeper_open(PATH);

    add(keeper, "a", &a);
    keeper_hurry(keeper);
    keeper_close(keeper);
    assert_false(is_there(PATH));
}

static void one_that_was_released_writes_nothing_more(void **state) {
    struct number a = {.value = 1};
    struct keeper *keeper = keeper_open(PATH);

    add(keeper, "a", &a);
    keeper_start(keeper);
    await_file(1);
    keeper_release(keeper);
    atomic_store(&a.value, 2);
    keeper_hurry(keeper);
    keeper_close(keeper);
    assert_int_equal(in_file("a"), 1);
}

/* One writes, its successor has been told to; then the first is released: what counts is the
 * successor's. */
static void two_generations_do_not_fight(void **state) {
    struct number old = {.value = 1}, next = {.value = 1000};
    struct keeper *a = keeper_open(PATH), *b = keeper_open(PATH);

    add(a, "a", &old);
    add(b, "a", &next);
    keeper_start(a);
    keeper_start(b);
    for (int i = 0; i < 200; i++) {
        json_t *found;

        atomic_fetch_add(&old.value, 1);
        atomic_fetch_add(&next.value, 1);
        keeper_hurry(a);
        keeper_hurry(b);
        found = state_file_read(PATH);
        assert_true(found || !is_there(BAD_PATH));
        json_decref(found);
    }
    keeper_release(a);
    keeper_close(a);
    atomic_fetch_add(&next.value, 1);
    keeper_close(b);
    assert_int_equal(in_file("a"), 1201);
    assert_false(is_there(BAD_PATH));
}

/* How often @word stands in the file. */
static unsigned count_in(const char *path, const char *word) {
    unsigned count = 0;
    size_t len;
    char *text = get_file(path, &len);

    for (const char *at = text; (at = strstr(at, word)); at++)
        count++;
    free(text);
    return count;
}

static void who_cannot_write_says_so_once_and_goes_on(void **state) {
    const struct log_options log = {LOG_INFO, "./log", NULL};
    const char *failed;
    struct number a = {.value = 1};
    struct keeper *keeper;

    assert_int_equal(log_open(&log, &failed), 0);
    assert_int_equal(mkdir(NEW_PATH, 0700), 0); /* in the way; stops root, too */
    keeper = keeper_open(PATH);
    add(keeper, "a", &a);
    keeper_start(keeper);
    for (int i = 0; i < 20; i++)
        await_save(keeper, &a);
    assert_int_equal(rmdir(NEW_PATH), 0);
    keeper_hurry(keeper);
    await_file(1); /* though nothing has changed since the first try */
    keeper_close(keeper);
    log_close();
    assert_int_equal(count_in("./log", "cannot write the state file './state.json'"), 1);
    assert_int_equal(count_in("./log", "is written again"), 1);
    unlink("./log");
}

static void nothing_is_kept_without_a_path(void **state) {
    struct number a = {.value = 1};
    struct keeper *keeper = keeper_open(NULL);

    assert_null(keeper);
    add(keeper, "a", &a);
    keeper_start(keeper);
    keeper_hurry(keeper);
    keeper_release(keeper);
    keeper_close(keeper);
    assert_int_equal(a.saves, 0);
}

static void instants_go_from_one_clock_to_the_other_and_back(void **state) {
    const struct keeper_now then = {5 * NS_PER_S, 1000000 * NS_PER_S};
    const struct keeper_now now = {2 * NS_PER_S, 1000100 * NS_PER_S}; /* after a boot */
    const int64_t wrong_ms[] = {0, -1, INT64_MAX, INT64_MIN,
                                INT64_C(1000000000) + 400 * 86400000LL};
    json_t *instant = keeper_instant(4 * NS_PER_S, &then), *text = json_string("1000000000");
    int64_t ahead_ns = 7;

    assert_true(keeper_ahead(instant, &then, &ahead_ns));
    assert_int_equal(ahead_ns, -NS_PER_S);
    assert_true(keeper_ahead(instant, &now, &ahead_ns));
    assert_int_equal(ahead_ns, -101 * NS_PER_S);
    assert_false(keeper_ahead(NULL, &now, &ahead_ns));
    assert_false(keeper_ahead(text, &now, &ahead_ns));
    for (size_t i = 0; i < sizeof wrong_ms / sizeof *wrong_ms; i++) {
        const struct keeper_now late = {NS_PER_S, 2000000000 * NS_PER_S}; /* 2033 */
        json_t *wrong = json_integer(wrong_ms[i]);

        assert_false(keeper_ahead(wrong, &late, &ahead_ns));
        json_decref(wrong);
    }
    assert_int_equal(ahead_ns, -101 * NS_PER_S);
    json_decref(instant);
    json_decref(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, enter_directory, leave_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_one_keeps_the_next_takes_up),
        TEST(a_section_that_nobody_adds_is_dropped),
        TEST(a_section_that_is_no_object_is_not_handed_on),
        TEST(all_sections_that_may_be_are_kept),
        TEST(what_has_not_changed_is_not_written_again),
        TEST(one_that_has_not_started_writes_nothing),
        TEST(one_that_was_released_writes_nothing_more),
        TEST(two_generations_do_not_fight),
        TEST(who_cannot_write_says_so_once_and_goes_on),
        TEST(nothing_is_kept_without_a_path),
        TEST(instants_go_from_one_clock_to_the_other_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
