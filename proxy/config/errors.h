/* All that is wrong with one file, sorted by position. Only the first ERRORS_MAX in the order of
 * the file are kept; the rest is counted. Home: whoever reads the configuration. */
#pragma once

#include "base/buffer.h"
#include "config/config.h"
#include "tomlc.h"

#define ERRORS_MAX 100
#define ERRORS_QUOTED_MAX 60 /* bytes of a file's text that one message repeats */

struct errors {
    const char *name; /* borrowed: the file's name, for messages */
    size_t count;     /* all of them */
    size_t kept;
    struct error_entry {
        struct tomlc_position at; /* line 0: about the file as a whole */
        char *text;               /* owned */
    } list[ERRORS_MAX];
};

/* Adds the fault at @at; what comes later at the same place is printed later. */
void errors_add(struct errors *errors, struct tomlc_position at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes them out as "name:line:column: text", one a line, and frees them. */
void errors_finish(struct errors *errors, struct config_errors *to);

/* Appends UTF-8 text of the file in double quotes: cut when long, control characters escaped. */
void errors_quote(struct buffer *to, struct slice text);
