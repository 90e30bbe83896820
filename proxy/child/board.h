/* What the nursery shows of its children, in memory that gateways read: it outlives them and the
 * nursery itself, which takes up from here what it has known of deaths. Home: written by the
 * nursery; read anywhere. */
#pragma once

#include "child/mcp_counts.h"
#include "child/respawn.h"

#include <stdatomic.h>

#define BOARD_MAGIC 0x7265697732ULL
#define BOARD_ROWS_MAX \
    128 /* programs; those of old configurations included while they have children */
#define BOARD_NAME_MAX 64

enum instance_state {
    INSTANCE_IDLE, /* or waiting for its next start */
    INSTANCE_STARTING,
    INSTANCE_READY,
    INSTANCE_STOPPING
};

struct board_instance {
    _Atomic int32_t state; /* enum instance_state */
    _Atomic int32_t pid;   /* 0: none */
    _Atomic int64_t since_ns;
    _Atomic uint64_t resident_bytes;
};

struct board_row {
    _Atomic uint32_t is_used; /* the name stays as it is then */
    char name[BOARD_NAME_MAX + 1];
    _Atomic uint32_t is_wanted; /* the configuration that is served has it, as one that stays */
    _Atomic uint32_t instances;
    struct board_instance list[CONFIG_INSTANCES_MAX];
    _Atomic uint32_t running, ending; /* trees of programs that are started for a request */
    _Atomic uint64_t starts, failed_starts, deaths, killed;
    _Atomic uint32_t crash_state; /* enum respawn_state */
    _Atomic int64_t held_until_ns;
    _Atomic uint32_t death_count;
    _Atomic int64_t death_ns[CONFIG_DEATHS_MAX + 1]; /* oldest first */
    _Atomic int32_t last_status;                     /* as by wait(2) */
    _Atomic uint64_t mcp[MCP_COUNTS];                /* struct mcp_counts, of all instances ever */
};

struct board {
    uint64_t magic, bytes;
    struct board_row rows[BOARD_ROWS_MAX];
};

/* Zeroed memory becomes a board without a row. */
struct board *board_init(void *memory);
/* NULL: @memory holds none of this version. */
struct board *board_attach(void *memory, size_t bytes);

/* NULL: it has none. */
struct board_row *board_find(struct board *board, const char *name);
/* Its row, or a new one; NULL: there is no room. Home: nursery. */
struct board_row *board_take(struct board *board, const char *name);

void board_show_respawn(struct board_row *row, const struct respawn *respawn);
void board_read_respawn(const struct board_row *row, struct respawn *respawn);

/* A bridge has counted @now, and @before the last time. */
void board_count_mcp(struct board_row *row, const struct mcp_counts *now,
                     const struct mcp_counts *before);

/* Instances in @state, of all. */
unsigned board_count(const struct board_row *row, enum instance_state state);
