/* A plugin's shared library. It is loaded from a private copy of the file in memory, so nobody who
 * writes to the file changes code that runs; and each further image, for plugins that keep static
 * data, from a copy of its own, because the loader shares what has the same file behind it.
 *
 * An image is loaded once. When an instance has been lost its static data is made again what it was
 * behind the loading, by copying: at a time when the loader may not be asked any more.
 *
 * Home: main until the workers run; then shared and immutable, an image with its slot. */
#pragma once

#include "handler/symbols.h"

#include <weir/handler.h>

#define PLUGIN_BYTES_MAX (256l * 1024 * 1024)
#define PLUGIN_EVENTS_MAX 64
#define PLUGIN_EVENT_NAME_MAX 64
#define PLUGIN_SEGMENTS_MAX 8

struct plugin_image {
    struct plugin_image *next; /* of the same plugin */
    int fd;                    /* owned: while it is open its name is not used again */
    void *library;             /* owned */
    uintptr_t base;
    const struct weir_plugin *functions; /* in library */
    unsigned segment_count;
    struct {
        char *memory; /* in library */
        size_t bytes;
        char *pristine; /* owned; NULL: it is not kept */
    } segments[PLUGIN_SEGMENTS_MAX];
};

struct plugin {
    char *path;                  /* owned */
    int fd;                      /* owned: the copy */
    struct plugin_image *images; /* owned; newest first */
    struct symbols *symbols;     /* owned */
    unsigned event_count;
};

/* Loads @path, and checks what it says of itself. -errno; *why is then a whole message (the caller
 * frees). Home: main. */
int plugin_open(struct plugin **out, const char *path, char **why);
/* Accepts NULL. */
void plugin_close(struct plugin *plugin);

/* What it is; of the first image. */
const struct weir_plugin *plugin_functions(const struct plugin *plugin);

/* Another image, with data of its own. NULL: *why says it. Home: main. */
struct plugin_image *plugin_add_image(struct plugin *plugin, char **why);
/* Makes static data what it was when the image was loaded. Nothing in it runs. */
void plugin_image_reset(struct plugin_image *image);

/* The function that @pc is in; NULL: it is not in an image of this plugin, or not known. */
const char *plugin_symbol(const struct plugin *plugin, uintptr_t pc, uintptr_t *inside);
