/* Tests of counters that outlive those who count. */
#include "supervisor/totals.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static struct totals totals;

static int open_totals(void **state) {
    return totals_open(&totals);
}

static int close_totals(void **state) {
    totals_close(&totals);
    return 0;
}

/* A dead gateway that had counted @n. */
static void *gateway(int64_t n, size_t *size) {
    struct metrics_builder *builder = metrics_builder_new();
    unsigned family = metrics_family(builder, METRICS_COUNTER, "weir_requests_total", "Requests.");
    metrics_cell cell = metrics_series(builder, family, "");
    struct metrics_segment *segment;
    void *memory;

    *size = (metrics_segment_size(builder, 2) + 63) / 64 * 64;
    memory = aligned_alloc(64, *size);
    memset(memory, 0, *size);
    segment = metrics_segment_init(memory, *size, builder, 2);
    metrics_add(metrics_open(segment, 0), cell, 1);
    metrics_add(metrics_open(segment, 1), cell, n - 1);
    metrics_builder_free(builder);
    return memory;
}

static void expect(const struct metrics_segment *segment, const char *line) {
    struct buffer text = {0};

    metrics_render(segment, &text);
    buffer_append_char(&text, '\0');
    assert_non_null(strstr(text.base, line));
    buffer_deinit(&text);
}

static void the_dead_are_added_up(void **state) {
    int64_t sum = 0;

    for (int64_t n = 1; n <= 5; n++) {
        size_t size;
        void *memory = gateway(n, &size);
        char line[64];

        totals_fold(&totals, memory, size);
        free(memory);
        sum += n;
        snprintf(line, sizeof line, "weir_requests_total %d\n", (int)sum);
        expect(totals.base, line);
    }
}

static void the_base_is_memory_that_others_can_read(void **state) {
    size_t size;
    void *memory = gateway(7, &size);
    off_t bytes;
    void *mapped;

    totals_fold(&totals, memory, size);
    free(memory);
    bytes = lseek(totals.base_fd, 0, SEEK_END);
    mapped = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, totals.base_fd, 0);
    assert_ptr_not_equal(mapped, MAP_FAILED);
    expect(metrics_segment_attach(mapped, (size_t)bytes), "weir_requests_total 7\n");
    munmap(mapped, (size_t)bytes);
}

static void who_left_nothing_readable_costs_nothing_of_the_others(void **state) {
    size_t size;
    void *memory = gateway(3, &size), *nothing = calloc(1, 64);

    totals_fold(&totals, memory, size);
    totals_fold(&totals, nothing, 64);
    memset(memory, 0xff, size);
    totals_fold(&totals, memory, size);
    expect(totals.base, "weir_requests_total 3\n");
    free(memory);
    free(nothing);
}

static void the_supervisor_counts_in_its_own_segment(void **state) {
    totals_count_restart(&totals);
    totals_count_restart(&totals);
    totals_count_reload(&totals, RELOAD_REFUSED);
    expect(totals.segment, "weir_gateway_restarts_total 2\n");
    expect(totals.segment, "weir_config_reloads_total{result=\"ok\"} 0\n");
    expect(totals.segment, "weir_config_reloads_total{result=\"refused\"} 1\n");
}

static void a_gateway_cannot_cut_its_memory_short(void **state) {
    void *memory;
    int fd;

    assert_int_equal(totals_memory("test", 4096, &fd, &memory), 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 8192), -1);
    munmap(memory, 4096);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_dead_are_added_up, open_totals, close_totals),
        cmocka_unit_test_setup_teardown(the_base_is_memory_that_others_can_read, open_totals,
                                        close_totals),
        cmocka_unit_test_setup_teardown(who_left_nothing_readable_costs_nothing_of_the_others,
                                        open_totals, close_totals),
        cmocka_unit_test_setup_teardown(the_supervisor_counts_in_its_own_segment, open_totals,
                                        close_totals),
        cmocka_unit_test(a_gateway_cannot_cut_its_memory_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
