/* What the supervisor needs to know of a configuration, as lines of text that `weir check --plan`
 * prints: the supervisor reads these and never the configuration.
 *
 *     weir-plan 1
 *     threads 2
 *     segment 40960                    bytes of counters
 *     wedge_after 10000000000          durations are in nanoseconds
 *     drain_shutdown 30000000000
 *     drain_reload 600000000000
 *     log_level 2
 *     log_file stderr
 *     user weir                        left out when there is none
 *     admin 127.0.0.1:9901             left out when it is off
 *     listener http :8080              one for each, in the order of the file
 *     programs [...]                   for the nursery, which alone reads it; left out when there
 * are none end
 *
 * Lines that it does not know are skipped: a later version may have more. */
#pragma once

#include "child/program.h"
#include "config/config.h"

#include <stdio.h>

#define RUN_PLAN_LISTENERS_MAX 64
#define RUN_PLAN_THREADS_MAX 64
#define RUN_PLAN_NAME_MAX 64     /* bytes of a listener's or user's name */
#define RUN_PLAN_ADDRESS_MAX 128 /* bytes of an address as text */
#define RUN_PLAN_PATH_MAX 4096   /* of the log file */
#define RUN_PLAN_PROGRAMS_MAX PROGRAMS_TEXT_MAX
#define RUN_PLAN_TEXT_MAX (64 * 1024 + RUN_PLAN_PROGRAMS_MAX)

struct run_listener {
    char name[RUN_PLAN_NAME_MAX + 1];
    char address[RUN_PLAN_ADDRESS_MAX + 1];
};

struct run_plan {
    int64_t threads;
    int64_t segment_bytes;
    int64_t wedge_after_ns; /* 0: off */
    int64_t drain_shutdown_ns, drain_reload_ns;
    int64_t log_level;
    char log_file[RUN_PLAN_PATH_MAX + 1];
    char user[RUN_PLAN_NAME_MAX + 1];     /* "" : stay who we are */
    char admin[RUN_PLAN_ADDRESS_MAX + 1]; /* "" : off */
    struct run_listener listeners[RUN_PLAN_LISTENERS_MAX];
    unsigned listener_count;
    char programs[RUN_PLAN_PROGRAMS_MAX + 1]; /* "": there are none */
};

/* What @config says, with @segment_bytes of counters; its programs fit. */
void run_plan_print(const struct config *config, size_t segment_bytes, FILE *to);

void run_plan_write(const struct run_plan *plan, FILE *to);

/* NULL and *@out; or what is wrong with @text (terminated), which it writes to. */
const char *run_plan_parse(struct run_plan *out, char *text);
