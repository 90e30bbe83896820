/* Plugins as files: what is loaded, what is refused and why, static data, and names of functions.
 */
#include "support/unit.h"

#include "handler/plugin.h"
#include "handler/trap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct slice read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat stat_of;
    char *bytes;

    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &stat_of), 0);
    bytes = malloc((size_t)stat_of.st_size);
    assert_int_equal(fread(bytes, 1, (size_t)stat_of.st_size, file), stat_of.st_size);
    fclose(file);
    return slice_of(bytes, (size_t)stat_of.st_size);
}

static void a_plugin_is_loaded_and_known_by_its_functions(void **state) {
    struct plugin *plugin = NULL;
    uintptr_t inside = 99, pc;
    char *why = NULL;

    assert_int_equal(plugin_open(&plugin, PLUGINS "/fault.so", &why), 0);
    assert_string_equal(plugin_functions(plugin)->name, "fault");
    assert_int_equal(plugin->event_count, 1);
    memcpy(&pc, &plugin_functions(plugin)->request, sizeof pc);
    assert_string_equal(plugin_symbol(plugin, pc + 1, &inside), "request");
    assert_int_equal(inside, 1);
    assert_null(plugin_symbol(plugin, 16, &inside));
    assert_null(plugin_symbol(plugin, (uintptr_t)&state, &inside));
    plugin_close(plugin);
    plugin_close(NULL);
}

static void what_is_no_plugin_is_refused_with_the_reason(void **state) {
    struct plugin *plugin = NULL;
    char *why = NULL;

    assert_int_not_equal(plugin_open(&plugin, PLUGINS "/none.so", &why), 0);
    assert_non_null(strstr(why, "cannot read plugin"));
    free(why);
    assert_int_not_equal(plugin_open(&plugin, "/", &why), 0);
    assert_non_null(strstr(why, "Is a directory"));
    free(why);
    assert_int_not_equal(plugin_open(&plugin, "/dev/zero", &why), 0);
    free(why);
    assert_int_not_equal(plugin_open(&plugin, "/etc/passwd", &why), 0);
    assert_non_null(strstr(why, "cannot load plugin '/etc/passwd'"));
    assert_null(strstr(why, "/proc/self"));
    free(why);
    assert_int_not_equal(plugin_open(&plugin, PLUGINS "/puppet_abi.so", &why), 0);
    assert_non_null(strstr(why, "was built for interface 99"));
    free(why);
    assert_null(plugin);
}

static void each_image_has_data_of_its_own_that_can_be_made_anew(void **state) {
    struct plugin *plugin = NULL;
    struct plugin_image *one, *two;
    char *why = NULL;
    bool has_checked = false;

    assert_int_equal(plugin_open(&plugin, PLUGINS "/fault_statics.so", &why), 0);
    one = plugin->images;
    two = plugin_add_image(plugin, &why);
    assert_non_null(two);
    assert_ptr_equal(plugin->images, one); /* the first stays in front */
    assert_int_not_equal(one->base, two->base);
    assert_ptr_not_equal(one->functions, two->functions);
    for (unsigned i = 0; i < one->segment_count; i++) {
        char *last = one->segments[i].memory + one->segments[i].bytes - 1;
        char before = *last, other = two->segments[i].memory[two->segments[i].bytes - 1];

        *last = (char)~before;
        assert_int_equal(two->segments[i].memory[two->segments[i].bytes - 1], other);
        plugin_image_reset(one);
        assert_int_equal(*last, before);
        has_checked = true;
    }
    assert_true(has_checked || HANDLER_HAS_SANITIZER);
    plugin_close(plugin);
}

/* It may be any file, cut anywhere, with anything in it. */
static void symbols_of_damaged_files_are_survived(void **state) {
    struct slice file = read_file(PLUGINS "/fault.so");
    uint64_t seed = 3;
    uintptr_t inside;

    for (int round = 0; round < 300; round++) {
        size_t len = round % 3 ? file.len : rnd(&seed) % file.len;
        char *copy = malloc(len);
        struct symbols *symbols;

        memcpy(copy, file.base, len);
        for (int i = 0; i < round % 20 && len > 64; i++) {
            /* The head, and the table of sections at the end, are what counts. */
            size_t at = i % 2 ? rnd(&seed) % 64 : len - 1 - rnd(&seed) % (len < 4096 ? len : 4096);

            copy[at] = (char)rnd(&seed);
        }
        symbols = symbols_new(slice_of(copy, len));
        free(copy); /* it is not needed any more */
        for (uintptr_t at = 0; at < 65536; at += 512) {
            const char *name = symbols_find(symbols, at, &inside);

            assert_true(!name || strlen(name) < file.len);
        }
        symbols_free(symbols);
    }
    free((char *)(uintptr_t)file.base);
    symbols_free(symbols_new(SLICE_NONE));
    symbols_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_is_loaded_and_known_by_its_functions),
        cmocka_unit_test(what_is_no_plugin_is_refused_with_the_reason),
        cmocka_unit_test(each_image_has_data_of_its_own_that_can_be_made_anew),
        cmocka_unit_test(symbols_of_damaged_files_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
