/* The programs of a configuration, as the gateway's configuration has them and as the nursery is
 * told of them: one line of JSON, made by `weir check --plan`, which the supervisor passes on
 * unread. So a gateway can only have started what the configuration names. */
#pragma once

#include "base/slice.h"
#include "config/config.h"

#define PROGRAMS_TEXT_MAX (64 * 1024) /* bytes of the line */

/* A program that stays has an instance for each of its addresses. */
struct program {
    char *name;                       /* of the pipeline; owned */
    unsigned pipeline;                /* index in that configuration */
    bool is_exec;                     /* it is started for each request */
    struct config_process *process;   /* owned */
    struct config_address *addresses; /* owned; as many as process->instances */
    char *text;                       /* all that matters to who runs it; owned */
};

struct programs {
    struct program *list; /* owned */
    size_t count;
};

/* The line, without its end; the caller frees. NULL: there are no programs. */
char *programs_write(const struct config *config);

/* -EINVAL: @text is no such line. */
int programs_parse(struct programs **out, struct slice text);

/* Accepts NULL. */
void programs_free(struct programs *programs);

/* NULL: there is none. */
const struct program *programs_find(const struct programs *programs, unsigned pipeline);
const struct program *programs_find_name(const struct programs *programs, const char *name);
