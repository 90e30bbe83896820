#include "child/board.h"

#include <stdio.h>
#include <string.h>

struct board *board_init(void *memory) {
    struct board *board = memory;

    board->magic = BOARD_MAGIC;
    board->bytes = sizeof *board;
    return board;
}

struct board *board_attach(void *memory, size_t bytes) {
    struct board *board = memory;

    return bytes >= sizeof *board && board->magic == BOARD_MAGIC && board->bytes == sizeof *board
               ? board
               : NULL;
}

struct board_row *board_find(struct board *board, const char *name) {
    for (unsigned i = 0; board && i < BOARD_ROWS_MAX; i++)
        if (atomic_load(&board->rows[i].is_used) && strcmp(board->rows[i].name, name) == 0)
            return &board->rows[i];
    return NULL;
}

struct board_row *board_take(struct board *board, const char *name) {
    struct board_row *row = board_find(board, name);

    for (unsigned i = 0; !row && i < BOARD_ROWS_MAX; i++) {
        if (atomic_load(&board->rows[i].is_used))
            continue;
        row = &board->rows[i];
        memset(row, 0, sizeof *row);
        snprintf(row->name, sizeof row->name, "%s", name);
        atomic_store(&row->is_used, 1);
    }
    return row;
}

void board_show_respawn(struct board_row *row, const struct respawn *respawn) {
    atomic_store(&row->death_count, 0);
    for (unsigned i = 0; i < respawn->count; i++)
        atomic_store(&row->death_ns[i], respawn->at_ns[i]);
    atomic_store(&row->death_count, respawn->count);
    atomic_store(&row->held_until_ns, respawn->held_until_ns);
    atomic_store(&row->crash_state, respawn->state);
}

void board_read_respawn(const struct board_row *row, struct respawn *respawn) {
    *respawn = (struct respawn){
        .state = (enum respawn_state)atomic_load(&row->crash_state),
        .count = atomic_load(&row->death_count),
        .held_until_ns = atomic_load(&row->held_until_ns),
    };
    if (respawn->count > CONFIG_DEATHS_MAX + 1)
        respawn->count = 0;
    for (unsigned i = 0; i < respawn->count; i++)
        respawn->at_ns[i] = atomic_load(&row->death_ns[i]);
}

void board_count_mcp(struct board_row *row, const struct mcp_counts *now,
                     const struct mcp_counts *before) {
    uint64_t new[MCP_COUNTS], old[MCP_COUNTS];

    memcpy(new, now, sizeof new);
    memcpy(old, before, sizeof old);
    for (size_t i = 0; i < MCP_COUNTS; i++)
        atomic_fetch_add(&row->mcp[i], new[i] - old[i]);
}

unsigned board_count(const struct board_row *row, enum instance_state state) {
    unsigned count = 0;

    for (unsigned i = 0; i < CONFIG_INSTANCES_MAX; i++)
        count += atomic_load(&row->list[i].state) == (int32_t)state &&
                 (state != INSTANCE_IDLE || i < atomic_load(&row->instances));
    return count;
}
