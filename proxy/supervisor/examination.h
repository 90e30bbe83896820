/* A configuration is read, and checked by `weir check --plan` in a process of its own: the
 * supervisor gets the plan, or learns that there is none, without having parsed anything. The text
 * is copied first, so that what was checked is what gateways will be given, whatever becomes of the
 * file. Home: supervisor. */
#pragma once

#include "supervisor/generation.h"

#define EXAMINATION_ERRORS_MAX 100 /* lines of errors that are logged */
#define EXAMINATION_LINE_MAX 1024
#define EXAMINATION_MAX_NS (60 * NS_PER_S) /* then it is ended: a file system may hang */

struct examination_options {
    const char *binary;
    const char *name; /* of the file; static */
    const char *text; /* instead of the file's; NULL: read it */
    int text_fd;      /* the same: a memfd; -1: none */
    bool is_quiet;    /* errors go to our standard error, not to the log */
};

struct examination {
    pid_t pid; /* 0: none is under way */
    int64_t since_ns;
    bool is_late; /* it was ended */
    struct edition edition;
    int out, err; /* pipes; owned; -1: at their end */
    char plan[RUN_PLAN_TEXT_MAX + 1];
    size_t plan_len;
    char line[EXAMINATION_LINE_MAX];
    size_t line_len;
    unsigned lines;
};

/* -errno. */
int examination_start(struct examination *examination, const struct examination_options *options);

/* Takes what has come through the pipes; never waits. */
void examination_read(struct examination *examination);

/* Ends the process if it has taken too long. */
void examination_look(struct examination *examination, int64_t now_ns);

/* Its process has ended with @status (wait(2)). 0: *@edition is the caller's; else the exit status
 * that says why not. */
int examination_end(struct examination *examination, int status, struct edition *edition);

/* Ends the process; it is still to be reaped. */
void examination_cancel(struct examination *examination);
