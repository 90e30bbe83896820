/* Keeps what is to survive a restart in the file of server.state_file.
 *
 * Whoever has something to keep is a section: it is handed what the file has under its name when it
 * is added, and asked on a thread of the keeper's own, every KEEPER_INTERVAL_NS and at the end,
 * what there is now. When that is not what stands in the file, the file is replaced. Sections that
 * nobody adds are dropped from it.
 *
 * A file that cannot be written is told of in the log, at most every KEEPER_TOLD_NS, and tried
 * again. Only the gateway that serves writes: one that retires is released. Every function accepts
 * NULL for a keeper: nothing is to be kept. Home: main thread. */
#pragma once

#include "base/clock.h"

#include <jansson.h>
#include <stdbool.h>

#define KEEPER_INTERVAL_NS (10 * NS_PER_S)
#define KEEPER_TOLD_NS (60 * NS_PER_S)
#define KEEPER_SECTIONS_MAX 16

struct keeper;

/* One moment on both clocks: instants are monotonic in here and milliseconds since 1970 in the
 * file. */
struct keeper_now {
    int64_t now_ns, wall_ns;
};

struct keeper_section {
    const char *name; /* borrowed: static */
    void *ctx;        /* borrowed: outlives the keeper */
    /* A new object (empty: there is nothing to keep). It must stay the same while nothing happens,
     * and be bounded: all sections together fit STATE_FILE_MAX. Home: the keeper's thread. */
    json_t *(*save)(void *ctx, const struct keeper_now *now);
    /* @saved (borrowed) is an object, and that is all that is known of it: it may be of any age, of
     * another configuration, and written by anybody. Called within keeper_add(). */
    void (*take_up)(void *ctx, const json_t *saved, const struct keeper_now *now);
};

/* Reads the file at @path; NULL for no @path. */
struct keeper *keeper_open(const char *path);

void keeper_add(struct keeper *keeper, const struct keeper_section *section);

/* Begins to write, now for the first time. No section may be added any more. */
void keeper_start(struct keeper *keeper);

/* Has it look for changes now. Does not wait. */
void keeper_hurry(struct keeper *keeper);

/* A successor keeps the file: nothing is written from here on. Does not wait. */
void keeper_release(struct keeper *keeper);

/* Writes what has changed since, unless it was released or has not started, and ends. */
void keeper_close(struct keeper *keeper);

struct keeper_now keeper_now(void);

/* @at_ns (monotonic) for the file. */
json_t *keeper_instant(int64_t at_ns, const struct keeper_now *now);

/* How far ahead of now, in nanoseconds, an instant from the file is; negative when it is past.
 * False: @instant is none, or more than a year away. */
bool keeper_ahead(const json_t *instant, const struct keeper_now *now, int64_t *ahead_ns);
