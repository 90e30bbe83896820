/* A directory of the test's own, which is the current one meanwhile, and files in it. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH "./state.json"
#define BAD_PATH "./state.json.bad"
#define NEW_PATH "./state.json.new"

static char directory[64];

static int enter_directory(void **state) {
    snprintf(directory, sizeof directory, "/tmp/weir-state-XXXXXX");
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave_directory(void **state) {
    const char *const names[] = {PATH, BAD_PATH, NEW_PATH};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (unlink(names[i]) < 0)
            rmdir(names[i]);
    return chdir("/") == 0 ? rmdir(directory) : -1;
}

static inline void put_file(const char *path, const char *text, size_t len) {
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* Terminated; the caller frees. */
static inline char *get_file(const char *path, size_t *len) {
    char *text = calloc(1, 4 << 20);
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    *len = fread(text, 1, (4 << 20) - 1, file);
    fclose(file);
    return text;
}

static inline bool is_there(const char *path) {
    return access(path, F_OK) == 0;
}
