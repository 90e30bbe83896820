/* How paths are normalised, and which are refused (path.c). */
#include "route/route.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct row {
    const char *target;
    const char *path; /* NULL: refused */
} rows[] = {
    {"/", "/"},
    {"/a/b", "/a/b"},
    {"/a/b?c/../d", "/a/b"},
    {"/?", "/"},
    {"/a/", "/a/"},
    {"/.well-known/a", "/.well-known/a"},
    {"/a.b/...", "/a.b/..."},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/..", "/"},
    {"/a/../b", "/b"},
    {"/a/b/../../c", "/c"},
    {"/a/b/..", "/a/"},
    {"/.", "/"},
    {"//", "/"},
    {"//a", "/a"},
    {"/a//b", "/a/b"},
    {"/a//", "/a/"},
    {"/%61%2D%7e", "/a-~"},
    {"/%3a%c3%A4%25", "/%3A%C3%A4%25"},
    {"/%252e%252e/a", "/%252e%252e/a"},
    {"/a/%2e%2E/b", "/b"},
    {"/a;b/c", "/a;b/c"},
    {"/{a}|\"", "/{a}|\""},
    {"/%00%", NULL},
    {"", NULL},
    {"a", NULL},
    {"*", NULL},
    {"?a", NULL},
    {"/a%2Fb", NULL},
    {"/a%2fb", NULL},
    {"/a\\b", NULL},
    {"/a%5Cb", NULL},
    {"/a%00b", NULL},
    {"/%", NULL},
    {"/%4", NULL},
    {"/%zz", NULL},
    {"/%4z", NULL},
    {"/..", NULL},
    {"/a/../..", NULL},
    {"/../a", NULL},
    {"/%2e%2e/a", NULL},
    {"/a/..;b/c", NULL},
    {"/a/.;b/c", NULL},
    {"/a//../b", NULL},
    {"/a/..//b", NULL},
    {"/a b", NULL},
    {"/a#b", NULL},
    {"/\xc3\xa4", NULL},
    {"/a\x7f", NULL},
};

static void check(void **state) {
    const struct row *row = *state;
    struct slice target = slice_str(row->target), path, again;
    const char *why = NULL;
    char memory[256];
    struct arena arena;

    arena_init(&arena, memory, sizeof memory);
    assert_int_equal(route_normalise_path(target, &arena, &path, &why), row->path != NULL);
    if (row->path) {
        assert_true(slice_equal(path, slice_str(row->path)));
        assert_true(route_normalise_path(path, &arena, &again, &why));
        assert_true(slice_equal(path, again));
    } else {
        assert_non_null(why);
    }
    arena_deinit(&arena);
}

int main(void) {
    struct CMUnitTest tests[sizeof rows / sizeof *rows];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tests[i] =
            (struct CMUnitTest){rows[i].target, check, NULL, NULL, (void *)(uintptr_t)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
