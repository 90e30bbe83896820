#include "supervisor/nursery_link.h"

#include "base/log.h"
#include "child/board.h"
#include "supervisor/control.h"
#include "supervisor/process.h"
#include "supervisor/totals.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLOSE_NS (4 * NS_PER_S)
#define CLOSE_LOOK_NS (5 * NS_PER_MS)

static int make_board(struct nursery_link *link);

int nursery_link_start(struct nursery_link *link, const char *binary, const struct run_plan *plan) {
    char *const argv[] = {(char *)"weir", (char *)"nursery", NULL};
    int ends[2], err;
    pid_t pid;

    link->start_at_ns = 0;
    err = link->board_fd < 0 ? make_board(link) : 0;
    if (!err)
        err = control_pair(ends);
    if (err)
        return err;
    pid = process_start(&(struct process_options){
        .path = binary,
        .argv = argv,
        .in = -1,
        .out = -1,
        .err = -1,
        .control = ends[1],
        .may_outlive_us = true, /* until it has ended what it has */
    });
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return pid;
    }
    link->pid = pid;
    link->socket = ends[0];
    nursery_link_log(link, plan);
    return control_send(link->socket, "board", &link->board_fd, 1);
}

void nursery_link_tell(struct nursery_link *link, const char *format, ...) {
    char text[RUN_PLAN_PATH_MAX + 64];
    va_list args;
    int err;

    if (link->socket < 0)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text[CONTROL_TEXT_MAX] = '\0';
    err = control_send(link->socket, text, NULL, 0);
    if (err && err != -EPIPE)
        log_warn("cannot tell the nursery '%s': %s", text, strerror(-err));
}

int nursery_link_channel(struct nursery_link *link, unsigned number, int programs_fd,
                         int *channel) {
    char text[32];
    int ends[2], err;

    if (link->socket < 0)
        return -ENOTCONN;
    err = control_pair(ends);
    if (err)
        return err;
    snprintf(text, sizeof text, "gateway %u", number);
    err = control_send(link->socket, text, (const int[]){ends[1], programs_fd}, 2);
    close(ends[1]);
    if (err)
        close(ends[0]);
    else
        *channel = ends[0];
    return err;
}

void nursery_link_log(struct nursery_link *link, const struct run_plan *plan) {
    nursery_link_tell(link, "log %d %s", (int)plan->log_level, plan->log_file);
}

void nursery_link_ended(struct nursery_link *link) {
    if (link->socket >= 0)
        close(link->socket);
    link->socket = -1;
    link->pid = 0;
}

void nursery_link_close(struct nursery_link *link) {
    const struct timespec look = {0, CLOSE_LOOK_NS};
    int64_t until_ns = clock_now_ns() + CLOSE_NS;
    pid_t pid = link->pid;

    nursery_link_ended(link);
    while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
        if (clock_now_ns() >= until_ns)
            kill(pid, SIGKILL);
        nanosleep(&look, NULL);
    }
    if (link->board_fd >= 0)
        close(link->board_fd);
    link->board_fd = -1;
}

static int make_board(struct nursery_link *link) {
    void *memory = NULL;
    int err = totals_memory("weir-children", sizeof(struct board), &link->board_fd, &memory);

    if (err)
        return err;
    board_init(memory);
    munmap(memory, sizeof(struct board));
    return 0;
}
