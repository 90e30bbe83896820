/* Allocation that ends the process when memory is gone; see alloc.h for why. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *checked(void *memory);

void *xmalloc(size_t size) {
    return checked(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size) {
    return checked(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *old, size_t size) {
    return checked(realloc(old, size ? size : 1));
}

char *xstrdup(const char *text) {
    return checked(strdup(text));
}

char *xstrndup(const char *text, size_t len) {
    char *copy = xmalloc(len + 1);

    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *xasprintf(const char *format, ...) {
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    return checked(len < 0 ? NULL : text);
}

static void *checked(void *memory) {
    static const char message[] = "weir: out of memory: raise the memory limit or lower "
                                  "admission.max_connections\n";

    if (!memory) {
        if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
            abort();
        abort();
    }
    return memory;
}
